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
    let runs = [&KEYS[..], &KEYS, &KEYS[..1], &KEYS].map(|keys| run(&reader(&foresight, script), keys, now));
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
