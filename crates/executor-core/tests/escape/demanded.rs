//! What this machine can give, a worker has. The other tests go on without a wall that is not there, so one that we fail
//! to put up would pass for one that the machine lacks.

use std::fs;

use nix::unistd::geteuid;
use shared::wire::worker::Layers;

use super::Hostile;

/// What it takes to be another user and to empty the bounding set, by the numbers of `capabilities(7)`: `CAP_SETGID`,
/// `CAP_SETUID`, `CAP_SETPCAP`. Whoever lacks `CAP_SYS_ADMIN` makes a user namespace first, in step 3, and has no id
/// there that could be changed.
const RIGHTS: u64 = (1 << 6) | (1 << 7) | (1 << 8) | (1 << 21);
/// The ids of workers, as step 5 gives them out.
const FIRST_ID: u64 = 2_000_000_000;
const LAST_ID: u64 = FIRST_ID + (1 << 22);

#[track_caller]
fn expect_held(layers: Layers) {
    let held = Hostile::start(Layers::ALL, "nothing", "").held;
    assert_eq!(layers.without(held), Layers::NONE, "this machine and this user can put them up");
}

/// A line of this process's status.
fn status(field: &str) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// Whether all ids of workers exist in this user namespace. A line has the first id here, the first outside, and how
/// many there are.
fn has_ids(map: &str) -> bool {
    let map = fs::read_to_string(format!("/proc/self/{map}")).unwrap();
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().filter_map(|number| number.parse::<u64>().ok());
        let (first, count) = (numbers.next(), numbers.nth(1));
        first.zip(count).is_some_and(|(first, count)| first <= FIRST_ID && first + count > LAST_ID)
    })
}

#[test]
fn who_may_give_ids_away_gives_a_worker_one_of_its_own_and_an_empty_bounding_set() {
    let rights = u64::from_str_radix(&status("CapEff"), 16).unwrap();
    if !geteuid().is_root() || rights & RIGHTS != RIGHTS || !["uid_map", "gid_map"].into_iter().all(has_ids) {
        eprintln!("SKIPPED: only root with its rights, and where there are such ids, can give them away");
        return;
    }
    expect_held(Layers::OWN_USER | Layers::EMPTY_BOUNDING_SET);
}

/// The kernel says of each process, in words, what `PR_GET_SPECULATION_CTRL` says by numbers.
#[test]
fn a_processor_that_can_be_kept_from_running_ahead_is_kept_in_a_worker() {
    let is = |state: &str, words: &[&str]| words.iter().any(|word| state.starts_with(word));
    let (writes, jumps) = (status("Speculation_Store_Bypass"), status("SpeculationIndirectBranch"));
    let can_write = is(&writes, &["not vulnerable", "thread ", "globally mitigated"]);
    // An architecture that has no such control says that it does not know.
    let can_jump = is(&jumps, &["not affected", "conditional ", "always disabled", "unknown"]);
    if !can_write || !can_jump {
        eprintln!("SKIPPED: a process cannot decide here: past writes {writes:?}, jumps {jumps:?}");
        return;
    }
    expect_held(Layers::NO_SPECULATION);
}

#[test]
fn a_kernel_that_can_keep_programs_apart_on_a_core_does_so_for_a_worker() {
    let own = std::process::id().to_string();
    let seen = Hostile::start(Layers::NONE, "meet-on-a-core", &own).seen();
    if ["EINVAL", "EPERM"].contains(&seen.as_str()) {
        eprintln!("SKIPPED: cores of one's own, of which the kernel says {seen}");
        return;
    }
    expect_held(Layers::OWN_CORE);
}
