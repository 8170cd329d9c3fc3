//! The one door to the kernel: numbers in, a number or an error out.

use std::sync::atomic::{AtomicBool, Ordering};

use libc::c_long;
use nix::errno::Errno;

/// Any system call with any arguments.
pub(crate) fn call(number: c_long, arguments: &[usize]) -> Result<usize, Errno> {
    let argument = |index: usize| arguments.get(index).copied().unwrap_or(0);
    // SAFETY: none in general. This program exists to do what must not be possible; the pointers
    // that attacks pass are valid, and what the rest destroys is this process.
    let result = unsafe {
        libc::syscall(number, argument(0), argument(1), argument(2), argument(3), argument(4), argument(5))
    };
    Errno::result(result).map(|value| usize::try_from(value).unwrap_or(0))
}

/// The address of a C string or of any other bytes.
pub(crate) fn address<T: ?Sized>(bytes: &T) -> usize {
    std::ptr::from_ref(bytes).cast::<u8>().addr()
}

/// In the child, runs `act` and ends; in the parent, waits and answers how the child ended.
pub(crate) fn in_child(act: impl FnOnce()) -> Result<nix::sys::wait::WaitStatus, Errno> {
    // SAFETY: this process has one thread, so the child has everything the parent has.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => {
            act();
            // SAFETY: ends the process, without running what the parent will run.
            unsafe { libc::_exit(0) }
        }
        nix::unistd::ForkResult::Parent { child } => nix::sys::wait::waitpid(child, None),
    }
}

/// Reads one byte of this process's memory.
pub(crate) fn byte_at(address: usize) -> u8 {
    // SAFETY: the caller got the address from the list of this process's readable mappings, and
    // nothing is unmapped meanwhile. Volatile, since nobody else in the program knows of it.
    unsafe { std::ptr::with_exposed_provenance::<u8>(address).read_volatile() }
}

/// Writes one byte of this process's memory.
pub(crate) fn set_byte_at(address: usize, byte: u8) {
    // SAFETY: the caller got the memory from the kernel a moment ago, to be written to, and nobody else in
    // the program knows of it. Volatile for the same reason.
    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(byte) }
}

/// Puts nothing in the place of the page from which programs read the clock without a call: it says then that
/// there is no such clock, as on a machine that has none.
pub(crate) fn forget_clock() -> Result<(), Errno> {
    let maps = std::fs::read_to_string("/proc/self/maps").map_err(|_| Errno::ENOENT)?;
    let range = |line: &str| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
    };
    let page = maps.lines().find(|line| line.ends_with("[vvar]"));
    let (start, end) = page.and_then(range).ok_or(Errno::ENOENT)?;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    let numbers = [libc::PROT_READ, flags].map(|number| number.cast_unsigned() as usize);
    let arguments = [start, end - start, numbers[0], numbers[1], usize::MAX, 0];
    call(libc::SYS_mmap, &arguments).map(drop)
}

/// Set by the handler of an interrupt.
pub(crate) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Has this process interrupted from now on, every few milliseconds.
pub(crate) fn prepare_interrupt() {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

    extern "C" fn note(_: libc::c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: a handler that sets a flag may run at any time.
    let _ = unsafe { sigaction(Signal::SIGALRM, &action) };
    // `struct itimerval`: every 5 ms, the first time after 20, in seconds and microseconds.
    let times: [libc::c_long; 4] = [0, 5_000, 0, 20_000];
    let _ = call(libc::SYS_setitimer, &[libc::ITIMER_REAL as usize, address(&times), 0]);
}
