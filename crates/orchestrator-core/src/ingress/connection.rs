//! One connection, with every limit set by us and none left to hyper's defaults.

use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;

use super::opening::Opening;

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
pub(super) fn prepared(stream: TcpStream) -> TokioIo<Opening<TcpStream>> {
    // Answers are written whole; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    // The kernel ends a connection whose other end takes nothing, which hyper would wait for.
    let _ = setsockopt(&stream, sockopt::TcpUserTimeout, &UNREAD_MS);
    TokioIo::new(Opening::new(stream, HEADER_READ_TIMEOUT))
}
