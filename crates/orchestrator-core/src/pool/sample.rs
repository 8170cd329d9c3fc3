//! Jobs for tests, and a pool without workers.

use std::sync::Arc;

use shared::call::{HostCall, Reply};
use shared::cause::Cause;
use shared::guest_abi::InvocationType;
use shared::id::{AppId, ExecutionId, ScriptId, UserId};
use shared::incident::Incident;
use shared::invocation::{Compilation, ExecutionRecord, Invocation, Occasion, Refusal, ScriptTarget, Work};
use shared::limits::ScriptLimits;
use shared::ports::{
    BoxFuture, BundleSource, BundleUnavailable, HostCalls, IncidentSink, Permits, RecordSink,
};
use shared::script::{Bundle, BundleHash, ScriptKind};
use tokio::sync::oneshot;

use super::Ports;
use super::job::{ImageKey, Job, LoadableImage};
use super::mode::Mode;
use super::recruit::PoolConfig;
use super::state::Shared;

fn bundle() -> Bundle {
    Bundle::single(ScriptKind::Endpoint, "script", "1")
}

fn job(mode: Mode, work: Work) -> Job {
    let key = ImageKey::new(bundle().hash(), &ScriptLimits::default());
    let image = LoadableImage { key, load: Arc::new(vec![0; 4]) };
    Job::new(mode, work, image, oneshot::channel().0)
}

/// A request to an app of this owner's.
pub(super) fn run(mode: Mode, owner: UserId) -> Job {
    let execution = ExecutionId::new();
    let target = ScriptTarget {
        app: AppId::new(),
        app_slug: "app".parse().unwrap(),
        owner,
        script: ScriptId::new(),
        name: "script".parse().unwrap(),
        version: 1,
        bundle: bundle().hash(),
        limits: ScriptLimits::default(),
        may_invoke: false,
    };
    let occasion = Occasion {
        invocation_type: InvocationType::Http,
        cause: Cause::root(execution),
        delivery: None,
        principal: None,
        caller: None,
        http: None,
        event: None,
    };
    job(mode, Work::Run(Invocation::new(Arc::new(target), execution, Arc::from("request"), occasion)))
}

/// What a maker of this owner's has compiled.
pub(super) fn compilation(mode: Mode, owner: UserId) -> Job {
    let (app, bundle, limits) = (AppId::new(), Arc::new(bundle()), ScriptLimits::default());
    job(mode, Work::Compile(Compilation { app, owner, bundle, limits }))
}

/// The state of a pool whose workers a test makes up.
pub(super) fn shared(config: &PoolConfig) -> Shared {
    let manager = Arc::new(Manager);
    let ports = Ports {
        bundles: manager.clone(),
        records: manager.clone(),
        permits: manager.clone(),
        incidents: manager.clone(),
        calls: manager,
    };
    Shared::new(config, ports)
}

/// Allows all, and is told nothing by what only places jobs.
struct Manager;

impl BundleSource for Manager {
    fn bundle(&self, _: BundleHash) -> BoxFuture<'_, Result<Arc<Bundle>, BundleUnavailable>> {
        Box::pin(async { Ok(Arc::new(bundle())) })
    }
}

impl RecordSink for Manager {
    fn record(&self, _: ExecutionRecord) {}
}

impl Permits for Manager {
    fn permit(&self, _: &ScriptTarget) -> Result<(), Refusal> {
        Ok(())
    }
}

impl IncidentSink for Manager {
    fn report(&self, _: Incident) {}
}

impl HostCalls for Manager {
    fn call(&self, _: HostCall) -> BoxFuture<'_, Reply> {
        Box::pin(std::future::pending())
    }
}
