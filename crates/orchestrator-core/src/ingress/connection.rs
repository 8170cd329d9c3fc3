//! One connection, with every limit set by us and none left to hyper's defaults.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;

use super::opening::Opening;
use super::taking::{Clock, Sending};

/// Sources of these numbers: the limits that browsers and proxies stay well below, and hyper's
/// advisories on HTTP/2 floods.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
const HEADERS_MAX: usize = 100;
const HTTP1_BUFFER_BYTES: usize = 64 << 10;
const H2_STREAMS_MAX: u32 = 100;
const H2_HEADER_LIST_BYTES: u32 = 16 << 10;
const H2_PENDING_RESETS_MAX: usize = 20;
const H2_PING_INTERVAL: Duration = Duration::from_secs(20);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take in nothing of an answer, which is held in memory for it meanwhile. In
/// milliseconds, as Linux counts it.
const UNREAD_MS: u32 = 30_000;

/// Watches whether the client takes what it asked for.
pub(super) fn clock() -> Clock {
    Clock::new(Duration::from_millis(UNREAD_MS.into()))
}

pub(super) fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HTTP1_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(H2_HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(H2_PENDING_RESETS_MAX)
        .keep_alive_interval(H2_PING_INTERVAL)
        .keep_alive_timeout(H2_PING_TIMEOUT);
    builder
}

/// The connection as hyper gets it.
pub(super) fn prepared(stream: TcpStream, clock: &Arc<Clock>) -> TokioIo<Opening<Sending<TcpStream>>> {
    // Answers are written whole; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    // The kernel ends a connection whose other end reads nothing, which hyper would wait for. The clock ends those of
    // which it does read, but nothing of answers, or too slowly.
    let _ = setsockopt(&stream, sockopt::TcpUserTimeout, &UNREAD_MS);
    TokioIo::new(Opening::new(Sending::new(stream, Arc::clone(clock)), HEADER_READ_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Mutex;

    use bytes::Bytes;
    use http::{Response, StatusCode};
    use http_body_util::{Either, Full};
    use hyper::service::service_fn;
    use shared::limits::BODIES_BYTES_MIN;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::super::answer;
    use super::super::bodies::Bodies;
    use super::*;

    const ANSWER_BYTES: usize = 1 << 20;
    /// Longer than anything should take.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Serves answers of a mebibyte to one client until it leaves or is left, and says what their statuses were and whether
    /// it was left.
    async fn serve(stream: DuplexStream, bodies: &Bodies, patience: Duration) -> (Vec<StatusCode>, bool) {
        let clock = Arc::new(Clock::new(patience));
        let statuses = Arc::new(Mutex::new(Vec::new()));
        let (bodies, clock_of_answers, said) = (bodies.clone(), Arc::clone(&clock), Arc::clone(&statuses));
        let service = service_fn(move |_| {
            let response: Response<Either<Full<Bytes>, Full<Bytes>>> =
                Response::new(Either::Left(Full::new(vec![b'x'; ANSWER_BYTES].into())));
            let room = bodies.room(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let response = answer::counted(response, room, &clock_of_answers, "r1");
            said.lock().unwrap().push(response.status());
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let stream = Opening::new(Sending::new(stream, Arc::clone(&clock)), PATIENCE);
        let builder = builder();
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let is_left = tokio::select! {
            _ = connection => false,
            () = clock.stalled() => true,
        };
        (std::mem::take(&mut *statuses.lock().unwrap()), is_left)
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// What a client of HTTP/2 begins with that asks on so many streams, and lets so much be sent on each.
    fn asked(streams: u32, window: u32) -> Vec<u8> {
        let window = [&[0_u8, 4][..], &window.to_be_bytes()].concat();
        // `GET /` of `http://a`, as HPACK has it.
        let head = [0x82, 0x86, 0x84, 0x41, 1, b'a'];
        let requests = (0..streams).flat_map(|number| frame(1, 5, 2 * number + 1, &head));
        let opening = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &window)[..]].concat();
        opening.into_iter().chain(requests).collect()
    }

    /// Between two steps of a slow client.
    async fn pause() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    async fn while_attacked<T>(
        served: impl Future<Output = T>,
        attack: impl Future<Output = Infallible>,
    ) -> T {
        let served = async {
            tokio::select! {
                served = served => served,
                never = attack => match never {},
            }
        };
        tokio::time::timeout(PATIENCE, served).await.unwrap()
    }

    /// Waits for what the tasks of streams still hold.
    async fn all_is_given_back(bodies: &Bodies) {
        let given_back = async {
            while bodies.bytes() > 0 {
                tokio::task::yield_now().await;
            }
        };
        assert!(
            tokio::time::timeout(PATIENCE, given_back).await.is_ok(),
            "{} bytes are left",
            bodies.bytes()
        );
    }

    #[tokio::test]
    async fn attack_answers_that_nobody_lets_be_sent_are_few_and_not_kept() {
        let bodies = Bodies::new(BODIES_BYTES_MIN);
        let (mut client, server) = duplex(64 << 10);
        let attack = async {
            client.write_all(&asked(100, 0)).await.unwrap();
            // Whatever comes is read, and there are pongs to send.
            let (mut incoming, mut outgoing) = tokio::io::split(client);
            let mut sink = tokio::io::sink();
            let read = tokio::io::copy(&mut incoming, &mut sink);
            let ping = async {
                while outgoing.write_all(&frame(6, 0, 0, &[0; 8])).await.is_ok() {
                    pause().await;
                }
            };
            let _ = tokio::join!(read, ping);
            std::future::pending().await
        };
        let served = serve(server, &bodies, Duration::from_secs(1));
        let (statuses, is_left) = while_attacked(served, attack).await;
        assert!(is_left);
        assert_eq!(statuses.len(), 100);
        let taken = statuses.iter().filter(|status| **status == StatusCode::OK).count();
        assert_eq!(taken, 32, "half of the least memory");
        all_is_given_back(&bodies).await;
    }

    #[tokio::test]
    async fn attack_what_is_taken_of_one_answer_in_bytes_does_not_keep_it() {
        let bodies = Bodies::new(BODIES_BYTES_MIN);
        let (mut client, server) = duplex(1 << 10);
        let attack = async {
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            while client.read_u8().await.is_ok() {
                pause().await;
            }
            std::future::pending().await
        };
        let served = serve(server, &bodies, Duration::from_millis(300));
        let (statuses, is_left) = while_attacked(served, attack).await;
        assert!(is_left && statuses == [StatusCode::OK]);
        all_is_given_back(&bodies).await;
    }

    #[tokio::test]
    async fn answers_are_served_whole_to_who_takes_them() {
        let bodies = Bodies::new(BODIES_BYTES_MIN);
        for (asked, streams) in [
            (asked(10, 4 << 20), 10),
            (b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_vec(), 1),
        ] {
            let (mut client, server) = duplex(64 << 10);
            let take = async {
                // The window of all streams together.
                client.write_all(&asked).await.unwrap();
                if streams > 1 {
                    let window = u32::try_from(16 * ANSWER_BYTES).unwrap().to_be_bytes();
                    client.write_all(&frame(8, 0, 0, &window)).await.unwrap();
                }
                let (mut bytes, mut buffer) = (0, vec![0; 64 << 10]);
                while bytes < streams * ANSWER_BYTES {
                    bytes += client.read(&mut buffer).await.unwrap();
                }
                drop(client);
            };
            let served = serve(server, &bodies, PATIENCE);
            let ((statuses, is_left), ()) =
                tokio::time::timeout(PATIENCE, async { tokio::join!(served, take) }).await.unwrap();
            assert!(!is_left && statuses == vec![StatusCode::OK; streams]);
            all_is_given_back(&bodies).await;
        }
    }
}
