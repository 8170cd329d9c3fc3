//! Every system call, behind the filter alone: those on the list with good and with bad arguments,
//! all others as they are.

use std::sync::atomic::Ordering;

use executor_core::jail::{self, Allowed, RULES};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::getpid;
use shared::wire::worker::Layers;

use crate::Seen;
use crate::system::{INTERRUPTED, call, in_child, prepare_interrupt};

/// The last number known to Linux 6.18 is 467; those above must be refused too.
const NUMBERS: std::ops::RangeInclusive<i64> = 0..=500;
/// x86-64 has a second set of numbers, with this bit.
const X32: i64 = 0x4000_0000;
/// The bits of an argument that the kernel drops when it takes an `int`.
const HIGH_HALF: u64 = 0xffff_ffff_0000_0000;
/// How a child ends that was not killed; a child that could not enter the jail ends with 0.
const SURVIVED: usize = 7;

/// Since Linux 6.13 these pass every filter on x86-64: they are what user-space probes put into
/// programs, and whoever calls them without such a probe gets an illegal instruction or an error.
const NEVER_FILTERED: [i64; 2] = [335, 336];

/// Answers the surprises, or how many calls behaved.
pub(crate) fn sweep() -> Seen {
    let mut surprises = Vec::new();
    let (mut killed, mut allowed) = (0, 0);
    for number in NUMBERS.chain(NUMBERS.map(|number| number | X32)) {
        if cfg!(target_arch = "x86_64") && NEVER_FILTERED.contains(&number) {
            continue;
        }
        let Some(rule) = RULES.iter().find(|rule| rule.number() == number) else {
            check(&format!("number {number}"), number, &[0; 6], true, &mut surprises)?;
            killed += 1;
            continue;
        };
        let good = good_arguments(rule);
        if number == libc::SYS_rt_sigreturn {
            // Called outside a handler it goes anywhere; a signal that comes is the good case.
            check_with(rule.name, false, &mut surprises, interrupt)?;
        } else {
            check(rule.name, number, &good, false, &mut surprises)?;
        }
        allowed += 1;
        for argument in rule.arguments {
            let could_be_set = argument.1.checked_bits() & !argument.1.good();
            // One bit too many, and one where only an argument of 64 bits has some.
            let wrong_bits = [could_be_set, could_be_set & HIGH_HALF].map(lowest_bit);
            let are_tried = if argument.1.is_wide() { 2 } else { 1 };
            for wrong in &wrong_bits[..are_tried] {
                let mut bad = good;
                bad[usize::from(argument.0)] |= usize::try_from(*wrong).unwrap_or(0);
                let name = format!("{} with argument {} wrong by {wrong:#x}", rule.name, argument.0);
                check(&name, number, &bad, true, &mut surprises)?;
                killed += 1;
            }
        }
    }
    if surprises.is_empty() {
        return Ok(format!("{killed} killed, {allowed} allowed"));
    }
    Ok(surprises.join("; "))
}

fn good_arguments(rule: &Allowed) -> [usize; 6] {
    let mut good = [0; 6];
    for argument in rule.arguments {
        good[usize::from(argument.0)] = usize::try_from(argument.1.good()).unwrap_or(0);
    }
    good
}

fn check(
    name: &str,
    number: i64,
    arguments: &[usize; 6],
    is_fatal: bool,
    surprises: &mut Vec<String>,
) -> Result<(), Errno> {
    if number == libc::SYS_exit_group {
        // Told apart from the end below by its own code.
        return check_with(name, is_fatal, surprises, || {
            let _ = call(number, &[SURVIVED]);
        });
    }
    check_with(name, is_fatal, surprises, || {
        let _ = call(number, arguments);
    })
}

/// Runs `act` in a child, behind the filter alone.
fn check_with(
    name: &str,
    is_fatal: bool,
    surprises: &mut Vec<String>,
    act: impl FnOnce(),
) -> Result<(), Errno> {
    let parent = getpid().as_raw();
    let status = in_child(|| {
        prepare_interrupt();
        if let Ok((jail, _socket)) = jail::enter(parent, Layers::SYSTEM_CALL_FILTER)
            && jail.lock(0, 0..0, RULES).is_ok()
        {
            act();
            let _ = call(libc::SYS_exit_group, &[SURVIVED]);
        }
    })?;
    let survived = i32::try_from(SURVIVED).unwrap_or(0);
    let seen = match status {
        WaitStatus::Signaled(_, Signal::SIGSYS, _) => Some(true),
        WaitStatus::Exited(_, code) if code == survived => Some(false),
        _ => None,
    };
    if seen != Some(is_fatal) {
        surprises.push(format!("{name}: {status:?}"));
    }
    Ok(())
}

const fn lowest_bit(bits: u64) -> u64 {
    bits & bits.wrapping_neg()
}

/// Waits for the timer that was set before the filter: its handler runs, and returns by `rt_sigreturn`.
fn interrupt() {
    INTERRUPTED.store(false, Ordering::Relaxed);
    while !INTERRUPTED.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
}
