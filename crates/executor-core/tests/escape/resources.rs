//! What a hostile worker can use up, and how it is ended.

use nix::unistd::geteuid;
use shared::wire::worker::Layers;

use std::process::Command;

use super::{Hostile, Row, Sibling, describe, expect_all, print_row, usual};

fn row<'a>(attack: &'a str, layers: Layers, expected: &'a str) -> Row<'a> {
    Row { attack, target: "", layers, expected }
}

#[test]
fn limits_alone_stop_processes_descriptors_and_memory() {
    // The kernel exempts root from the number of processes.
    let user = if geteuid().is_root() { Layers::OWN_USER | Layers::NO_CAPABILITIES } else { Layers::NONE };
    expect_all(&[
        row("fork", Layers::NONE, "done"),
        row("fork", user | Layers::LIMITS, "EAGAIN"),
        row("more-descriptors", Layers::NONE, "done"),
        row("more-descriptors", Layers::LIMITS, "EMFILE"),
        row("exhaust-memory", Layers::NONE, "1 TiB"),
        row("exhaust-memory", Layers::LIMITS, "ENOMEM"),
        // What the kernel does not count with what a process may write to.
        row("exhaust-stacks", Layers::NONE, "1 TiB"),
        row("exhaust-stacks", Layers::LIMITS, "ENOMEM"),
        row("exhaust-tables", Layers::NONE, "1 TiB"),
        row("exhaust-tables", Layers::LIMITS, "ENOMEM"),
    ]);
}

#[test]
fn the_filter_alone_stops_memory_that_grows_by_itself_or_was_set_aside() {
    let walls = Layers::SYSTEM_CALL_FILTER | Layers::NO_NEW_PRIVILEGES;
    expect_all(&[row("exhaust-stacks", walls, "SIGSYS"), row("exhaust-huge-pages", walls, "SIGSYS")]);
}

/// The parent reads so much of what a worker says and closes the pipe. A worker of ours then ends as it would
/// otherwise: not by the signal of a closed pipe, and not by a failure to say why it fails.
#[test]
fn a_worker_that_nobody_listens_to_ends_as_it_should() {
    let all = Hostile::start(Layers::ALL, "nothing", "").held;
    // Process 1 of a namespace would be deaf to that signal.
    for layers in [Layers::SYSTEM_CALL_FILTER | Layers::NO_NEW_PRIVILEGES, all] {
        let copy = Hostile::copy(usual(layers), "talk-to-nobody", "").end_unheard();
        let seen = Hostile::start(layers, "talk-to-nobody", "").end_unheard();
        print_row("talk-to-nobody", &describe(layers), "Exited(69)", &seen);
        print_row("talk-to-nobody", &format!("{}; a copy", describe(usual(layers))), "Exited(69)", &copy);
        assert_eq!([seen, copy], ["Exited(69)", "Exited(69)"]);
    }
}

/// A desktop may let its users go before everything else, and whoever is started there inherits it.
#[test]
fn limits_alone_take_away_an_inherited_right_to_run_in_real_time() {
    const RIGHT: &str = "-r 1";
    let given = Command::new("/bin/sh").args(["-c", &format!("ulimit {RIGHT}")]).output().unwrap();
    if !geteuid().is_root() || !given.status.success() {
        eprintln!("SKIPPED: only root can give that right, and not in every container");
        return;
    }
    let mut sibling = Sibling::start();
    let mut seen = |layers| {
        let command = with_limit(RIGHT, layers, "run-in-real-time");
        sibling.beside(|| Hostile::spawn(command).seen())
    };
    let user = Layers::OWN_USER | Layers::NO_CAPABILITIES;
    let without = seen(user);
    if without != "done" {
        eprintln!("SKIPPED: running in real time, which comes to {without} here without any wall");
        return;
    }
    let with = seen(user | Layers::LIMITS);
    print_row("run-in-real-time", &describe(user | Layers::LIMITS), "EPERM", &with);
    print_row("the sibling", "beside that", "well", &sibling.to_string());
    assert_eq!(with, "EPERM");
}

/// A hostile worker whose parent has another limit than this process.
fn with_limit(limit: &str, layers: Layers, attack: &str) -> Command {
    let limited = format!("ulimit {limit}; exec /usr/bin/env -i \"$0\" \"$@\"");
    let layers = layers.names().collect::<Vec<_>>().join(",");
    let parent = std::process::id().to_string();
    let mut command = Command::new("/bin/sh");
    // The shell has variables of its own, and a worker takes none.
    command.args(["-c", &limited, env!("CARGO_BIN_EXE_hostile-worker"), &parent, &layers, attack, ""]);
    command.env_clear();
    command
}

#[test]
fn memory_is_limited_behind_all_walls_too() {
    let layers = Hostile::start(Layers::ALL, "nothing", "").held;
    expect_all(&[
        row("exhaust-memory", layers, "ENOMEM"),
        row("exhaust-tables", layers, "ENOMEM"),
        row("exhaust-huge-pages", layers, "SIGSYS"),
    ]);
}

#[test]
fn a_worker_that_may_change_its_priority_cannot_go_before_everybody() {
    let layers = Hostile::start(Layers::ALL, "nothing", "").held;
    expect_all(&[row("run-in-real-time", layers, "EPERM"), row("raise-priority", layers, "EPERM")]);
}

#[test]
fn a_worker_that_spins_and_hears_no_signal_is_killed() {
    let mut sibling = Sibling::start();
    sibling.is_well();
    for is_copy in [false, true] {
        let mut hostile = match is_copy {
            false => Hostile::start(Layers::ALL, "spin", ""),
            true => Hostile::copy(Layers::USUAL, "spin", ""),
        };
        // What its layers lack comes first.
        while hostile.wait_for_word() != "seen spinning" {}
        // It spins until it is killed, so that these answers are given meanwhile.
        (0..10).for_each(|_| sibling.is_well());
        hostile.kill();
        let walls = format!("{}{}", describe(hostile.held), if is_copy { "; a copy" } else { "" });
        let seen = hostile.seen();
        sibling.is_well();
        print_row("spin", &walls, "SIGKILL", &seen);
        print_row("the sibling", "while that spins", "well", &sibling.to_string());
        assert_eq!(seen, "SIGKILL");
    }
}

#[test]
fn a_worker_holds_four_descriptors() {
    let walls = Layers::LIMITS | Layers::NO_NEW_PRIVILEGES;
    expect_all(&[row("descriptors", walls, "0 1 2 3")]);
}

#[test]
fn the_filter_costs_less_than_a_microsecond_for_each_call() {
    let nanoseconds = |layers| Hostile::start(layers, "time-calls", "").seen().parse::<i64>().unwrap();
    let (without, with) = (nanoseconds(Layers::NONE), nanoseconds(Layers::SYSTEM_CALL_FILTER));
    eprintln!("recvfrom takes {without} ns without the filter, {with} ns behind it");
    assert!(with - without < 1_000, "{without} ns without, {with} ns with");
}

/// Boards with 39-bit addresses have 512 GiB of them for a program, or less beside others; a slot takes
/// 4 GiB. A shell makes do for a smaller machine.
#[test]
fn a_worker_with_few_addresses_has_fewer_slots_and_works_behind_all_walls() {
    let slots = |gib: u64| {
        let command = with_limit(&format!("-v {}", gib << 20), Layers::ALL, "nothing");
        let hostile = Hostile::try_spawn_with(command, 16).unwrap();
        let slots = hostile.slots;
        assert_eq!(hostile.seen(), "done");
        slots
    };
    let seen = [(1_024, 16), (40, 8), (24, 4), (10, 1)].map(|(gib, expected)| (gib, expected, slots(gib)));
    eprintln!("GiB of addresses, slots expected, slots seen: {seen:?}");
    assert!(seen.iter().all(|(_, expected, seen)| expected == seen), "{seen:?}");
}
