//! Step 4: the worker keeps standard error and one socket, and nothing else.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use shared::wire::worker::SOCKET_FD;

use super::JailError;

/// Moves the socket, which comes as standard input, to its place, and closes all the rest.
pub(super) fn arrange() -> Result<OwnedFd, JailError> {
    // SAFETY: only numbers are passed; whatever had descriptor 3 is not in use, because nothing in
    // this process has opened a descriptor yet.
    let moved = unsafe { libc::dup3(libc::STDIN_FILENO, SOCKET_FD, libc::O_CLOEXEC) };
    Errno::result(moved).map_err(JailError::Descriptors)?;
    let null = nix::fcntl::open("/dev/null", nix::fcntl::OFlag::O_RDWR, nix::sys::stat::Mode::empty())
        .map_err(JailError::Descriptors)?;
    nix::unistd::dup2_stdin(&null).map_err(JailError::Descriptors)?;
    nix::unistd::dup2_stdout(&null).map_err(JailError::Descriptors)?;
    drop(null);
    let first = libc::c_uint::try_from(SOCKET_FD + 1).map_err(|_| JailError::Descriptors(Errno::EINVAL))?;
    // SAFETY: only numbers are passed; nothing in this process owns a descriptor above the socket's.
    let closed = unsafe { libc::close_range(first, libc::c_uint::MAX, 0) };
    Errno::result(closed).map_err(JailError::Descriptors)?;
    // SAFETY: `dup3` has just made this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(SOCKET_FD) })
}

/// Receives bytes, waiting for them, and the one descriptor that may come with the first.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>), Errno> {
    let mut room = nix::cmsg_space!(RawFd);
    let mut buffers = [IoSliceMut::new(buffer)];
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_raw_fd(), &mut buffers, Some(&mut room), flags) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut descriptor = None;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            for number in numbers {
                // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
                descriptor = Some(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
    Ok((message.bytes, descriptor))
}
