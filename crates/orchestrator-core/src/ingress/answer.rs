//! An answer on its way to the client, which is counted as long as any of it is in memory: until the kernel has it.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_LENGTH, VARY};
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, SizeHint};
use shared::trace::TRACEPARENT;

use super::bodies::Room;
use super::cors;
use super::problem::Failure;
use super::taking::Clock;

/// Answers are handed over in such pieces, so that it is seen how much of one is taken. A frame of HTTP/2 is no longer.
const PIECE_BYTES: usize = 16 << 10;
/// What is in memory at a time of an answer that is made while it is sent, such as a file: a chunk, and the end of the one
/// before it.
const STREAMED_BYTES_MAX: u64 = 2 << 20;

/// An answer of at most so many bytes is not counted.
const SHORT_BYTES_MAX: u64 = 1 << 10;

/// Says of an answer that a cache holds its bytes, whoever reads them.
#[derive(Debug, Clone, Copy)]
pub(super) struct InCache;

/// A body that is counted.
#[derive(Debug)]
pub(super) struct Answer<B> {
    body: B,
    /// What is to be handed over before more is asked for.
    chunk: Bytes,
    held: Arc<Held>,
}

/// What is in memory of one answer.
#[derive(Debug)]
struct Held {
    clock: Arc<Clock>,
    counted: Mutex<Counted>,
}

#[derive(Debug)]
struct Counted {
    /// Nothing for a problem that stands in the place of an answer.
    room: Option<Room>,
    bytes: u64,
    /// Whether the room was taken for the whole answer, instead of for what there is of it.
    is_reserved: bool,
}

/// A part that is out of our hands. Whoever sends it drops it then.
struct Piece {
    bytes: Bytes,
    held: Arc<Held>,
}

/// The answer with the room that it needs, or a problem where there is none.
pub(super) fn counted<B>(
    response: Response<Either<Full<Bytes>, B>>,
    mut room: Room,
    clock: &Arc<Clock>,
    request_id: &str,
) -> Response<Answer<Either<Full<Bytes>, B>>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    // From here on there is the answer instead of the request.
    room.clear();
    let reserved = expected_bytes(&response);
    let (response, room) = if is_free(&response) {
        (response, None)
    } else {
        match room.grow(usize::try_from(reserved).unwrap_or(usize::MAX >> 1)) {
            Ok(()) => (response, Some(room)),
            Err(full) => (refused(full.into(), &response, request_id).map(Either::Left), None),
        }
    };
    let counted = Mutex::new(Counted { room, bytes: 0, is_reserved: reserved > 0 });
    let held = Arc::new(Held { clock: Arc::clone(clock), counted });
    response.map(|body| Answer { body, chunk: Bytes::new(), held })
}

/// Whether an answer needs no room: the readers of what is in a cache share it, and what is as short as a head is bounded as
/// heads are. So there is always an answer for whoever asks how the server is.
fn is_free<B: Body>(response: &Response<B>) -> bool {
    let is_short = response.body().size_hint().exact().is_some_and(|bytes| bytes <= SHORT_BYTES_MAX);
    is_short || response.extensions().get::<InCache>().is_some()
}

/// How many bytes of an answer are in memory at a time, as far as it is known.
fn expected_bytes<B: Body>(response: &Response<B>) -> u64 {
    if let Some(all) = response.body().size_hint().exact() {
        return all;
    }
    let length = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    length.and_then(|length| length.parse().ok()).map_or(0, |bytes: u64| bytes.min(STREAMED_BYTES_MAX))
}

/// What the request did is done.
fn refused<B>(failure: Failure, instead_of: &Response<B>, request_id: &str) -> Response<Full<Bytes>> {
    let mut response = Failure { was_done: true, ..failure }.into_response(request_id);
    if let Some(trace) = instead_of.headers().get(TRACEPARENT) {
        response.headers_mut().insert(TRACEPARENT, trace.clone());
    }
    // The page that asked is to learn of it as well.
    for name in cors::OURS.into_iter().chain([VARY]) {
        for value in instead_of.headers().get_all(&name) {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    response
}

impl<B> Body for Answer<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if this.chunk.is_empty() {
            let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(cx)) else {
                return Poll::Ready(None);
            };
            let chunk = match frame.map(Frame::into_data) {
                Ok(Ok(chunk)) => chunk,
                Ok(Err(trailers)) => return Poll::Ready(Some(Ok(trailers))),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            };
            if !this.held.add(chunk.len()) {
                return Poll::Ready(Some(Err("answers take all the memory that they may have".into())));
            }
            this.chunk = chunk;
        }
        let bytes = this.chunk.split_to(this.chunk.len().min(PIECE_BYTES));
        let piece = Piece { bytes, held: Arc::clone(&this.held) };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunk.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint() + SizeHint::with_exact(self.chunk.len() as u64)
    }
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.held.remove(self.chunk.len());
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.held.remove(self.bytes.len());
    }
}

impl Held {
    /// Whether there was room for so much more.
    fn add(&self, bytes: usize) -> bool {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let all = counted.bytes + bytes as u64;
        if let Some(room) = &mut counted.room
            && room.grow(usize::try_from(all).unwrap_or(usize::MAX >> 1)).is_err()
        {
            return false;
        }
        counted.bytes = all;
        drop(counted);
        self.clock.add(bytes as u64);
        true
    }

    fn remove(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.bytes -= bytes as u64;
        // What stands still between two events holds nothing.
        if counted.bytes == 0
            && !counted.is_reserved
            && let Some(room) = &mut counted.room
        {
            room.clear();
        }
        drop(counted);
        self.clock.remove(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use http::StatusCode;
    use http_body_util::BodyExt;
    use shared::limits::BODIES_BYTES_MIN;

    use super::super::bodies::Bodies;
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const STEP: usize = 16 << 10;
    const SHORT: usize = 1 << 10;
    const MIB: usize = 1 << 20;

    /// Chunks as they are made, of a length that nobody knows.
    struct Chunks(Vec<usize>);

    impl Body for Chunks {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Ready(self.0.pop().map(|bytes| Ok(Frame::data(vec![b'x'; bytes].into()))))
        }
    }

    type Sent = Response<Answer<Either<Full<Bytes>, Chunks>>>;

    fn sent(bodies: &Bodies, body: Either<Full<Bytes>, Chunks>) -> Sent {
        let clock = Arc::new(Clock::new(Duration::from_secs(30)));
        counted(Response::new(body), bodies.room(CLIENT), &clock, "r1")
    }

    fn whole(bodies: &Bodies, bytes: usize) -> Sent {
        sent(bodies, Either::Left(Full::new(vec![b'x'; bytes].into())))
    }

    async fn next(answer: &mut Sent) -> Option<Result<Bytes, String>> {
        let frame = answer.body_mut().frame().await?;
        Some(frame.map(|frame| frame.into_data().unwrap()).map_err(|error| error.to_string()))
    }

    #[tokio::test]
    async fn an_answer_is_counted_until_its_last_piece_is_gone() {
        let bodies = Bodies::new(BODIES_BYTES_MIN);
        let mut answer = whole(&bodies, 5 * STEP / 2);
        assert_eq!(answer.body().size_hint().exact(), Some(5 * STEP as u64 / 2));
        let mut pieces = Vec::new();
        while let Some(piece) = next(&mut answer).await {
            pieces.push(piece.unwrap());
        }
        assert!(answer.body().is_end_stream());
        assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [STEP, STEP, STEP / 2]);
        drop(answer);
        let last = pieces.pop();
        drop(pieces);
        assert_eq!(bodies.bytes(), 3 * STEP as u64);
        drop(last);
        assert_eq!(bodies.bytes(), 0);
    }

    #[tokio::test]
    async fn an_answer_that_is_given_up_half_way_gives_back_all() {
        let bodies = Bodies::new(BODIES_BYTES_MIN);
        let mut answer = whole(&bodies, MIB);
        let piece = next(&mut answer).await;
        drop((answer, piece));
        assert_eq!(bodies.bytes(), 0);
    }

    #[tokio::test]
    async fn attack_answers_that_are_kept_have_no_more_room_than_bodies() {
        let bodies = Bodies::new(BODIES_BYTES_MIN);
        let answers: Vec<_> = (0..100).map(|_| whole(&bodies, MIB)).collect();
        let (taken, refused): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.status() == StatusCode::OK);
        assert_eq!((taken.len(), bodies.bytes()), (32, BODIES_BYTES_MIN / 2));
        for mut answer in refused {
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            let problem = next(&mut answer).await.unwrap().unwrap();
            let problem: serde_json::Value = serde_json::from_slice(&problem).unwrap();
            // The script has run.
            assert_eq!((&problem["code"], &problem["retry"]), (&"overloaded".into(), &"unsafe".into()));
        }
        drop(taken);
        assert_eq!(whole(&bodies, MIB).status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn short_answers_and_those_of_a_cache_need_no_room() {
        let bodies = Bodies::new(BODIES_BYTES_MIN);
        let full: Vec<_> = (0..32).map(|_| whole(&bodies, MIB)).collect();
        assert_eq!(whole(&bodies, MIB).status(), StatusCode::SERVICE_UNAVAILABLE);
        let small: Vec<_> = (0..300).map(|_| whole(&bodies, SHORT + 1)).collect();
        assert_eq!(small.last().map(Response::status), Some(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(whole(&bodies, SHORT).status(), StatusCode::OK);
        let mut file: Response<Either<Full<Bytes>, Chunks>> =
            Response::new(Either::Left(Full::new(vec![b'x'; 5 * MIB].into())));
        file.extensions_mut().insert(InCache);
        let clock = Arc::new(Clock::new(Duration::from_secs(30)));
        assert_eq!(counted(file, bodies.room(CLIENT), &clock, "r1").status(), StatusCode::OK);
        drop(full);
    }

    #[test]
    fn whoever_may_read_an_answer_may_read_what_stands_in_its_place() {
        let mut answer = Response::new(());
        answer.headers_mut().insert("access-control-allow-origin", "https://a.example".parse().unwrap());
        answer.headers_mut().insert(VARY, "origin".parse().unwrap());
        answer.headers_mut().insert("set-cookie", "a=b".parse().unwrap());
        let instead = refused(Failure::new(shared::fault::Code::Overloaded, "full"), &answer, "r1");
        assert_eq!(instead.headers()["access-control-allow-origin"], "https://a.example");
        assert_eq!(instead.headers()[VARY], "origin");
        assert!(!instead.headers().contains_key("set-cookie"));
    }

    #[tokio::test]
    async fn what_is_made_while_it_is_sent_is_counted_as_far_as_it_is_there() {
        let bodies = Bodies::new(BODIES_BYTES_MIN);
        let mut answer = sent(&bodies, Either::Right(Chunks(vec![33 * MIB, 1, 2 * STEP])));
        assert_eq!(bodies.bytes(), 0);
        let event = [next(&mut answer).await, next(&mut answer).await];
        assert_eq!(bodies.bytes(), 2 * STEP as u64);
        drop(event);
        assert_eq!(bodies.bytes(), 0, "between two events");
        assert_eq!(next(&mut answer).await, Some(Ok(Bytes::from_static(b"x"))));
        assert!(next(&mut answer).await.is_some_and(|chunk| chunk.is_err()), "more than there may be");
    }
}
