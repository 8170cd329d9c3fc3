//! A world in which everything that may go wrong does, decided by a seed: nodes crash, connections
//! end, the database restarts and forgets what it had not yet on its disk, answers are late or lost,
//! clocks jump. The dispatcher must keep its promises in all of it; `PICLOUD_SEED=n` repeats one.

mod checks;
mod database;
mod late;
mod rows;
mod shares;
mod world;

use super::bugs::{self, Bug};
use world::World;

/// Runs one seed; the error says which promise was broken.
fn run(seed: u64) -> Result<u64, String> {
    let outcome = std::panic::catch_unwind(|| World::new(seed).run());
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|&s| s.to_owned())).unwrap_or_default())
    })
}

/// Runs worlds on all cores.
fn all_hold(seeds: std::ops::Range<u64>) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (steps, broken) = std::thread::scope(|scope| {
        let parts = (0..threads).map(|part| seeds.clone().skip(part).step_by(threads));
        let parts: Vec<_> = parts.map(|seeds| scope.spawn(|| run_all(seeds))).collect();
        let parts = parts.into_iter().map(|part| part.join().unwrap());
        parts.fold((0, Vec::new()), |(steps, broken), (more, found)| (steps + more, [broken, found].concat()))
    });
    let first = broken.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
    assert!(broken.is_empty(), "{} worlds, PICLOUD_SEED repeats one:\n{first}", broken.len());
    assert!(steps > 0);
}

/// How many steps worlds took, and what was broken in which.
fn run_all(seeds: impl Iterator<Item = u64>) -> (u64, Vec<String>) {
    let (mut steps, mut broken) = (0, Vec::new());
    for seed in seeds {
        match run(seed) {
            Ok(more) => steps += more,
            Err(promise) => {
                // At once: whoever stops the run has what was found.
                eprintln!("seed {seed}: {promise}");
                broken.push(format!("seed {seed}: {promise}"));
            }
        }
    }
    (steps, broken)
}

#[test]
fn backlogs_yield_to_an_app_with_few_events_and_to_no_other() {
    use super::{BACKLOG, Capacity, Core, Event, FEW};
    use shared::id::AppId;
    use std::time::Duration;
    let (busy, other, quiet) = (AppId::new(), AppId::new(), AppId::new());
    let mut core = Core::new(Capacity { runs: 0, runs_per_app: 0, rows: 1_000 }, 1);
    let step = |core: &mut Core, event| core.step(Duration::ZERO, event, &mut Vec::new());
    for app in [busy, other] {
        let shard = rows::row(1, app, 0, 1, false).shard();
        step(&mut core, Event::Acquired { shard, suspect_max_id: 0, last_id: 0, is_continued: false });
    }
    let mut next = 1;
    let mut hand_over = |core: &mut Core, app, rows: usize| {
        let row = |id| rows::row(id, app, 0, 1, false);
        let last = next + i64::try_from(rows).unwrap();
        step(core, Event::HandedOver((next..last).map(row).collect()));
        next = last;
    };
    hand_over(&mut core, busy, BACKLOG - 1);
    assert!(!core.yields_to(quiet), "no backlog yet");
    hand_over(&mut core, busy, 1);
    assert!(core.yields_to(quiet) && core.yields_to(other) && !core.yields_to(busy));
    hand_over(&mut core, other, FEW);
    assert!(core.yields_to(quiet) && !core.yields_to(other));
}

#[test]
fn a_backlog_is_read_on_where_it_broke_off_until_something_else_happens() {
    use super::{Action, Capacity, Core, Event, Page};
    use shared::id::AppId;
    use std::time::Duration;
    let (far, near) = (AppId::new(), AppId::new());
    let mut core = Core::new(Capacity { runs: 0, runs_per_app: 0, rows: 1_000 }, 1);
    let mut step = |event| {
        let mut actions = Vec::new();
        core.step(Duration::ZERO, event, &mut actions);
        actions.into_iter().find_map(|action| match action {
            Action::Fetch(fetch) => Some((fetch.fetch, fetch.low_water_us)),
            _ => None,
        })
    };
    let acquired = |app| Event::Acquired {
        shard: rows::row(1, app, 0, 1, false).shard(),
        suspect_max_id: 0,
        last_id: 0,
        is_continued: false,
    };
    let page = |rows: &[(i64, AppId, i64)]| {
        let rows: Vec<_> =
            rows.iter().map(|&(id, app, due_us)| rows::row(id, app, due_us, 1, false)).collect();
        Page { apps: 2, is_full: true, at_us: 1_000, rows, ..Page::default() }
    };
    step(acquired(far));
    let (fetch, low) = step(acquired(near)).unwrap();
    assert_eq!(low, None);
    let found = page(&[(2, far, 200), (3, near, 50), (4, far, 300), (5, near, 60)]);
    let (fetch, low) = step(Event::Fetched { fetch, page: found }).unwrap();
    assert_eq!(low, Some(59), "the app of which it got least far, and others that are due with its last");
    let (fetch, low) = step(Event::Fetched { fetch, page: page(&[(6, far, 400), (7, near, 70)]) }).unwrap();
    assert!(low < Some(50), "there may be apps of which it has no row: {low:?}");
    assert_eq!(step(Event::Dirty), None, "one at a time");
    let found = page(&[(8, far, 500), (9, near, 80), (10, near, 90)]);
    let (_, low) = step(Event::Fetched { fetch, page: found }).unwrap();
    assert!(low < Some(50), "what somebody told of meanwhile may be older: {low:?}");
}

#[test]
fn every_promise_holds_in_200_bad_worlds() {
    match std::env::var("PICLOUD_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => all_hold(seed..seed + 1),
        None => all_hold(0..200),
    }
}

#[test]
#[ignore = "takes minutes: part of make torture"]
fn every_promise_holds_in_50_000_bad_worlds() {
    let worlds = match std::env::var_os("PICLOUD_TORTURE_QUICK") {
        Some(quick) if !quick.is_empty() => 10_000,
        _ => 50_000,
    };
    all_hold(0..worlds);
}

/// A test for each mistake, so that they are looked for at once, and one that is not found has a name.
macro_rules! finds {
    ($($test:ident: $bug:ident,)*) => {
        mod finds {
            use super::*;

            $(
                #[test]
                fn $test() {
                    assert!(is_found(Bug::$bug), "not found in 1,000 worlds: {:?}", Bug::$bug);
                }
            )*
        }
    };
}

finds! {
    what_is_removed_before_its_end: RemovesBeforeTheEnd,
    what_runs_out_of_order: RunsOutOfOrder,
    what_is_over_and_forgotten: ForgetsWhatIsOver,
    what_is_read_without_overlap: ReadsWithoutOverlap,
    what_is_kept_although_foreign: KeepsWhatIsForeign,
    batches_that_failed_and_are_dropped: DropsFailedBatches,
    attempts_that_overload_used_up: CountsOverload,
    suspects_that_run_unmarked: RunsSuspectsUnmarked,
    a_stop_when_full: StopsWhenFull,
    a_backlog_read_on_too_far: ReadsOnTooFar,
    what_is_due_next_and_forgotten: ForgetsTheNextDue,
    retries_for_ever: RetriesForEver,
    handlers_that_are_retried: RetriesHandlers,
    a_loss_that_is_ignored: IgnoresLoss,
    a_capacity_that_is_ignored: IgnoresCapacity,
    late_hand_overs_that_are_trusted: TrustsLateHandOvers,
}

fn is_found(bug: Bug) -> bool {
    bugs::put_back(Some(bug));
    let is_found = (0..1_000).any(|seed| run(seed).is_err());
    bugs::put_back(None);
    is_found
}
