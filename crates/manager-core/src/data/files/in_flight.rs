//! Contents that are on their way in and that no file has yet, and those that are no file's any more and are still
//! read. The database counts a content with its file; before and after it is counted here, or each of many that come at
//! once would find the room that there is for all of them.
//!
//! Only this process's are counted, and one that has just got its file counts twice for a moment. The truth is in the
//! database, which is asked again with each file.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::id::AppId;
use shared::limits::FILES_BYTES_MAX;

/// What is on its way in, by app, as a cheap handle.
#[derive(Debug, Clone, Default)]
pub(crate) struct InFlight(Arc<Mutex<HashMap<AppId, Flow>>>);

/// That of one app, as long as there is any.
#[derive(Debug, Default)]
struct Flow {
    shares: usize,
    /// Bytes of all shares.
    bytes: i64,
    /// Bytes by which the app's files have grown since the first share was begun; below 0 when they have shrunk.
    grown: i64,
}

/// A content's part of its app's room, given back when it is dropped.
#[must_use]
#[derive(Debug)]
pub(super) struct Share {
    in_flight: InFlight,
    app: AppId,
    /// Bytes that there were for all shares, before the files grew.
    room: i64,
    bytes: i64,
}

impl InFlight {
    /// The share of a content that begins, in an app whose files have so many bytes.
    pub(super) fn begin(&self, app: AppId, used: i64) -> Share {
        let mut flows = self.flows();
        let flow = flows.entry(app).or_default();
        flow.shares += 1;
        let room = FILES_BYTES_MAX.saturating_sub(used).saturating_add(flow.grown);
        Share { in_flight: self.clone(), app, room, bytes: 0 }
    }

    /// The share of a content that is no file's any more and still there, whether there is room for it or not.
    pub(super) fn hold(&self, app: AppId, bytes: i64) -> Share {
        let mut flows = self.flows();
        let flow = flows.entry(app).or_default();
        flow.shares += 1;
        flow.bytes = flow.bytes.saturating_add(bytes);
        Share { in_flight: self.clone(), app, room: 0, bytes }
    }

    /// To be told by how many bytes an app's files have grown in the database.
    pub(super) fn note_growth(&self, app: AppId, bytes: i64) {
        if let Some(flow) = self.flows().get_mut(&app) {
            flow.grown = flow.grown.saturating_add(bytes);
        }
    }

    fn flows(&self) -> MutexGuard<'_, HashMap<AppId, Flow>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Takes room for so many bytes more; false when the app has none. Nothing always fits.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut flows = self.in_flight.flows();
        // It is there as long as this share is.
        let Some(flow) = flows.get_mut(&self.app) else { return false };
        let fits = bytes == 0 || flow.bytes.saturating_add(bytes) <= self.room.saturating_sub(flow.grown);
        if fits {
            flow.bytes += bytes;
            self.bytes += bytes;
        }
        fits
    }

    /// All that was taken, for who holds it from here on.
    pub(super) fn hand_over(&mut self) -> Self {
        if let Some(flow) = self.in_flight.flows().get_mut(&self.app) {
            flow.shares += 1;
        }
        let bytes = std::mem::take(&mut self.bytes);
        Self { in_flight: self.in_flight.clone(), app: self.app, room: self.room, bytes }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut flows = self.in_flight.flows();
        let Some(flow) = flows.get_mut(&self.app) else { return };
        flow.shares -= 1;
        flow.bytes -= self.bytes;
        if flow.shares == 0 {
            flows.remove(&self.app);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Room for ten bytes.
    const USED: i64 = FILES_BYTES_MAX - 10;

    #[test]
    fn contents_at_once_have_the_apps_room_together_and_other_apps_theirs() {
        let (in_flight, app) = (InFlight::default(), AppId::new());
        let (mut first, mut second) = (in_flight.begin(app, USED), in_flight.begin(app, USED));
        assert!(first.take(6));
        assert!(!second.take(5), "each fits by itself");
        assert!(second.take(4));
        assert!(in_flight.begin(AppId::new(), USED).take(10));
        drop(first);
        assert!(second.take(6), "what is gone is room again");
        assert!(!second.take(1));
        assert!(second.take(0), "nothing takes no room");
    }

    #[test]
    fn what_became_a_file_meanwhile_is_no_room_and_what_was_removed_is() {
        let (in_flight, app) = (InFlight::default(), AppId::new());
        let (mut going, mut done) = (in_flight.begin(app, USED), in_flight.begin(app, USED));
        assert!(done.take(8));
        in_flight.note_growth(app, 8);
        drop(done);
        assert!(!going.take(3));
        let mut later = in_flight.begin(app, USED + 8);
        assert!(!later.take(3), "it knew of the file when it began");
        assert!(later.take(2));
        in_flight.note_growth(app, -8);
        assert!(going.take(8));
    }

    #[test]
    fn what_is_handed_over_is_held_by_the_other_alone() {
        let (in_flight, app) = (InFlight::default(), AppId::new());
        let mut first = in_flight.begin(app, USED);
        assert!(first.take(10));
        let held = first.hand_over();
        drop(first);
        assert!(!in_flight.begin(app, USED).take(1));
        drop(held);
        assert!(in_flight.flows().is_empty(), "nothing is kept of an app that sends nothing");
        assert!(in_flight.begin(app, USED).take(10));
    }
}
