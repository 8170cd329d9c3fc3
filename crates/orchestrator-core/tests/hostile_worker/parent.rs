//! The parent's part: a pool of such workers, and what is expected of it.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use orchestrator_core::pool::{Mode, Pool, PoolConfig, Ports};
use shared::call::{FORGED, HostCall, Reply};
use shared::guest_abi::GuestHttp;
use shared::id::{AppId, ScriptId, UserId};
use shared::incident::{Incident, Misconduct, Suspect};
use shared::invocation::{
    Compilation, ExecutionRecord, ExecutionStatus, Invocation, Outcome, Refusal, ScriptTarget, Work,
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

/// The scripts that are quarantined.
#[derive(Default)]
struct Quarantined(Mutex<HashSet<ScriptId>>);

impl Permits for Quarantined {
    fn permit(&self, target: &ScriptTarget) -> Result<(), Refusal> {
        if self.0.lock().unwrap().contains(&target.script) { Err(Refusal::Quarantined) } else { Ok(()) }
    }
}

/// Answers a call with its arguments; one without any waits for ever, and what these say is forged is so. Counts them.
#[derive(Default)]
struct Echo(AtomicUsize);

impl HostCalls for Echo {
    fn call(&self, call: HostCall) -> BoxFuture<'_, Reply> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            if call.args.is_empty() {
                std::future::pending::<()>().await;
            }
            let status = if call.args == b"forged" { FORGED } else { 0 };
            Reply { status, body: call.args }
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
struct Records(Mutex<Vec<(AppId, ExecutionStatus)>>);

impl RecordSink for Records {
    fn record(&self, record: ExecutionRecord) {
        self.0.lock().unwrap().push((record.target.app, record.status));
    }
}

/// Runs one execution in a worker that behaves so, and an honest one in what comes after it. Meanwhile a
/// canary, another owner's app in a worker of its own, is answered all the time.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn endures(behaviour: &str, expected: ExecutionStatus, misconduct: Option<Misconduct>) {
    let farm = Farm::start(PoolConfig::new(program(), 2, 4)).await;
    let (app, canary) = (Tenant::new(), Tenant::new());
    let attacked = farm.run(&app, behaviour);
    let (outcome, answers) = beside(&farm, &canary, attacked).await;
    // The terminal's escape sequences have a number of their own.
    let number = if behaviour == "shouts" { "52" } else { "47" };
    println!(
        "| {number} {behaviour:<22} | {expected:?}, {misconduct:?}; canary unharmed | {:?}, {answers} answers |",
        outcome.status
    );
    assert_eq!(outcome.status, expected, "{behaviour}: {outcome:?}");
    assert_eq!(outcome.response.is_some(), expected == ExecutionStatus::Ok, "{behaviour}");
    if expected == ExecutionStatus::WorkerLost || misconduct.is_some() {
        eventually("the worker is gone", || farm.pool.status().workers_lost > 0).await;
    }
    assert_eq!(farm.run(&app, "honest").await.status, ExecutionStatus::Ok, "after {behaviour}");
    let records = farm.records.0.lock().unwrap().clone();
    let of_app: Vec<_> =
        records.into_iter().filter(|(of, _)| *of == app.app).map(|(_, status)| status).collect();
    assert_eq!(of_app, [expected, ExecutionStatus::Ok], "{behaviour}: one record each");
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

/// Has the canary answered again and again until `attacked` is over; answers how often.
pub(crate) async fn beside<T>(farm: &Farm, canary: &Tenant, attacked: impl Future<Output = T>) -> (T, usize) {
    let is_over = Cell::new(false);
    let attack = async {
        let outcome = attacked.await;
        is_over.set(true);
        outcome
    };
    let asking = async {
        let mut answers = 0;
        while !is_over.get() {
            let outcome = farm.run(canary, "honest").await;
            assert_eq!(outcome.status, ExecutionStatus::Ok, "the canary noticed: {outcome:?}");
            answers += 1;
        }
        answers
    };
    tokio::join!(attack, asking)
}

/// Workers that send an ordinary conversation with anything in it changed. Whatever it is taken for, it is about their
/// own execution, and the canary is answered.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn endures_changed_frames() {
    const SEEDS: u64 = 120;
    let farm = Farm::start(PoolConfig::new(program(), 2, 4)).await;
    let (app, canary) = (Tenant::new(), Tenant::new());
    let attacks = async {
        let mut seen = BTreeMap::<String, u64>::new();
        for seed in 0..SEEDS {
            let behaviour = format!("mutated-{seed}");
            match farm.work(invocation_with(&app, behaviour.as_bytes(), 100)).await {
                WorkResult::Ran(outcome) => *seen.entry(format!("{:?}", outcome.status)).or_default() += 1,
                other => panic!("{behaviour}: {other:?}"),
            }
        }
        seen
    };
    let (seen, answers) = beside(&farm, &canary, Box::pin(attacks)).await;
    println!(
        "| 47 {:<22} | killed, or only bytes; canary unharmed | {seen:?}, {answers} answers |",
        "changed frames"
    );
    assert!(seen.get("WorkerLost").is_some_and(|lost| *lost >= SEEDS / 4), "{seen:?}");
    let records = farm.records.0.lock().unwrap().clone();
    let of_app = records.iter().filter(|(of, _)| *of == app.app).count();
    assert_eq!(of_app, usize::try_from(SEEDS).unwrap(), "one record each");
    assert_eq!(farm.pool.status().executions_running, 0);
    farm.pool.drain(Duration::from_secs(1)).await;
}

/// One write that ends an execution with rubbish and makes a call for another one: by then the worker is no longer ours.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn endures_a_call_beside_rubbish() {
    let farm = Farm::start(PoolConfig::new(program(), 1, 4).isolated(Mode::Shared)).await;
    eventually("the worker is there", || farm.pool.status().workers_ready == 1).await;
    let (evil, other) = (Tenant::new(), Tenant::new());
    let waits = farm.work(invocation_within(15_000, &other, "silence"));
    let attack = async {
        eventually("the other runs", || farm.pool.status().executions_running == 1).await;
        farm.run(&evil, "call-beside-rubbish").await
    };
    let (waited, attacked) = tokio::join!(waits, attack);
    assert_eq!(attacked.status, ExecutionStatus::WorkerLost);
    assert!(
        matches!(&waited, WorkResult::Ran(outcome) if outcome.status == ExecutionStatus::WorkerLost),
        "both were in one worker: {waited:?}"
    );
    let calls = || farm.calls.0.load(Ordering::Relaxed);
    let refused = calls();
    // The same call of a worker that tells no lie: it is what the other one was refused for.
    assert_eq!(farm.run(&other, "call").await.status, ExecutionStatus::Ok);
    println!(
        "| 47 {:<22} | its call is not carried out | {refused} of {} calls |",
        "call beside rubbish",
        calls()
    );
    assert_eq!((refused, calls()), (0, 1));
    farm.pool.drain(Duration::from_secs(1)).await;
}

/// A worker with time enough that stops reading while there is much to read. With one worker for each owner, what
/// there is to read is that worker's, and the canary has its own.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn endures_the_deaf() {
    let farm = Farm::start(PoolConfig::new(program(), 1, 4)).await;
    let (app, canary) = (Tenant::new(), Tenant::new());
    // The bundle is at hand then, so that who is asked first is first.
    assert_eq!(farm.run(&app, "honest").await.status, ExecutionStatus::Ok);
    let since = Instant::now();
    let deaf = farm.work(invocation_with(&app, b"deaf", 60_000));
    // More than the socket takes in.
    let large = vec![b'x'; 8 << 20];
    let flood = farm.work(invocation_with(&app, &large, 60_000));
    let both = Box::pin(async { tokio::join!(deaf, flood) });
    let ((deaf, flood), answers) = beside(&farm, &canary, both).await;
    for ran in [deaf, flood] {
        assert!(
            matches!(&ran, WorkResult::Ran(outcome) if outcome.status == ExecutionStatus::WorkerLost),
            "{ran:?}"
        );
    }
    assert!(since.elapsed() < PATIENCE);
    eventually("it is reported", || !farm.incidents.0.lock().unwrap().is_empty()).await;
    let seen = farm.incidents.0.lock().unwrap()[0].misconduct;
    let expected = "killed after a second: Unresponsive; canary unharmed";
    println!("| 47 {:<22} | {expected} | {seen:?}, {answers} answers |", "deaf");
    assert_eq!(seen, Misconduct::Unresponsive);
    assert_eq!(farm.run(&app, "honest").await.status, ExecutionStatus::Ok);
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
    quarantined: Arc<Quarantined>,
    calls: Arc<Echo>,
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
        let (quarantined, calls) = (Arc::new(Quarantined::default()), Arc::new(Echo::default()));
        let ports = Ports {
            bundles: Arc::new(OneBundle),
            records: records.clone(),
            permits: quarantined.clone(),
            incidents: incidents.clone(),
            calls: calls.clone(),
        };
        Self { pool: Pool::start(config, ports).await.unwrap(), records, incidents, quarantined, calls }
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

    /// Has source compiled that is to be deployed to this app.
    pub(crate) async fn compile(&self, tenant: &Tenant) -> WorkResult {
        let work = Work::Compile(Compilation {
            app: tenant.app,
            owner: tenant.owner,
            bundle: Arc::new(bundle()),
            limits: ScriptLimits::default(),
        });
        tokio::time::timeout(PATIENCE, self.pool.work(work)).await.unwrap()
    }

    /// The apps whose executions have ended, in that order.
    pub(crate) fn ended(&self) -> Vec<AppId> {
        self.records.0.lock().unwrap().iter().map(|(app, _)| *app).collect()
    }

    pub(crate) fn quarantine(&self, tenant: &Tenant) {
        self.quarantined.0.lock().unwrap().insert(tenant.script);
    }

    /// The apps whose compilations are suspected.
    pub(crate) fn suspected_compilations(&self) -> Vec<AppId> {
        let incidents = self.incidents.0.lock().unwrap();
        let compilation = |incident: &Incident| match incident.suspect {
            Some(Suspect::Compilation(app)) => Some(app),
            _ => None,
        };
        incidents.iter().filter_map(compilation).collect()
    }

    /// Which scripts are suspected, and whether nobody else can have been the reason, once there are
    /// so many incidents.
    pub(crate) async fn suspects(&self, count: usize) -> Vec<(ScriptId, bool)> {
        let seen = || -> Vec<_> {
            let incidents = self.incidents.0.lock().unwrap();
            let script = |incident: &Incident| match &incident.suspect {
                Some(Suspect::Execution { target, .. }) => Some((target.script, incident.is_alone)),
                _ => None,
            };
            incidents.iter().filter_map(script).collect()
        };
        eventually("what was suspicious is reported", || seen().len() >= count).await;
        seen()
    }

    /// The process that ran an execution of this app.
    pub(crate) async fn pid(&self, tenant: &Tenant) -> u32 {
        self.pid_of(tenant, "pid").await
    }

    /// The same, for a behaviour that tells it.
    pub(crate) async fn pid_of(&self, tenant: &Tenant, behaviour: &str) -> u32 {
        let body = self.run(tenant, behaviour).await.response.unwrap().body;
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
    invocation_with(tenant, behaviour.as_bytes(), timeout_ms)
}

fn invocation_with(tenant: &Tenant, body: &[u8], timeout_ms: u32) -> Invocation {
    let target = ScriptTarget {
        app: tenant.app,
        app_slug: "app".parse().unwrap(),
        owner: tenant.owner,
        script: tenant.script,
        name: "script".parse().unwrap(),
        version: 1,
        bundle: bundle().hash(),
        limits: ScriptLimits { timeout_ms, ..ScriptLimits::default() },
        may_invoke: true,
    };
    let http = GuestHttp {
        method: "POST",
        path: "/",
        rest: "",
        remote_ip: "127.0.0.1",
        params: &[],
        query: &[],
        headers: &[],
        body,
    };
    Invocation::http(Arc::new(target), "r".into(), http)
}
