//! The parent's part: a pool of such workers, and what is expected of it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use orchestrator_core::pool::{Pool, PoolConfig};
use shared::guest_abi::GuestHttp;
use shared::id::{AppId, ScriptId, UserId};
use shared::invocation::{
    ExecutionRecord, ExecutionStatus, Invocation, Outcome, ScriptTarget, Work, WorkResult,
};
use shared::limits::ScriptLimits;
use shared::ports::{BoxFuture, BundleSource, BundleUnavailable, RecordSink};
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

#[derive(Default)]
struct Records(Mutex<Vec<ExecutionStatus>>);

impl RecordSink for Records {
    fn record(&self, record: ExecutionRecord) {
        self.0.lock().unwrap().push(record.status);
    }
}

/// Runs one execution in a worker that behaves so, and an honest one in what comes after it.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn endures(behaviour: &str, expected: ExecutionStatus) {
    let records = Arc::new(Records::default());
    let config = PoolConfig::new("/proc/self/exe".into(), 1, 4);
    let pool = Pool::start(config, Arc::new(OneBundle), records.clone()).await.unwrap();
    let outcome = run(&pool, behaviour).await;
    assert_eq!(outcome.status, expected, "{behaviour}: {outcome:?}");
    assert_eq!(outcome.response.is_some(), expected == ExecutionStatus::Ok, "{behaviour}");
    if behaviour != "honest" {
        let deadline = Instant::now() + PATIENCE;
        while pool.status().workers_lost == 0 {
            assert!(Instant::now() < deadline, "{behaviour}: the worker was kept");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(run(&pool, "honest").await.status, ExecutionStatus::Ok, "after {behaviour}");
    assert_eq!(*records.0.lock().unwrap(), [expected, ExecutionStatus::Ok], "{behaviour}: one record each");
    assert_eq!(pool.status().executions_running, 0);
    pool.drain(Duration::from_secs(1)).await;
}

async fn run(pool: &Pool, behaviour: &str) -> Outcome {
    let target = ScriptTarget {
        app: AppId::new(),
        app_slug: "app".parse().unwrap(),
        owner: UserId::new(),
        script: ScriptId::new(),
        name: "script".parse().unwrap(),
        version: 1,
        bundle: bundle().hash(),
        limits: ScriptLimits { timeout_ms: 500, ..ScriptLimits::default() },
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
    let work = Work::Run(Invocation::http(Arc::new(target), "r".into(), http));
    match tokio::time::timeout(PATIENCE, pool.work(work)).await.unwrap() {
        WorkResult::Ran(outcome) => outcome,
        other => panic!("{behaviour}: {other:?}"),
    }
}
