//! A piece of work on its way to a worker.

use std::sync::Arc;
use std::time::Instant;

use shared::id::AppId;
use shared::invocation::{Invocation, Work, WorkResult};
use shared::limits::{COMPILE_TIMEOUT_MS, ScriptLimits};
use shared::script::BundleHash;
use tokio::sync::oneshot;

/// What makes two compiled scripts the same: the code, and the limits that act on compiling it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ImageKey {
    pub(super) bundle: BundleHash,
    pub(super) max_operations: u64,
    pub(super) max_call_levels: u32,
    pub(super) max_expr_depth: u32,
}

impl ImageKey {
    pub(super) const fn new(bundle: BundleHash, limits: &ScriptLimits) -> Self {
        Self {
            bundle,
            max_operations: limits.max_operations,
            max_call_levels: limits.max_call_levels,
            max_expr_depth: limits.max_expr_depth,
        }
    }
}

/// A bundle in the form in which workers get it.
#[derive(Debug, Clone)]
pub(super) struct LoadableImage {
    pub(super) key: ImageKey,
    /// A postcard [`shared::guest_abi::LoadRequest`].
    pub(super) load: Arc<[u8]>,
}

/// What to do with the image.
#[derive(Debug)]
pub(super) enum Task {
    Run(Invocation),
    Compile,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) ticket: u64,
    pub(super) app: AppId,
    pub(super) task: Task,
    pub(super) image: LoadableImage,
    pub(super) reply: oneshot::Sender<WorkResult>,
    pub(super) submitted: Instant,
}

impl Job {
    pub(super) fn new(work: Work, image: LoadableImage, reply: oneshot::Sender<WorkResult>) -> Self {
        let (app, task) = match work {
            Work::Run(invocation) => (invocation.target.app, Task::Run(invocation)),
            Work::Compile(compilation) => (compilation.app, Task::Compile),
        };
        Self { ticket: 0, app, task, image, reply, submitted: Instant::now() }
    }

    pub(super) fn timeout_ms(&self) -> u32 {
        match &self.task {
            Task::Run(invocation) => invocation.target.limits.timeout_ms,
            Task::Compile => COMPILE_TIMEOUT_MS,
        }
    }

    /// Longest answer the worker may send.
    pub(super) fn output_bytes(&self) -> u32 {
        match &self.task {
            Task::Run(invocation) => invocation.target.limits.response_bytes,
            Task::Compile => 0,
        }
    }
}
