//! The parent's part: a pool of such workers, and what is expected of it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use orchestrator_core::pool::{Pool, PoolConfig, Ports};
use shared::call::{HostCall, Reply};
use shared::guest_abi::GuestHttp;
use shared::id::{AppId, ScriptId, UserId};
use shared::invocation::{
    ExecutionRecord, ExecutionStatus, Incident, Invocation, Misconduct, Outcome, Refusal, ScriptTarget, Work,
    WorkResult,
};
use shared::limits::ScriptLimits;
use shared::ports::{
    BoxFuture, BundleSource, BundleUnavailable, HostCalls, IncidentSink, Permits, RecordSink,
};
use shared::script::{Bundle, BundleHash, ScriptKind};

const PATIENCE: Duration = Duration::from_secs(20);

fn bundle() -> Bundle {
    Bundle::single(ScriptKind::Endpoint, "script", "1")
}

struct OneBundle;

impl BundleSource for OneBundle {
    fn bundle(&self, _: BundleHash) -> BoxFuture<'_, Result<Arc<Bundle>, BundleUnavailable>> {
        Box::pin(async { Ok(Arc::new(bundle())) })
    }
}

struct EverybodyMay;

impl Permits for EverybodyMay {
    fn permit(&self, _: &ScriptTarget) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Answers a call with its arguments; one without any waits for ever.
struct Echo;

impl HostCalls for Echo {
    fn call(&self, call: HostCall) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            if call.args.is_empty() {
                std::future::pending::<()>().await;
            }
            Reply { status: 0, body: call.args }
        })
    }
}

/// The incidents that were reported.
#[derive(Default)]
struct Incidents(Mutex<Vec<Incident>>);

impl IncidentSink for Incidents {
    fn report(&self, incident: Incident) {
        self.0.lock().unwrap().push(incident);
    }
}

#[derive(Default)]
struct Records(Mutex<Vec<ExecutionStatus>>);

impl RecordSink for Records {
    fn record(&self, record: ExecutionRecord) {
        self.0.lock().unwrap().push(record.status);
    }
}

/// Runs one execution in a worker that behaves so, and an honest one in what comes after it.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn endures(behaviour: &str, expected: ExecutionStatus, misconduct: Option<Misconduct>) {
    let farm = Farm::start(PoolConfig::new(program(), 1, 4)).await;
    let app = Tenant::new();
    let outcome = farm.run(&app, behaviour).await;
    assert_eq!(outcome.status, expected, "{behaviour}: {outcome:?}");
    assert_eq!(outcome.response.is_some(), expected == ExecutionStatus::Ok, "{behaviour}");
    if expected == ExecutionStatus::WorkerLost || misconduct.is_some() {
        eventually("the worker is gone", || farm.pool.status().workers_lost > 0).await;
    }
    assert_eq!(farm.run(&app, "honest").await.status, ExecutionStatus::Ok, "after {behaviour}");
    assert_eq!(
        *farm.records.0.lock().unwrap(),
        [expected, ExecutionStatus::Ok],
        "{behaviour}: one record each"
    );
    assert_eq!(farm.pool.status().executions_running, 0);
    let expected_incidents = usize::from(misconduct.is_some());
    eventually("what was suspicious is reported", || {
        farm.incidents.0.lock().unwrap().len() == expected_incidents
    })
    .await;
    let seen = farm.incidents.0.lock().unwrap().first().map(|incident| incident.misconduct);
    assert_eq!(seen, misconduct, "{behaviour}");
    farm.pool.drain(Duration::from_secs(1)).await;
}

/// This program, which is also the worker.
pub(crate) fn program() -> PathBuf {
    "/proc/self/exe".into()
}

pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A pool with what it needs of a manager.
pub(crate) struct Farm {
    pub(crate) pool: Pool,
    records: Arc<Records>,
    incidents: Arc<Incidents>,
}

/// An app with one script, and who owns it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tenant {
    pub(crate) owner: UserId,
    pub(crate) app: AppId,
    pub(crate) script: ScriptId,
}

impl Tenant {
    pub(crate) fn new() -> Self {
        Self { owner: UserId::new(), app: AppId::new(), script: ScriptId::new() }
    }
}

impl Farm {
    pub(crate) async fn start(config: PoolConfig) -> Self {
        let (records, incidents) = (Arc::new(Records::default()), Arc::new(Incidents::default()));
        let ports = Ports {
            bundles: Arc::new(OneBundle),
            records: records.clone(),
            permits: Arc::new(EverybodyMay),
            incidents: incidents.clone(),
            calls: Arc::new(Echo),
        };
        Self { pool: Pool::start(config, ports).await.unwrap(), records, incidents }
    }

    pub(crate) async fn run(&self, tenant: &Tenant, behaviour: &str) -> Outcome {
        match self.work(invocation(tenant, behaviour)).await {
            WorkResult::Ran(outcome) => outcome,
            other => panic!("{behaviour}: {other:?}"),
        }
    }

    pub(crate) async fn work(&self, invocation: Invocation) -> WorkResult {
        tokio::time::timeout(PATIENCE, self.pool.work(Work::Run(invocation))).await.unwrap()
    }

    /// Which scripts are suspected, and whether nobody else can have been the reason, once there are
    /// so many incidents.
    pub(crate) async fn suspects(&self, count: usize) -> Vec<(ScriptId, bool)> {
        let seen = || -> Vec<_> {
            let incidents = self.incidents.0.lock().unwrap();
            incidents.iter().map(|incident| (incident.target.script, incident.is_alone)).collect()
        };
        eventually("what was suspicious is reported", || seen().len() >= count).await;
        seen()
    }

    /// The process that ran an execution of this app.
    pub(crate) async fn pid(&self, tenant: &Tenant) -> u32 {
        let body = self.run(tenant, "pid").await.response.unwrap().body;
        String::from_utf8(body).unwrap().parse().unwrap()
    }
}

pub(crate) fn invocation(tenant: &Tenant, behaviour: &str) -> Invocation {
    // Ten thousand calls take a while.
    let timeout_ms = if matches!(behaviour, "call-over-budget" | "call-flood") { 15_000 } else { 500 };
    invocation_within(timeout_ms, tenant, behaviour)
}

/// With so many milliseconds until its deadline.
pub(crate) fn invocation_within(timeout_ms: u32, tenant: &Tenant, behaviour: &str) -> Invocation {
    let target = ScriptTarget {
        app: tenant.app,
        app_slug: "app".parse().unwrap(),
        owner: tenant.owner,
        script: tenant.script,
        name: "script".parse().unwrap(),
        version: 1,
        bundle: bundle().hash(),
        limits: ScriptLimits { timeout_ms, ..ScriptLimits::default() },
    };
    let http = GuestHttp {
        method: "POST",
        path: "/",
        rest: "",
        remote_ip: "127.0.0.1",
        params: &[],
        query: &[],
        headers: &[],
        body: behaviour.as_bytes(),
    };
    Invocation::http(Arc::new(target), "r".into(), http)
}
