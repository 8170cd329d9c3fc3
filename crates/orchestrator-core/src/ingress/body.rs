//! Taking in a request body: no more than allowed, and not forever.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use shared::fault::Code;
use shared::http::BodyTooSlow;
use shared::limits::{BODY_PAUSE_S, BODY_RATE_FROM_S, BODY_RATE_MIN};
use tokio::time::Sleep;

use super::bodies::Room;
use super::problem::Failure;

/// How much is still read of a body that nobody wanted, so that its connection can go on. Larger ones
/// cost more than the next handshake.
const UNWANTED_BYTES_MAX: u64 = 64 << 10;
/// How long an answer waits for such a body.
const UNWANTED_PATIENCE: Duration = Duration::from_secs(1);

/// A body that must keep coming: who sends it a byte now and then would hold a connection, and
/// whatever waits for the body, for nothing.
#[derive(Debug)]
pub struct Paced {
    /// Gone at its end.
    body: Option<Incoming>,
    /// Where it goes if it is dropped before its end.
    rest: Option<Rest>,
    /// When somebody first asked for it.
    since: Option<Instant>,
    bytes: u64,
    /// Ends the present pause.
    pause: Option<Pin<Box<Sleep>>>,
}

/// Why a body is not there whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the body came in too slowly")]
    TooSlow(#[from] BodyTooSlow),
    #[error("the body cannot be read")]
    Broken(#[from] hyper::Error),
}

impl Paced {
    pub(super) const fn new(body: Incoming) -> Self {
        Self { body: Some(body), rest: None, since: None, bytes: 0, pause: None }
    }

    /// Keeps what is not read of this body; nothing, where there is none.
    pub(super) fn keep_rest(&mut self) -> Option<Rest> {
        if !self.is_end_stream() {
            self.rest = Some(Rest::default());
        }
        self.rest.clone()
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        if let (Some(body), Some(rest)) = (self.body.take(), &self.rest) {
            *rest.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}

/// What nobody read of a body, in HTTP/1.
///
/// It comes before the next request of its connection. If it is not here yet when its request is
/// answered, hyper closes the connection, and a proxy that has sent the next request by then gets no
/// answer to it: some of whose clients would see errors for what was refused to others.
#[derive(Debug, Default, Clone)]
pub(super) struct Rest(Arc<Mutex<Option<Incoming>>>);

impl Rest {
    /// Whether the connection can take another request after this one.
    ///
    /// `is_asked_for` is whether the client waits to be told to go on, which reading would do.
    pub(super) async fn read(self, is_asked_for: bool) -> bool {
        let Some(mut body) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return true;
        };
        if is_asked_for || body.size_hint().lower() > UNWANTED_BYTES_MAX {
            return false;
        }
        let mut bytes = 0;
        let all = async {
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return false };
                bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if bytes > UNWANTED_BYTES_MAX {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(UNWANTED_PATIENCE, all).await.unwrap_or(false)
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
            let pause = Duration::from_secs(BODY_PAUSE_S);
            let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            ready!(pause.as_mut().poll(cx));
            return Poll::Ready(Some(Err(BodyTooSlow.into())));
        };
        self.pause = None;
        let Some(frame) = frame.transpose()? else {
            self.body = None;
            return Poll::Ready(None);
        };
        self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        let age = since.elapsed().as_secs();
        if age >= BODY_RATE_FROM_S && self.bytes < age * BODY_RATE_MIN {
            return Poll::Ready(Some(Err(BodyTooSlow.into())));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// The whole body, as far as it finds `room`.
pub(super) async fn read(mut body: Paced, bytes_max: u32, room: &mut Room) -> Result<Bytes, Failure> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    // A declared length over the limit is refused before anything is read.
    if body.size_hint().lower() > u64::from(bytes_max) {
        return Err(too_large(bytes_max));
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        let bytes = first.len() + rest.len() + data.len();
        if bytes > bytes_max as usize {
            return Err(too_large(bytes_max));
        }
        // As they come, and not as the client says: who sends little must not take the room of much.
        room.grow(bytes)?;
        // Most bodies come in one piece, which is then not copied.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

fn too_large(bytes_max: u32) -> Failure {
    Failure::new(Code::BodyTooLarge, format!("this route takes bodies of up to {bytes_max} bytes"))
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooSlow(slow) => Self::new(Code::RequestTimeout, slow.to_string()),
            BodyError::Broken(broken) => {
                Self::new(Code::BadRequest, format!("the body cannot be read: {broken}"))
            }
        }
    }
}
