//! Dry runs: what a script would do. It reads what there is and what it has written itself, in one
//! transaction that is rolled back at the end; nothing of it is seen by anybody else.
//!
//! The transaction stays open while the script computes, which no other one does. So there are few at a time
//! and not for long, and the database ends one whose script does not call for a while.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use shared::call::{CallCode, CallError, Companion, HostCall};
use shared::id::{AppId, UserId};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::{Access, Data, Told, failed};
use crate::store;
use crate::store::app_database::{AppConnection, AppTransaction};
use crate::store::apps::App;

/// Dry runs at a time: each has a connection of those that scripts share, and its locks.
const ROOM: usize = 4;
/// Milliseconds that one has to run and to change something, if its script may not run for longer: others wait for its locks
/// and for its place.
pub(crate) const TIMEOUT_MS_MAX: u32 = 10_000;
const PATIENCE: Duration = Duration::from_millis(TIMEOUT_MS_MAX as u64);

/// Deeds that are told one by one.
const DEEDS_MAX: usize = 1_000;
/// Bytes of all that is told of them: a report is for reading.
const TOLD_BYTES_MAX: usize = 256 << 10;

/// Room for dry runs: how many there are of the apps of each owner who has any.
#[derive(Debug, Clone, Default)]
pub(super) struct Stage(Arc<Mutex<HashMap<UserId, usize>>>);

impl Stage {
    /// A place, while an owner has fewer than are free: so nobody has all of them, and a second one leaves one too.
    fn enter(&self, owner: UserId) -> Option<Place> {
        let mut taken = self.taken();
        let free = ROOM.saturating_sub(taken.values().sum());
        let own = taken.get(&owner).copied().unwrap_or(0);
        if own >= free {
            return None;
        }
        taken.insert(owner, own + 1);
        Some(Place { stage: self.clone(), owner })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<UserId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held by a dry run until its end.
#[derive(Debug)]
struct Place {
    stage: Stage,
    owner: UserId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.stage.taken();
        let own = taken.get(&self.owner).copied().unwrap_or(0);
        if own > 1 {
            taken.insert(self.owner, own - 1);
        } else {
            taken.remove(&self.owner);
        }
    }
}

/// One dry run.
#[derive(Debug)]
pub(crate) struct Rehearsal {
    /// Whose rows its transaction sees.
    app: AppId,
    state: tokio::sync::Mutex<Option<State>>,
    noted: Mutex<Noted>,
    _place: Place,
}

#[derive(Debug)]
struct State {
    tx: AppTransaction,
    until: Instant,
    /// Whether a call has begun something that it has not ended: it only read, or it failed.
    is_open: bool,
}

/// Something that a script would do.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Deed {
    /// The call, such as `kv.set`.
    pub(crate) call: &'static str,
    /// What it is about: collection and key or id, method and address, recipients, the name of a secret, a login
    /// or a user's id.
    pub(crate) target: String,
    /// What is written, unless it is long or secret; what is sent, without what is secret and what is too long.
    pub(crate) value: Option<Value>,
}

/// What a script would have done.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Would {
    /// Its calls that change something or ask the world, in their order.
    deeds: Vec<Deed>,
    /// How many more there were.
    more: usize,
    /// How many of the deeds have no value for want of room.
    without_value: usize,
    /// Events that its changes would have made.
    events: usize,
    /// How many deeds each call has, told or not.
    #[serde(skip)]
    counts: HashMap<&'static str, usize>,
    /// What is told of deeds already.
    #[serde(skip)]
    told_bytes: usize,
}

impl Would {
    /// How many of its deeds are this call, those among them that are not told.
    pub(crate) fn count(&self, call: &str) -> usize {
        self.counts.get(call).copied().unwrap_or_default()
    }

    /// Whether no further deed is told, only counted; from then on that stays so.
    const fn is_full(&self) -> bool {
        self.more > 0 || self.deeds.len() >= DEEDS_MAX
    }

    /// Adds a deed, as far as there is room for it.
    fn tell(&mut self, mut deed: Deed) {
        *self.counts.entry(deed.call).or_default() += 1;
        let room = TOLD_BYTES_MAX.saturating_sub(self.told_bytes);
        let target = deed.target.len();
        if self.is_full() || target > room {
            self.more += 1;
            return;
        }
        let mut value = deed.value.as_ref().map_or(0, |value| value.to_string().len());
        if target + value > room {
            (deed.value, value) = (None, 0);
            self.without_value += 1;
        }
        self.told_bytes += target + value;
        self.deeds.push(deed);
    }
}

/// What is left to be done or told at the end.
#[derive(Debug, Default)]
struct Noted {
    would: Would,
    /// Contents that were stored, with the number of their chunks.
    contents: Vec<(Uuid, usize)>,
}

impl Data {
    /// Begins a dry run of an app; nothing when there are enough already, or enough of its owner's.
    pub(crate) async fn rehearse(&self, app: &App) -> Result<Option<Arc<Rehearsal>>, CallError> {
        let Some(place) = self.stage.enter(app.owner_id) else { return Ok(None) };
        let app = app.id;
        let tx = self.database.begin_rehearsal(app).await.map_err(|error| failed(&error))?;
        let state = State { tx, until: Instant::now() + PATIENCE, is_open: false };
        let state = tokio::sync::Mutex::new(Some(state));
        Ok(Some(Arc::new(Rehearsal { app, state, noted: Mutex::default(), _place: place })))
    }

    /// Takes back all of it, and tells it.
    pub(crate) async fn end_rehearsal(&self, rehearsal: &Rehearsal) -> Would {
        if let Some(state) = rehearsal.state.lock().await.take() {
            // A connection that is gone has taken it back already.
            let _ = state.tx.rollback().await;
        }
        let noted = std::mem::take(&mut *rehearsal.noted());
        for (blob, chunks) in noted.contents {
            self.blobs.remove_later(blob, chunks);
        }
        noted.would
    }

    /// A connection for one statement that reads, or that stands alone.
    pub(crate) async fn acquire<'a>(&self, access: &Access<'a>) -> Result<Conn<'a>, CallError> {
        match access.rehearsal {
            Some(rehearsal) => rehearsal.enter(access.app).await.map(Conn::Shared),
            None => self.acquire_for(access.tenant()).await.map(Conn::Own),
        }
    }

    /// A transaction; dropped without commit it is taken back.
    pub(crate) async fn begin<'a>(&self, access: &Access<'a>) -> Result<Change<'a>, CallError> {
        match access.rehearsal {
            Some(rehearsal) => Ok(Change::Part(rehearsal.enter(access.app).await?, rehearsal)),
            None => {
                self.database.begin(access.tenant()).await.map(Change::Own).map_err(|error| failed(&error))
            }
        }
    }
}

impl Rehearsal {
    /// The dry run that a call belongs to, if it belongs to one.
    pub(crate) fn of(call: &HostCall) -> Option<&Self> {
        call.context.companion.as_ref().and_then(Companion::get)
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what is noted from now on is only counted.
    pub(crate) fn is_full(&self) -> bool {
        self.noted().would.is_full()
    }

    /// Something was done for the rest of the dry run.
    pub(crate) fn note(&self, deed: Deed) {
        self.noted().would.tell(deed);
    }

    /// A content was stored that is nobody's in the end.
    pub(super) fn note_content(&self, blob: Uuid, chunks: usize) {
        self.noted().contents.push((blob, chunks));
    }

    /// A part of the transaction, which counts when it is committed. Calls come one after the other.
    async fn enter(&self, app: AppId) -> Result<Part<'_>, CallError> {
        if app != self.app {
            tracing::error!(app.id = %app, "a call of another app came to a dry run");
            return Err(CallError::new(CallCode::Internal, "the platform failed"));
        }
        let mut guard = self.state.lock().await;
        let over = || CallError::new(CallCode::Unavailable, "the dry run is over");
        let state = guard.as_mut().ok_or_else(over)?;
        if Instant::now() >= state.until {
            let message = format!("a dry run has {} s for its calls", PATIENCE.as_secs());
            return Err(CallError::new(CallCode::Unavailable, message));
        }
        if state.is_open {
            store::savepoints::undo(&mut state.tx).await.map_err(|error| failed(&error))?;
        }
        store::savepoints::set(&mut state.tx).await.map_err(|error| failed(&error))?;
        state.is_open = true;
        tokio::sync::MutexGuard::try_map(guard, Option::as_mut).map(Part).map_err(|_| over())
    }
}

/// A dry run's transaction, for one call.
#[derive(Debug)]
pub(crate) struct Part<'a>(tokio::sync::MappedMutexGuard<'a, State>);

/// A connection to read from.
pub(crate) enum Conn<'a> {
    Own(AppConnection),
    Shared(Part<'a>),
}

impl Conn<'_> {
    /// Passes on what its last statement came to, and gives it back.
    pub(crate) fn answered<T, E>(mut self, result: Result<T, E>) -> Result<T, E> {
        // One that has failed is tried out before it is used again.
        if let (Self::Own(conn), Ok(_)) = (&mut self, &result) {
            conn.answered();
        }
        result
    }
}

impl Deref for Conn<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match self {
            Self::Own(conn) => conn,
            Self::Shared(part) => &part.0.tx,
        }
    }
}

impl DerefMut for Conn<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Own(conn) => conn,
            Self::Shared(part) => &mut part.0.tx,
        }
    }
}

/// A change that is not committed yet.
pub(crate) enum Change<'a> {
    Own(AppTransaction),
    Part(Part<'a>, &'a Rehearsal),
}

impl Change<'_> {
    /// Makes it so, and lets its events run; in a dry run, it counts for what comes after it.
    pub(crate) async fn commit(self, told: Told) -> Result<(), CallError> {
        match self {
            Self::Own(tx) => {
                tx.commit().await.map_err(|error| failed(&error))?;
                told.hand_over();
            }
            Self::Part(mut part, rehearsal) => {
                store::savepoints::keep(&mut part.0.tx).await.map_err(|error| failed(&error))?;
                part.0.is_open = false;
                rehearsal.noted().would.events += told.forget();
            }
        }
        Ok(())
    }
}

impl Deref for Change<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match self {
            Self::Own(tx) => tx,
            Self::Part(part, _) => &part.0.tx,
        }
    }
}

impl DerefMut for Change<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Own(tx) => tx,
            Self::Part(part, _) => &mut part.0.tx,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deed(target: &str, value: Option<&str>) -> Deed {
        Deed { call: "kv.set", target: target.to_owned(), value: value.map(Value::from) }
    }

    #[test]
    fn attack_one_owner_has_not_all_places_for_dry_runs() {
        let (stage, greedy, second, third) = (Stage::default(), UserId::new(), UserId::new(), UserId::new());
        let places = [stage.enter(greedy), stage.enter(greedy)].map(Option::unwrap);
        assert!(stage.enter(greedy).is_none(), "alone it has half of them");
        let other = stage.enter(second).unwrap();
        assert!(stage.enter(second).is_none(), "a second one leaves one too");
        let last = stage.enter(third).unwrap();
        assert!(stage.enter(UserId::new()).is_none(), "there are no more");
        drop(places);
        assert!(stage.enter(greedy).is_some(), "a place is free again when its dry run is over");
        drop((other, last));
        assert!(stage.taken().is_empty(), "nobody is remembered who has none");
    }

    #[test]
    fn attack_a_report_of_many_long_deeds_stays_small_and_says_what_it_leaves_out() {
        let (mut would, value) = (Would::default(), "v".repeat(4 << 10));
        (0..100).for_each(|_| would.tell(deed("c/k", Some(&value))));
        let with_value = TOLD_BYTES_MAX / ("c/k".len() + value.len() + 2);
        assert!(!would.is_full(), "more can be told without their values");
        let told = would.deeds.iter().filter(|deed| deed.value.is_some()).count();
        assert_eq!((told, would.without_value, would.more), (with_value, 100 - with_value, 0));
        let long = "k".repeat(4 << 10);
        (0..100).for_each(|_| would.tell(deed(&long, None)));
        assert_eq!((would.deeds.len(), would.more), (100, 100), "there is no room for a name of 4 KiB");
        would.tell(deed("c/k", None));
        assert_eq!((would.deeds.len(), would.more), (100, 101), "none is told behind one that is not");
        assert!(would.is_full());
        assert_eq!((would.count("kv.set"), would.count("kv.delete")), (201, 0));
        let report = serde_json::to_string(&would).unwrap();
        assert!(report.len() < TOLD_BYTES_MAX + (16 << 10), "{}", report.len());
    }
}
