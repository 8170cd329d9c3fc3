//! What workers write to standard error, in the server's log: bounded, because a worker may be
//! hostile by then, and once, because all workers of a machine lack the same walls.

use std::collections::HashSet;
use std::process::ChildStderr;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

/// Bytes of one worker's standard error that are looked at; the rest is read and dropped.
const BYTES_MAX: u64 = 16 << 10;
/// Different lines that are remembered; more than there are layers.
const KNOWN_MAX: usize = 64;

/// Lines that are in the log already.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    known: Mutex<HashSet<String>>,
}

impl Complaints {
    /// Reads until the worker's end of the pipe is closed.
    pub(super) async fn log(&self, pid: u32, stderr: ChildStderr) {
        let Ok(stderr) = tokio::process::ChildStderr::from_std(stderr) else {
            return;
        };
        let mut lines = BufReader::new(stderr).take(BYTES_MAX);
        let mut line = Vec::new();
        while let Ok(1..) = lines.read_until(b'\n', &mut line).await {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            if self.is_new(text) {
                tracing::warn!(worker.pid = pid, "worker says: {text:?}");
            } else {
                tracing::debug!(worker.pid = pid, "worker says: {text:?}");
            }
            line.clear();
        }
        let _ = tokio::io::copy(lines.get_mut(), &mut tokio::io::sink()).await;
    }

    fn is_new(&self, line: &str) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            return !known.contains(line);
        }
        known.insert(line.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_complaint_of_another_worker_is_not_new() {
        let complaints = Complaints::default();
        assert!(complaints.is_new("worker: without landlock"));
        assert!(!complaints.is_new("worker: without landlock"));
        assert!(complaints.is_new("worker: the guest is broken"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let complaints = Complaints::default();
        assert!((0..10 * KNOWN_MAX).all(|number| complaints.is_new(&number.to_string())));
        assert!(complaints.known.lock().unwrap().len() <= KNOWN_MAX);
    }
}
