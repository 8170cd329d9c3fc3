//! The worker's end of the socket: whole frames in, whole frames out.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{MsgFlags, recv, send};
use shared::limits::FRAME_TO_WORKER_BYTES_MAX;
use shared::wire::codec::{FrameError, HEADER_BYTES, Header};

use crate::jail::descriptors;

/// Room for a batch of ordinary frames; a larger frame enlarges the buffer for as long as it lasts.
const INBOUND_BYTES: usize = 256 << 10;
/// Room that is kept for what is to be sent; a larger batch enlarges it for as long as it lasts.
const OUTBOUND_BYTES: usize = 1 << 20;

/// Why a worker cannot go on talking to its parent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    #[error("the parent closed the socket")]
    Closed,
    #[error("the socket failed: {0}")]
    Socket(#[source] Errno),
    #[error("a frame of {0} bytes is over the limit")]
    TooLong(u32),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// A framed, connected Unix socket.
#[derive(Debug)]
pub(crate) struct Channel {
    /// Never closed: the jail forbids that too, and it ends with the process.
    socket: ManuallyDrop<OwnedFd>,
    inbound: Vec<u8>,
    /// The unread part of `inbound`.
    start: usize,
    end: usize,
    /// Frames to be sent by the next [`Channel::flush`].
    pub(crate) outbound: Vec<u8>,
}

impl Channel {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket: ManuallyDrop::new(socket),
            inbound: vec![0; INBOUND_BYTES],
            start: 0,
            end: 0,
            outbound: Vec::new(),
        }
    }

    /// The socket, for somebody who sends no frames. What was received and not looked at is lost.
    pub(crate) fn into_socket(self) -> OwnedFd {
        ManuallyDrop::into_inner(self.socket)
    }

    /// The next whole frame that has already been received.
    pub(crate) fn next_frame(&mut self) -> Result<Option<(Header, &[u8])>, ChannelError> {
        let unread = &self.inbound[self.start..self.end];
        let Some(header) = Header::peek(unread).transpose()? else {
            return Ok(None);
        };
        let body_bytes = header.body_bytes as usize;
        if body_bytes > FRAME_TO_WORKER_BYTES_MAX {
            return Err(ChannelError::TooLong(header.body_bytes));
        }
        if unread.len() < HEADER_BYTES + body_bytes {
            return Ok(None);
        }
        let body = self.start + HEADER_BYTES;
        self.start = body + body_bytes;
        Ok(Some((header, &self.inbound[body..body + body_bytes])))
    }

    /// Takes in what the parent has sent. Waits for something if `wait` is set.
    pub(crate) fn receive(&mut self, wait: bool) -> Result<(), ChannelError> {
        self.make_room()?;
        loop {
            if wait {
                self.sleep()?;
            }
            match recv(self.socket.as_raw_fd(), &mut self.inbound[self.end..], MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Err(ChannelError::Closed),
                Ok(count) => {
                    self.end += count;
                    return Ok(());
                }
                Err(Errno::EAGAIN) if !wait => return Ok(()),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(ChannelError::Socket(errno)),
            }
        }
    }

    /// The same, waiting, for the first frame, with which a descriptor may come. Later there is no call that takes one.
    pub(crate) fn receive_first(&mut self) -> Result<Option<OwnedFd>, ChannelError> {
        self.make_room()?;
        let (count, mut descriptors) =
            descriptors::receive(self.socket.as_fd(), &mut self.inbound[self.end..])
                .map_err(ChannelError::Socket)?;
        if count == 0 {
            return Err(ChannelError::Closed);
        }
        self.end += count;
        Ok(descriptors.pop())
    }

    /// Sleeps until the parent has sent something, or has gone. Not in `recv`: who sleeps there is woken also
    /// when the other side has read, for which Linux uses the same queue. A worker would wake up twice for
    /// each request, and where many workers take turns, the second time costs as much as the first.
    fn sleep(&self) -> Result<(), ChannelError> {
        let mut socket = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut socket, None, None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(ChannelError::Socket(errno)),
        }
    }

    /// Sends everything in `outbound`. The parent always reads, so this waits only for it.
    pub(crate) fn flush(&mut self) -> Result<(), ChannelError> {
        let mut sent = 0;
        while sent < self.outbound.len() {
            match send(self.socket.as_raw_fd(), &self.outbound[sent..], MsgFlags::MSG_NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(ChannelError::Closed),
                Err(errno) => return Err(ChannelError::Socket(errno)),
            }
        }
        self.outbound.clear();
        self.outbound.shrink_to(OUTBOUND_BYTES);
        Ok(())
    }

    /// Moves the unread part to the front and makes sure that the frame it begins fits.
    fn make_room(&mut self) -> Result<(), ChannelError> {
        if self.start > 0 {
            self.inbound.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let needed = match Header::peek(&self.inbound[..self.end]).transpose()? {
            Some(header) if header.body_bytes as usize > FRAME_TO_WORKER_BYTES_MAX => {
                return Err(ChannelError::TooLong(header.body_bytes));
            }
            Some(header) => HEADER_BYTES + header.body_bytes as usize,
            None => HEADER_BYTES,
        };
        if needed > self.inbound.len() {
            self.inbound.resize(needed, 0);
        } else if self.inbound.len() > INBOUND_BYTES && self.end <= INBOUND_BYTES && needed <= INBOUND_BYTES {
            self.inbound.truncate(INBOUND_BYTES);
            self.inbound.shrink_to_fit();
        }
        Ok(())
    }
}
