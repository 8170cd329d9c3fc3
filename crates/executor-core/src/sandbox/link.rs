//! Where a slot's guest and the scheduler leave things for each other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

/// An answer to a host call.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u8,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug, Default)]
struct Mail {
    /// Frames the guest's imports have written.
    outbound: Vec<u8>,
    reply: Option<Reply>,
}

/// Shared by a slot and its running guest. The process has one thread, so the lock is never
/// contended; wasmtime asks for types that could be sent, which is why it is a lock at all.
#[derive(Debug, Default)]
pub(crate) struct Link {
    mail: Mutex<Mail>,
    /// Set while the guest has something to do: it used up its time slice, or an answer came.
    runnable: AtomicBool,
}

impl Link {
    /// Lets an import append frames.
    pub(crate) fn write(&self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.mail().outbound);
    }

    /// Moves the frames written so far onto the end of `outbound`.
    pub(crate) fn drain(&self, outbound: &mut Vec<u8>) {
        outbound.append(&mut self.mail().outbound);
    }

    pub(crate) fn answer(&self, reply: Reply) {
        self.mail().reply = Some(reply);
        self.set_runnable();
    }

    pub(crate) fn take_reply(&self) -> Option<Reply> {
        self.mail().reply.take()
    }

    /// Forgets what an ended execution left.
    pub(crate) fn reset(&self) {
        let mut mail = self.mail();
        mail.outbound.clear();
        mail.reply = None;
        self.runnable.store(false, Ordering::Relaxed);
    }

    pub(crate) fn set_runnable(&self) {
        self.runnable.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_runnable(&self) -> bool {
        self.runnable.load(Ordering::Relaxed)
    }

    pub(crate) fn take_runnable(&self) -> bool {
        self.runnable.swap(false, Ordering::Relaxed)
    }

    fn mail(&self) -> std::sync::MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Link {
    fn wake(self: Arc<Self>) {
        self.set_runnable();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set_runnable();
    }
}
