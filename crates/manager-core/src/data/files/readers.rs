//! Contents that are being read. One that is no file's any more stays for those who read it, so that a download that is
//! under way comes to its end, and its app has no room for another in its place as long.
//!
//! Only this process's readers are counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;
use uuid::Uuid;

use super::blobs::Blobs;
use super::in_flight::Share;

/// How long a content stays in any case when it is no file's any more: whoever has just read the row that named it has
/// begun to read it by then.
const GRACE: Duration = Duration::from_secs(1);
/// How long readers can hold a content that nobody else needs: as long as 5 GiB take at 1.5 MB a second. Whoever reads
/// slowly on purpose would else keep its room from the app for ever.
const HELD_MAX: Duration = Duration::from_hours(1);

/// The contents that somebody reads.
#[derive(Debug, Clone, Default)]
pub(super) struct Readers(Arc<Mutex<HashMap<Uuid, Content>>>);

#[derive(Debug, Default)]
struct Content {
    readers: usize,
    /// Set when it is no file's any more.
    unused: Option<Unused>,
}

#[derive(Debug)]
struct Unused {
    chunks: usize,
    /// Of its app's room.
    share: Option<Share>,
    /// Dropped with this: nobody has to watch any more how long it is read.
    _read: oneshot::Sender<()>,
}

/// A content that stays until this is dropped.
#[must_use]
#[derive(Debug)]
pub(super) struct Reading {
    blobs: Blobs,
    blob: Uuid,
}

impl Readers {
    fn contents(&self) -> MutexGuard<'_, HashMap<Uuid, Content>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blobs {
    pub(super) fn reading(&self, blob: Uuid) -> Reading {
        self.readers.contents().entry(blob).or_default().readers += 1;
        Reading { blobs: self.clone(), blob }
    }

    /// Whether somebody reads it, or may be about to.
    pub(super) fn is_read(&self, blob: Uuid) -> bool {
        self.readers.contents().contains_key(&blob)
    }

    /// Removes the chunks of a content that no row names any more, as soon as nobody reads it. `share` is asked for its
    /// room when that is not soon.
    pub(super) fn remove_unread(
        &self,
        (blob, chunks): (Uuid, usize),
        share: impl FnOnce() -> Share + Send + 'static,
    ) {
        // Without a runtime the process is about to end, and the sweep removes it.
        let (1.., Ok(runtime)) = (chunks, Handle::try_current()) else { return };
        let last = self.reading(blob);
        let (read, ended) = oneshot::channel();
        if let Some(content) = self.readers.contents().get_mut(&blob) {
            content.unused = Some(Unused { chunks, share: None, _read: read });
        }
        runtime.spawn(async move {
            tokio::time::sleep(GRACE).await;
            let (blobs, blob) = (last.blobs.clone(), last.blob);
            last.end_grace(share);
            if timeout(HELD_MAX, ended).await.is_err() {
                blobs.give_up(blob);
            }
        });
    }

    /// Removes an unused content under those who read it still.
    fn give_up(&self, blob: Uuid) {
        let unused = self.readers.contents().get_mut(&blob).and_then(|content| content.unused.take());
        if let Some(Unused { chunks, share, .. }) = unused {
            self.remove_after(None, (blob, chunks), share);
        }
    }
}

impl Reading {
    pub(super) async fn get(&self, chunk: usize) -> object_store::Result<Bytes> {
        self.blobs.get(self.blob, chunk).await
    }

    /// Leaves an unused content to those who read it besides, if there are any.
    fn end_grace(self, share: impl FnOnce() -> Share) {
        if let Some(content) = self.blobs.readers.contents().get_mut(&self.blob)
            && content.readers > 1
            && let Some(unused) = &mut content.unused
        {
            unused.share = Some(share());
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let unused = {
            let mut contents = self.blobs.readers.contents();
            let Some(content) = contents.get_mut(&self.blob) else { return };
            content.readers -= 1;
            if content.readers > 0 {
                return;
            }
            contents.remove(&self.blob).and_then(|content| content.unused)
        };
        if let Some(Unused { chunks, share, .. }) = unused {
            self.blobs.remove_after(None, (self.blob, chunks), share);
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::id::AppId;
    use shared::limits::FILES_BYTES_MAX;

    use super::*;
    use crate::data::files::blobs::FileStorage;
    use crate::data::files::in_flight::InFlight;

    async fn until(mut is_so: impl AsyncFnMut() -> bool) {
        let wait = async {
            while !is_so().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), wait).await.unwrap();
    }

    #[tokio::test]
    async fn a_content_that_is_no_files_any_more_stays_for_its_readers_and_takes_its_room_as_long() {
        let blobs = Blobs::open(&FileStorage::Memory).unwrap();
        let (in_flight, app) = (InFlight::default(), AppId::new());
        let (read, unread) = (Uuid::new_v4(), Uuid::new_v4());
        for blob in [read, unread] {
            blobs.put(blob, 0, "content".into()).await.unwrap();
        }
        let (first, second) = (blobs.reading(read), blobs.reading(read));
        for blob in [read, unread] {
            let in_flight = in_flight.clone();
            blobs.remove_unread((blob, 1), move || in_flight.hold(app, 7));
        }
        assert!(blobs.is_read(unread), "somebody may be about to");
        let fits = |bytes| in_flight.begin(app, FILES_BYTES_MAX - 10).take(bytes);
        until(async || blobs.get(unread, 0).await.is_err()).await;
        until(async || !fits(4)).await;
        assert!(fits(3), "what nobody reads takes no room");
        drop(first);
        assert_eq!(second.get(0).await.unwrap(), "content");
        drop(second);
        until(async || blobs.get(read, 0).await.is_err()).await;
        until(async || fits(10)).await;
        assert!(!blobs.is_read(read) && !blobs.is_read(unread), "nothing is kept of what is gone");
    }

    #[tokio::test]
    async fn a_reader_who_never_ends_holds_a_content_no_longer_than_there_is_time_for() {
        let blobs = Blobs::open(&FileStorage::Memory).unwrap();
        let (in_flight, app, blob) = (InFlight::default(), AppId::new(), Uuid::new_v4());
        blobs.put(blob, 0, "content".into()).await.unwrap();
        let reading = blobs.reading(blob);
        blobs.remove_unread((blob, 1), {
            let in_flight = in_flight.clone();
            move || in_flight.hold(app, 7)
        });
        let fits = |bytes| in_flight.begin(app, FILES_BYTES_MAX - 10).take(bytes);
        until(async || !fits(4)).await;
        blobs.give_up(blob);
        until(async || reading.get(0).await.is_err()).await;
        until(async || fits(10)).await;
        drop(reading);
        assert!(!blobs.is_read(blob));
    }
}
