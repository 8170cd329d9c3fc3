//! What workers write to standard error, in the server's log: bounded, because a worker may be
//! hostile by then, and once, because all workers of a machine lack the same walls.

use std::collections::HashSet;
use std::process::ChildStderr;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

/// Bytes of one worker's standard error that are looked at. Then the pipe is closed: to read a flood and drop it would
/// cost this process as much as the worker. Its writes fail from then on, which no worker of ours minds.
const BYTES_MAX: u64 = 16 << 10;
/// Different lines that are remembered; more than there are layers.
const KNOWN_MAX: usize = 64;

/// Lines that are in the log already.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    known: Mutex<HashSet<String>>,
}

impl Complaints {
    /// Reads until either end of the pipe is closed.
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
    use std::fmt::Debug;
    use std::io::{ErrorKind, Write};
    use std::os::fd::OwnedFd;
    use std::sync::{Arc, MutexGuard};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// What is logged, at any level.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>);

    impl Log {
        fn messages(&self) -> MutexGuard<'_, Vec<String>> {
            self.0.lock().unwrap()
        }
    }

    impl Subscriber for Log {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            event.record(&mut self.clone());
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    impl Visit for Log {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            let text = format!("{value:?}");
            if field.name() == "message" && text.starts_with("worker says: ") {
                self.messages().push(text);
            }
        }
    }

    /// 1 MiB of what clears a terminal, and names its window.
    #[tokio::test]
    async fn attack_52_of_a_flood_of_escapes_little_is_logged_escaped_and_the_pipe_is_closed() {
        const LINE: &[u8; 16] = b"\x1b[2J\x1b]0;owned\x07\r\n";
        let (reader, mut writer) = std::io::pipe().unwrap();
        let flood = std::thread::spawn(move || writer.write_all(&LINE.repeat(1 << 16)));
        let log = Log::default();
        let logging = tracing::subscriber::set_default(log.clone());
        Complaints::default().log(1, ChildStderr::from(OwnedFd::from(reader))).await;
        drop(logging);
        // More than the pipe holds was left, so who still writes finds it closed.
        assert_eq!(flood.join().unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
        let messages = log.messages();
        assert_eq!(messages.len() * LINE.len(), usize::try_from(BYTES_MAX).unwrap());
        let escaped = r#"worker says: "\u{1b}[2J\u{1b}]0;owned\u{7}""#;
        assert!(messages.iter().all(|message| message == escaped), "{:?}", messages.first());
    }

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
