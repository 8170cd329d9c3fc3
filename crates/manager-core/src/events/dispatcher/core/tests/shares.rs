//! What an app, or somebody with many, can keep from the others.

use std::collections::HashMap;

use shared::id::{AppId, UserId};

use super::super::{Action, Capacity, Core, Event, Fetch, Page, Row, SHARDS, Time, Verdict, shard_of};
use super::rows::{large_row, row};

const CAPACITY: Capacity = Capacity { runs: 8, runs_per_app: 4, rows: 4_096 };
const NOW_US: i64 = 1_700_000_000_000_000;
/// Two of them were all that there was room for once.
const LARGE: usize = 13 << 20;

/// A dispatcher of everything, and what it did last.
struct Bench {
    core: Core,
    now: Time,
    actions: Vec<Action>,
    next_id: i64,
}

impl Bench {
    fn new() -> Self {
        let core = Core::new(CAPACITY, 1);
        let mut bench = Self { core, now: Time::ZERO, actions: Vec::new(), next_id: 1 };
        for shard in 0..SHARDS {
            bench.step(Event::Acquired { shard, suspect_max_id: 0, last_id: 0, is_continued: false });
        }
        bench.find(Vec::new(), Vec::new());
        bench
    }

    fn step(&mut self, event: Event) {
        self.actions.clear();
        self.core.step(self.now, event, &mut self.actions);
    }

    fn id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }

    /// Hands over so many rows, one after another, as commits do; answers what was started. Nothing is found meanwhile.
    fn hand_over(&mut self, app: AppId, rows: usize) -> Vec<i64> {
        let mut started = Vec::new();
        for _ in 0..rows {
            let row = row(self.id(), app, NOW_US, 4, false);
            self.step(Event::HandedOver(vec![row]));
            started.extend(self.started());
            if self.wanted().is_some() {
                self.find(Vec::new(), Vec::new());
            }
        }
        started
    }

    fn wanted(&self) -> Option<&Fetch> {
        self.actions.iter().find_map(|action| match action {
            Action::Fetch(wanted) => Some(wanted),
            _ => None,
        })
    }

    /// Answers the fetch that was asked for last.
    fn find(&mut self, rows: Vec<Row>, left: Vec<(AppId, i64, usize)>) {
        let fetch = self.wanted().expect("the table is to be read").fetch;
        let is_full = !left.is_empty();
        self.step(Event::Fetched {
            fetch,
            page: Page { rows, left, is_full, at_us: NOW_US, ..Page::default() },
        });
    }

    /// What was started, each as its run.
    fn runs(&self) -> Vec<(u64, i64)> {
        let runs = self.actions.iter().filter_map(|action| match action {
            Action::Run { run, row } => Some((*run, row.id)),
            _ => None,
        });
        runs.collect()
    }

    fn started(&self) -> Vec<i64> {
        self.runs().into_iter().map(|(_, id)| id).collect()
    }

    /// A run ends, and what came of it is written down.
    fn finish(&mut self, run: u64) {
        self.step(Event::Ended { run, verdict: Verdict::Done });
        self.now += Time::from_millis(20);
        self.step(Event::Tick);
        let batch = self.actions.iter().find_map(|action| match action {
            Action::Settle { batch, .. } => Some(*batch),
            _ => None,
        });
        self.step(Event::Settled { batch: batch.expect("it is written down"), missed: Vec::new() });
    }
}

#[test]
fn attack_rows_that_never_end_leave_room_for_other_apps() {
    let (mut bench, slow, other) = (Bench::new(), AppId::new(), AppId::new());
    assert_eq!(bench.hand_over(slow, 3_100).len(), CAPACITY.runs_per_app);
    assert_eq!(bench.hand_over(other, 1).len(), 1, "what is handed over runs");

    // What nobody hands over is found, and the fetch does not look at what cannot be taken in.
    bench.step(Event::Dirty);
    assert_eq!(bench.wanted().expect("it is looked for").left_out, [slow]);
    let id = bench.id();
    bench.find(vec![row(id, other, NOW_US, 4, false)], Vec::new());
    assert_eq!(bench.started(), [id]);
}

#[test]
fn what_was_left_out_is_read_when_there_is_room_for_it() {
    let (mut bench, slow) = (Bench::new(), AppId::new());
    let started = bench.hand_over(slow, 1_000);
    assert_eq!(started.len(), CAPACITY.runs_per_app);
    assert!(bench.wanted().is_none(), "it has what it may have");
    let mut run = 1;
    while bench.wanted().is_none() {
        assert!(run < 1_000, "its rows are done, and nobody looks for the others");
        bench.finish(run);
        run += 1;
    }
    let wanted = bench.wanted().unwrap();
    assert!(wanted.left_out.is_empty() && wanted.rows_max > 100, "many at once: {wanted:?}");
    assert!(wanted.low_water_us.is_some_and(|low| low < NOW_US), "from the first that was left");
}

#[test]
fn attack_large_rows_that_never_end_leave_room_for_other_apps() {
    let (mut bench, slow, other) = (Bench::new(), AppId::new(), AppId::new());
    let (first, second) = (bench.id(), bench.id());
    let large = |id| large_row(id, slow, NOW_US, LARGE);
    bench.step(Event::HandedOver(vec![large(first), large(second)]));
    assert!(bench.started().is_empty(), "a fetch gives each of their apps its turn");
    bench.find(vec![large(first)], vec![(slow, NOW_US, LARGE)]);
    let run = bench.runs()[0].0;
    assert_eq!(bench.started(), [first]);
    assert!(bench.wanted().is_none(), "one at a time");

    assert_eq!(bench.hand_over(other, 1).len(), 1);
    let third = bench.id();
    bench.step(Event::HandedOver(vec![large_row(third, other, NOW_US, LARGE)]));
    bench.find(vec![large_row(third, other, NOW_US, LARGE)], Vec::new());
    assert_eq!(bench.started(), [third], "another's large one has a place beside it");

    bench.finish(run);
    assert!(bench.wanted().expect("the second is looked for").left_out.is_empty());
}

#[test]
fn attack_many_apps_of_one_owner_have_together_what_one_owner_may() {
    let (mut bench, owner, other) = (Bench::new(), UserId::new(), AppId::new());
    let ours: Vec<_> = (0..20).map(|_| AppId::new()).collect();
    let owners: HashMap<_, _> = ours.iter().map(|app| (*app, owner)).collect();
    bench.step(Event::Owners(owners));
    let started: usize = ours.iter().map(|app| bench.hand_over(*app, 1_000).len()).sum();
    assert_eq!(started, CAPACITY.runs / 4 * 3);
    assert!(bench.core.load().0 < CAPACITY.rows / 2, "{:?}", bench.core.load());
    assert_eq!(bench.hand_over(other, 1).len(), 1);
    bench.step(Event::Dirty);
    assert!(
        bench.wanted().is_some_and(|wanted| wanted.rows_max > 100),
        "and what nobody hands over is found"
    );
}

#[test]
fn what_still_runs_of_a_lost_shard_makes_room_for_others_when_it_ends() {
    let (mut bench, lost) = (Bench::new(), AppId::new());
    let kept = std::iter::repeat_with(AppId::new).find(|app| shard_of(*app) != shard_of(lost));
    let kept = kept.expect("there are more shards");
    assert_eq!(bench.hand_over(lost, 4).len(), CAPACITY.runs_per_app);
    let shard = shard_of(lost);
    bench.step(Event::Lost { shard });
    bench.step(Event::Acquired { shard, suspect_max_id: 0, last_id: 0, is_continued: false });
    assert_eq!(bench.hand_over(kept, 4).len(), 2, "no more than are free then");
    bench.step(Event::Ended { run: 1, verdict: Verdict::Done });
    assert_eq!(bench.started().len(), 1);
}
