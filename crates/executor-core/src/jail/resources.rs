//! Step 13: what the process may use up. Part of step 5: who goes when the machine has no memory left.

use std::fs::File;
use std::io::Write;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use shared::wire::process_limits::{Bound, PROCESS_LIMITS, ProcessLimit, address_bytes};
use shared::wire::worker::Layers;

use super::{Jail, JailError};

/// How much sooner than others the kernel ends a process for want of memory.
const OUT_OF_MEMORY_SCORE: &str = "/proc/self/oom_score_adj";
/// The most there is.
const BEFORE_ALL_OTHERS: &[u8] = b"1000";

/// Part of step 5. When the machine runs out of memory, the kernel ends a worker, of which there will be another,
/// and neither the parent nor the database. It takes no right to go before others, only to go after them. A worker
/// without `/proc` goes on: what it may use up is bounded all the same, and `picloud doctor` says so.
pub(super) fn be_first_to_go() {
    let score = File::options().write(true).open(OUT_OF_MEMORY_SCORE);
    let _ = score.and_then(|mut file| file.write_all(BEFORE_ALL_OTHERS));
}

/// All that the table has. What a worker has less of already stays so: no right is left to raise it.
pub(super) fn limit(jail: &mut Jail, data_bytes: u64) -> Result<(), JailError> {
    let set = || {
        PROCESS_LIMITS.iter().try_for_each(|(limit, bound)| {
            let at_most = |most: u64| getrlimit(resource(*limit)).map(|(_, hard)| most.min(hard));
            let most = match bound {
                Bound::Exactly(most) => Ok(*most),
                Bound::BySlots => Ok(data_bytes),
                Bound::AtMost(most) => at_most(*most),
                Bound::AddressesBySlots => at_most(address_bytes(data_bytes)),
            };
            most.and_then(|most| setrlimit(resource(*limit), most, most))
                .map_err(|errno| JailError::Limit { resource: limit.line(), errno })
        })
    };
    jail.require(Layers::LIMITS, set)
}

const fn resource(limit: ProcessLimit) -> Resource {
    match limit {
        ProcessLimit::CoreFileBytes => Resource::RLIMIT_CORE,
        ProcessLimit::Descriptors => Resource::RLIMIT_NOFILE,
        ProcessLimit::FileBytes => Resource::RLIMIT_FSIZE,
        ProcessLimit::LockedBytes => Resource::RLIMIT_MEMLOCK,
        ProcessLimit::MessageQueueBytes => Resource::RLIMIT_MSGQUEUE,
        ProcessLimit::Processes => Resource::RLIMIT_NPROC,
        ProcessLimit::RealTimePriority => Resource::RLIMIT_RTPRIO,
        ProcessLimit::NicePriority => Resource::RLIMIT_NICE,
        ProcessLimit::DataBytes => Resource::RLIMIT_DATA,
        ProcessLimit::StackBytes => Resource::RLIMIT_STACK,
        ProcessLimit::AddressBytes => Resource::RLIMIT_AS,
    }
}
