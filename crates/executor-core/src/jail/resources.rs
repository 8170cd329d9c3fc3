//! Step 13: what the process may use up. Part of step 5: who goes when the machine has no memory left.

use std::fs::File;
use std::io::Write;

use nix::sys::resource::{Resource, setrlimit};
use shared::wire::worker::Layers;

use super::{Jail, JailError};

/// 0 to 3 exist; no further one can be made.
const DESCRIPTORS: u64 = 4;

/// How much sooner than others the kernel ends a process for want of memory.
const OUT_OF_MEMORY_SCORE: &str = "/proc/self/oom_score_adj";
/// The most there is.
const BEFORE_ALL_OTHERS: &[u8] = b"1000";

/// Part of step 5. When the machine runs out of memory, the kernel ends a worker, of which there will be another,
/// and neither the parent nor the database. It takes no right to go before others, only to go after them. A worker
/// without `/proc` goes on: what it may use up is bounded all the same.
pub(super) fn be_first_to_go() {
    let score = File::options().write(true).open(OUT_OF_MEMORY_SCORE);
    let _ = score.and_then(|mut file| file.write_all(BEFORE_ALL_OTHERS));
}

pub(super) fn limit(jail: &mut Jail, data_bytes: u64) -> Result<(), JailError> {
    let limits = [
        ("core", Resource::RLIMIT_CORE, 0),
        ("nofile", Resource::RLIMIT_NOFILE, DESCRIPTORS),
        ("fsize", Resource::RLIMIT_FSIZE, 0),
        ("memlock", Resource::RLIMIT_MEMLOCK, 0),
        ("msgqueue", Resource::RLIMIT_MSGQUEUE, 0),
        // Processes of this user, this one included: no other can be made.
        ("nproc", Resource::RLIMIT_NPROC, 1),
        // What native code could fill; the guests' own limits are below it.
        ("data", Resource::RLIMIT_DATA, data_bytes),
    ];
    let set = || {
        limits.into_iter().try_for_each(|(resource, kind, value)| {
            setrlimit(kind, value, value).map_err(|errno| JailError::Limit { resource, errno })
        })
    };
    jail.require(Layers::LIMITS, set)
}
