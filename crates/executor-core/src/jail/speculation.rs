//! Step 14: the processor does not run ahead where another process could see what it read, and runs
//! nobody else's program at the same time on the same core.

use libc::{c_int, c_ulong};
use nix::errno::Errno;
use shared::wire::worker::Layers;

use super::Jail;

// From `linux/prctl.h`; the system library has them for x86-64 alone.
const GET: c_int = 52;
const SET: c_int = 53;
const NOT_AFFECTED: c_int = 0;
/// The process itself may decide.
const BY_PROCESS: c_int = 1;
/// The processor runs ahead.
const ON: c_int = 1 << 1;
/// Off, and never on again.
const OFF_FOR_GOOD: c_ulong = 1 << 3;

/// Reading memory past an earlier write that is still under way, and jumping where another program
/// taught the processor to. Others cannot be switched off by a process.
const CONTROLS: [c_ulong; 2] = [0, 1];

/// Which programs may be on a core's threads at the same time (`PR_SCHED_CORE`, Linux 5.14): from now on
/// none but this one.
const SCHED_CORE: c_int = 62;
const CREATE: c_ulong = 1;

/// It costs some time with every write and jump, and half of a core that could run two, so only those pay
/// who asked for strict isolation.
pub(super) fn forbid(jail: &mut Jail) {
    jail.attempt(Layers::OWN_CORE, || match prctl(SCHED_CORE, CREATE, 0) {
        // No core of this machine runs two programs.
        Err(Errno::ENODEV) => Ok(()),
        other => other.map(drop),
    });
    jail.attempt(Layers::NO_SPECULATION, || {
        let found = CONTROLS.map(switch_off);
        // Not every architecture has both, and one that it lacks cannot be used against anybody.
        match found {
            [Ok(()) | Err(Errno::ENODEV), Ok(())] | [Ok(()), Err(Errno::ENODEV)] => Ok(()),
            [Err(errno), _] | [_, Err(errno)] => Err(errno),
        }
    });
}

fn switch_off(control: c_ulong) -> Result<(), Errno> {
    match prctl(GET, control, 0)? {
        NOT_AFFECTED => Ok(()),
        // On for everybody, by whoever started this machine.
        ON => Err(Errno::EPERM),
        state if state & BY_PROCESS != 0 => prctl(SET, control, OFF_FOR_GOOD).map(drop),
        // Off for everybody.
        _ => Ok(()),
    }
}

fn prctl(option: c_int, control: c_ulong, value: c_ulong) -> Result<c_int, Errno> {
    let unused: c_ulong = 0;
    // SAFETY: the options take numbers alone. The third of core scheduling is a process, 0 for this one; its
    // fourth, 0, is this one thread, and no address is given to write to.
    Errno::result(unsafe { libc::prctl(option, control, value, unused, unused) })
}
