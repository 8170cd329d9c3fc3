//! `picloud serve`: the composition root. Read it top to bottom: that is the order in which things
//! start; they stop in the reverse order.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use manager_core::{Addresses, EventRetention, Manager, ManagerConfig, MasterKeys, OrphanSweep, Retention};
use orchestrator_core::ingress::{self, DataPlane, IngressConfig};
use orchestrator_core::pool::{Mode, Pool, PoolConfig, Ports};
use orchestrator_core::routing::Router;
use sd_notify::NotifyState;
use secrecy::{ExposeSecret, SecretString};
use shared::limits::DRAIN_MS;
use sqlx::postgres::PgConnectOptions;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::api;
use crate::config::{Config, Kept};
use crate::data_dir::DataDir;
use crate::health;
use crate::memory;
use crate::metrics;
use crate::owner::{self, InitialPassword};
use crate::postgres::EmbeddedPostgres;
use crate::telemetry::otlp::Collector;
use crate::{own_addresses, secret_key, system, tls_ask, walls};

/// Runs until a signal ends it or the database is lost.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let data = DataDir::open(&config.data_dir)?;
    // Taken before anything slow: another program on the port should be found out at once.
    let listener =
        TcpListener::bind(config.bind).await.with_context(|| format!("cannot listen on {}", config.bind))?;
    let config = config.listening(listener.local_addr()?);
    let database = Database::open(&config, &data).await?;
    let served = serve_with(&config, &data, &database, listener).await;
    let stopped = database.close().await;
    served.and(stopped)
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Three times an hour: an idle machine hardly notices, and records are removed soon enough.
const RETENTION_EVERY: Duration = Duration::from_secs(20 * 60);

async fn serve_with(
    config: &Config,
    data: &DataDir,
    database: &Database,
    listener: TcpListener,
) -> anyhow::Result<()> {
    let options = database.options()?;
    let addresses = own_addresses::addresses(config, listener.local_addr()?, &options).await;
    let secret_keys = secret_key::load(config.secret_key.as_ref(), data)?;
    let manager = Manager::open(options, manager_config(config, addresses, secret_keys)).await?;
    let initial_password = owner::bootstrap(&manager, config, data).await?;

    let ports = Ports {
        bundles: manager.bundles(),
        records: manager.recorder(),
        permits: manager.permits(),
        incidents: manager.incidents(),
        calls: manager.calls(),
    };
    if !config.isolation.has_walls() {
        tracing::warn!("ISOLATION IS OFF: a script that escapes its sandbox has everything this user has");
    }
    let pool = Pool::start(pool_config(config), ports).await?;
    refuse_weak(config.isolation, &pool)?;
    let slots = config.workers * usize::from(config.slots_per_worker);
    manager.start_events(Arc::new(pool.clone()), slots);

    let plane = DataPlane::new(
        Router::new(manager.routes()),
        pool.clone(),
        manager.callers(),
        manager.assets(),
        manager.acceptor(),
        &config.public_url,
    );
    let plane = Arc::new(plane.with_body_memory(config.body_memory_bytes));
    let platform = manager
        .admin_router_beside(Arc::new(pool.clone()), &api::described())
        .merge(manager.guarded(system::router(config.clone(), pool.clone(), database.options()?)))
        .merge(manager.guarded(metrics::router(manager.clone(), pool.clone())))
        .merge(manager.open_to_all(health::router(manager.clone(), pool.clone())))
        .merge(tls_ask::router(plane.clone(), config.trusted_proxies.clone()));
    let collector = match &config.otlp {
        Some(otlp) => Some(Collector::open(otlp.clone()).await?),
        None => None,
    };
    let tracing = collector.as_ref().map(Collector::tracing);
    let ingress_config = IngressConfig { trusted_proxies: config.trusted_proxies.clone(), tracing };

    announce(config, &listener, initial_password.as_ref())?;
    tell_service_manager(&[NotifyState::Ready]);
    let mut lost = None;
    let stop = async {
        lost = until_stopped(database).await;
        tell_service_manager(&[NotifyState::Stopping]);
        manager.end_streams();
    };
    ingress::serve(listener, plane, platform, ingress_config, stop).await;
    manager.stop_events().await;
    pool.drain(Duration::from_millis(DRAIN_MS)).await;
    manager.close().await;
    if let Some(collector) = collector {
        collector.close().await;
    }
    match lost {
        Some(reason) => anyhow::bail!("the private PostgreSQL ended by itself: {reason}"),
        None => Ok(()),
    }
}

fn pool_config(config: &Config) -> PoolConfig {
    // The binary becomes a worker when it is started with the worker's argument. By this name it is
    // found even after it was replaced on disk by a newer version.
    let program = PathBuf::from("/proc/self/exe");
    let shared = PoolConfig {
        tenant_workers: config.workers_max,
        app_slots_max: config.app_slots_max,
        worker_memory_bytes: Some(memory::worker_bytes_max()),
        group_memory_bytes: config.isolation.has_walls().then(memory::worker_bytes_max),
        guest: published_guest(),
        has_zygote: true,
        ..PoolConfig::new(program, config.workers, config.slots_per_worker)
    };
    shared.isolated(config.isolation)
}

/// The guest's code on huge pages, where this machine has them.
fn published_guest() -> Option<Arc<OwnedFd>> {
    match executor_core::publish_guest() {
        Ok(guest) => Some(Arc::new(guest)),
        Err(error) => {
            tracing::info!(%error, "scripts run on small pages, which is slower: this kernel gives no huge ones for them");
            None
        }
    }
}

/// Strict isolation on a machine that cannot isolate would be a promise nobody keeps.
fn refuse_weak(mode: Mode, pool: &Pool) -> anyhow::Result<()> {
    match walls::refusal(mode, pool.isolation(), pool.grouping()) {
        Some(refusal) => anyhow::bail!(refusal),
        None => Ok(()),
    }
}

/// What the manager is told of the settings.
fn manager_config(config: &Config, addresses: Addresses, secret_keys: MasterKeys) -> ManagerConfig {
    ManagerConfig {
        addresses,
        secret_keys,
        base_domain: config.base_domain.clone(),
        public_url: config.public_url.clone(),
        retention: retention(&config.kept),
        mail_server: config.mail_server.clone(),
        dns_servers: config.dns_servers.clone(),
        api_requests_per_minute: config.api_requests_per_minute,
        oidc: config.oidc.clone(),
        files: config.files.clone(),
        orphans: OrphanSweep::default(),
    }
}

fn retention(kept: &Kept) -> Retention {
    Retention {
        age: DAY * kept.days,
        records_per_app: kept.executions,
        events: EventRetention {
            dead_letters_per_app: kept.dead_letters,
            dead_letter_bytes_per_app: u64::from(kept.dead_letters_mb) << 20,
            abandoned_per_app: kept.abandoned,
        },
        every: RETENTION_EVERY,
    }
}

/// The database: a private server that belongs to this process, or one somebody else runs.
enum Database {
    Private(Box<EmbeddedPostgres>),
    External(SecretString),
}

impl Database {
    async fn open(config: &Config, data: &DataDir) -> anyhow::Result<Self> {
        match &config.database_url {
            Some(url) => Ok(Self::External(url.clone())),
            None => Ok(Self::Private(Box::new(EmbeddedPostgres::start(data).await?))),
        }
    }

    fn options(&self) -> anyhow::Result<PgConnectOptions> {
        match self {
            Self::Private(postgres) => Ok(postgres.connect_options()),
            Self::External(url) => {
                url.expose_secret().parse().context("DATABASE_URL is not an address of PostgreSQL")
            }
        }
    }

    /// Resolves with the reason when a private server ends without having been asked to.
    async fn died(&self) -> String {
        match self {
            Self::Private(postgres) => postgres.died().await,
            Self::External(_) => std::future::pending().await,
        }
    }

    async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Private(postgres) => postgres.stop().await,
            Self::External(_) => Ok(()),
        }
    }
}

/// Tells systemd, if it started us with `Type=notify`; others do not ask.
fn tell_service_manager(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// Waits for Ctrl-C, SIGTERM or the loss of the database; answers the reason of the latter.
async fn until_stopped(database: &Database) -> Option<String> {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return Some("signals cannot be received".to_owned());
    };
    tokio::select! {
        _ = interrupt.recv() => tracing::info!("interrupted; finishing what runs"),
        _ = terminate.recv() => tracing::info!("asked to stop; finishing what runs"),
        reason = database.died() => return Some(reason),
    }
    None
}

/// Tells a newcomer what to do next.
fn announce(
    config: &Config,
    listener: &TcpListener,
    initial: Option<&InitialPassword>,
) -> anyhow::Result<()> {
    let port = listener.local_addr()?.port();
    let host =
        if config.bind.ip().is_loopback() { "localhost".to_owned() } else { config.bind.ip().to_string() };
    let mut text = format!("\nPiCloud is ready on http://{host}:{port}\n\n");
    if let Some(initial) = initial {
        let file = initial.file.display();
        text += &format!("  log in as      {}, password in {file}\n", initial.username);
        text += &format!(
            "                 pic login --url http://{host}:{port} --username {} --password-stdin < {file}\n",
            initial.username
        );
    }
    if !config.isolation.has_walls() {
        text += "  ISOLATION OFF  a script that escapes its sandbox has everything this user has\n";
    }
    text += &format!("  first script   curl http://{host}:{port}/hello/world\n");
    text += "  stop           Ctrl-C\n\n";
    let mut stdout = std::io::stdout().lock();
    // Nobody may be listening, for example under a service manager.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    Ok(())
}
