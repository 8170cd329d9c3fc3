//! The attacks, by name: what somebody would try who runs native code in a worker.

#![expect(clippy::cast_sign_loss, reason = "the kernel takes its numbers as registers, whatever their sign")]

use nix::errno::Errno;

use crate::system::{address, byte_at, call, in_child, set_byte_at};
use crate::{Seen, memory, surroundings};

const READ: usize = libc::PROT_READ as usize;
const WRITE: usize = libc::PROT_WRITE as usize;
const EXECUTE: usize = libc::PROT_EXEC as usize;
const PRIVATE: usize = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
const PAGE: usize = 4096;
const NO_FD: usize = usize::MAX;
const OUT_OF_BAND: usize = libc::MSG_OOB as usize;
const NO_WAITING: usize = libc::MSG_DONTWAIT as usize;
const NO_SIGNAL: usize = libc::MSG_NOSIGNAL as usize;

/// Runs an attack. `target` is what it is aimed at: a port, a socket's name, a secret. Nothing but
/// the attack itself may call the kernel, or a wall would be praised for stopping something else.
pub(crate) fn run(name: &str, target: &str, parent: usize) -> Seen {
    let done = match name {
        "nothing" => Ok(0),
        "socket-inet" => call(libc::SYS_socket, &[libc::AF_INET as usize, libc::SOCK_STREAM as usize]),
        "socket-unix" => call(libc::SYS_socket, &[libc::AF_UNIX as usize, libc::SOCK_STREAM as usize]),
        "socket-netlink" => call(libc::SYS_socket, &[libc::AF_NETLINK as usize, libc::SOCK_RAW as usize]),
        "socket-vsock" => call(libc::SYS_socket, &[libc::AF_VSOCK as usize, libc::SOCK_STREAM as usize]),
        "connect-tcp" => connect_tcp(target),
        "connect-abstract" => connect_abstract(target),
        "connect-on-the-socket" | "send-out-of-band" | "receive-out-of-band" | "pass-a-descriptor" => {
            misuse_socket(name)
        }
        "io-uring" => call(libc::SYS_io_uring_setup, &[1, address(&[0_u8; 120])]),
        "open-passwd" => open(c"/etc/passwd", libc::O_RDONLY),
        "open-environment" => open(c"/proc/self/environ", libc::O_RDONLY),
        "open-memory-of-1" => open(c"/proc/1/mem", libc::O_RDONLY),
        "open-own-memory" => open(c"/proc/self/mem", libc::O_RDWR),
        "create-file" => open(c"/created", libc::O_RDWR | libc::O_CREAT),
        "openat2" => call(
            libc::SYS_openat2,
            &[libc::AT_FDCWD as usize, address(c"/etc/passwd"), address(&[0_u8; 24]), 24],
        ),
        "name-to-handle" => name_to_handle(c"/etc/passwd"),
        "open-by-handle" => call(libc::SYS_open_by_handle_at, &[3, address(&[0_u8; 24]), 0]),
        "trace-parent" => call(libc::SYS_ptrace, &[libc::PTRACE_SEIZE as usize, parent]),
        "read-parent" => read_memory_of(parent),
        "signal-parent" => call(libc::SYS_kill, &[parent]),
        "abort-parent" => call(libc::SYS_tgkill, &[parent, parent, libc::SIGABRT as usize]),
        "pidfd-of-parent" => call(libc::SYS_pidfd_open, &[parent]),
        // Its own group, in which it is alone.
        "stop-oneself" => call(libc::SYS_kill, &[0, libc::SIGSTOP as usize]),
        "fork" => return in_child(|| ()).map(|_| "done".to_owned()),
        "thread" => {
            call(libc::SYS_clone, &[(libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND) as usize])
        }
        "clone3" => call(libc::SYS_clone3, &[address(&[0_u8; 88]), 88]),
        "execute" => execute(),
        "map-executable" => call(libc::SYS_mmap, &[0, PAGE, READ | WRITE | EXECUTE, PRIVATE, NO_FD]),
        "make-executable" => make_executable(),
        "execute-from-memory" => execute_from_memory(),
        "change-key-of-code" => call(libc::SYS_pkey_mprotect, &[code(), PAGE, READ | WRITE | EXECUTE, NO_FD]),
        "overwrite-code" => call(libc::SYS_mprotect, &[code(), PAGE, READ | WRITE | EXECUTE]),
        "move-code" => move_code(),
        "unmap-code" => call(libc::SYS_munmap, &[code(), PAGE]),
        "personality" => become_executable(),
        "regain-rights" => regain_rights(),
        "mount" => call(libc::SYS_mount, &[address(c"none"), address(c"/"), address(c"tmpfs"), 0, 0]),
        "new-namespaces" => call(libc::SYS_unshare, &[libc::CLONE_NEWUSER as usize]),
        "speculate" => surroundings::speculate(),
        "meet-on-a-core" => return surroundings::meet_on_a_core(target),
        "describe-shared-memory" => surroundings::describe_shared_memory(target),
        "rename-machine" => surroundings::rename_machine(target),
        "find-control-groups" => return surroundings::find_control_groups(),
        "borrow-rights" => return surroundings::borrow_rights(target),
        "regain-by-program" => return surroundings::regain_by_program(),
        "more-descriptors" => call(libc::SYS_dup, &[2]),
        "descriptors" => return descriptors(),
        name if name.starts_with("exhaust-") => return exhaust_by_name(name),
        "search-memory" => return memory::search(target),
        "spin" => spin(),
        "talk-to-nobody" => talk_to_nobody(),
        "run-in-real-time" => ask_scheduler(libc::SCHED_FIFO, 0, 1),
        "raise-priority" => ask_scheduler(libc::SCHED_OTHER, -1, 0),
        "time-calls" => return Ok(time_calls()),
        name => match name.strip_suffix("-of-sibling").or_else(|| name.strip_suffix("-sibling")) {
            Some(attack) => attack_sibling(attack, target),
            None => return Ok(format!("no attack is called {name}")),
        },
    };
    done.map(|_| "done".to_owned())
}

/// Another worker, whose number a worker can only guess.
fn attack_sibling(attack: &str, target: &str) -> Result<usize, Errno> {
    let pid: usize = target.parse().map_err(|_| Errno::EBADMSG)?;
    match attack {
        "trace" => call(libc::SYS_ptrace, &[libc::PTRACE_SEIZE as usize, pid]),
        "read" => read_memory_of(pid),
        "signal" => call(libc::SYS_kill, &[pid]),
        "abort" => call(libc::SYS_tgkill, &[pid, pid, libc::SIGABRT as usize]),
        "pidfd" => call(libc::SYS_pidfd_open, &[pid]),
        _ => Err(Errno::EBADMSG),
    }
}

fn open(path: &std::ffi::CStr, flags: i32) -> Result<usize, Errno> {
    call(libc::SYS_openat, &[libc::AT_FDCWD as usize, address(path), flags as usize, 0o600])
}

fn name_to_handle(path: &std::ffi::CStr) -> Result<usize, Errno> {
    // Says in its first word that it has room for 128 bytes; then the handle's kind, and the room.
    let mut handle = [0_u32; 34];
    handle[0] = 128;
    let mount = [0_u32];
    call(
        libc::SYS_name_to_handle_at,
        &[libc::AT_FDCWD as usize, address(path), handle.as_mut_ptr().addr(), address(&mount), 0],
    )
}

fn connect_tcp(port: &str) -> Result<usize, Errno> {
    let port: u16 = port.parse().map_err(|_| Errno::EINVAL)?;
    let [high, low] = port.to_be_bytes();
    let [family, ..] = libc::AF_INET.to_le_bytes();
    let [first, second] = u16::from(family).to_ne_bytes();
    let to = [first, second, high, low, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let socket = call(libc::SYS_socket, &[libc::AF_INET as usize, libc::SOCK_STREAM as usize])?;
    call(libc::SYS_connect, &[socket, address(&to), to.len()])
}

fn connect_abstract(name: &str) -> Result<usize, Errno> {
    let [family, ..] = libc::AF_UNIX.to_le_bytes();
    let mut to = u16::from(family).to_ne_bytes().to_vec();
    to.push(0);
    to.extend_from_slice(name.as_bytes());
    let socket = call(libc::SYS_socket, &[libc::AF_UNIX as usize, libc::SOCK_STREAM as usize])?;
    call(libc::SYS_connect, &[socket, address(to.as_slice()), to.len()])
}

/// The one socket that a worker has.
fn misuse_socket(attack: &str) -> Result<usize, Errno> {
    let mut byte = [0_u8];
    match attack {
        "connect-on-the-socket" => call(libc::SYS_connect, &[3, address(&[0_u8; 16]), 16]),
        "send-out-of-band" => call(libc::SYS_sendto, &[3, address(b"x"), 1, OUT_OF_BAND | NO_SIGNAL]),
        // Where nobody has sent such a byte, whoever may ask for it is told that the question is invalid.
        "receive-out-of-band" => {
            call(libc::SYS_recvfrom, &[3, byte.as_mut_ptr().addr(), 1, OUT_OF_BAND | NO_WAITING])
        }
        "pass-a-descriptor" => call(libc::SYS_sendmsg, &[3, address(&[0_u8; 56])]),
        _ => Err(Errno::EBADMSG),
    }
}

/// Asks for the byte at address 0: whoever may read gets "no such address".
fn read_memory_of(pid: usize) -> Result<usize, Errno> {
    let mut byte = [0_u8];
    let (ours, theirs) = ([byte.as_mut_ptr().addr(), 1], [0_usize, 1]);
    match call(libc::SYS_process_vm_readv, &[pid, address(&ours), 1, address(&theirs), 1, 0]) {
        Err(Errno::EFAULT) => Ok(0),
        other => other,
    }
}

fn execute() -> Result<usize, Errno> {
    let program = c"/bin/true";
    let arguments = [address(program), 0];
    call(libc::SYS_execve, &[address(program), address(&arguments), address(&[0_usize])])
}

fn make_executable() -> Result<usize, Errno> {
    let page = call(libc::SYS_mmap, &[0, PAGE, READ | WRITE, PRIVATE, NO_FD])?;
    call(libc::SYS_mprotect, &[page, PAGE, READ | EXECUTE])
}

/// Has everything that can be read be executed too, and asks for memory to write to.
fn become_executable() -> Result<usize, Errno> {
    call(libc::SYS_personality, &[libc::READ_IMPLIES_EXEC as usize])?;
    call(libc::SYS_mmap, &[0, PAGE, READ | WRITE, PRIVATE, NO_FD])
}

fn move_code() -> Result<usize, Errno> {
    let to = call(libc::SYS_mmap, &[0, PAGE, READ, PRIVATE, NO_FD])?;
    let anywhere = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as usize;
    call(libc::SYS_mremap, &[code(), PAGE, PAGE, anywhere, to])
}

fn execute_from_memory() -> Result<usize, Errno> {
    let file = call(libc::SYS_memfd_create, &[address(c"code")])?;
    call(libc::SYS_execveat, &[file, address(c""), 0, 0, libc::AT_EMPTY_PATH as usize])
}

/// The page this function is in.
fn code() -> usize {
    (code as fn() -> usize as usize) / PAGE * PAGE
}

/// Any one of them: whoever still has some may not have all.
fn regain_rights() -> Result<usize, Errno> {
    /// Those that every kernel knows: who asks for others alone is taken to ask for none, and that is granted.
    const RIGHTS: usize = 38;
    let header = [0x2008_0522_u32, 0];
    let mut refused = Err(Errno::EPERM);
    for right in 0..RIGHTS {
        // Effective, permitted and inheritable: of the first 32, then of the others.
        let (mut sets, word) = ([0_u32; 6], right / 32 * 3);
        sets[word..word + 2].fill(1 << (right % 32));
        refused = call(libc::SYS_capset, &[address(&header), address(&sets)]);
        if refused.is_ok() {
            break;
        }
    }
    refused
}

/// Those that can be read from, by trying all.
fn descriptors() -> Seen {
    let is_open = |fd: &usize| call(libc::SYS_fcntl, &[*fd, libc::F_GETFD as usize]).is_ok();
    let open: Vec<String> = (0..1024).filter(is_open).map(|fd| fd.to_string()).collect();
    Ok(open.join(" "))
}

fn exhaust_by_name(attack: &str) -> Seen {
    match attack {
        "exhaust-memory" => exhaust(READ | WRITE, 0, 1 << 30),
        "exhaust-stacks" => exhaust(READ | WRITE, libc::MAP_GROWSDOWN, 1 << 30),
        "exhaust-huge-pages" => exhaust(READ | WRITE, libc::MAP_HUGETLB, 0),
        "exhaust-tables" => exhaust(READ, 0, 0),
        _ => Err(Errno::EBADMSG),
    }
}

/// Asks for memory of a kind until there is no more, or 1 TiB of it, and writes to the first of it: more bytes than the
/// limit leaves to a worker with one slot. Without a limit more would take the machine's last.
fn exhaust(access: usize, kind: i32, written_bytes: usize) -> Seen {
    const BLOCK: usize = 64 << 20;
    let flags = PRIVATE | (libc::MAP_NORESERVE | kind) as usize;
    for before in (0..1_usize << 40).step_by(BLOCK) {
        let block = call(libc::SYS_mmap, &[0, BLOCK, access, flags, NO_FD])?;
        // Somebody who wants it uses it: reading alone shows one page of zeros again and again, and costs a table.
        if before < written_bytes {
            (block..block + BLOCK).step_by(PAGE).for_each(|page| set_byte_at(page, 1));
        } else {
            let _ = byte_at(block);
        }
    }
    Ok("1 TiB".to_owned())
}

fn ask_scheduler(policy: i32, nice: i32, priority: u32) -> Result<usize, Errno> {
    // Size, policy, flags in two words, nice value, priority; the times are zero.
    let mut attributes = [0_u32; 12];
    attributes[0] = 48;
    attributes[1] = policy.unsigned_abs();
    attributes[4] = u32::from_ne_bytes(nice.to_ne_bytes());
    attributes[5] = priority;
    call(libc::SYS_sched_setattr, &[0, address(&attributes), 0])
}

/// Never done, and deaf to all signals: process 1 of a namespace hears none that it does not want to.
fn spin() -> Result<usize, Errno> {
    let _ = call(libc::SYS_write, &[2, address(b"seen spinning\n"), 14]);
    loop {
        std::hint::spin_loop();
    }
}

/// Says something until that fails, as nobody reads it, and then fails itself.
fn talk_to_nobody() -> Result<usize, Errno> {
    let words = b"is anybody there?\n";
    while call(libc::SYS_write, &[2, address(words), words.len()]).is_ok() {}
    panic!("last words");
}

/// Nanoseconds for an allowed call with checked arguments: looking whether a frame has come.
fn time_calls() -> String {
    const CALLS: u32 = 200_000;
    let mut byte = [0_u8];
    let arguments = [3, byte.as_mut_ptr().addr(), 1, NO_WAITING];
    let since = std::time::Instant::now();
    for _ in 0..CALLS {
        let _ = call(libc::SYS_recvfrom, &arguments);
    }
    (since.elapsed() / CALLS).as_nanos().to_string()
}
