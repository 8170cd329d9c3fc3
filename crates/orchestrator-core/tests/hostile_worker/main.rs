//! A compromised worker against the pool: whatever it sends, it is killed, its executions are told
//! so, and the pool goes on with a replacement.
//!
//! This program plays both parts, so it has no test harness: started with the worker's argument it
//! is the worker, which the pool wants to have one thread only.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "this is what test runners read")]

mod parent;
mod worker;

use shared::invocation::ExecutionStatus::{self, Ok as Fine, Timeout, WorkerLost};
use shared::wire::worker::WORKER_ARG;

/// What is proved, how the worker behaves, and what its execution comes to.
const TESTS: &[(&str, &str, ExecutionStatus)] = &[
    ("an_honest_answer_is_delivered", "honest", Fine),
    ("a_frame_about_an_unknown_slot_kills_the_worker", "unknown-slot", WorkerLost),
    ("a_frame_about_an_idle_slot_kills_the_worker", "idle-slot", WorkerLost),
    ("a_result_of_a_finished_generation_kills_the_worker", "old-generation", WorkerLost),
    ("a_result_of_a_future_generation_kills_the_worker", "new-generation", WorkerLost),
    ("a_length_of_four_gigabytes_kills_the_worker", "huge-length", WorkerLost),
    ("a_body_over_the_executions_limit_kills_the_worker", "long-body", WorkerLost),
    ("an_empty_result_kills_the_worker", "empty-body", WorkerLost),
    ("a_frame_of_unknown_kind_kills_the_worker", "unknown-kind", WorkerLost),
    ("a_second_hello_kills_the_worker", "second-hello", WorkerLost),
    ("a_reserved_byte_that_is_set_kills_the_worker", "reserved-byte", WorkerLost),
    ("bytes_after_a_result_kill_the_worker", "trailing-bytes", WorkerLost),
    ("rubbish_for_a_result_kills_the_worker", "rubbish", WorkerLost),
    ("a_call_that_does_not_exist_kills_the_worker", "unknown-call", WorkerLost),
    ("a_log_line_that_is_no_text_kills_the_worker", "broken-line", WorkerLost),
    ("a_flood_of_notices_is_refused", "flood", WorkerLost),
    ("a_worker_that_ends_in_the_middle_loses_its_execution", "exit", WorkerLost),
    ("a_second_result_kills_the_worker_and_changes_nothing", "two-results", Fine),
    ("half_a_frame_and_then_silence_ends_at_the_deadline", "half-frame", Timeout),
    ("silence_ends_at_the_deadline", "silence", Timeout),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == WORKER_ARG) {
        worker::play();
    }
    let is_flag = |flag: &str| args.iter().any(|arg| arg == flag);
    if is_flag("--list") {
        let shown = if is_flag("--ignored") { &[][..] } else { TESTS };
        shown.iter().for_each(|(name, ..)| println!("{name}: test"));
        return;
    }
    let filters: Vec<_> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let is_wanted = |name: &str| {
        filters.is_empty()
            || filters.iter().any(|filter| {
                if is_flag("--exact") { name == filter.as_str() } else { name.contains(filter.as_str()) }
            })
    };
    let mut has_failed = false;
    for (name, behaviour, expected) in TESTS.iter().filter(|(name, ..)| is_wanted(name)) {
        let result = std::panic::catch_unwind(|| parent::endures(behaviour, *expected));
        has_failed |= result.is_err();
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
    }
    std::process::exit(if has_failed { 101 } else { 0 });
}
