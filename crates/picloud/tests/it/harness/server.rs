//! The binary under test as a running server.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::database::{Session, TestDatabase};
use super::{Client, Postgres, TestApp, eventually, process};

pub(crate) const ADMIN: &str = "ada";
pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// Workers that take work; one more is kept warm.
pub(crate) const WORKERS: usize = 2;
/// Workers that wait to replace others, where owners are kept apart.
pub(crate) const SPARES: usize = 2;

const DATA_DIR: &str = "PICLOUD_DATA_DIR";

static SHARED: Mutex<Weak<TestServer>> = Mutex::new(Weak::new());

/// What outlives a server process: its data directory and its database.
pub(crate) struct Disk {
    dir: TempDir,
    database: TestDatabase,
    /// Done when it was seen that the database keeps apps apart.
    wall: Once,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self::of(TestDatabase::create())
    }

    /// With its database on a server of one's own, which must outlive it.
    pub(crate) fn on(postgres: &Postgres) -> Self {
        Self::of(TestDatabase::create_on(postgres.url()))
    }

    fn of(database: TestDatabase) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), database, wall: Once::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The one text that a statement gives.
    pub(crate) fn query(&self, sql: &str) -> String {
        self.database.query(sql)
    }

    /// Carries out statements.
    pub(crate) fn execute(&self, sql: &str) {
        self.database.execute(sql);
    }

    /// A session in which this was carried out, and which holds what it took until it is dropped.
    pub(crate) fn session(&self, sql: &str) -> Session {
        self.database.session(sql)
    }

    pub(crate) fn database_url(&self) -> String {
        self.database.url()
    }
}

/// A server process; ended, and waited for, when dropped.
pub(crate) struct TestServer {
    child: Child,
    /// Held open, so that the server can always write to it.
    _stdout: BufReader<ChildStdout>,
    pub(crate) port: u16,
    pub(crate) client: Client,
    token: String,
    apps: AtomicU32,
    spares: usize,
    pub(crate) disk: Arc<Disk>,
}

impl TestServer {
    /// A server for tests that disturb nobody. It lives as long as one of them holds it.
    pub(crate) fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// A server of one's own.
    pub(crate) fn start() -> Self {
        Self::start_on(Arc::new(Disk::new()))
    }

    /// A server with further settings.
    pub(crate) fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::launch(Arc::new(Disk::new()), settings)
    }

    /// A server on what an earlier one left.
    pub(crate) fn start_on(disk: Arc<Disk>) -> Self {
        Self::launch(disk, &[])
    }

    /// Another node on the same database, with a data directory of its own and the same secret key.
    pub(crate) fn start_beside(node: &Self) -> Self {
        let disk = Arc::clone(&node.disk);
        let key = fs::read_to_string(disk.path().join("data/secret-key")).unwrap();
        let dir = disk.path().join("data-beside");
        Self::launch(disk, &[("PICLOUD_SECRET_KEY", key.trim()), (DATA_DIR, dir.to_str().unwrap())])
    }

    /// What a server says that does not start on what an earlier one left.
    pub(crate) fn refused_start(disk: Arc<Disk>) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picloud"));
        command.arg("serve").env_clear().env("DATABASE_URL", disk.database.url());
        assert!(Self::try_launch(command, Arc::clone(&disk)).is_err());
        log_of(&disk)
    }

    fn launch(disk: Arc<Disk>, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picloud"));
        command.arg("serve").env_clear().env("DATABASE_URL", disk.database.url());
        command.envs(settings.iter().copied());
        let server = Self::try_launch(command, Arc::clone(&disk))
            .unwrap_or_else(|status| panic!("the server ended with {status}:\n{}", log_of(&disk)));
        // Without the wall it works all the same, so every test would pass that does not look for it.
        disk.wall.call_once(|| disk.database.assert_has_wall());
        server
    }

    /// Starts a server by a command of the caller's, whose environment knows of the database; answers how
    /// it ended if it never was ready.
    pub(crate) fn try_launch(mut command: Command, disk: Arc<Disk>) -> Result<Self, ExitStatus> {
        let is_shared = |(name, mode): (&OsStr, Option<&OsStr>)| {
            name == "PICLOUD_ISOLATION" && mode.is_some_and(|mode| mode == "shared")
        };
        // A fresh worker is wanted there only for one that was lost.
        let spares = if command.get_envs().any(is_shared) { 1 } else { SPARES };
        let log = File::options().create(true).append(true).open(disk.path().join("log")).unwrap();
        if command.get_envs().all(|(name, _)| name != DATA_DIR) {
            command.env(DATA_DIR, disk.path().join("data"));
        }
        let mut child = command
            .env("PICLOUD_BIND", "127.0.0.1:0")
            .env("PICLOUD_ADMIN_USERNAME", ADMIN)
            .env("PICLOUD_ADMIN_PASSWORD", PASSWORD)
            // Tests ask faster than people.
            .env("PICLOUD_API_REQUESTS_PER_MINUTE", "1000000")
            .env("PICLOUD_WORKERS", WORKERS.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let Some(port) = announced_port(&mut stdout) else {
            return Err(child.wait().unwrap());
        };
        let client = Client::new(port);
        let mut server = Self {
            child,
            _stdout: stdout,
            port,
            client,
            token: String::new(),
            apps: AtomicU32::new(0),
            spares,
            disk,
        };
        let login = json!({ "username": ADMIN, "password": PASSWORD });
        let answer = server.admin("POST", "/auth/login", &login).is(200).json();
        server.token = answer["token"].as_str().unwrap().to_owned();
        Ok(server)
    }

    /// A new app, so that tests on one server do not meet.
    pub(crate) fn app(&self) -> TestApp<'_> {
        let slug = format!("app-{}", self.apps.fetch_add(1, Ordering::Relaxed));
        self.admin("POST", "/apps", &json!({ "slug": slug })).is(201);
        self.existing_app(&slug)
    }

    pub(crate) fn existing_app(&self, slug: &str) -> TestApp<'_> {
        TestApp::new(self, slug)
    }

    /// Calls the admin API with the owner's session.
    pub(crate) fn admin(&self, method: &str, path: &str, body: &serde_json::Value) -> super::Reply {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.admin_bytes(method, path, &body)
    }

    pub(crate) fn admin_bytes(&self, method: &str, path: &str, body: &[u8]) -> super::Reply {
        let bearer = self.bearer();
        let mut headers = vec![("authorization", bearer.as_str())];
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        self.client.send(method, "localhost", &format!("/api/v1/admin{path}"), &headers, body)
    }

    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The workers of a server at rest, the spares included: as many as it began with, and more where owners are kept
    /// apart and several of them have some.
    pub(crate) fn workers(&self) -> BTreeSet<u32> {
        eventually("all workers and the spares are there", || {
            // One that is not locked down yet may be about to end in favour of its copy.
            let children = process::workers(self.pid());
            let hired = self.metric("picloud_workers_ready").max(WORKERS);
            let is_whole = children.len() == hired + self.spares
                && children.iter().all(|pid| process::is_filtered(*pid));
            is_whole.then_some(children)
        })
    }

    /// How many workers have ended without having been asked to, once all that are gone are replaced.
    pub(crate) fn lost_workers(&self) -> usize {
        self.workers();
        self.metric("picloud_workers_lost_total")
    }

    /// A whole number of those that the server tells of itself.
    fn metric(&self, name: &str) -> usize {
        let bearer = self.bearer();
        let reply = self.client.send("GET", "localhost", "/metrics", &[("authorization", &bearer)], b"");
        let text = reply.is(200).text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("{name} is not in {text}"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        process::send(self.pid(), signal);
    }

    /// Waits for the server's end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the server has ended", || self.child.try_wait().unwrap())
    }

    pub(crate) fn log(&self) -> String {
        log_of(&self.disk)
    }
}

fn log_of(disk: &Disk) -> String {
    fs::read_to_string(disk.path().join("log")).unwrap_or_default()
}

fn announced_port(stdout: &mut impl BufRead) -> Option<u16> {
    let mut lines = stdout.lines().map_while(Result::ok);
    lines.find_map(|line| line.strip_prefix("PiCloud is ready on http://localhost:")?.parse().ok())
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- the server's log\n{}", self.log());
        }
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        // Not yet waited for, so the number is still this process's.
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
