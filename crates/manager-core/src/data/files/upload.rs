//! A content on its way in: cut into chunks, each stored as soon as it is full, while the next one comes
//! in. At most one chunk is in memory, and a second one for as many uploads as have a place for it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use shared::call::{CallCode, CallError};
use shared::limits::{FILE_BYTES_MAX, FILE_UPLOAD_S_MAX};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::blobs::Blobs;
use super::in_flight::Share;
use super::unclaimed::Unclaimed;
use super::{no_room, storage_failed};
use crate::store::files::Stored;

/// One chunk: few enough for a large file, and not much to read for a small part of it.
pub(super) const CHUNK_BYTES: usize = 1 << 20;
/// After it the sweep would take the first chunks for those of an upload that was given up.
const TIME_MAX: Duration = Duration::from_secs(FILE_UPLOAD_S_MAX);

/// Dropped before it is finished, it takes its chunks with it.
#[derive(Debug)]
pub(crate) struct Upload {
    blobs: Blobs,
    blob: Uuid,
    begun: Instant,
    /// Of the app's room, with what is still in memory.
    share: Share,
    buffer: Vec<u8>,
    size: u64,
    whole: Sha256,
    chunks: Vec<u8>,
    /// The chunk that is being stored: waiting for the disk costs no time in which others could come.
    storing: Option<JoinHandle<object_store::Result<()>>>,
}

impl Upload {
    pub(super) fn new(blobs: Blobs, share: Share) -> Self {
        // Nobody can guess it, and it says nothing.
        let blob = Uuid::new_v4();
        let (buffer, whole, chunks) = (Vec::new(), Sha256::new(), Vec::new());
        Self { blobs, blob, begun: Instant::now(), share, buffer, size: 0, whole, chunks, storing: None }
    }

    pub(crate) async fn write(&mut self, mut content: &[u8]) -> Result<(), CallError> {
        self.check_time()?;
        self.size += content.len() as u64;
        if self.size > FILE_BYTES_MAX {
            let message = format!("a file has {FILE_BYTES_MAX} bytes at most");
            return Err(CallError::new(CallCode::TooLarge, message));
        }
        if !self.share.take(content.len()) {
            return Err(no_room());
        }
        self.whole.update(content);
        while self.buffer.len() + content.len() >= CHUNK_BYTES {
            let (now, later) = content.split_at(CHUNK_BYTES - self.buffer.len());
            self.buffer.extend_from_slice(now);
            content = later;
            self.store_chunk().await?;
        }
        self.buffer.extend_from_slice(content);
        Ok(())
    }

    /// All of it is stored: what is left to be done is a row.
    pub(crate) async fn finish(mut self) -> Result<Unclaimed, CallError> {
        self.check_time()?;
        if !self.buffer.is_empty() {
            self.store_chunk().await?;
        }
        self.stored().await?;
        let stored = Stored {
            blob: self.blob,
            size: i64::try_from(self.size).unwrap_or(i64::MAX),
            checksum: self.whole.finalize_reset().into(),
            chunk_bytes: i32::try_from(CHUNK_BYTES).unwrap_or(i32::MAX),
            chunks: std::mem::take(&mut self.chunks),
        };
        Ok(Unclaimed::new(self.blobs.clone(), stored, self.share.hand_over()))
    }

    fn check_time(&self) -> Result<(), CallError> {
        if self.begun.elapsed() < TIME_MAX {
            return Ok(());
        }
        let message = format!(
            "the content takes longer to come than the {} h there are for one: send it faster, or in several files",
            TIME_MAX.as_secs() / (60 * 60)
        );
        Err(CallError::new(CallCode::BudgetExhausted, message))
    }

    async fn store_chunk(&mut self) -> Result<(), CallError> {
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        let number = self.chunks.len() / 32;
        self.chunks.extend_from_slice(&Sha256::digest(&chunk));
        self.stored().await?;
        let (blobs, blob) = (self.blobs.clone(), self.blob);
        let Some(place) = blobs.place_ahead() else {
            return blobs.put(blob, number, chunk).await.map_err(|error| storage_failed(&error));
        };
        self.storing = Some(tokio::spawn(async move {
            let stored = blobs.put(blob, number, chunk).await;
            drop(place);
            stored
        }));
        Ok(())
    }

    /// Waits until all that was to be stored is.
    async fn stored(&mut self) -> Result<(), CallError> {
        let Some(storing) = &mut self.storing else { return Ok(()) };
        let stored = storing.await;
        self.storing = None;
        stored.unwrap_or_else(|ended| Err(ended.into())).map_err(|error| storage_failed(&error))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let chunks = self.chunks.len() / 32;
        self.blobs.remove_after(self.storing.take(), (self.blob, chunks), Some(self.share.hand_over()));
    }
}

#[cfg(test)]
mod tests {
    use shared::id::AppId;
    use shared::limits::FILES_BYTES_MAX;

    use super::*;
    use crate::data::files::blobs::FileStorage;
    use crate::data::files::in_flight::InFlight;

    fn upload(share: Share) -> Upload {
        Upload::new(Blobs::open(&FileStorage::Memory).unwrap(), share)
    }

    #[tokio::test]
    async fn the_longest_content_is_taken_and_one_byte_more_refused() {
        let mut upload = upload(InFlight::default().begin(AppId::new(), 0));
        upload.size = FILE_BYTES_MAX - 1;
        upload.write(b"x").await.unwrap();
        assert_eq!(upload.write(b"x").await.unwrap_err().code, CallCode::TooLarge);
    }

    #[tokio::test]
    async fn a_content_that_takes_too_long_is_refused_before_it_could_be_taken_for_one_that_was_given_up() {
        let begun = |ago: Duration| {
            let mut upload = upload(InFlight::default().begin(AppId::new(), 0));
            upload.begun = Instant::now().checked_sub(ago).unwrap();
            upload
        };
        let just_before = TIME_MAX - Duration::from_secs(60);
        let mut upload = begun(just_before);
        upload.write(b"x").await.unwrap();
        drop(upload.finish().await.unwrap());
        let refused = begun(TIME_MAX).write(b"x").await.unwrap_err();
        assert!(refused.code == CallCode::BudgetExhausted && refused.message.contains("20 h"), "{refused}");
        assert_eq!(begun(TIME_MAX).finish().await.unwrap_err().code, CallCode::BudgetExhausted);
    }

    #[tokio::test]
    async fn attack_22_contents_that_each_fit_and_together_do_not() {
        let (in_flight, app) = (InFlight::default(), AppId::new());
        let begin = || upload(in_flight.begin(app, FILES_BYTES_MAX - 10));
        let (mut first, mut second) = (begin(), begin());
        first.write(b"123456").await.unwrap();
        assert_eq!(second.write(b"12345").await.unwrap_err().code, CallCode::BudgetExhausted);
        drop(second);
        let mut third = begin();
        third.write(b"1234").await.unwrap();
        assert_eq!(third.write(b"5").await.unwrap_err().code, CallCode::BudgetExhausted);
    }
}
