use serde_json::{Value, json};

use crate::sandbox::Sandbox;
use crate::server::{Server, problem};

#[test]
fn a_problem_is_told_with_detail_code_and_request() {
    let refusal = problem(409, "conflict", "The change contradicts what exists", "slug blog is taken");
    let server = Server::default().on("POST /apps", 409, refusal).start();
    let sandbox = Sandbox::new();
    let ran = sandbox.pic_at(&server.url, &["apps", "create", "blog"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert_eq!(
        ran.stderr,
        "error: The change contradicts what exists\n  slug blog is taken\n  code conflict, request req-1\n"
    );
    let ran = sandbox.pic_at(&server.url, &["apps", "create", "blog", "-o", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&ran.stderr).unwrap()["code"], "conflict");
}

#[test]
fn exit_codes_tell_the_kinds_apart() {
    let cases = [(403, "forbidden", 3), (404, "not_found", 4), (503, "overloaded", 5), (500, "internal", 1)];
    for (status, code, exit) in cases {
        let server = Server::default()
            .on("GET /auth/me", status, problem(status, code, "a title", "a detail"))
            .start();
        let ran = Sandbox::new().pic_at(&server.url, &["whoami"]);
        assert_eq!(ran.code, exit, "{ran:?}");
        assert!(ran.stderr.contains(code), "{}", ran.stderr);
    }
}

#[test]
fn a_server_that_is_not_there_is_named_with_advice() {
    // Nothing listens on port 1.
    let ran = Sandbox::new().pic_at("http://127.0.0.1:1", &["whoami"]);
    assert_eq!(ran.code, 5);
    assert!(ran.stderr.starts_with("error: cannot reach http://127.0.0.1:1\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("is the server running?"), "{}", ran.stderr);
    assert!(ran.stderr.contains("picloud serve"), "{}", ran.stderr);
}

#[test]
fn a_login_that_ended_is_told_apart_from_a_wrong_password() {
    let refusal = problem(401, "unauthenticated", "A valid credential is needed", "the session has ended");
    let server = Server::default().on("GET /auth/me", 401, refusal).start();
    let ran = Sandbox::new().pic_at(&server.url, &["whoami"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.ends_with("help: the login may have expired; run `pic login`\n"), "{}", ran.stderr);
}

#[test]
fn without_a_login_nothing_is_sent() {
    let ran = Sandbox::new().pic(&["scripts", "ls"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.starts_with("error: not logged in at http://127.0.0.1:8080\n"), "{}", ran.stderr);
}

#[test]
fn another_kind_of_server_is_recognised() {
    let server = Server::default().on_text("GET /auth/me", 200, "text/html", "<html>hello</html>").start();
    let ran = Sandbox::new().pic_at(&server.url, &["whoami"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("is this the address of a PiCloud server"), "{}", ran.stderr);
    let server = Server::default().on("GET /apps?limit=200", 200, json!([])).start();
    assert_eq!(Sandbox::new().pic_at(&server.url, &["apps", "ls"]).code, 1);
}

#[test]
fn wrong_usage_is_exit_code_two() {
    for args in [
        &["frobnicate"][..],
        &["rollback", "hello", "0"],
        &["executions", "--limit", "0"],
        &["invoke", "hello", "-H", "no colon"],
        &["whoami", "--url", "localhost:8080"],
        &["whoami", "-o", "yaml"],
    ] {
        let ran = Sandbox::new().pic(args);
        assert_eq!(ran.code, 2, "{args:?} {ran:?}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let sandbox = Sandbox::new();
    let mut child = sandbox.command(&["completions", "bash"]).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn completions_need_no_server() {
    let ran = Sandbox::new().pic(&["completions", "zsh"]);
    assert_eq!(ran.code, 0);
    assert!(ran.stdout.starts_with("#compdef pic"), "{}", ran.stdout);
}

#[test]
fn the_help_lists_the_exit_codes() {
    let ran = Sandbox::new().pic(&["--help"]);
    assert!(ran.stdout.contains("5  the server cannot be reached or is not available"), "{}", ran.stdout);
}
