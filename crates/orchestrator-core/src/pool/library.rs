//! Bundles in the form in which workers get them: how they are read, and which of them a worker already has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::guest_abi::LoadRequest;
use shared::id::UserId;
use shared::invocation::{Compilation, Refusal, ScriptTarget};
use shared::ports::BundleSource;
use shared::script::Bundle;
use shared::wire::codec;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::job::{ImageKey, LoadableImage};
use super::shelf::{LIBRARY_BYTES_MAX, Shelf};

/// Bundles a worker keeps; its compiled images have a limit in bytes of their own.
const DIRECTORY_ENTRIES_MAX: usize = 512;
/// Source that a worker keeps, so that an app of many long scripts does not fill its memory; those
/// that run may be more.
const DIRECTORY_BYTES_MAX: usize = LIBRARY_BYTES_MAX;
/// Bundles read at a time for one owner: the platform's connections to the database are few, and everybody's.
const READS_PER_OWNER_MAX: usize = 2;
/// Jobs that wait until their bundles are read. They are in no queue yet, so they are counted here.
const WAITING_MAX: usize = 512;
/// How long a read takes at most: its owner's other scripts wait for it.
const READ_TIME_MAX: Duration = Duration::from_secs(10);

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
    LoadableImage { key, load: Arc::new(load) }
}

const fn key_of(target: &ScriptTarget) -> ImageKey {
    ImageKey::new(target.bundle, &target.limits)
}

/// Code in the form in which workers get it, from the shelf or from the manager.
pub(super) struct Images {
    shelf: Mutex<Shelf>,
    waiting: Mutex<Waiting>,
    bundles: Arc<dyn BundleSource>,
}

impl Images {
    pub(super) fn new(bundles: Arc<dyn BundleSource>) -> Self {
        Self { shelf: Mutex::default(), waiting: Mutex::default(), bundles }
    }

    /// Code that is only to be compiled. Source that may never be deployed is not worth keeping.
    pub(super) fn compilable(compilation: &Compilation) -> LoadableImage {
        let key = ImageKey::new(compilation.bundle.hash(), &compilation.limits);
        loadable(key, &compilation.bundle)
    }

    /// A script's code, if somebody has it.
    pub(super) fn at_hand(&self, target: &ScriptTarget) -> Option<LoadableImage> {
        self.shelf().get(key_of(target), target.owner)
    }

    /// Reads a script's code that is not at hand, once for all of its owner's jobs that want it. Nobody waits for what is
    /// read for others.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        target: &ScriptTarget,
        until: Instant,
    ) -> Result<LoadableImage, Refusal> {
        let (key, owner) = (key_of(target), target.owner);
        let (reads, turns) = self.waiting().join(owner, key).ok_or(Refusal::Overloaded)?;
        let read = timeout_at(until, reads.lock_owned()).await.map_err(|_| Refusal::Overloaded)?;
        if let Some(image) = self.at_hand(target) {
            return Ok(image);
        }
        let turn = timeout_at(until, turns.acquire_owned()).await.map_err(|_| Refusal::Overloaded)?;
        let turn = turn.map_err(|_| Refusal::ShuttingDown)?;
        if !self.shelf().has_room(owner) {
            return Err(Refusal::Overloaded);
        }
        let images = Arc::clone(self);
        // It goes on when whoever began it goes away: what is read is there for those behind.
        let reading = tokio::spawn(async move {
            let image = timeout(READ_TIME_MAX, images.read(key, owner)).await;
            drop((read, turn));
            image
        });
        match timeout_at(until, reading).await {
            Ok(Ok(Ok(image))) => return image,
            Ok(Ok(Err(_))) => tracing::error!("reading a bundle takes longer than {READ_TIME_MAX:?}"),
            Ok(Err(error)) => tracing::error!(%error, "reading a bundle failed"),
            Err(_) => tracing::warn!("whoever wanted a bundle could not wait until it was read"),
        }
        Err(Refusal::BundleUnavailable)
    }

    async fn read(&self, key: ImageKey, owner: UserId) -> Result<LoadableImage, Refusal> {
        let bundle = self.bundles.bundle(key.bundle).await.map_err(|unavailable| {
            tracing::error!(error = %unavailable, "a bundle cannot be read");
            Refusal::BundleUnavailable
        })?;
        let image = loadable(key, &bundle);
        Ok(self.shelf().keep(image, owner))
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held while a bundle is read: who waits for the same one takes it next, and mostly finds it read.
type Read = Arc<AsyncMutex<()>>;
/// An owner's turns to read. Each job that waits holds it once, so that they can be counted.
type Turns = Arc<Semaphore>;

/// Those who wait for code.
#[derive(Debug, Default)]
struct Waiting {
    reads: HashMap<(UserId, ImageKey), Read>,
    turns: HashMap<UserId, Turns>,
}

impl Waiting {
    /// Counts one more of an owner's; none while theirs are as many as there are places left.
    fn join(&mut self, owner: UserId, key: ImageKey) -> Option<(Read, Turns)> {
        // For what only this has nobody waits.
        self.reads.retain(|_, read| Arc::strong_count(read) > 1);
        self.turns.retain(|_, turns| Arc::strong_count(turns) > 1);
        let count = |turns: &Turns| Arc::strong_count(turns) - 1;
        let all: usize = self.turns.values().map(count).sum();
        let own = self.turns.get(&owner).map_or(0, count);
        if own >= WAITING_MAX.saturating_sub(all) {
            return None;
        }
        let turns = self.turns.entry(owner).or_insert_with(|| Arc::new(Semaphore::new(READS_PER_OWNER_MAX)));
        let read = self.reads.entry((owner, key)).or_default();
        Some((Arc::clone(read), Arc::clone(turns)))
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
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::SeqCst;

    use shared::limits::ScriptLimits;
    use shared::ports::{BoxFuture, BundleUnavailable};
    use shared::script::{BundleHash, ScriptKind};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::pool::job::Task;
    use crate::pool::mode::Mode;
    use crate::pool::sample;

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

    /// Counts what is read, and answers as many as it is told to.
    struct Slow {
        begun: AtomicUsize,
        answers: Semaphore,
    }

    impl BundleSource for Slow {
        fn bundle(&self, _: BundleHash) -> BoxFuture<'_, Result<Arc<Bundle>, BundleUnavailable>> {
            Box::pin(async move {
                self.begun.fetch_add(1, SeqCst);
                self.answers.acquire().await.unwrap().forget();
                Ok(Arc::new(Bundle::single(ScriptKind::Endpoint, "script", "1")))
            })
        }
    }

    /// A library and what it reads from.
    fn library() -> (Arc<Images>, Arc<Slow>) {
        let source = Arc::new(Slow { begun: AtomicUsize::new(0), answers: Semaphore::new(0) });
        (Arc::new(Images::new(source.clone())), source)
    }

    /// A script of this owner's.
    fn script(owner: UserId, number: u16) -> Arc<ScriptTarget> {
        let Task::Run(invocation) = sample::run(Mode::Pinned, owner).task else { unreachable!("it runs") };
        let mut target = invocation.target;
        Arc::make_mut(&mut target).bundle = key(number).bundle;
        target
    }

    type Fetched = JoinHandle<Result<LoadableImage, Refusal>>;

    /// A job that wants a script's code, and waits for it as long as a test may take.
    fn want(images: &Arc<Images>, target: &Arc<ScriptTarget>) -> Fetched {
        let (images, target) = (Arc::clone(images), Arc::clone(target));
        tokio::spawn(async move { images.fetch(&target, Instant::now() + Duration::from_secs(60)).await })
    }

    /// Lets all go on until they wait.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    impl Slow {
        fn begun(&self) -> usize {
            self.begun.load(SeqCst)
        }
    }

    #[tokio::test]
    async fn all_jobs_that_want_a_bundle_share_one_read_and_one_copy() {
        let (images, source) = library();
        let target = script(UserId::new(), 1);
        let jobs: Vec<_> = (0..16).map(|_| want(&images, &target)).collect();
        settle().await;
        assert_eq!(source.begun(), 1);
        source.answers.add_permits(16);
        let mut loads = Vec::new();
        for job in jobs {
            loads.push(job.await.unwrap().unwrap().load);
        }
        assert!(loads.iter().all(|load| Arc::ptr_eq(load, &loads[0])));
        assert!(Arc::ptr_eq(&images.at_hand(&target).unwrap().load, &loads[0]));
        assert_eq!(source.begun(), 1);
    }

    #[tokio::test]
    async fn who_waits_for_a_bundle_gets_it_although_the_first_has_gone_away() {
        let (images, source) = library();
        let target = script(UserId::new(), 1);
        let first = want(&images, &target);
        settle().await;
        let second = want(&images, &target);
        settle().await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        source.answers.add_permits(2);
        assert!(second.await.unwrap().is_ok());
        assert_eq!(source.begun(), 1, "what was begun was not begun again");
    }

    #[tokio::test]
    async fn attack_an_owner_of_many_scripts_has_two_read_at_a_time() {
        let (images, source) = library();
        let (greedy, modest) = (UserId::new(), UserId::new());
        let jobs: Vec<_> = (0..9).map(|number| want(&images, &script(greedy, number))).collect();
        settle().await;
        assert_eq!(source.begun(), READS_PER_OWNER_MAX);
        let other = want(&images, &script(modest, 100));
        settle().await;
        assert_eq!(source.begun(), READS_PER_OWNER_MAX + 1);
        source.answers.add_permits(READS_PER_OWNER_MAX + 1);
        assert!(other.await.unwrap().is_ok());
        settle().await;
        assert_eq!(source.begun(), 2 * READS_PER_OWNER_MAX + 1, "then the next two");
        source.answers.add_permits(9);
        for job in jobs {
            assert!(job.await.unwrap().is_ok());
        }
    }

    #[tokio::test]
    async fn attack_an_owner_whose_jobs_wait_for_code_leaves_room_to_others() {
        let (images, source) = library();
        let (greedy, modest) = (UserId::new(), UserId::new());
        let target = script(greedy, 1);
        let jobs: Vec<_> = (0..WAITING_MAX / 2).map(|_| want(&images, &target)).collect();
        settle().await;
        let refused = images.fetch(&target, Instant::now()).await;
        assert_eq!(refused.unwrap_err(), Refusal::Overloaded);
        let other = want(&images, &script(modest, 2));
        settle().await;
        assert_eq!(source.begun(), 2);
        source.answers.add_permits(2);
        assert!(other.await.unwrap().is_ok());
        for job in jobs {
            assert!(job.await.unwrap().is_ok());
        }
        let (reads, turns) = images.waiting().join(greedy, key(3)).unwrap();
        assert_eq!((Arc::strong_count(&reads), Arc::strong_count(&turns)), (2, 2), "all are forgotten");
    }

    #[tokio::test]
    async fn a_job_waits_for_code_as_long_as_it_may_and_is_told_for_what() {
        let (images, source) = library();
        let target = script(UserId::new(), 1);
        let refused = images.fetch(&target, Instant::now()).await.unwrap_err();
        assert_eq!(refused, Refusal::BundleUnavailable, "it is read, and that takes too long");
        let refused = images.fetch(&target, Instant::now()).await.unwrap_err();
        assert_eq!(refused, Refusal::Overloaded, "others are before it");
        settle().await;
        source.answers.add_permits(1);
        settle().await;
        assert!(images.at_hand(&target).is_some());
    }

    #[tokio::test]
    async fn a_read_that_fails_is_begun_again_by_the_next() {
        struct Broken(AtomicUsize);
        impl BundleSource for Broken {
            fn bundle(&self, hash: BundleHash) -> BoxFuture<'_, Result<Arc<Bundle>, BundleUnavailable>> {
                let is_first = self.0.fetch_add(1, SeqCst) == 0;
                let bundle = Arc::new(Bundle::single(ScriptKind::Endpoint, "script", "1"));
                Box::pin(async move { if is_first { Err(BundleUnavailable(hash)) } else { Ok(bundle) } })
            }
        }
        let images = Arc::new(Images::new(Arc::new(Broken(AtomicUsize::new(0)))));
        let target = script(UserId::new(), 1);
        let jobs = [want(&images, &target), want(&images, &target)];
        let [first, second] = jobs;
        assert_eq!(first.await.unwrap().unwrap_err(), Refusal::BundleUnavailable);
        assert!(second.await.unwrap().is_ok());
    }
}
