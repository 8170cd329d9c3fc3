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
mod tests {
    use super::*;

    const KEYS: [&str; 4] = ["a", "b", "c", "d"];

    fn reader(foresight: &Arc<Foresight>, script: ScriptId) -> Reader {
        Reader { foresight: Arc::clone(foresight), script, run: Mutex::default() }
    }

    fn key(key: &str) -> Key<'_> {
        Key { collection: "c", key }
    }

    /// Asks for a key where nothing is at any; answers what was read with it, if it was read.
    fn ask(reader: &Reader, number: u32, text: &str, now: Instant) -> Option<Vec<String>> {
        let Step::Read(others) = reader.step(number, &key(text), now) else {
            return None;
        };
        let mut values = asked_for(&key(text), None);
        values.extend(others.iter().map(|key| (key.clone(), Kept { value: None, is_used: false })));
        reader.keep(now, values);
        Some(others.into_iter().map(String::from).collect())
    }

    /// Asks for keys in a row; answers what was read for the first of them.
    fn run(reader: &Reader, keys: &[&str], now: Instant) -> Vec<String> {
        let read: Vec<_> = (1..).zip(keys).map(|(number, key)| ask(reader, number, key, now)).collect();
        read.into_iter().next().flatten().unwrap_or_default()
    }

    /// Asks for the keys with these numbers in a row; answers for which of them there was a statement, and how many
    /// keys it read besides.
    fn statements(reader: &Reader, numbers: impl Iterator<Item = u64>, now: Instant) -> Vec<(u64, usize)> {
        let asked = |(call, n): (u32, u64)| Some((n, ask(reader, call, &format!("k{n}"), now)?.len()));
        (1..).zip(numbers).filter_map(asked).collect()
    }

    /// One of a script that has read nothing before.
    fn new() -> Reader {
        reader(&Arc::default(), ScriptId::new())
    }

    #[test]
    fn what_was_read_twice_is_read_ahead_the_third_time() {
        let (foresight, script, now) = (Arc::default(), ScriptId::new(), Instant::now());
        let runs = [(); 4].map(|()| run(&reader(&foresight, script), &KEYS, now));
        assert_eq!(runs, [vec![], vec![], vec!["b", "c", "d"], vec!["b", "c", "d"]]);
        assert!(run(&reader(&foresight, ScriptId::new()), &KEYS, now).is_empty(), "another script's");
    }

    #[test]
    fn keys_that_are_others_each_time_are_not_guessed() {
        let (foresight, script, now) = (Arc::default(), ScriptId::new(), Instant::now());
        for n in 0..5 {
            let own = format!("user-{n}");
            let ahead = run(&reader(&foresight, script), &["a", &own, "c", "d"], now);
            assert_eq!(ahead, if n < 2 { vec![] } else { vec!["c", "d"] });
        }
        assert!(run(&reader(&foresight, script), &["a", "x", "y"], now).len() == 2);
        assert!(run(&reader(&foresight, script), &["a", "x", "z"], now).is_empty(), "it reads others now");
    }

    /// One of a script that has read all keys before.
    fn experienced() -> Reader {
        let (foresight, script) = (Arc::default(), ScriptId::new());
        for _ in 0..2 {
            run(&reader(&foresight, script), &KEYS, Instant::now());
        }
        reader(&foresight, script)
    }

    #[test]
    fn a_moment_ends_with_any_other_call_and_by_itself() {
        let now = Instant::now();
        let asked = |number, later| {
            let reader = experienced();
            run(&reader, &KEYS[..2], now);
            reader.step(number, &key("c"), now + later)
        };
        assert_eq!(asked(3, MOMENT_MAX / 2), Step::Answer(None));
        assert_eq!(asked(3, MOMENT_MAX), Step::Read(vec!["d".into()]));
        assert_eq!(asked(4, MOMENT_MAX / 2), Step::Read(vec![]), "the third call was another one");
    }

    #[test]
    fn a_key_that_comes_twice_is_read_ahead_once() {
        let (foresight, script, now) = (Arc::default(), ScriptId::new(), Instant::now());
        let runs = [(); 3].map(|()| run(&reader(&foresight, script), &["a", "b", "a", "c", "b"], now));
        assert_eq!(runs[2], ["b", "c"]);
    }

    #[test]
    fn a_row_that_is_not_gone_on_with_is_unlearned() {
        let (foresight, script, now) = (Arc::default(), ScriptId::new(), Instant::now());
        let runs =
            [&KEYS[..], &KEYS, &KEYS[..1], &KEYS].map(|keys| run(&reader(&foresight, script), keys, now));
        assert_eq!(runs, [vec![], vec![], vec!["b", "c", "d"], vec![]]);
    }

    #[test]
    fn what_is_left_of_a_moment_is_not_told_after_something_newer() {
        let (reader, now) = (experienced(), Instant::now());
        run(&reader, &["a", "b", "new"], now);
        assert_eq!(reader.step(4, &key("c"), now), Step::Read(vec!["d".into()]));
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let (foresight, now) = (Arc::<Foresight>::default(), Instant::now());
        let long: Vec<String> = (0..2 * RUN_MAX).map(|n| format!("{n:0100}")).collect();
        let long: Vec<&str> = long.iter().map(String::as_str).collect();
        for _ in 0..200 {
            run(&reader(&foresight, ScriptId::new()), &long, now);
            let memory = foresight.lock();
            assert!(memory.habits.values().all(|habit| habit.last.len() <= RUN_MAX));
            assert!(memory.bytes <= BYTES_MAX);
        }
    }

    #[test]
    fn of_numbers_that_go_up_twice_as_many_are_read_ahead_each_time() {
        let expected = [(1, 0), (2, 4), (7, 8), (16, 16), (33, 32), (66, 64), (131, 127), (259, 127)];
        assert_eq!(statements(&new(), 1..300, Instant::now()), expected);
    }

    #[test]
    fn a_row_that_ends_costs_no_more_than_its_last_guess() {
        let numbers = (1..=7).chain(50..=52).chain([90, 70]);
        let expected = [(1, 0), (2, 4), (7, 8), (50, 0), (51, 4), (90, 0), (70, 0)];
        assert_eq!(statements(&new(), numbers, Instant::now()), expected);
    }

    #[test]
    fn guesses_that_come_to_nothing_become_fewer_and_end() {
        let (reader, now) = (new(), Instant::now());
        let guessed = (1..=8).map(|n| ask(&reader, n, &format!("k{n}"), now + n * MOMENT_MAX).unwrap().len());
        assert_eq!(guessed.collect::<Vec<_>>(), [0, 4, 2, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn a_guess_is_not_told_after_another_call_or_its_moment() {
        let now = Instant::now();
        let asked = |number, later| {
            let reader = new();
            statements(&reader, 1..=2, now);
            reader.step(number, &key("k3"), now + later)
        };
        assert_eq!(asked(3, MOMENT_MAX / 2), Step::Answer(None));
        assert_eq!(asked(3, MOMENT_MAX), Step::Read(vec!["k4".into(), "k5".into()]));
        assert_eq!(asked(4, MOMENT_MAX / 2), Step::Read(vec![]), "the third call was another one");
    }

    #[test]
    fn a_value_that_is_too_long_to_be_read_ahead_is_read_when_it_is_asked_for() {
        let (reader, now) = (new(), Instant::now());
        statements(&reader, 1..=1, now);
        assert!(matches!(reader.step(2, &key("k2"), now), Step::Read(others) if others.len() == 4));
        let mut values = asked_for(&key("k2"), Some(&"x".repeat(VALUE_BYTES_MAX + 1)));
        assert!(values.is_empty());
        values.insert("k4".into(), Kept { value: None, is_used: false });
        reader.keep(now, values);
        assert_eq!(reader.step(3, &key("k3"), now), Step::Read(vec!["k4".into(), "k5".into()]));
    }

    #[test]
    fn a_script_that_reads_two_keys_has_four_guessed_and_nothing_remembered() {
        let (foresight, now) = (Arc::<Foresight>::default(), Instant::now());
        let reader = reader(&foresight, ScriptId::new());
        assert_eq!(statements(&reader, 1..=2, now), [(1, 0), (2, 4)]);
        drop(reader);
        assert!(foresight.lock().habits.is_empty());
    }

    #[test]
    fn what_was_guessed_and_not_asked_for_is_not_learned() {
        let (foresight, script, now) = (Arc::default(), ScriptId::new(), Instant::now());
        for _ in 0..2 {
            assert_eq!(statements(&reader(&foresight, script), 1..=4, now), [(1, 0), (2, 4)]);
        }
        assert_eq!(ask(&reader(&foresight, script), 1, "k1", now).unwrap(), ["k2", "k3", "k4"]);
    }

    #[test]
    fn what_is_learned_goes_before_what_is_guessed() {
        let (foresight, script, now) = (Arc::default(), ScriptId::new(), Instant::now());
        for _ in 0..2 {
            run(&reader(&foresight, script), &["k1", "k2", "a"], now);
        }
        let third = reader(&foresight, script);
        assert_eq!(ask(&third, 1, "k1", now).unwrap(), ["k2", "a"]);
        assert_eq!(ask(&third, 2, "k2", now + MOMENT_MAX).unwrap(), ["a"]);
    }

    #[test]
    fn attack_no_more_is_guessed_than_twice_what_is_asked_for() {
        // Quick at first, so that much is guessed, and then so slow that each guess is for nothing.
        for quick in (0..300).step_by(7) {
            let (reader, begin) = (new(), Instant::now());
            let mut guessed = 0;
            for n in 1..=320_u32 {
                let now = begin + n.saturating_sub(quick) * MOMENT_MAX;
                guessed += ask(&reader, n, &format!("k{n}"), now).map_or(0, |keys| keys.len());
                assert!(guessed <= 2 * n as usize, "{guessed} for {n}, of which {quick} were quick");
            }
        }
        // Rows that end as soon as something was guessed.
        let numbers = (1..200).flat_map(|n| [n * 10, n * 10 + 1]);
        let guessed: usize = statements(&new(), numbers, Instant::now()).iter().map(|(_, keys)| keys).sum();
        assert_eq!(guessed, 199 * 4);
    }
}
