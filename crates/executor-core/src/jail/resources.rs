//! Step 6: what the process may use up.

use nix::sys::resource::{Resource, setrlimit};

use super::JailError;

/// Descriptors 0 to 3 exist; no further one can be made.
const DESCRIPTORS: u64 = 4;

pub(super) fn limit() -> Result<(), JailError> {
    let limits = [
        ("core", Resource::RLIMIT_CORE, 0),
        ("nofile", Resource::RLIMIT_NOFILE, DESCRIPTORS),
        ("fsize", Resource::RLIMIT_FSIZE, 0),
        ("memlock", Resource::RLIMIT_MEMLOCK, 0),
        ("msgqueue", Resource::RLIMIT_MSGQUEUE, 0),
    ];
    for (resource, kind, value) in limits {
        setrlimit(kind, value, value).map_err(|errno| JailError::Limit { resource, errno })?;
    }
    Ok(())
}
