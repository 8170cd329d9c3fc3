//! An honest worker beside the hostile ones: it runs a script before, during and after the attacks, and
//! must not notice. Both have the same parent, as in a server.

use std::fmt;
use std::sync::mpsc::{TryRecvError, channel};

use super::Hostile;
use super::needed::frames;

pub(crate) struct Sibling {
    worker: Hostile,
    handle: u32,
}

impl Sibling {
    pub(crate) fn start() -> Self {
        Self { worker: Hostile::honest(), handle: 0 }
    }

    /// Its number, for those who aim at it.
    pub(crate) fn pid(&self) -> String {
        self.worker.pid.to_string()
    }

    /// Fails unless a script gives its answer.
    #[track_caller]
    pub(crate) fn is_well(&mut self) {
        self.handle += 1;
        self.worker.work(&frames(self.handle, "\"the sibling is \" + \"well\"", 0), 0);
        let answer = self.worker.answer().unwrap_or_default();
        let said = answer.windows(19).any(|part| part == b"the sibling is well");
        assert!(said, "the sibling noticed: {:?}", String::from_utf8_lossy(&answer));
    }

    /// Asks it again and again until `attack` is over, and at least once; answers what came of that.
    ///
    /// The attack stays in the thread that calls: a worker ends with the thread that started it.
    pub(crate) fn beside<T>(&mut self, attack: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            // Hung up at the end of the attack, also when that is a panic.
            let (goes_on, is_over) = channel::<()>();
            let asking = scope.spawn(move || {
                self.is_well();
                while is_over.try_recv() != Err(TryRecvError::Disconnected) {
                    self.is_well();
                }
            });
            let seen = attack();
            drop(goes_on);
            asking.join().unwrap();
            seen
        })
    }
}

/// How often it was well.
impl fmt::Display for Sibling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "well, {} times", self.handle)
    }
}
