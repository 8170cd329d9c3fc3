//! Steps 1 and 2: a worker that was not started as the supervisor starts workers ends before it does anything.

use std::process::{Command, Stdio};

use shared::wire::worker::WorkerExit;

#[test]
fn a_worker_whose_parent_is_not_the_one_it_was_told_does_not_start() {
    let own = std::process::id();
    let (exit, words) = start(own + 1, &[]);
    assert_eq!(exit, Some(WorkerExit::Jail), "{words}");
    assert!(words.contains("step 1"), "{words}");
    assert_comes_as_far_as_its_socket(own);
}

#[test]
fn a_worker_with_a_variable_in_its_environment_does_not_start() {
    let own = std::process::id();
    let (exit, words) = start(own, &[("PICLOUD_SECRET_KEY", "secret")]);
    assert_eq!(exit, Some(WorkerExit::Jail), "{words}");
    assert!(words.contains("step 2") && words.contains("1 variables"), "{words}");
    assert_comes_as_far_as_its_socket(own);
}

/// With nothing wrong but that its standard input is no socket, so that what ends the others is their step.
#[track_caller]
fn assert_comes_as_far_as_its_socket(parent: u32) {
    let (exit, words) = start(parent, &[]);
    assert_eq!(exit, Some(WorkerExit::Socket), "{words}");
}

/// How a worker ends that is started by hand, and what it said.
fn start(parent: u32, variables: &[(&str, &str)]) -> (Option<WorkerExit>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hostile-worker"))
        .args([parent.to_string().as_str(), "", "nothing", ""])
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let exit = output.status.code().and_then(WorkerExit::from_code);
    (exit, String::from_utf8(output.stderr).unwrap())
}
