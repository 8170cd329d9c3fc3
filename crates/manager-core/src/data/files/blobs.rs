//! Where the content of files is: a directory, or a bucket that speaks S3.
//!
//! A blob is a row of chunks, each an object of its own that is there wholly or not at all. No blob
//! is ever changed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::halves;
use super::in_flight::Share;
use super::readers::Readers;

/// Where the content of files goes.
#[derive(Debug, Clone)]
pub enum FileStorage {
    Directory(PathBuf),
    S3(S3Bucket),
    /// For tests: gone with the process.
    Memory,
}

/// A bucket of a server that speaks S3.
#[derive(Clone)]
pub struct S3Bucket {
    pub bucket: String,
    /// The server's address; Amazon's own where none is given.
    pub endpoint: Option<String>,
    pub region: String,
    pub access_key_id: String,
    pub secret_access_key: String,
}

impl std::fmt::Debug for S3Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Bucket").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

/// The directory or the bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("the directory {0} for files cannot be made")]
    Directory(PathBuf, #[source] std::io::Error),
    #[error("the storage for files cannot be used")]
    Store(#[source] object_store::Error),
}

/// Objects removed at once.
const REMOVALS_AT_ONCE: usize = 8;
/// Uploads that take in a chunk while another is stored: 32 MiB beside the chunk that each upload has anyway.
const AHEAD_MAX: usize = 32;

#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    store: Arc<dyn ObjectStore>,
    ahead: Arc<Semaphore>,
    pub(super) readers: Readers,
    /// Where the objects are files.
    directory: Option<PathBuf>,
}

/// A blob as the storage lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) blob: Uuid,
    pub(super) path: Path,
    pub(super) modified: chrono::DateTime<chrono::Utc>,
}

impl Blobs {
    pub(crate) fn open(storage: &FileStorage) -> Result<Self, StorageError> {
        let store: Arc<dyn ObjectStore> = match storage {
            FileStorage::Directory(directory) => {
                std::fs::create_dir_all(directory)
                    .map_err(|error| StorageError::Directory(directory.clone(), error))?;
                Arc::new(
                    LocalFileSystem::new_with_prefix(directory)
                        .map_err(StorageError::Store)?
                        .with_fsync(true)
                        .with_automatic_cleanup(true),
                )
            }
            FileStorage::S3(s3) => {
                let mut builder = AmazonS3Builder::new()
                    .with_bucket_name(&s3.bucket)
                    .with_region(&s3.region)
                    .with_access_key_id(&s3.access_key_id)
                    .with_secret_access_key(&s3.secret_access_key);
                // One process has one; whoever comes first sets it, and they all set the same.
                let _ = rustls::crypto::ring::default_provider().install_default();
                if let Some(endpoint) = &s3.endpoint {
                    builder =
                        builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
                }
                Arc::new(builder.build().map_err(StorageError::Store)?)
            }
            FileStorage::Memory => Arc::new(InMemory::new()),
        };
        let directory = match storage {
            FileStorage::Directory(directory) => Some(directory.clone()),
            FileStorage::S3(_) | FileStorage::Memory => None,
        };
        let ahead = Arc::new(Semaphore::new(AHEAD_MAX));
        Ok(Self { store, ahead, readers: Readers::default(), directory })
    }

    pub(super) async fn put(&self, blob: Uuid, chunk: usize, content: Bytes) -> object_store::Result<()> {
        self.store.put(&path(blob, chunk), content.into()).await.map(drop)
    }

    /// A place for a chunk more in memory, while there is one.
    pub(super) fn place_ahead(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.ahead).try_acquire_owned().ok()
    }

    pub(super) async fn get(&self, blob: Uuid, chunk: usize) -> object_store::Result<Bytes> {
        self.store.get(&path(blob, chunk)).await?.bytes().await
    }

    /// Removes the chunks of a blob that is nobody's. What it does not get to, the sweep does.
    pub(crate) fn remove_later(&self, blob: Uuid, chunks: usize) {
        self.remove_after(None, (blob, chunks), None);
    }

    /// The same, when the one that is being stored is. The share is held until they are gone.
    pub(super) fn remove_after(
        &self,
        storing: Option<JoinHandle<object_store::Result<()>>>,
        (blob, chunks): (Uuid, usize),
        share: Option<Share>,
    ) {
        // Without a runtime the process is about to end.
        if let (1.., Ok(runtime)) = (chunks, tokio::runtime::Handle::try_current()) {
            let blobs = self.clone();
            runtime.spawn(async move {
                if let Some(storing) = storing {
                    // Stored or not, it is removed.
                    let _ = storing.await;
                }
                blobs.remove(blob, chunks).await;
                drop(share);
            });
        }
    }

    /// Removes the chunks of a blob, as far as they are there.
    async fn remove(&self, blob: Uuid, chunks: usize) {
        let removals = futures_util::stream::iter((0..chunks).map(|chunk| path(blob, chunk)));
        removals.for_each_concurrent(REMOVALS_AT_ONCE, |path| self.remove_object(path)).await;
    }

    pub(super) async fn remove_object(&self, path: Path) {
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            // The sweep comes by again.
            Err(error) => tracing::warn!(%error, "a part of a removed file could not be removed"),
        }
    }

    /// Removes what is left of objects that were not written to their end, because the process was killed, and that
    /// are older than this; answers how many. The storage lists none of them.
    pub(super) async fn remove_halves(&self, before: SystemTime) -> usize {
        let Some(directory) = self.directory.clone() else { return 0 };
        let removing = tokio::task::spawn_blocking(move || halves::remove(&directory, before));
        removing.await.unwrap_or_default()
    }

    /// All objects there are, in batches. What is not ours is left out.
    pub(super) fn list(&self, batch: usize) -> impl Stream<Item = Vec<Listed>> + Send {
        let objects = self.store.list(None).filter_map(|object| async move {
            let object = object.ok()?;
            let blob = object.location.parts().nth(1)?;
            let blob = Uuid::parse_str(blob.as_ref()).ok()?;
            Some(Listed { blob, modified: object.last_modified, path: object.location })
        });
        objects.chunks(batch)
    }
}

/// A directory for each of 256 beginnings of a blob's name, so that none is too full.
fn path(blob: Uuid, chunk: usize) -> Path {
    let name = blob.simple().to_string();
    Path::from(format!("{}/{name}/{chunk}", &name[..2]))
}
