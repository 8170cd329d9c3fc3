//! A sign of life while a request is under way. Only on a terminal, and only when it takes a while.

use std::io::{self, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::output::Output;

/// Quicker work shows nothing: a flash of text is worse than none.
const PATIENCE: Duration = Duration::from_millis(300);
const FRAME: Duration = Duration::from_millis(120);

/// Runs `work` and shows `label` beside it while it takes long.
pub(crate) fn while_waiting<T>(out: &Output, label: &str, work: impl FnOnce() -> T) -> T {
    if !out.stderr.is_terminal {
        return work();
    }
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || spin(label, &is_done));
        let result = work();
        drop(done);
        result
    })
}

/// Ends when the other end of the channel is dropped, and leaves the line as it was.
fn spin(label: &str, is_done: &mpsc::Receiver<()>) {
    if is_done.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
        return;
    }
    let mut stderr = io::stderr();
    for frame in ['|', '/', '-', '\\'].iter().cycle() {
        let _ = write!(stderr, "\r{frame} {label}");
        let _ = stderr.flush();
        if is_done.recv_timeout(FRAME) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
    let _ = write!(stderr, "\r\u{1b}[K");
    let _ = stderr.flush();
}
