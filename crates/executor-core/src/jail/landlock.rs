//! Step 12: the kernel's own list of what a process may touch, left empty.

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope};
use nix::errno::Errno;

use shared::wire::worker::Layers;

use super::Jail;

/// The newest version whose access rights are known here; older kernels get what they have.
const NEWEST: ABI = ABI::V9;

#[derive(Debug, thiserror::Error)]
enum LandlockError {
    #[error(transparent)]
    Ruleset(#[from] RulesetError),
    #[error("the kernel has no Landlock, or it is not enabled")]
    Unsupported,
}

/// No file, no port, no signal to processes outside, no abstract socket made outside.
pub(super) fn deny_all(jail: &mut Jail) {
    jail.attempt(Layers::LANDLOCK, restrict);
}

fn restrict() -> Result<(), LandlockError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(LandlockError::Unsupported);
    }
    Ok(())
}

/// Which version of Landlock this kernel has; 0 for none. Files are from 1, TCP ports from 4,
/// signals and abstract sockets from 6.
pub fn version() -> u32 {
    // `LANDLOCK_CREATE_RULESET_VERSION`
    const ASK_FOR_VERSION: libc::c_uint = 1;
    let nothing = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the kernel takes no structure, makes nothing and answers a number.
    let answer =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, ASK_FOR_VERSION) };
    Errno::result(answer).ok().and_then(|version| u32::try_from(version).ok()).unwrap_or(0)
}
