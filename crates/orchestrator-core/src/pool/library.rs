//! Bundles in the form in which workers get them, and which of them a worker already has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::guest_abi::LoadRequest;
use shared::invocation::Work;
use shared::ports::{BundleSource, BundleUnavailable};
use shared::script::Bundle;
use shared::wire::codec;

use super::job::{ImageKey, LoadableImage};

/// Source kept in the parent, so that a new worker or a busy one costs no query.
const LIBRARY_BYTES_MAX: usize = 32 << 20;
/// Bundles a worker keeps; its compiled images have a limit in bytes of their own.
const DIRECTORY_ENTRIES_MAX: usize = 512;
/// Source that a worker keeps, so that an app of many long scripts does not fill its memory; those
/// that run may be more.
const DIRECTORY_BYTES_MAX: usize = LIBRARY_BYTES_MAX;

/// Encodes a bundle for a worker.
fn loadable(key: ImageKey, bundle: &Bundle) -> LoadableImage {
    let mut encoded = Vec::new();
    codec::encode_body(&mut encoded, bundle);
    let request = LoadRequest {
        max_operations: key.max_operations,
        max_call_levels: key.max_call_levels,
        max_expr_depth: key.max_expr_depth,
        bundle: &encoded,
    };
    let mut load = Vec::with_capacity(encoded.len() + 32);
    codec::encode_body(&mut load, &request);
    LoadableImage { key, load: load.into() }
}

/// Code in the form in which workers get it, from the shelf or from the manager.
pub(super) struct Images {
    library: Mutex<Library>,
    bundles: Arc<dyn BundleSource>,
}

impl Images {
    pub(super) fn new(bundles: Arc<dyn BundleSource>) -> Self {
        Self { library: Mutex::default(), bundles }
    }

    /// The work's code.
    pub(super) async fn image(&self, work: &Work) -> Result<LoadableImage, BundleUnavailable> {
        let target = match work {
            Work::Run(invocation) => &invocation.target,
            // Source that may never be deployed is not worth keeping.
            Work::Compile(compilation) => {
                let key = ImageKey::new(compilation.bundle.hash(), &compilation.limits);
                return Ok(loadable(key, &compilation.bundle));
            }
        };
        let key = ImageKey::new(target.bundle, &target.limits);
        if let Some(image) = self.library().get(key) {
            return Ok(image);
        }
        let bundle = self.bundles.bundle(key.bundle).await?;
        let image = loadable(key, &bundle);
        self.library().keep(&image);
        Ok(image)
    }

    fn library(&self) -> MutexGuard<'_, Library> {
        self.library.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Shelved {
    load: Arc<[u8]>,
    last_used: u64,
}

/// The most recently used bundles.
#[derive(Debug, Default)]
struct Library {
    shelf: HashMap<ImageKey, Shelved>,
    bytes: usize,
    clock: u64,
}

impl Library {
    fn get(&mut self, key: ImageKey) -> Option<LoadableImage> {
        self.clock += 1;
        let shelved = self.shelf.get_mut(&key)?;
        shelved.last_used = self.clock;
        Some(LoadableImage { key, load: shelved.load.clone() })
    }

    fn keep(&mut self, image: &LoadableImage) {
        self.clock += 1;
        let shelved = Shelved { load: image.load.clone(), last_used: self.clock };
        self.bytes += image.load.len();
        if let Some(old) = self.shelf.insert(image.key, shelved) {
            self.bytes -= old.load.len();
        }
        while self.bytes > LIBRARY_BYTES_MAX && self.shelf.len() > 1 {
            let Some(oldest) = self.shelf.iter().min_by_key(|(_, s)| s.last_used).map(|(key, _)| *key) else {
                return;
            };
            self.bytes -= self.shelf.remove(&oldest).map_or(0, |shelved| shelved.load.len());
        }
    }
}

#[derive(Debug)]
struct Listed {
    handle: u32,
    bytes: usize,
    users: u32,
    last_used: u64,
}

/// What one worker has, by the handles its parent gave. The worker only obeys: what is kept and
/// what is dropped is decided here.
#[derive(Debug, Default)]
pub(super) struct Directory {
    listed: HashMap<ImageKey, Listed>,
    bytes: usize,
    next_handle: u32,
    clock: u64,
}

/// What must be sent before a bundle can be named.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lookup {
    pub(super) handle: u32,
    pub(super) must_add: bool,
    pub(super) drop_first: Vec<u32>,
}

impl Directory {
    /// Finds or makes the handle of a bundle of so many bytes, and counts a user of it.
    pub(super) fn acquire(&mut self, key: ImageKey, bytes: usize) -> Lookup {
        self.clock += 1;
        if let Some(listed) = self.listed.get_mut(&key) {
            listed.users += 1;
            listed.last_used = self.clock;
            return Lookup { handle: listed.handle, must_add: false, drop_first: Vec::new() };
        }
        let mut drop_first = Vec::new();
        while self.listed.len() >= DIRECTORY_ENTRIES_MAX || self.bytes + bytes > DIRECTORY_BYTES_MAX {
            let Some(handle) = self.evict() else { break };
            drop_first.push(handle);
        }
        let handle = self.next_handle;
        self.next_handle = self.next_handle.wrapping_add(1);
        self.bytes += bytes;
        self.listed.insert(key, Listed { handle, bytes, users: 1, last_used: self.clock });
        Lookup { handle, must_add: true, drop_first }
    }

    pub(super) fn release(&mut self, key: ImageKey) {
        if let Some(listed) = self.listed.get_mut(&key) {
            listed.users = listed.users.saturating_sub(1);
        }
    }

    /// Forgets the least recently used bundle that nothing uses.
    fn evict(&mut self) -> Option<u32> {
        let unused = self.listed.iter().filter(|(_, listed)| listed.users == 0);
        let key = unused.min_by_key(|(_, listed)| listed.last_used).map(|(key, _)| *key)?;
        let listed = self.listed.remove(&key)?;
        self.bytes -= listed.bytes;
        Some(listed.handle)
    }
}

#[cfg(test)]
mod tests {
    use shared::limits::ScriptLimits;
    use shared::script::BundleHash;

    use super::*;

    fn key(number: u16) -> ImageKey {
        let mut hash = [0; 32];
        hash[..2].copy_from_slice(&number.to_le_bytes());
        ImageKey::new(BundleHash(hash), &ScriptLimits::default())
    }

    #[test]
    fn a_bundle_is_sent_to_a_worker_once() {
        let mut directory = Directory::default();
        let first = directory.acquire(key(1), 1);
        assert!(first.must_add);
        assert_eq!(
            directory.acquire(key(1), 1),
            Lookup { handle: first.handle, must_add: false, drop_first: Vec::new() }
        );
    }

    #[test]
    fn a_bundle_in_use_is_never_dropped() {
        let mut directory = Directory::default();
        let used = directory.acquire(key(0), 1);
        for number in 1..=u16::try_from(DIRECTORY_ENTRIES_MAX).unwrap() * 2 {
            let lookup = directory.acquire(key(number), 1);
            directory.release(key(number));
            assert!(!lookup.drop_first.contains(&used.handle));
        }
        assert!(directory.listed.len() <= DIRECTORY_ENTRIES_MAX);
    }

    #[test]
    fn many_long_bundles_do_not_fill_a_workers_memory() {
        let mut directory = Directory::default();
        let bytes = DIRECTORY_BYTES_MAX / 4;
        let used = directory.acquire(key(0), bytes);
        for number in 1..100 {
            let lookup = directory.acquire(key(number), bytes);
            assert!(!lookup.drop_first.contains(&used.handle));
            directory.release(key(number));
            assert!(directory.bytes <= DIRECTORY_BYTES_MAX, "{number}");
        }
        // One that is as long as all of them takes the place of all that are not in use.
        assert_eq!(directory.acquire(key(100), DIRECTORY_BYTES_MAX).drop_first.len(), 3);
    }

    #[test]
    fn the_library_keeps_what_was_used_last() {
        let mut library = Library::default();
        let image = |number| LoadableImage { key: key(number), load: vec![0; LIBRARY_BYTES_MAX / 3].into() };
        for number in 0..3 {
            library.keep(&image(number));
        }
        assert!(library.get(key(0)).is_some());
        library.keep(&image(3));
        assert!(library.get(key(0)).is_some());
        assert!(library.get(key(1)).is_none());
    }
}
