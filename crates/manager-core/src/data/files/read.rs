//! A content on its way out: chunk by chunk, each checked before a byte of it is passed on.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use sha2::{Digest, Sha256};
use shared::call::{CallCode, CallError};

use super::readers::Reading;
use super::{Data, FileRow, storage_failed};

/// Chunks fetched ahead while one is sent.
const AHEAD: usize = 2;

impl Data {
    /// These bytes of a file, which has them. They come also when the file gets another content meanwhile, or none.
    pub(crate) fn file_content(
        &self,
        file: &FileRow,
        range: Range<u64>,
    ) -> impl Stream<Item = Result<Bytes, CallError>> + Send + use<> {
        let (content, file) = (Arc::new(self.blobs.reading(file.blob)), file.clone());
        let chunk_bytes = u64::try_from(file.chunk_bytes).unwrap_or(1);
        let first = range.start / chunk_bytes;
        let numbers = if range.is_empty() { 0..0 } else { first..range.end.div_ceil(chunk_bytes) };
        let parts = numbers.map(move |number| {
            let (content, file, range) = (Arc::clone(&content), file.clone(), range.clone());
            async move {
                let chunk = chunk(&content, &file, usize::try_from(number).unwrap_or(usize::MAX)).await?;
                let begin = number * chunk_bytes;
                let from = usize::try_from(range.start.saturating_sub(begin)).unwrap_or(0);
                let to = usize::try_from(range.end - begin).unwrap_or(usize::MAX).min(chunk.len());
                Ok(chunk.slice(from.min(to)..to))
            }
        });
        stream::iter(parts).buffered(AHEAD)
    }

    /// The bytes of a file from there on, up to the end of their chunk.
    pub(crate) async fn file_part(&self, file: &FileRow, offset: u64) -> Result<Bytes, CallError> {
        let size = file.size.cast_unsigned();
        let chunk_bytes = u64::try_from(file.chunk_bytes).unwrap_or(1);
        if offset >= size {
            return Ok(Bytes::new());
        }
        let end = ((offset / chunk_bytes + 1) * chunk_bytes).min(size);
        let mut parts = Box::pin(self.file_content(file, offset..end));
        parts.next().await.unwrap_or_else(|| Ok(Bytes::new()))
    }
}

async fn chunk(content: &Reading, file: &FileRow, number: usize) -> Result<Bytes, CallError> {
    let chunk = content.get(number).await.map_err(|error| storage_failed(&error))?;
    let expected = file.chunks.get(number * 32..(number + 1) * 32);
    if expected != Some(Sha256::digest(&chunk).as_slice()) {
        tracing::error!(file.id = %file.id, file.blob = %file.blob, chunk = number, "a file is damaged");
        return Err(CallError::new(CallCode::Internal, "the file is damaged"));
    }
    Ok(chunk)
}
