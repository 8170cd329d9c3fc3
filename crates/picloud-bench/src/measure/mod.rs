//! The measurements: one file each.

pub(crate) mod attacks;
pub(crate) mod before;
pub(crate) mod breakdown;
pub(crate) mod cpu;
pub(crate) mod data;
pub(crate) mod documents;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod full;
pub(crate) mod hello;
pub(crate) mod idle;
pub(crate) mod jail;
pub(crate) mod login;
pub(crate) mod memory;
pub(crate) mod neighbour;
pub(crate) mod recovery;
pub(crate) mod routes;
pub(crate) mod tenants;

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::baseline::{Baseline, Kind, PATH};
use crate::load::{self, Measured, Request};
use crate::subject::{Admin, Picloud};

/// The script that answers hello, natively and in PiCloud.
pub(crate) const HELLO: &str = include_str!("scripts/hello.rhai");
const HELLO_SCRIPT: &str = "bench-hello";
const HELLO_ANSWER: &str = "Hello, world!";

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Every contestant once is a round.
    pub(crate) rounds: usize,
    /// Servers of each kind that are started where one differs from the next.
    pub(crate) starts: usize,
    /// One contestant's turn, and what it runs before to warm up.
    pub(crate) turn: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) cpu_runs: usize,
    pub(crate) idle: Duration,
    /// Workers that are killed.
    pub(crate) kills: usize,
    /// Runs of the script that takes all its memory.
    pub(crate) memory_runs: usize,
    /// Events that wait when a backlog is worked off.
    pub(crate) backlog: u32,
    /// Documents among which some are found.
    pub(crate) documents: u32,
    /// Bytes of a file that goes up and down.
    pub(crate) file_bytes: u64,
    /// How long events come in without a pause.
    pub(crate) stream: Duration,
    /// Names that a wrong password is sent for, of those that there are and of those that there are not.
    pub(crate) login_names: usize,
    /// Storms of logins.
    pub(crate) login_storms: u32,
    /// Threads that were needed for the start go, and PostgreSQL hands in its counters, within 10 s.
    pub(crate) settle: Duration,
}

impl Plan {
    pub(crate) fn full() -> Self {
        Self {
            rounds: 5,
            starts: 7,
            turn: Duration::from_secs(3),
            warm_up: Duration::from_millis(500),
            cpu_runs: 31,
            idle: Duration::from_secs(60),
            kills: 200,
            memory_runs: 1_000,
            backlog: 100_000,
            documents: 1_000_000,
            file_bytes: 1 << 30,
            stream: Duration::from_secs(10),
            login_names: 100,
            login_storms: 5,
            settle: Duration::from_secs(12),
        }
    }

    pub(crate) fn quick() -> Self {
        Self {
            rounds: 3,
            starts: 2,
            turn: Duration::from_secs(1),
            warm_up: Duration::from_millis(300),
            cpu_runs: 9,
            idle: Duration::from_secs(15),
            kills: 10,
            memory_runs: 50,
            backlog: 20_000,
            documents: 100_000,
            file_bytes: 128 << 20,
            stream: Duration::from_secs(3),
            login_names: 60,
            login_storms: 2,
            ..Self::full()
        }
    }
}

/// Everybody who takes part, started and ready.
#[derive(Debug)]
pub(crate) struct Bench {
    plan: Plan,
    /// For measurements that start further servers.
    binary: Option<PathBuf>,
    picloud: Picloud,
    admin: Admin,
    axum: Baseline,
    native: Baseline,
    hello: Request,
    /// Requests that PiCloud answered under load.
    answered: Cell<u64>,
}

impl Bench {
    pub(crate) fn start(binary: Option<&Path>, plan: Plan) -> anyhow::Result<Self> {
        let axum = Baseline::start(Kind::Axum)?;
        let native = Baseline::start(Kind::Native)?;
        let picloud = Picloud::start(binary)?;
        let admin = picloud.admin()?;
        admin.deploy(HELLO_SCRIPT, HELLO, &json!({}))?;
        admin.route("/bench/hello/:name", HELLO_SCRIPT)?;
        let hello = Request::get(PATH, HELLO_ANSWER);
        Ok(Self {
            plan,
            binary: binary.map(Path::to_owned),
            picloud,
            admin,
            axum,
            native,
            hello,
            answered: Cell::new(0),
        })
    }

    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        self.picloud.stop()
    }

    /// One turn, warmed up. `at_start` is called between the two.
    fn turn<T>(
        &self,
        address: SocketAddr,
        request: &Request,
        connections: usize,
        at_start: impl FnOnce() -> T,
    ) -> anyhow::Result<(Measured, T)> {
        let warm_up = load::run(address, request, connections, self.plan.warm_up)?;
        let started = at_start();
        let measured = load::run(address, request, connections, self.plan.turn)?;
        if address == self.picloud.address {
            self.answered.set(self.answered.get() + warm_up.requests + measured.requests);
        }
        Ok((measured, started))
    }
}
