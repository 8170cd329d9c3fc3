//! An execution is decided by its script, its input, its seed and its clock: with the same ones it answers the same and
//! burns the same, in whatever worker it runs and whatever ran there before.

use shared::guest_abi::GuestOutput;
use shared::wire::codec;
use shared::wire::frame::{Done, Ending};

use super::Hostile;
use super::needed::{Start, add_bundle, execute};

/// Everything that could come out otherwise but for the seed and the clock. What is equal when it is sorted shows the
/// order it had before.
const SAME: &str = r#"
    let seen = [ctx.execution_id, ctx.limits, ctx.request];
    let by_name = #{};
    let pairs = [];
    for n in 0..300 {
        by_name["k" + (n * 7919 % 300)] = n;
        pairs.push(#{ key: n * 7919 % 10, at: n });
    }
    pairs.sort(|a, b| a.key - b.key);
    seen.push(by_name.keys());
    seen.push(by_name.values());
    seen.push(pairs);
    seen.push([0.1 + 0.2, 1.0 / 3.0, 1.0e300, 1.0e-7, sqrt(2.0), sin(0.5)].map(|x| x.to_string()));
    let named = |x| x + 1;
    seen.push(named.name);
"#;
/// Everything that the seed decides.
const DRAWN: &str = r#"
    seen += [random::int(0, 1000000000), random::float(), random::string(40), random::string(20, "abc")];
    seen += [random::uuid(), hex::encode(random::bytes(20)), random::choice([1, 2, 3, 4, 5, 6, 7, 8])];
    seen.push(random::shuffle([1, 2, 3, 4, 5, 6, 7, 8, 9]));
    let drawn = #{};
    let numbers = [];
    for n in 0..300 {
        drawn[random::string(12)] = n;
        numbers.push(random::int(0, 50));
    }
    numbers.sort();
    seen.push(drawn.keys());
    seen.push(drawn.values());
    seen.push(numbers);
"#;
/// Everything that the clock decides.
const TIMED: &str = r#"
    seen += [time::now_ms(), time::now(), time::now("Europe/Berlin"), time::parts(time::now_ms())];
"#;

const START: Start = Start { clock_ms: 1_780_000_000_000, seed: [1; 16] };
const OTHER_SEED: Start = Start { seed: [2; 16], ..START };
const OTHER_CLOCK: Start = Start { clock_ms: START.clock_ms + 1, ..START };

/// What came of an execution.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    answer: String,
    fuel: u64,
}

/// A worker in which these scripts are, by their place.
struct Worker {
    worker: Hostile,
    executions: u32,
}

impl Worker {
    fn start(scripts: &[String]) -> Self {
        let mut worker = Hostile::honest();
        let mut frames = Vec::new();
        for (handle, script) in (0..).zip(scripts) {
            add_bundle(&mut frames, handle, script);
        }
        worker.work(&frames, 0);
        Self { worker, executions: 0 }
    }

    #[track_caller]
    fn run(&mut self, handle: u32, start: Start) -> Seen {
        self.executions += 1;
        let mut frames = Vec::new();
        execute(&mut frames, handle, self.executions, start, b"body");
        self.worker.work(&frames, 0);
        let body = self.worker.answer().unwrap();
        let done: Done<'_> = codec::decode_body(&body).unwrap();
        assert_eq!(done.ending, Ending::Answered);
        match codec::decode_body(done.output).unwrap() {
            GuestOutput::Response { status: 200, body, .. } => {
                Seen { answer: String::from_utf8(body.to_vec()).unwrap(), fuel: done.fuel }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_execution_with_the_same_seed_and_clock_answers_the_same_and_burns_the_same() {
    let scripts = [format!("{SAME}{DRAWN}{TIMED} seen"), "let s = \"\"; s.pad(1000000, \"x\"); 1".to_owned()];
    let (mut one, mut two) = (Worker::start(&scripts), Worker::start(&scripts));
    let seen = one.run(0, START);
    assert_eq!(one.run(0, START), seen, "in the same worker");
    two.run(1, OTHER_SEED);
    assert_eq!(two.run(0, START), seen, "in another worker, behind another script");
    assert_ne!(two.run(0, OTHER_SEED).answer, seen.answer);
    assert_ne!(two.run(0, OTHER_CLOCK).answer, seen.answer);
    assert_eq!(two.run(0, START), seen, "and what ran meanwhile left nothing");
}

#[test]
fn what_asks_for_neither_chance_nor_clock_is_the_same_whatever_they_are() {
    for (script, starts) in [
        (SAME.to_owned(), &[OTHER_SEED, OTHER_CLOCK][..]),
        (format!("{SAME}{TIMED}"), &[OTHER_SEED][..]),
        (format!("{SAME}{DRAWN}"), &[OTHER_CLOCK][..]),
    ] {
        let mut worker = Worker::start(&[format!("{script} seen")]);
        let seen = worker.run(0, START);
        for start in starts {
            assert_eq!(worker.run(0, *start), seen, "{start:?}");
        }
    }
}
