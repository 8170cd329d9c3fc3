//! Step 4: the worker keeps standard error and one socket, and nothing else.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use shared::wire::worker::SOCKET_FD;

use super::JailError;

/// With one message of the parent's.
const DESCRIPTORS_MAX: usize = 2;

/// Moves the socket, which comes as standard input, to its place, and closes all the rest.
pub(crate) fn arrange() -> Result<OwnedFd, JailError> {
    // SAFETY: only numbers are passed; whatever had descriptor 3 is not in use, because nothing in
    // this process has opened a descriptor yet.
    let moved = unsafe { libc::dup3(libc::STDIN_FILENO, SOCKET_FD, libc::O_CLOEXEC) };
    Errno::result(moved).map_err(JailError::Descriptors)?;
    let null = nix::fcntl::open("/dev/null", OFlag::O_RDWR, nix::sys::stat::Mode::empty())
        .map_err(JailError::Descriptors)?;
    nix::unistd::dup2_stdin(&null).map_err(JailError::Descriptors)?;
    nix::unistd::dup2_stdout(&null).map_err(JailError::Descriptors)?;
    drop(null);
    close_others()?;
    // SAFETY: `dup3` has just made this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(SOCKET_FD) })
}

/// What a worker is given that is made as a copy of a process that has arranged itself.
pub(crate) struct Ends {
    pub(crate) socket: OwnedFd,
    pub(crate) errors: OwnedFd,
}

/// In the copy: puts both in place of what the original has there.
pub(super) fn replace(socket: &mut OwnedFd, ends: Ends) -> Result<(), JailError> {
    let Ends { socket: own, errors } = ends;
    nix::unistd::dup3(own, socket, OFlag::O_CLOEXEC).map_err(JailError::Descriptors)?;
    nix::unistd::dup2_stderr(errors).map_err(JailError::Descriptors)?;
    close_others()
}

fn close_others() -> Result<(), JailError> {
    let first = libc::c_uint::try_from(SOCKET_FD + 1).map_err(|_| JailError::Descriptors(Errno::EINVAL))?;
    // SAFETY: only numbers are passed; nothing in this process owns a descriptor above the socket's.
    let closed = unsafe { libc::close_range(first, libc::c_uint::MAX, 0) };
    Errno::result(closed).map(drop).map_err(JailError::Descriptors)
}

/// Receives bytes, waiting for them, and the few descriptors that may come with the first.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut room = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let mut buffers = [IoSliceMut::new(buffer)];
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_raw_fd(), &mut buffers, Some(&mut room), flags) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            // SAFETY: the kernel has just made these descriptors, and nothing else owns them.
            descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    Ok((message.bytes, descriptors))
}
