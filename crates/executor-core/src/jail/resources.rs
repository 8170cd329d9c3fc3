//! Step 13: what the process may use up.

use nix::sys::resource::{Resource, setrlimit};
use shared::wire::worker::Layers;

use super::{Jail, JailError};

/// 0 to 3 exist; no further one can be made.
const DESCRIPTORS: u64 = 4;

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
