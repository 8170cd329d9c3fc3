//! A content that is stored, before it is certain that a file names it.

use std::sync::atomic::{AtomicBool, Ordering};

use super::blobs::Blobs;
use super::in_flight::Share;
use crate::store::files::Stored;

/// Dropped before it is claimed, it is removed; its room is held as long.
#[must_use]
#[derive(Debug)]
pub(crate) struct Unclaimed {
    blobs: Blobs,
    stored: Stored,
    share: Share,
    is_claimed: AtomicBool,
}

impl Unclaimed {
    pub(super) fn new(blobs: Blobs, stored: Stored, share: Share) -> Self {
        Self { blobs, stored, share, is_claimed: AtomicBool::new(false) }
    }

    pub(super) const fn stored(&self) -> &Stored {
        &self.stored
    }

    /// Leaves it to its file. From here on the sweep alone removes it, which asks whether there is one.
    pub(super) fn claim(&self) {
        self.is_claimed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if !*self.is_claimed.get_mut() {
            let (blob, chunks) = (self.stored.blob, self.stored.chunks.len() / 32);
            self.blobs.remove_after(None, (blob, chunks), Some(self.share.hand_over()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::id::AppId;
    use shared::limits::FILES_BYTES_MAX;
    use tokio::task::yield_now;
    use tokio::time::timeout;
    use uuid::Uuid;

    use super::*;
    use crate::data::files::blobs::FileStorage;
    use crate::data::files::in_flight::InFlight;
    use crate::data::files::upload::Upload;

    async fn taken_in(blobs: &Blobs, share: Share) -> (Unclaimed, Uuid) {
        let mut upload = Upload::new(blobs.clone(), share);
        upload.write(b"content").await.unwrap();
        let content = upload.finish().await.unwrap();
        let blob = content.stored().blob;
        (content, blob)
    }

    #[tokio::test]
    async fn a_content_that_nobody_claims_is_removed_and_one_that_is_claimed_stays() {
        let blobs = Blobs::open(&FileStorage::Memory).unwrap();
        let (in_flight, app) = (InFlight::default(), AppId::new());
        let (claimed, kept) = taken_in(&blobs, in_flight.begin(app, 0)).await;
        let (unclaimed, lost) = taken_in(&blobs, in_flight.begin(app, 0)).await;
        claimed.claim();
        // What is dropped first would be removed first.
        drop(claimed);
        drop(unclaimed);
        let removing = async {
            while blobs.get(lost, 0).await.is_ok() {
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), removing).await.unwrap();
        blobs.get(kept, 0).await.unwrap();
    }

    #[tokio::test]
    async fn a_content_holds_its_room_until_it_is_removed() {
        let blobs = Blobs::open(&FileStorage::Memory).unwrap();
        let (in_flight, app) = (InFlight::default(), AppId::new());
        let used = FILES_BYTES_MAX - 7;
        let (content, blob) = taken_in(&blobs, in_flight.begin(app, used)).await;
        assert!(!in_flight.begin(app, used).take(1), "it has no file, and is there");
        drop(content);
        let removing = async {
            while !in_flight.begin(app, used).take(1) {
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), removing).await.unwrap();
        blobs.get(blob, 0).await.unwrap_err();
    }
}
