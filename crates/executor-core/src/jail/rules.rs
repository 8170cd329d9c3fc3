//! Step 17, the list: every system call a locked-down worker makes. Whatever is not here ends it.
//!
//! x86-64 and aarch64 have all of these calls under the same names and with the same arguments, but
//! under other numbers. The constants that arguments are compared with are the same on both. What must
//! not come in, whatever the reason: opening, sockets, passing descriptors, making processes or threads,
//! changing rights or code.

use seccompiler::TargetArch;
use shared::wire::worker::SOCKET_FD;

/// What an argument must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// For an `int`. The kernel takes its low 32 bits alone, and what callers leave in the others is anything.
    Int(u32),
    /// For a pointer: none. The kernel takes all 64 bits, and memory can be had at addresses whose low half is 0.
    Null,
    /// For a word of flags, of which the kernel takes all 64 bits: of these bits, exactly those are set.
    Bits { of: u64, set: u64 },
}

impl Test {
    /// The bits by which an argument can fail.
    pub const fn checked_bits(self) -> u64 {
        match self {
            Self::Int(_) => LOW_HALF,
            Self::Null => u64::MAX,
            Self::Bits { of, .. } => of,
        }
    }

    /// Whether some of them are beyond the low 32.
    pub const fn is_wide(self) -> bool {
        self.checked_bits() > LOW_HALF
    }

    /// A value that passes.
    pub const fn good(self) -> u64 {
        match self {
            Self::Int(value) => value as u64,
            Self::Null => 0,
            Self::Bits { set, .. } => set,
        }
    }
}

pub(super) const LOW_HALF: u64 = u32::MAX as u64;

/// An argument of a call, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument(pub u8, pub Test);

/// A call that is allowed when all of its arguments are as they must be.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    pub name: &'static str,
    /// On x86-64 and on aarch64.
    numbers: [i64; 2],
    pub arguments: &'static [Argument],
}

impl Allowed {
    /// The call's number on the architecture this is built for.
    pub const fn number(&self) -> i64 {
        self.number_on(NATIVE)
    }

    pub(super) const fn number_on(&self, architecture: TargetArch) -> i64 {
        match architecture {
            TargetArch::aarch64 => self.numbers[1],
            _ => self.numbers[0],
        }
    }
}

/// The architecture this is built for.
#[cfg(target_arch = "x86_64")]
pub(super) const NATIVE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
pub(super) const NATIVE: TargetArch = TargetArch::aarch64;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the list of system calls is for x86-64 and aarch64");

const SOCKET: Test = Test::Int(SOCKET_FD.unsigned_abs());
const STANDARD_ERROR: Test = Test::Int(2);
const READ_OR_WRITE: Test =
    Test::Bits { of: !((libc::PROT_READ | libc::PROT_WRITE).unsigned_abs() as u64), set: 0 };
// Memory of the worker's own, and of no kind that the kernel counts or keeps otherwise: what grows down is a stack to it,
// large pages that the machine has set aside are not counted with a control group's memory, and others are filled at once,
// stay in memory, or are let go unasked. The two flags that may be added are asked for when something fails: the
// allocator's, when its first place has no more memory, and wasmtime's, when a guest could not be started and its pages
// are replaced. With an address of the caller's choice goes nothing that `munmap` and a hint could not do as well.
const MEMORY_ALONE: Test = Test::Bits {
    of: !((libc::MAP_NORESERVE | libc::MAP_FIXED).unsigned_abs() as u64),
    set: (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).unsigned_abs() as u64,
};
const NO_FLAG_BUT_MAYMOVE: Test = Test::Bits { of: !(libc::MREMAP_MAYMOVE.unsigned_abs() as u64), set: 0 };
const GIVE_BACK: Test = Test::Int(libc::MADV_DONTNEED.unsigned_abs());
const MONOTONIC: Test = Test::Int(libc::CLOCK_MONOTONIC.unsigned_abs());
// Exactly what `channel.rs` asks for. No out-of-band byte above all: for it the kernel keeps a second account of what
// lies in a Unix socket, which programs hardly ever use and which has had faults (CVE-2025-38236).
const NO_WAITING: Test = Test::Int(libc::MSG_DONTWAIT.unsigned_abs());
const NO_SIGNAL: Test = Test::Int(libc::MSG_NOSIGNAL.unsigned_abs());
const NOTHING: Test = Test::Int(0);
const ONE: Test = Test::Int(1);

const fn allow(name: &'static str, numbers: [i64; 2], arguments: &'static [Argument]) -> Allowed {
    Allowed { name, numbers, arguments }
}

/// Most frequent first.
pub const RULES: &[Allowed] = &[
    // Frames in. Not recvmsg: it could take in descriptors.
    allow("recvfrom", [45, 207], &[Argument(0, SOCKET), Argument(3, NO_WAITING)]),
    // Frames out, to the connected parent: no address. Not sendmsg: it could pass descriptors on.
    allow(
        "sendto",
        [44, 206],
        &[Argument(0, SOCKET), Argument(3, NO_SIGNAL), Argument(4, Test::Null), Argument(5, NOTHING)],
    ),
    // Sleep until a frame comes, for as long as it takes, and with the same signals blocked as ever.
    allow("ppoll", [271, 73], &[Argument(1, ONE), Argument(2, Test::Null), Argument(3, Test::Null)]),
    // A guest's memory and stack are given back, or put back to their first state.
    allow("madvise", [28, 233], &[Argument(2, GIVE_BACK)]),
    // A guest's memory grows.
    allow("mprotect", [10, 226], &[Argument(2, READ_OR_WRITE)]),
    // The allocator's large blocks; stacks for trap handlers. Never a file, never shared, never of another kind.
    allow("mmap", [9, 222], &[Argument(2, READ_OR_WRITE), Argument(3, MEMORY_ALONE)]),
    allow("munmap", [11, 215], &[]),
    // The allocator's large blocks grow; never to an address of the caller's choice.
    allow("mremap", [25, 216], &[Argument(3, NO_FLAG_BUT_MAYMOVE)]),
    // The allocator's small blocks.
    allow("brk", [12, 214], &[]),
    // A guest's trap is a signal, and this is how its handler ends.
    allow("rt_sigreturn", [15, 139], &[]),
    // Deadlines, on machines whose clock cannot be read without a call.
    allow("clock_gettime", [228, 113], &[Argument(0, MONOTONIC)]),
    // Its own priority, while guests run for long. What it may be is bounded by the limits of step 13.
    allow("sched_setattr", [314, 274], &[Argument(0, NOTHING), Argument(2, NOTHING)]),
    // Others first, while guests run for long.
    allow("sched_yield", [24, 124], &[]),
    // The stack for trap handlers: set up before the first guest runs, taken down at the end.
    allow("sigaltstack", [131, 132], &[]),
    // Last words, into a pipe of which the parent reads only so much.
    allow("write", [1, 64], &[Argument(0, STANDARD_ERROR)]),
    // The end, by itself, also when it fails. Not what abort() needs: within its own namespace a worker is
    // process 1, which that signal does not end.
    allow("exit_group", [231, 94], &[]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_system_library() {
        let known = [
            ("recvfrom", libc::SYS_recvfrom),
            ("sendto", libc::SYS_sendto),
            ("ppoll", libc::SYS_ppoll),
            ("madvise", libc::SYS_madvise),
            ("mprotect", libc::SYS_mprotect),
            ("mmap", libc::SYS_mmap),
            ("munmap", libc::SYS_munmap),
            ("mremap", libc::SYS_mremap),
            ("brk", libc::SYS_brk),
            ("rt_sigreturn", libc::SYS_rt_sigreturn),
            ("clock_gettime", libc::SYS_clock_gettime),
            ("sched_setattr", libc::SYS_sched_setattr),
            ("sched_yield", libc::SYS_sched_yield),
            ("sigaltstack", libc::SYS_sigaltstack),
            ("write", libc::SYS_write),
            ("exit_group", libc::SYS_exit_group),
        ];
        let listed: Vec<_> = RULES.iter().map(|rule| (rule.name, rule.number())).collect();
        assert_eq!(listed, known);
    }
}
