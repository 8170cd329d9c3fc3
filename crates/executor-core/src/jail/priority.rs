//! What the process asks of the machine's scheduler: that its parent goes first, and while guests run for long,
//! everybody else too; and that PostgreSQL, which the parent starts, takes short turns.

use libc::{c_int, c_long, c_ulong};
use nix::errno::Errno;
use nix::sched::sched_yield;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use shared::wire::process_limits::NICE_0;

/// What a worker adds to its parent's nice value: a third of the weight. Together with `SCHED_BATCH`, by which nobody
/// is interrupted for it, the parent reads all that has come before workers run, and a worker finds several
/// requests when its turn comes. Where twenty workers take turns, that is a quarter more requests (ADR 26).
const WORKER_NICE: i32 = 5;
/// What is added to the process's nice value while guests run for long. A tenth of the weight is enough
/// to get on beside a machine's other work, and too little to hold up the parent or a worker that
/// answers requests.
const LONG_NICE: i32 = 10;
const NICE_MAX: i32 = 19;
/// What it asks to run at a stretch then: the least there is.
const SHORTEST_STRETCH_NS: u64 = 100_000;
/// The same where its nice value has to stay. It rests after each look at its socket, when it has run for some
/// 50 µs, and Linux (6.18 and newer) lets it forfeit the rest of its stretch. So others that want to run get
/// ten times as much of a CPU. Longer, and a request that comes meanwhile would wait for the end of the rest.
const LONG_STRETCH_AT_SAME_NICE_NS: u64 = 500_000;
/// No wish of its own: the scheduler's default.
const DEFAULT_STRETCH_NS: u64 = 0;

/// Part of step 5. Allows the process to come back from a higher nice value, for which it would later need
/// a right that it has given up. Only a parent with that right can give this.
pub(super) fn allow_return() {
    let _ = setrlimit(Resource::RLIMIT_NICE, NICE_0, NICE_0);
}

/// How the process stands with the scheduler.
#[derive(Debug)]
pub(crate) struct Priority {
    nice: i32,
    long_nice: i32,
    long_stretch_ns: u64,
    gives_way: bool,
}

impl Priority {
    /// Puts the process behind its parent. To be done before the filter is there.
    pub(crate) fn take() -> Self {
        // SAFETY: it takes two numbers; 0 is this process.
        let inherited = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let nice = (inherited + WORKER_NICE).min(NICE_MAX);
        // To ask for less is always allowed. Where it is not, workers are merely quicker than is good for them.
        let _ = set(nice, DEFAULT_STRETCH_NS);
        let limit = getrlimit(Resource::RLIMIT_NICE).map_or(0, |(soft, _)| soft);
        let may_return = i64::try_from(limit).is_ok_and(|limit| limit >= i64::from(20 - nice));
        // Who could not come back stays: in most containers, and where the parent is not root.
        let (long_nice, long_stretch_ns) = if may_return {
            ((nice + LONG_NICE).min(NICE_MAX), SHORTEST_STRETCH_NS)
        } else {
            (nice, LONG_STRETCH_AT_SAME_NICE_NS)
        };
        Self { nice, long_nice, long_stretch_ns, gives_way: false }
    }

    /// Lets everybody go first, or no longer. Where the machine refuses, neighbours notice more of
    /// guests that run for long; nothing else depends on it.
    pub(crate) fn give_way(&mut self, gives_way: bool) {
        if self.gives_way != gives_way {
            self.gives_way = gives_way;
            let _ = if gives_way {
                set(self.long_nice, self.long_stretch_ns)
            } else {
                set(self.nice, DEFAULT_STRETCH_NS)
            };
        }
    }

    #[cfg(test)]
    pub(crate) const fn gives_way(&self) -> bool {
        self.gives_way
    }

    /// While it gives way: lets whoever is waiting for this CPU go first, once.
    pub(crate) fn rest(&self) {
        if self.gives_way {
            // It cannot fail on Linux.
            let _ = sched_yield();
        }
    }
}

/// Has a thread, and the processes that it starts, run for a tenth of a millisecond at a stretch. How much of a
/// processor each gets stays the same, but whoever has little to do waits less for those that have much. For
/// PostgreSQL, where a statement of one row and one of hundreds run side by side (ADR 32). Linux before 6.12 pays no
/// attention to it, and nothing depends on it.
pub fn run_in_short_stretches() {
    // SAFETY: it takes two numbers; 0 is this thread.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let _ = set_policy(libc::SCHED_OTHER, nice, SHORTEST_STRETCH_NS);
}

fn set(nice: i32, stretch_ns: u64) -> Result<(), Errno> {
    set_policy(libc::SCHED_BATCH, nice, stretch_ns)
}

fn set_policy(policy: c_int, nice: i32, stretch_ns: u64) -> Result<(), Errno> {
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0),
        sched_policy: policy.unsigned_abs(),
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: stretch_ns,
        sched_deadline: 0,
        sched_period: 0,
    };
    let (this_process, no_flags): (c_long, c_ulong) = (0, 0);
    // SAFETY: the kernel reads the structure, which says its own size, and keeps nothing of it.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_setattr, this_process, &raw const attributes, no_flags) };
    Errno::result(result).map(drop)
}
