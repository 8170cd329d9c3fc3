use std::io::{BufRead, BufReader};

use serde_json::{Value, json};

use crate::sandbox::Sandbox;
use crate::server::{Server, problem};

fn execution(id: &str, status: &str) -> Value {
    json!({
        "id": id, "script": "hello", "version": 2, "status": status, "started_at": "2026-01-02T03:04:05.6Z",
        "duration_ms": 12.5, "fuel": 1000, "peak_memory_bytes": 1_048_576, "host_calls": 0
    })
}

fn with_log(mut execution: Value, message: &str) -> Value {
    execution["logs"] = json!([{ "level": "warn", "message": message, "data": "" }]);
    execution
}

#[test]
fn executions_are_a_table_and_filters_are_sent() {
    let target = "GET /apps/blog/executions?script=hello&status=timeout&limit=5";
    let page = json!({ "items": [execution("e1", "timeout")], "next_cursor": null });
    let (sandbox, server) = (Sandbox::new(), Server::default().on(target, 200, page).start());
    let args = ["executions", "--app", "blog", "--script", "hello", "--status", "timeout", "--limit", "5"];
    let ran = sandbox.pic_at(&server.url, &args);
    assert_eq!(
        ran.stdout,
        "\
STARTED               STATUS   SCRIPT   DURATION  FUEL   MEMORY   ID
2026-01-02 03:04:05Z  timeout  hello@2  12.5 ms   1.00k  1.0 MiB  e1
"
    );
    assert_eq!(sandbox.pic_at(&server.url, &["executions", "--status", "sleepy"]).code, 2);
}

#[test]
fn cursors_are_followed_until_there_is_enough() {
    let page = |ids: [&str; 2], cursor: Value| json!({ "items": ids.map(|id| execution(id, "ok")), "next_cursor": cursor });
    let server = Server::default()
        .on("GET /apps/default/executions?limit=3", 200, page(["e4", "e3"], json!("c&1")))
        .on("GET /apps/default/executions?limit=1&cursor=c%261", 200, page(["e2", "e1"], json!("c2")))
        .start();
    let ran = Sandbox::new().pic_at(&server.url, &["executions", "--limit", "3", "-o", "json"]);
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
    let ids: Vec<_> = answer["items"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect();
    assert_eq!(ids, ["e4", "e3", "e2"]);
}

#[test]
fn logs_are_told_oldest_first_with_the_failures() {
    let mut failed = execution("e2", "script_error");
    failed["error"] = json!({ "message": "boom", "script": "hello", "line": 1, "column": 2 });
    let page = json!({ "items": [failed, execution("e1", "ok")], "next_cursor": null });
    let server = Server::default()
        .on("GET /apps/default/executions?limit=20", 200, page)
        // The list has no logs, so each is asked for.
        .on("GET /apps/default/executions/e1", 200, with_log(execution("e1", "ok"), "first"))
        .on("GET /apps/default/executions/e2", 200, {
            failed = execution("e2", "script_error");
            failed["error"] = json!({ "message": "boom", "script": "hello", "line": 1, "column": 2 });
            with_log(failed, "second")
        })
        .start();
    let ran = Sandbox::new().pic_at(&server.url, &["logs"]);
    assert_eq!(
        ran.stdout,
        "\
2026-01-02 03:04:05Z hello@2 WARN  first
2026-01-02 03:04:05Z hello@2 WARN  second
2026-01-02 03:04:05Z hello@2 script_error: boom (hello:1:2) (12.5 ms, 1.00k fuel, 1.0 MiB)
"
    );
}

#[test]
fn following_shows_events_of_the_wanted_script_and_resumes_a_broken_stream() {
    let line = |script: &str, message: &str| json!({ "execution": "e9", "script": script, "version": 2, "level": "info", "message": message });
    let first = format!(
        ": open\n\nid: 41\nevent: log\ndata: {}\n\nid: 42\nevent: log\ndata: {}\n\n",
        line("hello", "one"),
        line("other", "hidden")
    );
    let second = format!(
        "event: gap\ndata: {{\"missed\":7}}\n\nevent: execution\ndata: {}\n\nid: 43\nevent: execution\ndata: {}\n\n",
        execution("e8", "ok"),
        execution("e9", "timeout")
    );
    let gone = problem(401, "unauthenticated", "A valid credential is needed", "the session has ended");
    let target = "GET /apps/default/logs:tail";
    let server = Server::default()
        .on_text(target, 200, "text/event-stream", &first)
        .on_text(target, 200, "text/event-stream", &second)
        .on(target, 401, gone)
        .start();
    let ran = Sandbox::new().pic_at(&server.url, &["logs", "-f", "--script", "hello"]);
    assert_eq!(ran.code, 3);
    assert_eq!(
        ran.stdout,
        "hello@2 INFO  one\n2026-01-02 03:04:05Z hello@2 timeout (12.5 ms, 1.00k fuel, 1.0 MiB)\n"
    );
    assert!(ran.stderr.contains("warning: 7 executions passed unseen"), "{}", ran.stderr);
    let resumed: Vec<_> =
        server.asked().iter().map(|asked| asked.header("last-event-id").map(ToOwned::to_owned)).collect();
    assert_eq!(resumed, [None, Some("42".to_owned()), Some("43".to_owned())]);
}

#[test]
fn a_line_is_shown_while_the_stream_is_open() {
    use std::io::Write;

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut command = Sandbox::new().command(&["logs", "-f", "-o", "json"]);
    // The sandbox is gone by now, and nothing of it is needed.
    command.current_dir("/").env("PICLOUD_URL", url).env("PICLOUD_TOKEN", "t");
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut stream, _) = listener.accept().unwrap();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    for number in 1..=3 {
        let event = format!("data: {{\"n\":{number}}}\n\n");
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), format!("{{\"n\":{number}}}"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_rollback_says_what_is_live() {
    let target = "POST /apps/default/scripts/hello/rollback";
    let server = Server::default().on(target, 200, json!({ "name": "hello", "version": 3 })).start();
    let ran = Sandbox::new().pic_at(&server.url, &["rollback", "hello", "3"]);
    assert_eq!(ran.stdout, "Version 3 of hello is live in app default.\n");
    assert_eq!(server.asked()[0].body, json!({ "version": 3 }));
}

#[test]
fn scripts_routes_and_apps_are_listed() {
    let page = |items: Value| json!({ "items": items, "next_cursor": null });
    let script =
        json!({ "id": "s", "name": "hello", "kind": "endpoint", "version": 2, "description": "a\nb" });
    let route = json!({
        "id": "r1", "method": null, "path": "/hello/:name", "script": "hello", "dispatch_mode": "sync"
    });
    let versions = json!([{ "version": 2, "bundle_hash": "0123456789abcdef", "created_at": "2026-01-02T03:04:05.6Z", "is_live": true }]);
    let server = Server::default()
        .on("GET /apps/default/scripts?limit=200", 200, page(json!([script])))
        .on("GET /apps/default/scripts/hello/versions?limit=200", 200, page(versions))
        .on("GET /apps/default/routes?limit=200", 200, page(json!([route])))
        .on("GET /apps?limit=200", 200, page(json!([])))
        .start();
    let pic = |args: &[&str]| Sandbox::new().pic_at(&server.url, args);
    assert_eq!(
        pic(&["scripts", "ls"]).stdout,
        "SCRIPT  KIND      VERSION  STATE  DESCRIPTION\nhello   endpoint  2        on     a\\nb\n"
    );
    assert_eq!(
        pic(&["scripts", "versions", "hello"]).stdout,
        "VERSION  CREATED               BUNDLE              ASKS FOR\n2        2026-01-02 03:04:05Z  0123456789ab  live\n"
    );
    assert_eq!(
        pic(&["routes", "ls"]).stdout,
        "METHOD  PATH          SCRIPT  MODE  HOST  ID\nANY     /hello/:name  hello   sync  any   r1\n"
    );
    let ran = pic(&["apps", "ls"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "", "There are no apps.\n"));
}

#[test]
fn things_are_made_and_removed() {
    let server = Server::default()
        .on("POST /apps", 201, json!({ "id": "a", "slug": "blog", "name": "blog" }))
        .on("DELETE /apps/blog?force=true", 204, json!(null))
        .on("POST /apps/default/routes", 201, json!({ "id": "r1" }))
        .on("DELETE /apps/default/routes/r%2F1", 204, json!(null))
        .on("DELETE /apps/default/scripts/hello?force=true", 204, json!(null))
        .start();
    let sandbox = Sandbox::new();
    for args in [
        &["apps", "create", "blog"][..],
        &["apps", "rm", "blog", "--force"],
        &["routes", "add", "/x/*", "hello", "--method", "post", "--dispatch-mode", "async"],
        &["routes", "rm", "r/1"],
        &["scripts", "rm", "hello", "--force"],
    ] {
        let ran = sandbox.pic_at(&server.url, args);
        assert_eq!(ran.code, 0, "{args:?} {ran:?}");
    }
    assert_eq!(server.asked()[0].body, json!({ "slug": "blog", "name": "blog" }));
    let route = json!({ "method": "POST", "path": "/x/*", "script": "hello", "dispatch_mode": "async" });
    assert_eq!(server.asked()[2].body, route);
}

#[test]
fn the_app_comes_from_the_environment_unless_named() {
    let page = json!({ "items": [], "next_cursor": null });
    let server = Server::default()
        .on("GET /apps/shop/scripts?limit=200", 200, page.clone())
        .on("GET /apps/blog/scripts?limit=200", 200, page)
        .start();
    let sandbox = Sandbox::new();
    for (args, app) in [(&["scripts", "ls"][..], "shop"), (&["scripts", "ls", "--app", "blog"], "blog")] {
        let mut command = sandbox.command(args);
        command.env("PICLOUD_URL", &server.url).env("PICLOUD_TOKEN", "t").env("PICLOUD_APP", "shop");
        assert!(command.output().unwrap().status.success());
        assert_eq!(server.lines().last().unwrap(), &format!("GET /apps/{app}/scripts?limit=200"));
    }
}
