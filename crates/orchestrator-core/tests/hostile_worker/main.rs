//! A compromised worker against the pool: whatever it sends, it is killed, its executions are told
//! so, and the pool goes on with a replacement.
//!
//! This program plays both parts, so it has no test harness: started with the worker's argument it
//! is the worker, which the pool wants to have one thread only.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "this is what test runners read")]

mod blame;
mod introduction;
mod lingering;
mod parent;
mod spares;
mod tenancy;
mod turns;
mod worker;

use shared::incident::Misconduct::{self, Crash, ForbiddenCall, Protocol, Unresponsive};
use shared::invocation::ExecutionStatus::{self, Ok as Fine, Timeout, WorkerLost};
use shared::wire::worker::WORKER_ARG;

/// What is proved, how the worker behaves, what its execution comes to, and of what the execution is
/// suspected.
type Behaviour = (&'static str, &'static str, ExecutionStatus, Option<Misconduct>);

const BEHAVIOURS: &[Behaviour] = &[
    ("an_honest_answer_is_delivered", "honest", Fine, None),
    ("a_frame_about_an_unknown_slot_kills_the_worker", "unknown-slot", WorkerLost, Some(Protocol)),
    ("a_frame_about_an_idle_slot_kills_the_worker", "idle-slot", WorkerLost, Some(Protocol)),
    ("a_result_of_a_finished_generation_kills_the_worker", "old-generation", WorkerLost, Some(Protocol)),
    ("a_result_of_a_future_generation_kills_the_worker", "new-generation", WorkerLost, Some(Protocol)),
    ("a_length_of_four_gigabytes_kills_the_worker", "huge-length", WorkerLost, Some(Protocol)),
    ("a_body_over_the_executions_limit_kills_the_worker", "long-body", WorkerLost, Some(Protocol)),
    ("an_empty_result_kills_the_worker", "empty-body", WorkerLost, Some(Protocol)),
    ("a_frame_of_unknown_kind_kills_the_worker", "unknown-kind", WorkerLost, Some(Protocol)),
    ("a_second_hello_kills_the_worker", "second-hello", WorkerLost, Some(Protocol)),
    ("a_reserved_byte_that_is_set_kills_the_worker", "reserved-byte", WorkerLost, Some(Protocol)),
    ("bytes_after_a_result_kill_the_worker", "trailing-bytes", WorkerLost, Some(Protocol)),
    ("rubbish_for_a_result_kills_the_worker", "rubbish", WorkerLost, Some(Protocol)),
    ("a_compilers_answer_to_a_run_kills_the_worker", "compiled", WorkerLost, Some(Protocol)),
    ("a_call_that_does_not_exist_kills_the_worker", "unknown-call", WorkerLost, Some(Protocol)),
    ("a_log_line_that_is_no_text_kills_the_worker", "broken-line", WorkerLost, Some(Protocol)),
    ("a_flood_of_notices_is_refused", "flood", WorkerLost, Some(Protocol)),
    ("a_call_is_answered", "call", Fine, None),
    ("a_waiting_call_that_does_not_exist_kills_the_worker", "call-unknown", WorkerLost, Some(Protocol)),
    ("a_call_that_nobody_answers_kills_the_worker", "call-one-way", WorkerLost, Some(Protocol)),
    ("a_call_about_an_idle_slot_kills_the_worker", "call-idle-slot", WorkerLost, Some(Protocol)),
    ("a_call_of_a_finished_execution_kills_the_worker", "call-old-generation", Fine, Some(Protocol)),
    ("a_second_call_before_the_answer_kills_the_worker", "call-twice", WorkerLost, Some(Protocol)),
    ("a_call_over_the_limit_kills_the_worker", "call-too-long", WorkerLost, Some(Protocol)),
    ("a_result_before_the_answer_kills_the_worker", "call-and-result", WorkerLost, Some(Protocol)),
    ("a_call_with_forged_arguments_kills_the_worker", "call-forged", WorkerLost, Some(Protocol)),
    ("a_call_beyond_the_budget_is_refused", "call-over-budget", Fine, None),
    ("a_flood_of_calls_kills_the_worker", "call-flood", WorkerLost, Some(Protocol)),
    ("a_call_that_takes_too_long_ends_at_the_deadline", "call-for-ever", Timeout, None),
    ("a_worker_that_ends_in_the_middle_loses_its_execution", "exit", WorkerLost, Some(Crash)),
    ("a_worker_that_ends_when_nothing_runs_is_reported", "answer-and-exit", Fine, Some(Crash)),
    ("a_worker_that_crashes_loses_its_execution", "crash", WorkerLost, Some(Crash)),
    ("a_worker_that_makes_a_forbidden_call_is_reported", "forbidden-call", WorkerLost, Some(ForbiddenCall)),
    ("a_second_result_kills_the_worker_and_changes_nothing", "two-results", Fine, Some(Protocol)),
    ("a_result_that_names_another_app_is_only_bytes", "claims-an-app", Fine, None),
    ("a_log_line_nested_without_end_is_only_text", "nested-bomb", Fine, None),
    ("words_without_end_on_standard_error_find_it_closed", "shouts", Fine, None),
    ("half_a_frame_and_then_silence_ends_at_the_deadline", "half-frame", Timeout, Some(Unresponsive)),
    ("silence_ends_at_the_deadline", "silence", Timeout, Some(Unresponsive)),
    ("attack_49_a_worker_that_answers_and_works_on_is_killed", "answer-and-spin", Fine, Some(Unresponsive)),
];

/// What is proved of where executions run, and how.
const TENANCY: &[(&str, fn())] = &[
    ("a_worker_that_does_not_read_is_killed_long_before_its_deadlines", parent::endures_the_deaf),
    (
        "a_worker_with_fewer_walls_than_the_mode_needs_gets_no_work",
        tenancy::a_weaker_replacement_gets_no_work,
    ),
    (
        "a_worker_that_claims_limits_it_has_not_is_found_out",
        tenancy::a_claim_that_the_kernel_denies_is_found_out,
    ),
    ("attack_47_a_worker_with_a_descriptor_more_gets_no_work", introduction::a_descriptor_more_is_found_out),
    ("attack_47_a_worker_with_a_thread_more_gets_no_work", introduction::a_thread_more_is_found_out),
    (
        "attack_47_a_worker_that_only_claims_its_walls_gets_no_work",
        introduction::walls_that_are_only_claimed_are_found_out,
    ),
    ("a_worker_that_tells_no_lie_is_employed", introduction::who_tells_no_lie_is_employed),
    ("two_owners_never_meet_in_a_worker", tenancy::two_owners_never_meet_in_a_worker),
    ("one_owner_has_all_workers_while_nobody_else_wants_one", tenancy::one_owner_has_all_workers),
    ("sixty_owners_are_all_answered_by_few_workers", tenancy::sixty_owners_are_all_answered_by_few_workers),
    ("a_worker_of_strict_isolation_runs_one_execution_at_a_time", tenancy::strict_workers_run_one_execution),
    ("one_app_has_half_of_the_slots_or_what_is_set", tenancy::one_app_has_half_of_the_slots_or_what_is_set),
    ("attack_invoke_is_no_way_around_an_apps_share", tenancy::invoke_is_no_way_around_an_apps_share),
    (
        "attack_limits_of_memory_do_not_add_up_to_more_than_a_worker_has",
        tenancy::limits_of_memory_do_not_add_up_to_more_than_a_worker_has,
    ),
    (
        "attack_limits_of_memory_do_not_add_up_over_the_workers_of_one_owner",
        tenancy::limits_of_memory_do_not_add_up_over_workers,
    ),
    ("attack_small_jobs_do_not_starve_large_ones", tenancy::small_jobs_do_not_starve_large_ones),
    (
        "a_watched_script_that_is_invoked_waits_for_a_worker_of_its_own",
        tenancy::a_watched_script_that_is_invoked_gets_a_worker,
    ),
    (
        "a_called_script_gets_a_worker_where_each_has_one_slot",
        tenancy::a_called_script_gets_a_worker_where_each_has_one_slot,
    ),
    ("a_worker_of_some_age_is_replaced", tenancy::a_worker_of_some_age_is_replaced),
    ("attack_49_a_worker_that_is_evicted_does_not_stay", lingering::who_is_evicted_does_not_stay),
    ("attack_49_a_worker_that_is_recycled_does_not_stay", lingering::who_is_recycled_does_not_stay),
    (
        "attack_a_long_execution_in_a_worker_that_leaves_locks_nobody_out",
        tenancy::a_busy_worker_that_leaves_is_replaced_at_once,
    ),
    ("a_full_pool_still_lets_the_maker_test", tenancy::a_full_pool_still_lets_the_maker_test),
    (
        "a_full_pool_of_single_slots_still_lets_the_maker_test",
        tenancy::a_full_strict_pool_still_lets_the_maker_test,
    ),
    (
        "a_full_pool_of_others_still_lets_the_maker_test",
        tenancy::a_full_pinned_pool_still_lets_the_maker_test,
    ),
    (
        "attack_two_apps_of_one_owner_keep_no_other_owner_out",
        tenancy::one_owners_apps_do_not_keep_another_owner_out,
    ),
    (
        "attack_watched_scripts_do_not_multiply_an_owners_workers",
        tenancy::watched_scripts_do_not_multiply_an_owners_workers,
    ),
    ("test_runs_of_one_app_do_not_take_the_whole_pool", tenancy::test_runs_do_not_take_the_whole_pool),
    ("what_waits_is_not_given_to_a_worker_that_lies", tenancy::what_waits_is_not_given_to_a_liar),
    ("attack_47_frames_of_which_anything_is_changed", parent::endures_changed_frames),
    ("attack_47_a_call_that_comes_with_rubbish_is_not_carried_out", parent::endures_a_call_beside_rubbish),
    ("who_shares_a_lost_worker_is_told_apart_by_the_next", blame::neighbours_are_told_apart),
    ("a_watched_script_runs_in_a_worker_of_its_own", blame::a_watched_script_runs_alone),
    (
        "a_script_that_had_its_worker_to_itself_is_blamed_from_the_first_time",
        blame::who_runs_alone_is_blamed_from_the_first_time,
    ),
    ("a_script_is_blamed_once_for_a_lost_worker", blame::who_ran_often_is_blamed_once),
    ("what_waited_is_not_set_apart_when_nobody_was_to_blame", blame::what_waits_stays_where_it_is),
    (
        "a_script_is_not_blamed_alone_for_a_worker_that_others_have_used",
        blame::whoever_ran_before_may_be_the_reason,
    ),
    ("attack_a_queue_of_crashes_costs_one_shared_worker", blame::what_waits_is_set_apart),
    (
        "what_waits_is_refused_once_its_script_is_quarantined",
        blame::what_waits_is_refused_once_it_is_quarantined,
    ),
    ("attack_a_compilation_that_ends_its_worker_is_set_apart", blame::compilations_are_suspected),
    ("attack_workers_that_end_again_and_again_keep_nobody_waiting", blame::who_ends_workers_delays_nobody),
    ("a_spare_that_died_while_it_waited_is_given_no_work", spares::who_died_while_it_waited_is_given_no_work),
    ("an_ignored_deadline_ends_the_worker_and_spares_the_others", blame::an_ignored_deadline_ends_the_worker),
    ("a_full_queue_refuses_at_once", tenancy::a_full_queue_refuses_at_once),
    ("an_app_that_burns_much_waits_for_one_that_does_not", turns::who_burns_much_waits_for_who_does_not),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == WORKER_ARG) {
        worker::play();
    }
    let is_flag = |flag: &str| args.iter().any(|arg| arg == flag);
    if is_flag("--list") {
        if !is_flag("--ignored") {
            let names = BEHAVIOURS.iter().map(|(name, ..)| name).chain(TENANCY.iter().map(|(name, _)| name));
            names.for_each(|name| println!("{name}: test"));
        }
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
    let mut run = |name: &str, test: &dyn Fn()| {
        if is_wanted(name) {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
            has_failed |= result.is_err();
            println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        }
    };
    for (name, behaviour, expected, misconduct) in BEHAVIOURS {
        run(name, &|| parent::endures(behaviour, *expected, *misconduct));
    }
    for (name, test) in TENANCY {
        run(name, test);
    }
    std::process::exit(if has_failed { 101 } else { 0 });
}
