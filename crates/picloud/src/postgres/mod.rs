//! The private PostgreSQL of `picloud serve`, for when no `DATABASE_URL` is set.
//!
//! A cluster below the data directory, served by the machine's own PostgreSQL binaries on a Unix
//! socket only, never as root, and never without a password. It must not outlive PiCloud, and what
//! outlived it anyway is stopped at the next start. Nothing here knows PiCloud's tables.

mod account;
mod binaries;
mod cluster;
mod creation;
mod database;
mod leftovers;
mod postmaster;
mod settings;
mod socket;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use sqlx::postgres::PgConnectOptions;

use self::account::Account;
pub use self::binaries::{NotInstalled, OLDEST_MAJOR};
use self::cluster::Cluster;
use self::postmaster::Postmaster;
use crate::data_dir::DataDir;

/// Crash recovery of the small write-ahead log takes seconds; a minute means that it hangs.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a fast shutdown may take before the server is told to leave at once.
const FAST_STOP_WITHIN: Duration = Duration::from_secs(20);
/// How long an immediate shutdown may take: PostgreSQL itself gives its children 5 seconds.
const IMMEDIATE_STOP_WITHIN: Duration = Duration::from_secs(10);

/// A running private PostgreSQL. Dropping it without [`EmbeddedPostgres::stop`] asks the server to
/// stop but does not wait.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    postmaster: Postmaster,
    options: PgConnectOptions,
    // Last, so that the lock outlives everything that writes below the directory.
    _data: DataDir,
}

impl EmbeddedPostgres {
    /// Starts PostgreSQL on a data directory, creating its cluster and database when they are
    /// missing, and waits until it answers. Keeps the directory locked until it is dropped.
    pub async fn start(data: &DataDir) -> anyhow::Result<Self> {
        let data = data.clone();
        let (data, cluster) = tokio::task::spawn_blocking(move || {
            let cluster = prepare(&data)?;
            anyhow::Ok((data, cluster))
        })
        .await??;
        let postmaster = Postmaster::spawn(cluster.server_command()?)?;
        // From here on an error drops the postmaster, which stops it.
        wait_until_ready(&postmaster, &cluster).await?;
        let options = database::ensure(&cluster).await?;
        tracing::info!(
            postgres.version = cluster.binaries.major,
            postgres.pid = postmaster.pid(),
            "private PostgreSQL is ready"
        );
        Ok(Self { postmaster, options, _data: data })
    }

    /// How to connect to the database `picloud`, as its owner, who is no superuser.
    pub fn connect_options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// The process id of the server.
    pub fn pid(&self) -> i32 {
        self.postmaster.pid()
    }

    /// Resolves when the server has ended without being asked to, with how it ended.
    pub async fn died(&self) -> String {
        self.postmaster.exited().await
    }

    /// Stops the server: open transactions are rolled back and a checkpoint is written.
    pub async fn stop(self) -> anyhow::Result<()> {
        for (signal, patience) in
            [(Signal::SIGINT, FAST_STOP_WITHIN), (Signal::SIGQUIT, IMMEDIATE_STOP_WITHIN)]
        {
            self.postmaster.signal(signal);
            if tokio::time::timeout(patience, self.postmaster.exited()).await.is_ok() {
                return Ok(());
            }
            tracing::warn!(signal = signal.as_str(), "PostgreSQL does not stop");
        }
        bail!("PostgreSQL (process {}) does not stop; the next start deals with it", self.postmaster.pid())
    }
}

/// How to connect to the private PostgreSQL that another `picloud` runs on this data directory: its
/// files say where it listens and what the password is, to who may read them.
pub fn running(data_dir: &Path) -> anyhow::Result<PgConnectOptions> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let file = data_dir.join(cluster::NAME).join("postmaster.pid");
    let text = read(&file)?;
    // Line 4 is the port, line 5 the directory of the socket.
    let mut lines = text.lines().skip(3).map(str::trim);
    let place = lines.next().and_then(|port| port.parse().ok()).zip(lines.next());
    let (port, socket_dir) =
        place.with_context(|| format!("{} does not say where it listens", file.display()))?;
    let password = read(&data_dir.join(cluster::PASSWORD_FILE))?;
    Ok(database::of_running(socket_dir, port, password.trim()))
}

/// The major version of the server programs that a private server would use: that of its cluster, if there is one.
pub fn installed(data_dir: &Path) -> anyhow::Result<u32> {
    let account = Account::for_cluster(&data_dir.join(cluster::NAME))?;
    Ok(binaries::find(account, cluster::version(data_dir)?)?.major)
}

/// Everything that has to be there before the server starts.
fn prepare(data: &DataDir) -> anyhow::Result<Cluster> {
    let account = Account::for_cluster(&data.path().join(cluster::NAME))?;
    let cluster = Cluster::open(data, account)?;
    leftovers::stop(&cluster.dir).context("an earlier PostgreSQL of this data directory still runs")?;
    Ok(cluster)
}

async fn wait_until_ready(postmaster: &Postmaster, cluster: &Cluster) -> anyhow::Result<()> {
    let ready = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while !cluster.is_ready(postmaster.pid()) {
            tick.tick().await;
        }
    };
    let what = tokio::select! {
        () = ready => return Ok(()),
        how = postmaster.exited() => format!("PostgreSQL ended at once ({how})"),
        () = tokio::time::sleep(READY_WITHIN) => format!("PostgreSQL is not ready after {} s", READY_WITHIN.as_secs()),
    };
    bail!("{what}; the end of {}:\n{}", cluster.log.display(), cluster.log_tail())
}
