//! A process that has loaded the guest, and of which workers are copies.
//!
//! A copy is a process like any other, with namespaces, a user and a jail of its own. What it shares with its original and
//! with other copies, until one of them writes there, is memory: so it starts sooner, takes less, and finds in the
//! processor's caches what others have just used (ADR 38). The zygote itself never sees a stranger's byte: it hears its
//! parent alone, and of that only that a worker is wanted.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use shared::wire::worker::{Layers, ZYGOTE_NAME, ZYGOTE_READY};

use crate::channel::{Channel, ChannelError};
use crate::jail::descriptors::{self, Ends};
use crate::jail::{self, Copied, Jail, JailError};
use crate::worker::WorkerError;

/// What comes with the descriptors of each worker that is wanted; a message cannot be empty.
const REQUEST_BYTES: usize = 1;

pub(crate) struct Zygote {
    pub(crate) channel: Channel,
}

impl Zygote {
    /// Steps 1, 2 and 4 of the jail. No more: copies need the rights for theirs.
    pub(crate) fn enter(parent: i32) -> Result<Self, JailError> {
        jail::arrive(parent)?;
        jail::call_it(ZYGOTE_NAME);
        Ok(Self { channel: Channel::new(descriptors::arrange()?) })
    }

    /// Says that it is ready. Then copies this process whenever the parent asks for it, and answers with the copy's
    /// process id, or with an error's number below zero. Returns in a copy, with its jail and the socket that came for it.
    pub(crate) fn copy_for_each(self, parent: i32, wanted: Layers) -> Result<(Jail, Channel), WorkerError> {
        let mut socket = self.channel.into_socket();
        answer(&socket, ZYGOTE_READY)?;
        loop {
            let ends = receive(&socket)?;
            match jail::copy(parent, wanted, &mut socket, ends)? {
                Copied::Worker(jail) => return Ok((jail, Channel::new(socket))),
                Copied::Original(worker) => answer(&socket, worker)?,
                Copied::Refused(errno) => answer(&socket, -(errno as i32))?,
            }
        }
    }
}

fn answer(socket: &OwnedFd, number: i32) -> Result<(), ChannelError> {
    match send(socket.as_raw_fd(), &number.to_ne_bytes(), MsgFlags::MSG_NOSIGNAL) {
        Ok(_) => Ok(()),
        Err(Errno::EPIPE | Errno::ECONNRESET) => Err(ChannelError::Closed),
        Err(errno) => Err(ChannelError::Socket(errno)),
    }
}

fn receive(socket: &OwnedFd) -> Result<Ends, WorkerError> {
    let mut request = [0; REQUEST_BYTES];
    let (count, descriptors) =
        descriptors::receive(socket.as_fd(), &mut request).map_err(ChannelError::Socket)?;
    let mut descriptors = descriptors.into_iter();
    match (count, descriptors.next(), descriptors.next()) {
        (0, ..) => Err(ChannelError::Closed.into()),
        (_, Some(socket), Some(errors)) => Ok(Ends { socket, errors }),
        _ => Err(ChannelError::Socket(Errno::EBADF).into()),
    }
}
