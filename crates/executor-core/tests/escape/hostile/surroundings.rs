//! Attacks on what surrounds a process: the machine's name, its shared memory, its control groups, and
//! programs that give rights to whoever runs them.

use std::ffi::{CStr, CString};

use nix::errno::Errno;
use nix::sys::wait::WaitStatus;

use crate::Seen;
use crate::system::{address, call, in_child};

/// `IPC_STAT`: asks for a description.
const DESCRIBE: usize = 2;
/// How a child ends that could not become another program.
const NO_PROGRAM: usize = 99;

/// Looks at a piece of shared memory, by its number, which anybody may guess.
pub(crate) fn describe_shared_memory(number: &str) -> Result<usize, Errno> {
    let number: usize = number.parse().map_err(|_| Errno::EBADMSG)?;
    let description = [0_u8; 256];
    call(libc::SYS_shmctl, &[number, DESCRIBE, address(&description)])
}

pub(crate) fn rename_machine(name: &str) -> Result<usize, Errno> {
    call(libc::SYS_sethostname, &[address(name.as_bytes()), name.len()])
}

/// Whether it can be seen where in the machine's control groups this process is.
pub(crate) fn find_control_groups() -> Seen {
    let groups = std::fs::read_to_string("/proc/self/cgroup").map_err(|_| Errno::ENOENT)?;
    let is_shown = groups.lines().any(|line| !line.ends_with(":/"));
    Ok(if is_shown { "shown" } else { "hidden" }.to_owned())
}

/// Runs a program that its owner lets everybody run with the owner's rights, on a file that only the
/// owner may read. `program_and_file` are divided by a colon.
pub(crate) fn borrow_rights(program_and_file: &str) -> Seen {
    let (program, file) = program_and_file.split_once(':').unwrap_or((program_and_file, "/"));
    let [program, file] = [program, file].map(|text| CString::new(text).unwrap_or_default());
    run(&program, &[&program, &file], ["refused", "done"])
}

/// Runs a program as root, which may give back what was dropped.
pub(crate) fn regain_by_program() -> Seen {
    let question = c"grep -q 'CapEff:.*[1-9a-f]' /proc/self/status";
    run(c"/bin/sh", &[c"/bin/sh", c"-c", question], ["none", "done"])
}

/// What a program says by its exit code: the first word for no, the second for yes.
fn run(program: &CStr, arguments: &[&CStr], [no, yes]: [&str; 2]) -> Seen {
    let mut pointers: Vec<usize> = arguments.iter().map(|text| address(*text)).collect();
    pointers.push(0);
    let status = in_child(|| {
        let _ =
            call(libc::SYS_execve, &[address(program), address(pointers.as_slice()), address(&[0_usize])]);
        let _ = call(libc::SYS_exit_group, &[NO_PROGRAM]);
    })?;
    match status {
        WaitStatus::Exited(_, 0) => Ok(yes.to_owned()),
        WaitStatus::Exited(_, code) if usize::try_from(code) != Ok(NO_PROGRAM) => Ok(no.to_owned()),
        other => Ok(format!("{other:?}")),
    }
}

/// Lets the processor read past writes again: `PR_SET_SPECULATION_CTRL`, store bypass, on.
pub(crate) fn speculate() -> Result<usize, Errno> {
    call(libc::SYS_prctl, &[53, 0, 2])
}

/// `PR_SCHED_CORE`: the kernel marks processes, and lets two run at the same time on one core only if they have the
/// same mark.
const SCHED_CORE: usize = 62;
const GET: usize = 0;

/// Whether this process and another one may be on one core at the same time, where each could watch what the other
/// does to what they share there.
pub(crate) fn meet_on_a_core(other: &str) -> Seen {
    const ITSELF: usize = 0;
    let other: usize = other.parse().map_err(|_| Errno::EBADMSG)?;
    let may_meet = mark_of(ITSELF)? == mark_of(other)?;
    Ok(if may_meet { "done" } else { "apart" }.to_owned())
}

/// None has 0. What the kernel tells of others is a hash of it, the same for the same mark.
fn mark_of(process: usize) -> Result<u64, Errno> {
    const ONE_THREAD: usize = 0;
    let mut mark = 0_u64;
    let answer = std::ptr::from_mut(&mut mark).expose_provenance();
    call(libc::SYS_prctl, &[SCHED_CORE, GET, process, ONE_THREAD, answer])?;
    Ok(mark)
}
