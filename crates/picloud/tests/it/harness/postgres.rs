//! A PostgreSQL of one's own, to be killed: the others are shared by all tests.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, User, geteuid};
use tempfile::TempDir;

use super::{eventually, process};

/// A server on a Unix socket, which keeps what it has committed through the end of its processes.
pub(crate) struct Postgres {
    dir: TempDir,
    programs: PathBuf,
    /// PostgreSQL refuses to run as root.
    account: Option<(Uid, Gid)>,
    server: Child,
}

impl Postgres {
    pub(crate) fn start() -> Self {
        // Not below the usual place for temporary files: a socket's path has at most 107 bytes.
        let dir = tempfile::Builder::new().prefix("picloud-pg.").tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let home = dir.path().join("server");
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        let account = account();
        if let Some((uid, gid)) = account {
            chown(&home, Some(uid.as_raw()), Some(gid.as_raw())).unwrap();
        }
        let programs = programs();
        let mut initdb = command(&programs.join("initdb"), account);
        initdb.arg("-D").arg(home.join("data"));
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        assert!(initdb.stdout(Stdio::null()).status().unwrap().success(), "initdb failed");
        let server = launch(&programs, &home, account);
        let mut postgres = Self { dir, programs, account, server };
        postgres.wait();
        postgres
    }

    /// As `DATABASE_URL` takes it, with the database that every server has.
    pub(crate) fn url(&self) -> String {
        let socket = self.home().to_str().unwrap().replace('/', "%2F");
        format!("postgres://postgres@{socket}/postgres")
    }

    /// Ends the server with a signal, however that goes, and starts another on its data.
    pub(crate) fn restart(&mut self, signal: Signal) {
        process::send(self.server.id(), signal);
        self.server.wait().unwrap();
        self.server = launch(&self.programs, &self.home(), self.account);
        self.wait();
    }

    /// Until it takes connections. One whose processes have not all ended yet refuses to be replaced.
    fn wait(&mut self) {
        let (file, home) = (self.home().join("data/postmaster.pid"), self.home());
        eventually("PostgreSQL is ready", || {
            if self.server.try_wait().unwrap().is_some() {
                self.server = launch(&self.programs, &home, self.account);
            }
            let text = fs::read_to_string(&file).ok()?;
            let mut lines = text.lines();
            let is_ours = lines.next()?.trim() == self.server.id().to_string();
            // Line 8 says so.
            (is_ours && lines.nth(6)?.trim() == "ready").then_some(())
        });
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("server")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        process::send(self.server.id(), Signal::SIGQUIT);
        let _ = self.server.wait();
    }
}

/// It ends with this thread, however that ends.
fn launch(programs: &Path, home: &Path, account: Option<(Uid, Gid)>) -> Child {
    let log = File::options().create(true).append(true).open(home.with_file_name("log")).unwrap();
    let mut server = command(Path::new("setpriv"), account);
    server
        .args(["--pdeathsig", "QUIT", "--"])
        .arg(programs.join("postgres"))
        .arg("-D")
        .arg(home.join("data"));
    server.arg("-c").arg(format!("unix_socket_directories={}", home.display()));
    // Processes are killed here, not the machine: what the kernel has been given is safe.
    server.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "jit=off"]);
    server.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

fn command(program: &Path, account: Option<(Uid, Gid)>) -> Command {
    let mut command = Command::new(program);
    // Where that account can be.
    command.current_dir("/").stdin(Stdio::null());
    if let Some((uid, gid)) = account {
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    command
}

fn account() -> Option<(Uid, Gid)> {
    if !geteuid().is_root() {
        return None;
    }
    let known = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).unwrap());
    known.map(|user| (user.uid, user.gid))
}

/// Where the newest server's programs are.
fn programs() -> PathBuf {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = installed
        .map(|entry| entry.path())
        .filter(|path| path.join("bin/postgres").exists())
        .max_by_key(version);
    if let Some(path) = newest {
        return path.join("bin");
    }
    let asked =
        Command::new("pg_config").arg("--bindir").output().expect("no PostgreSQL server: run make setup");
    String::from_utf8(asked.stdout).unwrap().trim().into()
}
