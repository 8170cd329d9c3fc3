//! Load that is not measured and whose answers may be anything: a neighbour that misbehaves, callers
//! of workers that are killed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;

/// Longer than any execution in the bench may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Until a server that refused a connection is asked again.
const PAUSE: Duration = Duration::from_millis(5);

/// One request on a connection of its own; answers the status.
pub(crate) fn ask(address: SocketAddr, host: &str, path: &str) -> anyhow::Result<u16> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let status = answer.split(|byte| *byte == b' ').nth(1).context("no answer")?;
    Ok(std::str::from_utf8(status)?.parse()?)
}

/// Asks until it is dropped.
#[derive(Debug)]
pub(crate) struct Background {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Background {
    pub(crate) fn start(address: SocketAddr, host: &str, path: &str, connections: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..connections).map(|_| {
            let stop = Arc::clone(&stop);
            let (host, path) = (host.to_owned(), path.to_owned());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if ask(address, &host, &path).is_err() {
                        std::thread::sleep(PAUSE);
                    }
                }
            })
        });
        let threads = threads.collect();
        Self { stop, threads }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
