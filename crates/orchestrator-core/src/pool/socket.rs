//! The parent's end of a worker's socket.
//!
//! Not tokio's own `UnixStream`, which waits for two things at once: that there is something to read, and that
//! there is room to write. Linux says the latter of a Unix socket whenever the other side has read something,
//! so each frame that a worker takes in would wake this process for nothing.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

#[derive(Debug)]
pub(super) struct Socket(AsyncFd<UnixStream>);

impl Socket {
    /// Takes over a connected socket that does not block.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        watch(stream, Interest::READABLE).map(Self)
    }

    /// Reads what there is. [`ErrorKind::WouldBlock`] when there is nothing.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut drained = None;
        let read = self.0.try_io(Interest::READABLE, |mut stream| {
            let count = stream.read(buffer)?;
            if count == 0 || count == buffer.len() {
                return Ok(count);
            }
            // There was no more than this: to be told so by a second call would be a call for nothing.
            // What comes from now on is news, which the kernel reports.
            drained = Some(count);
            Err(ErrorKind::WouldBlock.into())
        });
        drained.map_or(read, Ok)
    }

    /// Writes what there is room for. [`ErrorKind::WouldBlock`] when there is none.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_ref().write(bytes)
    }

    /// Waits until there is something to read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        let mut guard = self.0.readable().await?;
        guard.retain_ready();
        Ok(())
    }

    /// Waits until there is room to write. That is rare: frames are small beside the socket's buffer.
    pub(super) async fn writable(&self) -> io::Result<()> {
        let writing = watch(self.0.get_ref().try_clone()?, Interest::WRITABLE)?;
        let mut guard = writing.writable().await?;
        guard.retain_ready();
        Ok(())
    }
}

fn watch(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    #[expect(
        deprecated,
        reason = "its successor is unsafe; a standard UnixStream keeps its descriptor open and the same"
    )]
    AsyncFd::with_interest(stream, interest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Socket, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Socket::new(ours).unwrap(), theirs)
    }

    #[tokio::test]
    async fn what_comes_after_all_was_read_is_heard_of() {
        let (socket, mut theirs) = pair();
        let mut buffer = [0; 16];
        for word in [&b"one"[..], b"two", b"three"] {
            theirs.write_all(word).unwrap();
            socket.readable().await.unwrap();
            assert_eq!(socket.try_read(&mut buffer).unwrap(), word.len());
            assert_eq!(socket.try_read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
    }

    #[tokio::test]
    async fn what_did_not_fit_is_still_there() {
        let (socket, mut theirs) = pair();
        theirs.write_all(b"more than four").unwrap();
        let mut buffer = [0; 4];
        let mut seen = Vec::new();
        while seen.len() < 14 {
            socket.readable().await.unwrap();
            let count = socket.try_read(&mut buffer).unwrap();
            seen.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(seen, b"more than four");
    }

    #[tokio::test]
    async fn an_end_is_heard_of_although_all_was_read_before() {
        let (socket, mut theirs) = pair();
        theirs.write_all(b"last words").unwrap();
        drop(theirs);
        let mut buffer = [0; 16];
        socket.readable().await.unwrap();
        assert_eq!(socket.try_read(&mut buffer).unwrap(), 10);
        socket.readable().await.unwrap();
        assert_eq!(socket.try_read(&mut buffer).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_reader_that_makes_room_lets_the_writer_go_on() {
        let (socket, mut theirs) = pair();
        let bytes = vec![7; 64 << 10];
        let mut sent = 0;
        let full = loop {
            match socket.try_write(&bytes) {
                Ok(count) => sent += count,
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(full, ErrorKind::WouldBlock);
        let reader = std::thread::spawn(move || {
            let mut seen = vec![0; sent];
            theirs.read_exact(&mut seen).map(|()| theirs)
        });
        socket.writable().await.unwrap();
        assert!(socket.try_write(b"more").is_ok());
        reader.join().unwrap().unwrap();
    }
}
