//! The first bytes of a connection, which say what version of HTTP it speaks. hyper's limit of time
//! begins once that is known; who never says it would be waited for for ever.

use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// With which HTTP/2 begins. What differs from it is HTTP/1.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that may take so long to say what it speaks.
#[derive(Debug)]
pub(super) struct Opening<S> {
    stream: S,
    /// Nothing once it has said so.
    deadline: Option<Pin<Box<Sleep>>>,
    /// What is still to come of the preface.
    expected: &'static [u8],
}

impl<S> Opening<S> {
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        let deadline = Some(Box::pin(tokio::time::sleep(patience)));
        Self { stream, deadline, expected: PREFACE }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        let Some(deadline) = &mut self.deadline else {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        };
        if deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = &buffer.filled()[before..];
        match self.expected.strip_prefix(read) {
            Some(rest) if !read.is_empty() && !rest.is_empty() => self.expected = rest,
            _ => self.deadline = None,
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, Error>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// A connection after it was read from so often that it has given what was sent.
    async fn read(sent: &[u8], patience: Duration) -> Result<Opening<impl AsyncRead>, ErrorKind> {
        let (mut client, server) = duplex(64);
        client.write_all(sent).await.unwrap();
        let mut opening = Opening::new(server, patience);
        let mut buffer = [0; 64];
        // Byte by byte, as the slowest client sends.
        for _ in sent {
            opening.read_exact(&mut buffer[..1]).await.map_err(|error| error.kind())?;
        }
        Ok(opening)
    }

    #[tokio::test]
    async fn attack_a_connection_that_never_says_what_it_speaks_is_not_waited_for() {
        for length in 0..PREFACE.len() {
            let opening = read(&PREFACE[..length], Duration::from_secs(60)).await.unwrap();
            assert!(opening.deadline.is_some(), "{length}");
        }
        let (mut client, server) = duplex(64);
        client.write_all(&PREFACE[..1]).await.unwrap();
        let end = Opening::new(server, Duration::ZERO).read_to_end(&mut Vec::new()).await;
        assert_eq!(end.map_err(|error| error.kind()), Err(ErrorKind::TimedOut));
    }

    #[tokio::test]
    async fn what_has_said_it_has_all_the_time_that_hyper_gives_it() {
        for said in [PREFACE, b"G", b"PRI * HTTP/2.1", b"P\r\n"] {
            let opening = read(said, Duration::from_secs(60)).await.unwrap();
            assert!(opening.deadline.is_none(), "{said:?}");
        }
    }
}
