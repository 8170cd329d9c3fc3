//! Jobs for tests.

use std::sync::Arc;

use shared::cause::Cause;
use shared::guest_abi::InvocationType;
use shared::id::{AppId, ExecutionId, ScriptId, UserId};
use shared::invocation::{Compilation, Invocation, Occasion, ScriptTarget, Work};
use shared::limits::ScriptLimits;
use shared::script::{Bundle, ScriptKind};
use tokio::sync::oneshot;

use super::job::{ImageKey, Job, LoadableImage};
use super::mode::Mode;

fn bundle() -> Bundle {
    Bundle::single(ScriptKind::Endpoint, "script", "1")
}

fn job(mode: Mode, work: Work) -> Job {
    let key = ImageKey::new(bundle().hash(), &ScriptLimits::default());
    let image = LoadableImage { key, load: Arc::from([0_u8; 4]) };
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
