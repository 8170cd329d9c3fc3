//! Load that is not measured and whose answers may be anything: a neighbour that misbehaves, callers
//! of workers that are killed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;

/// Longer than any execution in the bench may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Until a server that refused a connection is asked again.
const PAUSE: Duration = Duration::from_millis(5);
const WORKER_LOST: u16 = 502;

/// The answer to a request on a connection of its own.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) has_retry_after: bool,
    /// From the whole request to the whole answer.
    pub(crate) took: Duration,
}

/// Asks on a connection of its own.
pub(crate) fn ask(address: SocketAddr, host: &str, path: &str) -> anyhow::Result<Answer> {
    let mut stream = send(address, host, path)?;
    let sent = Instant::now();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let took = sent.elapsed();
    let status = answer.split(|byte| *byte == b' ').nth(1).context("no answer")?;
    let status = std::str::from_utf8(status)?.parse()?;
    let has_retry_after = answer.to_ascii_lowercase().windows(14).any(|bytes| bytes == b"\r\nretry-after:");
    Ok(Answer { status, has_retry_after, took })
}

/// Asks, and leaves it to the caller whether the answer is awaited.
pub(crate) fn send(address: SocketAddr, host: &str, path: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}

/// What came of the requests of a [`Background`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) answered: u64,
    /// Answered with 502: the worker was lost.
    pub(crate) lost: u64,
    /// Any other answer, or none.
    pub(crate) failed: u64,
}

impl Tally {
    /// Of both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            answered: self.answered + other.answered,
            lost: self.lost + other.lost,
            failed: self.failed + other.failed,
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    lost: AtomicU64,
    failed: AtomicU64,
}

/// Asks until it is dropped or stopped.
#[derive(Debug)]
pub(crate) struct Background {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
}

impl Background {
    pub(crate) fn start(address: SocketAddr, host: &str, path: &str, connections: usize) -> Self {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let threads = (0..connections).map(|_| {
            let (stop, counts) = (Arc::clone(&stop), Arc::clone(&counts));
            let (host, path) = (host.to_owned(), path.to_owned());
            std::thread::spawn(move || {
                while !stop.load(Relaxed) {
                    let count = match ask(address, &host, &path) {
                        Ok(Answer { status: 200, .. }) => &counts.answered,
                        Ok(Answer { status: WORKER_LOST, .. }) => &counts.lost,
                        Ok(_) => &counts.failed,
                        Err(_) => {
                            std::thread::sleep(PAUSE);
                            &counts.failed
                        }
                    };
                    count.fetch_add(1, Relaxed);
                }
            })
        });
        let threads = threads.collect();
        Self { stop, counts, threads }
    }

    /// Waits for the last answers and tells what all of them were.
    pub(crate) fn stop(mut self) -> Tally {
        self.end();
        let Counts { answered, lost, failed } = &*self.counts;
        Tally { answered: answered.load(Relaxed), lost: lost.load(Relaxed), failed: failed.load(Relaxed) }
    }

    fn end(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end();
    }
}
