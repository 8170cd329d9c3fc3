//! What is kept of every execution, and how to watch them.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{NO_LIMITS, TestApp, TestServer, eventually};

fn list(app: &TestApp<'_>, query: &str) -> Vec<Value> {
    let list = app.admin("GET", &format!("/executions{query}"), &Value::Null).is(200).json();
    list["items"].as_array().unwrap().clone()
}

fn text_of(line: &Value) -> (&str, &str) {
    (line["level"].as_str().unwrap(), line["message"].as_str().unwrap())
}

#[test]
fn an_execution_is_kept_with_what_it_used_and_what_it_logged() {
    let server = TestServer::shared();
    let app = server.app();
    let source = r#"
        log::trace("one"); log::info("two", #{ a: [1, ()] }); log::warn(3); log::error("four");
        print("printed"); debug("debugged");
        "done"
    "#;
    let reply = app.run("talk", source, &NO_LIMITS);
    reply.is(200);
    let record = app.execution_of(&reply);
    assert_eq!((&record["script"], &record["version"]), (&json!("talk"), &json!(1)));
    assert_eq!((&record["status"], &record["http_status"]), (&json!("ok"), &json!(200)));
    assert_eq!(record["invocation_type"], "http");
    assert_eq!(record["error"], Value::Null);
    assert!(record["fuel"].as_u64().unwrap() > 1_000, "{record}");
    assert!(record["peak_memory_bytes"].as_u64().unwrap() > 100_000, "{record}");
    assert!(record["duration_ms"].as_f64().unwrap() > 0.0, "{record}");
    assert!(record["started_at"].as_str().unwrap().starts_with("20"), "{record}");
    assert_eq!(record["host_calls"], 0, "log lines are not counted");
    let logs = record["logs"].as_array().unwrap();
    let lines: Vec<_> = logs.iter().map(text_of).collect();
    let expected = [
        ("trace", "one"),
        ("info", "two"),
        ("warn", "3"),
        ("error", "four"),
        ("info", "printed"),
        ("trace", "\"debugged\""),
    ];
    assert_eq!(lines, expected);
    assert_eq!(logs[1]["data"], json!({ "a": [1, null] }));
    // The list shows everything but the logs.
    let item = &list(&app, "")[0];
    assert_eq!((&item["id"], item.get("logs")), (&record["id"], None));
}

#[test]
fn a_log_is_cut_off_at_its_limit_and_says_so() {
    let server = TestServer::shared();
    let app = server.app();
    let long = "let s = \"\"; s.pad(100000, 'x'); for i in 0..10000 { log::info(s); } 1";
    let many = "for i in 0..100000 { log::info(i); } 1";
    for (name, source) in [("long", long), ("many", many)] {
        let reply = app.run(name, source, &NO_LIMITS);
        reply.is(200);
        let logs = app.execution_of(&reply)["logs"].clone();
        let logs = logs.as_array().unwrap();
        assert!(logs.len() <= 1_001, "{name}: {} lines", logs.len());
        let bytes: usize = logs.iter().map(|line| line["message"].as_str().unwrap().len()).sum();
        assert!(bytes <= (256 << 10) + 1_000, "{name}: {bytes} bytes");
        let last = logs.last().unwrap();
        assert_eq!(last["level"], "warn", "{name}: {last}");
    }
}

#[test]
fn executions_are_listed_by_script_and_status_newest_first_in_pages() {
    let server = TestServer::shared();
    let app = server.app();
    app.serve("good", "1", &NO_LIMITS);
    app.serve("bad", "throw \"no\"", &NO_LIMITS);
    for _ in 0..3 {
        app.get("/good").is(200);
        app.get("/bad").is(500);
    }
    eventually("all six are recorded", || (list(&app, "").len() == 6).then_some(()));
    let bad = list(&app, "?script=bad");
    assert_eq!(bad.len(), 3);
    assert!(bad.iter().all(|item| item["status"] == "script_error"), "{bad:?}");
    assert_eq!(list(&app, "?status=ok").len(), 3);
    app.admin("GET", "/executions?status=fine", &Value::Null).is(422).is_problem("invalid_input");

    let first = app.admin("GET", "/executions?limit=4", &Value::Null).is(200).json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = app.admin("GET", &format!("/executions?limit=4&cursor={cursor}"), &Value::Null).json();
    let items = |page: &Value| page["items"].as_array().unwrap().clone();
    let ids: Vec<_> = items(&first).iter().chain(&items(&rest)).map(|item| item["id"].clone()).collect();
    assert_eq!((ids.len(), &rest["next_cursor"]), (6, &Value::Null));
    let mut newest_first = ids.clone();
    newest_first.sort_by_key(|id| std::cmp::Reverse(id.as_str().map(ToOwned::to_owned)));
    assert_eq!(ids, newest_first);
    let other = server.app();
    let path = format!("/executions/{}", ids[0].as_str().unwrap());
    other.admin("GET", &path, &Value::Null).is(404).is_problem("not_found");
}

#[test]
fn failures_are_all_kept_under_load() {
    let server = TestServer::shared();
    let app = server.app();
    app.serve("bad", "throw \"no\"", &NO_LIMITS);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..25).for_each(|_| assert_eq!(app.get("/bad").status, 500)));
        }
    });
    eventually("all 200 failures are recorded", || {
        (list(&app, "?status=script_error&limit=200").len() == 200).then_some(())
    });
}

#[test]
fn the_tail_delivers_lines_and_ends_as_they_happen() {
    let server = TestServer::shared();
    let (app, other) = (server.app(), server.app());
    app.serve("talk", "log::info(\"a line\", 7); 1", &NO_LIMITS);
    other.serve("talk", "log::info(\"another app's line\"); 1", &NO_LIMITS);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = format!(
        "GET /api/v1/admin/apps/{}/logs:tail HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\n\r\n",
        app.slug,
        server.bearer()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("HTTP/1.1 200"));
    assert!(
        lines.by_ref().take_while(|line| !line.is_empty()).any(|line| line.contains("text/event-stream"))
    );

    other.get("/talk").is(200);
    let reply = app.get("/talk");
    let mut events = lines.filter_map(|line| {
        let (field, value) = line.split_once(": ")?;
        matches!(field, "event" | "data").then(|| value.to_owned())
    });
    assert_eq!(events.next().unwrap(), "log");
    let line: Value = serde_json::from_str(&events.next().unwrap()).unwrap();
    assert_eq!(
        (&line["level"], &line["message"], &line["data"]),
        (&json!("info"), &json!("a line"), &json!(7))
    );
    assert_eq!((&line["script"], &line["version"]), (&json!("talk"), &json!(1)));
    assert_eq!(events.next().unwrap(), "execution");
    let ended: Value = serde_json::from_str(&events.next().unwrap()).unwrap();
    assert_eq!(
        (&ended["status"], &ended["request_id"]),
        (&json!("ok"), &json!(reply.header("x-request-id")))
    );
    assert_eq!(ended["id"], line["execution"]);
}

#[test]
fn a_test_run_tells_everything_about_itself() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy(
        "try",
        "log::info(ctx.request.method); #{ statusCode: 202, body: ctx.request.body }",
        &NO_LIMITS,
    );
    let run = json!({ "method": "PUT", "path": "/x?y=1", "body": { "a": 1 } });
    let answer = app.admin("POST", "/scripts/try/invoke", &run).is(200).json();
    assert_eq!((&answer["status"], &answer["body"]), (&json!(202), &json!({ "a": 1 })));
    assert_eq!(answer["execution"]["status"], "ok");
    assert_eq!(answer["execution"]["logs"][0]["message"], "PUT");

    app.deploy("try", "let a = 1;\nthrow \"boom\"", &NO_LIMITS);
    let answer = app.admin("POST", "/scripts/try/invoke", &json!({})).is(200).json();
    assert_eq!((&answer["status"], &answer["body"]["code"]), (&json!(500), &json!("script_error")));
    assert_eq!(answer["execution"]["error"]["line"], 2);
}

#[test]
fn a_script_runs_by_its_id_for_whoever_may() {
    let server = TestServer::shared();
    let app = server.app();
    let id = app.deploy("direct", "ctx.request.method", &NO_LIMITS)["id"].as_str().unwrap().to_owned();
    let bearer = server.bearer();
    let headers = [("authorization", bearer.as_str())];
    let path = format!("/api/v1/execute/{id}");
    assert_eq!(server.client.send("PUT", "localhost", &path, &headers, b"x").is(200).json(), "PUT");
}
