//! Taking in a request body: no more than allowed, and not forever.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use shared::fault::Code;

use super::problem::Failure;

/// Longest silence between two pieces.
const IDLE: Duration = Duration::from_secs(30);
/// From this age on a body must have come in at [`RATE_MIN`] on average.
const RATE_FROM: Duration = Duration::from_secs(10);
/// Bytes per second.
const RATE_MIN: u64 = 1024;

pub(super) async fn read(mut body: Incoming, bytes_max: u32) -> Result<Bytes, Failure> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    // A declared length over the limit is refused before anything is read.
    if body.size_hint().lower() > u64::from(bytes_max) {
        return Err(too_large(bytes_max));
    }
    let since = Instant::now();
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let frame = match tokio::time::timeout(IDLE, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                return Err(Failure::new(Code::BadRequest, format!("the body cannot be read: {error}")));
            }
            Ok(None) => break,
            Err(_) => return Err(too_slow()),
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let size = first.len() + rest.len() + data.len();
        if size > bytes_max as usize {
            return Err(too_large(bytes_max));
        }
        let age = since.elapsed();
        if age > RATE_FROM && (size as u64) < age.as_secs() * RATE_MIN {
            return Err(too_slow());
        }
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

fn too_slow() -> Failure {
    Failure::new(
        Code::RequestTimeout,
        format!(
            "a body may pause for {} s and must come in at {RATE_MIN} bytes/s after {} s",
            IDLE.as_secs(),
            RATE_FROM.as_secs()
        ),
    )
}
