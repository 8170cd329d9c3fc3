//! Whether a client takes the answers that it asked for, which are in memory until it does.
//!
//! hyper waits for ever for a client of HTTP/2 that lets nothing be sent, and asks for no more of a body meanwhile. So it is
//! the connection that is watched: what there is to be sent on it, and what is sent.

use std::io::{Error, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use shared::limits::BODY_RATE_MIN;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How long what was taken makes up for at most. The kernel takes up to a few megabytes at once for a client that has read
/// fast before, and nothing more then until a third of them is gone.
const CREDIT_MAX: Duration = Duration::from_secs(600);

/// Watches one connection.
#[derive(Debug)]
pub(super) struct Clock {
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Bytes of answers that are here and not sent yet.
    pending: u64,
    /// When some of them were sent last, or could be.
    moved_at: Instant,
    /// Until when it is fast enough, if no more is sent.
    paid_until: Instant,
    /// Whether the kernel takes no more at present.
    is_blocked: bool,
}

impl Clock {
    /// `patience` is how long a client may take in nothing of what is there.
    pub(super) fn new(patience: Duration) -> Self {
        let now = Instant::now();
        let state = State { pending: 0, moved_at: now, paid_until: now, is_blocked: false };
        Self { patience, state: Mutex::new(state) }
    }

    /// There is so much more of an answer.
    pub(super) fn add(&self, bytes: u64) {
        let mut state = self.state();
        if state.pending == 0 && bytes > 0 {
            state.begin(Instant::now(), self.patience);
        }
        state.pending += bytes;
    }

    /// So much of it is not there any more, sent or not.
    pub(super) fn remove(&self, bytes: u64) {
        self.state().pending -= bytes;
    }

    /// Comes to an end when the client has not taken what is there for too long.
    pub(super) async fn stalled(&self) {
        let mut at = Instant::now() + self.patience;
        loop {
            tokio::time::sleep_until(at).await;
            let now = Instant::now();
            let due = self.state().due(self.patience);
            if due.is_some_and(|due| due <= now) {
                return;
            }
            let next = now + self.patience;
            at = due.map_or(next, |due| due.min(next));
        }
    }

    fn sent(&self, bytes: u64) {
        let mut state = self.state();
        if state.pending > 0 && bytes > 0 {
            state.sent(bytes, Instant::now());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// From here on there is something to take.
    fn begin(&mut self, now: Instant, patience: Duration) {
        (self.moved_at, self.paid_until) = (now, now + patience);
    }

    /// What is sent is paid at the pace that a request's body must have.
    fn sent(&mut self, bytes: u64, now: Instant) {
        let worth = Duration::from_micros(bytes.saturating_mul(1_000_000) / BODY_RATE_MIN);
        self.moved_at = now;
        self.paid_until = (self.paid_until + worth.min(CREDIT_MAX)).min(now + CREDIT_MAX);
    }

    fn block(&mut self, is_blocked: bool, now: Instant) {
        self.is_blocked = is_blocked;
        self.moved_at = now;
    }

    /// When the connection is to be ended if nothing more happens; nothing while there is nothing to take.
    ///
    /// While the kernel takes no more, it is what ends the connection of a client that reads nothing at all, and how much
    /// of what it has was taken is not seen here.
    fn due(&self, patience: Duration) -> Option<Instant> {
        let still_until = if self.is_blocked { self.paid_until } else { self.moved_at + patience };
        (self.pending > 0).then(|| self.paid_until.min(still_until))
    }
}

/// A stream that tells a clock what goes out of answers. What only says that somebody is there, as a pong does, is none
/// of it.
#[derive(Debug)]
pub(super) struct Sending<S> {
    stream: S,
    clock: Arc<Clock>,
    frames: Frames,
    is_blocked: bool,
}

impl<S> Sending<S> {
    pub(super) fn new(stream: S, clock: Arc<Clock>) -> Self {
        Self { stream, clock, frames: Frames::default(), is_blocked: false }
    }

    fn wrote(&mut self, buffers: &[IoSlice<'_>], written: &Poll<Result<usize, Error>>) {
        let is_blocked = written.is_pending();
        if is_blocked != self.is_blocked {
            self.is_blocked = is_blocked;
            self.clock.state().block(is_blocked, Instant::now());
        }
        if let Poll::Ready(Ok(mut left)) = *written {
            let mut data = 0;
            for buffer in buffers {
                let sent = &buffer[..buffer.len().min(left)];
                data += self.frames.data(sent);
                left -= sent.len();
            }
            self.clock.sent(data);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sending<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sending<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, Error>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(&[IoSlice::new(bytes)], &written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.wrote(buffers, &written);
        written
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

/// What a server sends, as frames of HTTP/2 (RFC 9113, section 4.1), or as HTTP/1, which has none.
#[derive(Debug, Default)]
struct Frames {
    /// Nothing before the first byte.
    is_http1: Option<bool>,
    head: [u8; 9],
    /// How much of a head is here.
    head_bytes: usize,
    /// How much is still to come of the frame behind it.
    rest: usize,
}

impl Frames {
    /// How many of these bytes, which are sent next, are content of answers. In HTTP/1 all count: no answer passes another.
    fn data(&mut self, mut sent: &[u8]) -> u64 {
        let Some(first) = sent.first() else { return 0 };
        // HTTP/1 begins with its name, and HTTP/2 with the length of a frame that is short.
        if *self.is_http1.get_or_insert(*first == b'H') {
            return sent.len() as u64;
        }
        let mut data = 0;
        while !sent.is_empty() {
            if self.rest == 0 {
                let (head, behind) = sent.split_at(sent.len().min(self.head.len() - self.head_bytes));
                self.head[self.head_bytes..][..head.len()].copy_from_slice(head);
                self.head_bytes += head.len();
                sent = behind;
                if self.head_bytes == self.head.len() {
                    let [a, b, c, ..] = self.head;
                    self.rest = u32::from_be_bytes([0, a, b, c]) as usize;
                    self.head_bytes = 0;
                }
            } else {
                let (payload, behind) = sent.split_at(sent.len().min(self.rest));
                self.rest -= payload.len();
                sent = behind;
                if self.head[3] == 0 {
                    data += payload.len() as u64;
                }
            }
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);
    const KIB: u64 = 1 << 10;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A connection with more to send than is ever sent.
    fn full(now: Instant) -> State {
        let mut state = State { pending: 64 << 20, moved_at: now, paid_until: now, is_blocked: false };
        state.begin(now, PATIENCE);
        state
    }

    #[test]
    fn attack_a_client_that_lets_nothing_be_sent_is_not_waited_for() {
        let began = Instant::now();
        let mut state = full(began);
        assert_eq!(state.due(PATIENCE), Some(began + PATIENCE));
        state.sent(KIB << 10, began + seconds(5));
        assert_eq!(state.due(PATIENCE), Some(began + seconds(35)), "not even one that was fast");
        state.pending = 0;
        assert_eq!(state.due(PATIENCE), None);
    }

    #[test]
    fn attack_a_byte_now_and_then_does_not_keep_answers() {
        let began = Instant::now();
        let mut state = full(began);
        for at in (0..30).step_by(5) {
            // Each with room in the kernel, and without.
            state.block(at % 10 == 0, began + seconds(at));
            state.sent(1, began + seconds(at));
        }
        assert!(state.due(PATIENCE).unwrap() < began + seconds(31));
    }

    #[test]
    fn a_slow_client_has_all_the_time_that_it_needs() {
        let began = Instant::now();
        let mut state = full(began);
        for at in (0..3600).step_by(20) {
            assert!(state.due(PATIENCE).unwrap() > began + seconds(at));
            state.sent(20 * BODY_RATE_MIN, began + seconds(at));
        }
    }

    #[test]
    fn what_the_kernel_has_taken_ahead_makes_up_for_waiting_while_it_is_full() {
        let began = Instant::now();
        let mut state = full(began);
        state.sent(100 * BODY_RATE_MIN, began);
        state.block(true, began);
        assert_eq!(state.due(PATIENCE), Some(began + seconds(130)));
        state.sent(u64::MAX, began);
        assert_eq!(state.due(PATIENCE), Some(began + CREDIT_MAX), "but not for ever");
        state.block(false, began + seconds(200));
        assert_eq!(state.due(PATIENCE), Some(began + seconds(230)));
    }

    #[tokio::test]
    async fn what_is_taken_in_time_is_waited_for_and_what_is_not_ends_the_connection() {
        let clock = Clock::new(Duration::from_millis(20));
        let wait = Duration::from_millis(100);
        let is_stalled = async || tokio::time::timeout(wait, clock.stalled()).await.is_ok();
        assert!(!is_stalled().await, "nothing to take, as on a stream of events that stands still");
        clock.add(1);
        assert!(is_stalled().await);
        clock.remove(1);
        assert!(!is_stalled().await);
    }

    #[test]
    fn only_data_counts_in_http2_however_it_is_cut() {
        let frame = |kind, length: u8| {
            let head = [0, 0, length, kind, 0, 0, 0, 0, 1];
            [&head[..], &[b'x'; 255][..length.into()]].concat()
        };
        let (settings, headers, data, pong) = (frame(4, 6), frame(1, 40), frame(0, 200), frame(6, 8));
        let all = [settings, headers, data.clone(), pong, frame(0, 0), data].concat();
        for cut in 1..all.len() {
            let mut frames = Frames::default();
            let counted: u64 = all.chunks(cut).map(|sent| frames.data(sent)).sum();
            assert_eq!(counted, 400, "{cut}");
        }
        let mut frames = Frames::default();
        assert_eq!(frames.data(b"HTTP/1.1 200 OK\r\n") + frames.data(b""), 17);
        assert_eq!(frames.data(b"\0\0"), 2);
    }
}
