//! Values that a script will ask for next, read together with the one that it asks for.
//!
//! A get by itself is a statement and two changes of process on the way to it and back. A script that has twice
//! read the same keys of a collection one after the other is likely to do it again: its first get reads all of them, in
//! one statement, and the next ones are answered without the database. Of keys that it has never read it can be seen
//! that their numbers go up ([`Numbers`]): those that would come next are read with the second, and more of them each time.
//!
//! What it is told is what was there at one moment ([`Moment`]), which ends with any other call and after
//! [`MOMENT_MAX`]: until then the script has heard of nothing that could have happened later. ADR 33 weighs this.

mod numbered;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::call::{CallError, HostCall};
use shared::host_call::kv::Key;
use shared::id::ScriptId;

use self::numbered::Numbers;
use super::kv::check_key;
use super::notes::ExecutionNotes;
use super::{Access, Data, failed};
use crate::store;

/// How long a script may be told what was there at one moment. A hundred gets take less; somebody who waits for a change by
/// asking again and again sees it no later than that.
const MOMENT_MAX: Duration = Duration::from_millis(10);
/// Keys that one statement reads.
const KEYS_MAX: usize = 128;
/// Bytes of a value that is read without having been asked for, so that a moment has 256 KiB at most.
const VALUE_BYTES_MAX: usize = 2 << 10;
/// Keys that are guessed for each get, at most. The script is not charged for them.
const GUESSES_PER_GET: usize = 2;
/// Gets in a row that are worth remembering.
const RUN_MIN: usize = 3;
/// Gets in a row, and bytes of their keys, that are remembered of one script.
const RUN_MAX: usize = 1024;
const RUN_BYTES_MAX: usize = 64 << 10;
/// Bytes of all that is remembered. When there would be more it begins anew.
const BYTES_MAX: usize = 8 << 20;

type Keys = Arc<[Box<str>]>;

/// What scripts have read in a row.
#[derive(Debug, Default)]
pub(super) struct Foresight(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    habits: HashMap<First, Habit>,
    bytes: usize,
}

/// With which a run begins.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct First {
    script: ScriptId,
    collection: Box<str>,
    key: Box<str>,
}

#[derive(Debug)]
struct Habit {
    last: Keys,
    /// Of these, those that the run before had too. No key is there twice.
    sure: Keys,
}

impl Habit {
    /// About what it takes.
    fn bytes(&self) -> usize {
        let keys = self.last.iter().chain(&*self.sure);
        size_of::<(First, Self)>() + keys.map(|key| size_of::<Box<str>>() + key.len()).sum::<usize>()
    }
}

impl Foresight {
    fn after(&self, first: &First) -> Keys {
        self.lock().habits.get(first).map(|habit| Arc::clone(&habit.sure)).unwrap_or_default()
    }

    fn learn(&self, first: First, read: &[Box<str>]) {
        let mut memory = self.lock();
        let known = memory.habits.get(&first);
        if known.is_some_and(|habit| *habit.last == *read && *habit.sure == *read) {
            return;
        }
        let before: HashSet<&str> =
            known.iter().flat_map(|habit| habit.last.iter().map(|key| &**key)).collect();
        let sure = read.iter().filter(|key| before.contains(&***key)).cloned().collect();
        let habit = Habit { last: read.into(), sure };
        let bytes = habit.bytes();
        if memory.bytes + bytes > BYTES_MAX {
            *memory = Memory::default();
        }
        let replaced = memory.habits.insert(first, habit);
        memory.bytes = memory.bytes + bytes - replaced.map_or(0, |habit| habit.bytes());
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The gets in a row of one execution.
#[derive(Debug)]
pub(super) struct Reader {
    foresight: Arc<Foresight>,
    script: ScriptId,
    run: Mutex<Run>,
}

#[derive(Debug, Default)]
struct Run {
    /// The number of the call that goes on with it.
    next_call: u32,
    collection: Box<str>,
    /// What was asked for, each key once in each moment.
    read: Vec<Box<str>>,
    read_bytes: usize,
    /// What will be asked for, in order.
    sure: Keys,
    numbers: Numbers,
    gets: usize,
    /// Keys that were read because they were guessed.
    guesses: usize,
    moment: Option<Moment>,
}

/// What was at some keys when one statement looked.
#[derive(Debug)]
struct Moment {
    since: Instant,
    values: HashMap<Box<str>, Kept>,
}

#[derive(Debug)]
struct Kept {
    value: Option<String>,
    is_used: bool,
}

/// What is to be done for a get.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Answer(Option<String>),
    /// Read the key, and these with it: each once, and none of them the key.
    Read(Vec<Box<str>>),
}

impl Reader {
    fn of<'a>(call: &'a HostCall, foresight: &Arc<Foresight>) -> Option<&'a Self> {
        let (notes, script) = (ExecutionNotes::of(call)?, call.context.target.script);
        let begin = || Self { foresight: Arc::clone(foresight), script, run: Mutex::default() };
        Some(notes.reader.get_or_init(begin))
    }

    fn step(&self, number: u32, key: &Key<'_>, now: Instant) -> Step {
        let mut run = self.lock();
        if run.next_call != number || *run.collection != *key.collection {
            self.learn(&run);
            let sure = self.foresight.after(&self.first(key.collection, key.key));
            *run = Run { collection: key.collection.into(), sure, ..Run::default() };
        }
        run.next_call = number.wrapping_add(1);
        run.gets += 1;
        let known = run.moment.as_mut().filter(|moment| now < moment.since + MOMENT_MAX);
        if let Some(kept) = known.and_then(|moment| moment.values.get_mut(key.key)) {
            let (is_new, value) = (!std::mem::replace(&mut kept.is_used, true), kept.value.clone());
            if is_new {
                run.note(key.key);
            }
            return Step::Answer(value);
        }
        run.note(key.key);
        // What is left of the moment before is older than what will be answered now.
        run.moment = None;
        let at = run.sure.iter().position(|sure| **sure == *key.key);
        Step::Read(match at {
            Some(at) => run.sure[at + 1..].iter().take(KEYS_MAX - 1).cloned().collect(),
            None => run.guess(),
        })
    }

    fn keep(&self, since: Instant, values: HashMap<Box<str>, Kept>) {
        self.lock().moment = Some(Moment { since, values });
    }

    fn learn(&self, run: &Run) {
        let Some(key) = run.read.first() else {
            return;
        };
        let mut seen = HashSet::new();
        let read: Vec<Box<str>> = run.read.iter().filter(|key| seen.insert(&***key)).cloned().collect();
        // A short one tells that what was sure is not any more.
        if read.len() >= RUN_MIN || !run.sure.is_empty() {
            self.foresight.learn(self.first(&run.collection, key), &read);
        }
    }

    fn first(&self, collection: &str, key: &str) -> First {
        First { script: self.script, collection: collection.into(), key: key.into() }
    }

    fn lock(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.learn(&self.lock());
    }
}

impl Run {
    fn note(&mut self, key: &str) {
        self.numbers.note(key);
        self.read_bytes += key.len();
        if self.read.len() < RUN_MAX && self.read_bytes <= RUN_BYTES_MAX {
            self.read.push(key.into());
        }
    }

    /// What may be asked for after the key that was noted last.
    fn guess(&mut self) -> Vec<Box<str>> {
        let left = GUESSES_PER_GET * self.gets - self.guesses;
        let keys = self.numbers.ahead(left.min(KEYS_MAX - 1));
        self.guesses += keys.len();
        keys
    }
}

impl Data {
    /// What a script gets, perhaps with what it will get next.
    pub(crate) async fn kv_get_ahead(
        &self,
        call: &HostCall,
        key: &Key<'_>,
    ) -> Result<Option<String>, CallError> {
        let access = Access::of_script(call);
        let reader = Reader::of(call, &self.foresight).filter(|_| access.rehearsal.is_none());
        let Some(reader) = reader else {
            return self.kv_get(&access, key).await;
        };
        check_key(key)?;
        let now = Instant::now();
        let others = match reader.step(call.number, key, now) {
            Step::Answer(value) => {
                access.take_rows(1)?;
                return Ok(value);
            }
            Step::Read(others) => others,
        };
        if others.is_empty() {
            let value = self.kv_get(&access, key).await?;
            reader.keep(now, asked_for(key, value.as_ref()));
            return Ok(value);
        }
        access.take_rows(1)?;
        let keys: Vec<&str> = others.iter().map(|key| &**key).chain([key.key]).collect();
        let mut conn = self.acquire(&access).await?;
        let found = store::kv::get_with(&mut conn, access.app, key, &keys, VALUE_BYTES_MAX).await;
        let mut found: HashMap<String, Option<String>> =
            conn.answered(found).map_err(|error| failed(&error))?.into_iter().collect();
        let value = found.remove(key.key).flatten();
        let mut values = asked_for(key, value.as_ref());
        for key in others {
            match found.remove(&*key) {
                // Too long to be read for nothing.
                Some(None) => {}
                found => _ = values.insert(key, Kept { value: found.flatten(), is_used: false }),
            }
        }
        reader.keep(now, values);
        Ok(value)
    }
}

/// The beginning of a moment: the value that was asked for, unless it is too long to be kept for another time.
fn asked_for(key: &Key<'_>, value: Option<&String>) -> HashMap<Box<str>, Kept> {
    if value.is_some_and(|value| value.len() > VALUE_BYTES_MAX) {
        return HashMap::new();
    }
    HashMap::from([(key.key.into(), Kept { value: value.cloned(), is_used: true })])
}

#[cfg(test)]
mod tests;
