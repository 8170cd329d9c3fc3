//! One keep-alive connection with at most one request on its way.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use mio::net::TcpStream;

use super::{Expected, response};

/// The answers that are measured are some hundred bytes long.
const BUFFER_BYTES: usize = 16 << 10;

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) asked_at: Instant,
    buffer: Box<[u8]>,
    filled: usize,
}

/// An answer that was whole: as expected, or what was wrong with it.
pub(super) type Answer = Result<(), String>;

impl Connection {
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: TcpStream::from_std(stream),
            asked_at: Instant::now(),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            filled: 0,
        })
    }

    pub(super) fn ask(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.filled = 0;
        self.asked_at = Instant::now();
        let written = self.stream.write(request).context("a request could not be sent")?;
        // The socket's buffer is empty between requests and much larger than one.
        ensure!(written == request.len(), "a request was sent in part only");
        Ok(())
    }

    /// Reads what there is. Nothing while the answer is not whole yet.
    pub(super) fn read(&mut self, expected: &Expected) -> anyhow::Result<Option<Answer>> {
        loop {
            ensure!(self.filled < self.buffer.len(), "an answer is longer than {BUFFER_BYTES} bytes");
            match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("an answer could not be read"),
            }
            let bytes = &self.buffer[..self.filled];
            let Some(response) = response::parse(bytes)? else { continue };
            ensure!(response.bytes == bytes.len(), "the server sent more than one answer");
            let is_right = match expected {
                Expected::Body(body) => response.status == 200 && *response.body == **body,
                Expected::Accepted => response.status == 202,
            };
            if is_right {
                return Ok(Some(Ok(())));
            }
            let body = String::from_utf8_lossy(&response.body);
            return Ok(Some(Err(format!("status {}, body {body:?}", response.status))));
        }
    }
}
