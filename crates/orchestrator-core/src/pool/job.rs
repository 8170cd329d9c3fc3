//! A piece of work on its way to a worker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::id::{AppId, ScriptId};
use shared::invocation::{Invocation, Work, WorkResult};
use shared::limits::{
    COMPILE_FUEL, COMPILE_MEMORY_MB, COMPILE_MEMORY_PER_BYTE, COMPILE_TIMEOUT_MS, MEMORY_MB_DEFAULT,
    ScriptLimits,
};
use shared::script::BundleHash;
use tokio::sync::oneshot;

use super::admission::{Cost, Queued};
use super::mode::Mode;
use super::tenancy::Tenant;

/// How long a request waits for its code and a slot before it is refused.
const QUEUE_WAIT: Duration = Duration::from_secs(5);

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
    /// A postcard [`shared::guest_abi::LoadRequest`]. No `Arc<[u8]>`: who only remembers it would keep its bytes.
    pub(super) load: Arc<Vec<u8>>,
}

/// What to do with the image.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are runs, and a box would be one more allocation for each"
)]
pub(super) enum Task {
    Run(Invocation),
    Compile,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) ticket: u64,
    pub(super) app: AppId,
    pub(super) tenant: Tenant,
    /// Whom its worker serves while nothing of it is watched.
    pub(super) usual: Tenant,
    pub(super) task: Task,
    pub(super) image: LoadableImage,
    pub(super) reply: oneshot::Sender<WorkResult>,
    pub(super) submitted: Instant,
    /// Whether it may take the slot that each worker keeps free: for people who work on a script
    /// and would else be locked out by its own load.
    pub(super) is_for_maker: bool,
    /// Whether somebody waits for it who has a slot: see [`Self::may_wait`].
    pub(super) is_nested: bool,
}

impl Queued for Job {
    fn app(&self) -> AppId {
        self.app
    }

    fn ticket(&self) -> u64 {
        self.ticket
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn memory_mb(&self) -> u32 {
        match &self.task {
            Task::Run(invocation) => invocation.target.limits.memory_mb.max(self.loading_mb()),
            Task::Compile => COMPILE_MEMORY_MB,
        }
    }

    fn is_ahead(&self) -> bool {
        self.is_for_maker
    }

    fn is_nested(&self) -> bool {
        self.is_nested
    }
}

/// How long who has so many milliseconds to run waits for its code and a slot. Whoever calls it is to have time left to make
/// do without.
pub(super) fn patience(is_nested: bool, timeout_ms: u32) -> Duration {
    let own = Duration::from_millis(timeout_ms.into());
    if is_nested { QUEUE_WAIT.min(own / 2) } else { QUEUE_WAIT }
}

/// Whether a submitted job runs already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Submitted {
    Started,
    Queued,
}

impl Job {
    pub(super) fn new(
        mode: Mode,
        work: Work,
        image: LoadableImage,
        reply: oneshot::Sender<WorkResult>,
    ) -> Self {
        let (owner, app, task) = match work {
            Work::Run(invocation) => (invocation.target.owner, invocation.target.app, Task::Run(invocation)),
            Work::Compile(compilation) => (compilation.owner, compilation.app, Task::Compile),
        };
        let tenant = Tenant::of(mode, owner, app);
        let is_for_maker = match &task {
            Task::Run(invocation) => invocation.is_test,
            Task::Compile => true,
        };
        let is_nested = matches!(&task, Task::Run(invocation) if invocation.is_nested);
        let submitted = Instant::now();
        Self { ticket: 0, app, tenant, usual: tenant, task, image, reply, submitted, is_for_maker, is_nested }
    }

    /// Whether it may wait for a slot. One that is nested may not, as its caller has the slot that it would wait for;
    /// but a watched script's worker may have to be made first, and is another than its caller's. For the same where
    /// workers have one slot each see [`super::staff::Staff::may_send_for`].
    pub(super) fn may_wait(&self, has_worker: impl FnOnce(Tenant) -> bool) -> bool {
        !self.is_nested || matches!(self.tenant, Tenant::Script(_)) && !has_worker(self.tenant)
    }

    /// How long it waits for a slot before it is refused.
    pub(super) fn patience(&self) -> Duration {
        patience(self.is_nested, self.timeout_ms())
    }

    /// What it runs; nothing when it only compiles.
    pub(super) fn script(&self) -> Option<ScriptId> {
        match &self.task {
            Task::Run(invocation) => Some(invocation.target.script),
            Task::Compile => None,
        }
    }

    /// Whether it may have no more memory than what scripts have that ask for none.
    pub(super) fn is_small(&self) -> bool {
        matches!(&self.task, Task::Run(invocation) if invocation.target.limits.memory_mb <= MEMORY_MB_DEFAULT)
    }

    /// Most memory that loading its image can take, in MiB: its worker may not have it at hand.
    fn loading_mb(&self) -> u32 {
        let bytes = self.image.load.len().saturating_mul(COMPILE_MEMORY_PER_BYTE);
        u32::try_from(bytes >> 20).map_or(COMPILE_MEMORY_MB, |mb| mb.min(COMPILE_MEMORY_MB))
    }

    /// Most fuel it can burn at its app's expense.
    pub(super) fn fuel_max(&self) -> u64 {
        match &self.task {
            Task::Run(invocation) => invocation.target.limits.fuel,
            Task::Compile => COMPILE_FUEL,
        }
    }

    /// What is charged for it when it has burnt so much.
    pub(super) fn cost(&self, fuel: u64) -> Cost {
        Cost { app: self.app, memory_mb: self.memory_mb(), fuel }
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

#[cfg(test)]
mod tests {
    use shared::id::UserId;

    use super::*;
    use crate::pool::sample;

    #[test]
    fn attack_who_has_much_code_loaded_is_counted_with_what_loading_takes() {
        for (kib, memory_mb) in [(1, 32), (100, 32), (200, 58), (4096, COMPILE_MEMORY_MB)] {
            let mut job = sample::run(Mode::Shared, UserId::new());
            job.image.load = Arc::new(vec![0; kib << 10]);
            assert_eq!(job.memory_mb(), memory_mb, "{kib} KiB of source");
        }
    }

    #[test]
    fn who_is_called_is_refused_while_its_caller_has_time_left() {
        for (timeout_ms, is_nested, patience_ms) in
            [(1_000, true, 500), (1_000, false, 5_000), (300_000, true, 5_000)]
        {
            let mut job = sample::run(Mode::Strict, UserId::new());
            job.is_nested = is_nested;
            if let Task::Run(invocation) = &mut job.task {
                Arc::make_mut(&mut invocation.target).limits.timeout_ms = timeout_ms;
            }
            assert_eq!(job.patience(), Duration::from_millis(patience_ms), "{timeout_ms} {is_nested}");
        }
    }
}
