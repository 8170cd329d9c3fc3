//! What nodes tell each other of queues, in words: `<app> <milliseconds> <queue>`.

use std::fmt;

use shared::id::AppId;
use shared::name::QueueName;

/// A queue that its owner is to look at after so long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Errand {
    pub(super) app: AppId,
    pub(super) queue: QueueName,
    pub(super) in_ms: u64,
}

impl Errand {
    /// None for words of another version of us.
    pub(super) fn read(words: &str) -> Option<Self> {
        let mut parts = words.splitn(3, ' ');
        let (app, in_ms, queue) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { app: app.parse().ok()?, in_ms: in_ms.parse().ok()?, queue: queue.parse().ok()? })
    }
}

impl fmt::Display for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.app, self.in_ms, self.queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_is_heard() {
        let errand = Errand { app: AppId::new(), queue: "mails".parse().unwrap(), in_ms: 700 };
        assert_eq!(Errand::read(&errand.to_string()), Some(errand));
        for words in ["", "mails", "1 2 3", "x 0 mails"] {
            assert_eq!(Errand::read(words), None, "{words}");
        }
    }
}
