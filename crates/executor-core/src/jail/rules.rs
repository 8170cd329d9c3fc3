//! Step 16, the list: every system call a locked-down worker makes. Whatever is not here ends it.
//!
//! The numbers come from `libc`, for the architecture this is built for; x86-64 and aarch64 have
//! all of these calls under the same names. What must not come in, whatever the reason: opening,
//! sockets, passing descriptors, making processes or threads, changing rights or code.

use libc::{self, c_long};
use shared::wire::worker::SOCKET_FD;

/// What an argument must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    Is(u64),
    /// The worker's process id, which is also its one thread's.
    OwnProcess,
    /// Of these bits, exactly those are set.
    Bits {
        of: u64,
        set: u64,
    },
}

/// An argument of a call, counted from 0. Only its low 32 bits are looked at, as the kernel does for
/// all of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument(pub u8, pub Test);

/// A call that is allowed when all of its arguments are as they must be.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    pub name: &'static str,
    pub number: c_long,
    pub arguments: &'static [Argument],
}

const SOCKET: Test = Test::Is(SOCKET_FD.unsigned_abs() as u64);
const STANDARD_ERROR: Test = Test::Is(2);
const NOT_EXECUTABLE: Test = Test::Bits { of: libc::PROT_EXEC.unsigned_abs() as u64, set: 0 };
const MEMORY_ALONE: Test = Test::Bits {
    of: (libc::MAP_SHARED | libc::MAP_ANONYMOUS).unsigned_abs() as u64,
    set: libc::MAP_ANONYMOUS.unsigned_abs() as u64,
};
const NO_FLAG_BUT_MAYMOVE: Test = Test::Bits { of: !(libc::MREMAP_MAYMOVE.unsigned_abs()) as u64, set: 0 };
const GIVE_BACK: Test = Test::Is(libc::MADV_DONTNEED.unsigned_abs() as u64);
const MONOTONIC: Test = Test::Is(libc::CLOCK_MONOTONIC.unsigned_abs() as u64);
const ABORT: Test = Test::Is(libc::SIGABRT.unsigned_abs() as u64);
const NOTHING: Test = Test::Is(0);

const fn allow(name: &'static str, number: c_long, arguments: &'static [Argument]) -> Allowed {
    Allowed { name, number, arguments }
}

/// Most frequent first.
pub const RULES: &[Allowed] = &[
    // Frames in. Not recvmsg: it could take in descriptors.
    allow("recvfrom", libc::SYS_recvfrom, &[Argument(0, SOCKET)]),
    // Frames out, to the connected parent: no address. Not sendmsg: it could pass descriptors on.
    allow("sendto", libc::SYS_sendto, &[Argument(0, SOCKET), Argument(4, NOTHING), Argument(5, NOTHING)]),
    // A guest's memory and stack are given back, or put back to their first state.
    allow("madvise", libc::SYS_madvise, &[Argument(2, GIVE_BACK)]),
    // A guest's memory grows.
    allow("mprotect", libc::SYS_mprotect, &[Argument(2, NOT_EXECUTABLE)]),
    // The allocator's large blocks; stacks for trap handlers. Never a file, never shared.
    allow("mmap", libc::SYS_mmap, &[Argument(2, NOT_EXECUTABLE), Argument(3, MEMORY_ALONE)]),
    allow("munmap", libc::SYS_munmap, &[]),
    // The allocator's large blocks grow; never to an address of the caller's choice.
    allow("mremap", libc::SYS_mremap, &[Argument(3, NO_FLAG_BUT_MAYMOVE)]),
    // The allocator's small blocks.
    allow("brk", libc::SYS_brk, &[]),
    // A guest's trap is a signal, and this is how its handler ends.
    allow("rt_sigreturn", libc::SYS_rt_sigreturn, &[]),
    // Deadlines, on machines whose clock cannot be read without a call.
    allow("clock_gettime", libc::SYS_clock_gettime, &[Argument(0, MONOTONIC)]),
    // Its own priority, while guests run for long. What it may be is bounded by the limits of step 13.
    allow("sched_setattr", libc::SYS_sched_setattr, &[Argument(0, NOTHING), Argument(2, NOTHING)]),
    // The stack for trap handlers: set up before the first guest runs, taken down at the end.
    allow("sigaltstack", libc::SYS_sigaltstack, &[]),
    // Last words, into a pipe of which the parent reads only so much.
    allow("write", libc::SYS_write, &[Argument(0, STANDARD_ERROR)]),
    // The rest is how a process ends: of itself, or by abort().
    allow("exit_group", libc::SYS_exit_group, &[]),
    allow("rt_sigprocmask", libc::SYS_rt_sigprocmask, &[]),
    allow("rt_sigaction", libc::SYS_rt_sigaction, &[Argument(0, ABORT)]),
    allow("getpid", libc::SYS_getpid, &[]),
    allow("gettid", libc::SYS_gettid, &[]),
    allow(
        "tgkill",
        libc::SYS_tgkill,
        &[Argument(0, Test::OwnProcess), Argument(1, Test::OwnProcess), Argument(2, ABORT)],
    ),
];
