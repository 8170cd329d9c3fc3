use serde_json::{Value, json};

use crate::sandbox::{Ran, Sandbox};
use crate::server::{Running, Server};

fn answer(status: u16, body: Value, execution: Value) -> Value {
    let mut full = json!({
        "id": "e1", "script": "hello", "version": 2, "status": "ok", "started_at": "2026-01-02T03:04:05.6Z",
        "duration_ms": 1.25, "fuel": 1_234_567, "peak_memory_bytes": 1_572_864, "host_calls": 1, "logs": []
    });
    for (name, value) in execution.as_object().unwrap() {
        full[name] = value.clone();
    }
    json!({ "status": status, "headers": {}, "body": body, "execution": full })
}

fn server(answer: Value) -> Running {
    Server::default().on("POST /apps/default/scripts/hello/invoke", 200, answer).start()
}

fn invoke(server: &Running, args: &[&str]) -> Ran {
    Sandbox::new().pic_at(&server.url, &[&["invoke", "hello"], args].concat())
}

#[test]
fn the_body_is_the_output_and_the_rest_is_beside_it() {
    let logs = json!([{ "level": "info", "message": "hi \u{1b}[31mthere", "data": "{\"n\":1}" }]);
    let server = server(answer(200, json!("Hello, world"), json!({ "logs": logs })));
    let ran = invoke(&server, &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "Hello, world"));
    assert_eq!(
        ran.stderr,
        "200 ok, hello@2, 1.25 ms, 1.23M fuel, 1.5 MiB\nINFO  hi \\u{1b}[31mthere {\"n\":1}\nexecution e1\n"
    );
    let request = json!({ "method": "GET", "path": "/", "headers": {} });
    assert_eq!(server.asked()[0].body, request);
}

#[test]
fn method_headers_query_and_data_reach_the_script() {
    let server = server(answer(200, json!({ "ok": true }), json!({})));
    let args =
        ["--path", "/x", "-H", "X-One: 1", "--query", "a=b=c", "--query", "a=2", "--data", r#"{"n":1}"#];
    let ran = invoke(&server, &args);
    assert_eq!(serde_json::from_str::<Value>(&ran.stdout).unwrap(), json!({ "ok": true }));
    assert_eq!(
        server.asked()[0].body,
        json!({
            "method": "POST", "path": "/x", "headers": { "x-one": "1", "content-type": "application/json" },
            "query": "a=b%3Dc&a=2", "body": "{\"n\":1}"
        })
    );
}

#[test]
fn data_comes_from_a_file_or_from_standard_input() {
    let (sandbox, server) = (Sandbox::new(), server(answer(200, json!(""), json!({}))));
    sandbox.write("body.txt", "from a file");
    assert_eq!(sandbox.pic_at(&server.url, &["invoke", "hello", "--data", "@body.txt"]).code, 0);
    assert_eq!(server.asked()[0].body["body"], "from a file");
    assert_eq!(server.asked()[0].body["headers"]["content-type"], "text/plain; charset=utf-8");
    assert_eq!(sandbox.pic_at(&server.url, &["invoke", "hello", "--data", "@missing"]).code, 1);
}

#[test]
fn bytes_and_json_come_out_as_they_are() {
    let with_type = |media: &str, body: Value| {
        let mut answer = answer(200, body, json!({}));
        answer["headers"] = json!({ "content-type": media });
        invoke(&server(answer), &[]).stdout
    };
    assert_eq!(with_type("application/octet-stream", json!({ "base64": "aGkA" })), "hi\0");
    assert_eq!(with_type("application/json", json!({ "base64": "aGkA" })), "{\n  \"base64\": \"aGkA\"\n}\n");
    assert_eq!(with_type("application/json", json!("text")), "\"text\"\n");
    assert_eq!(with_type("application/json", json!(null)), "null\n");
    assert_eq!(with_type("text/plain", json!("")), "");
}

#[test]
fn a_failed_script_fails_the_command_and_says_where() {
    let error = json!({ "message": "Variable not found: x", "script": "hello", "line": 3, "column": 7 });
    let body = json!({ "title": "The script failed", "status": 500 });
    let server = server(answer(500, body, json!({ "status": "script_error", "error": error })));
    let ran = invoke(&server, &[]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.starts_with("500 script_error, hello@2"), "{}", ran.stderr);
    assert!(ran.stderr.contains("error: Variable not found: x (hello:3:7)\n"), "{}", ran.stderr);
}

#[test]
fn an_answer_of_404_by_the_script_is_a_failure_and_not_a_missing_script() {
    let server = server(answer(404, json!("no such page"), json!({})));
    assert_eq!(invoke(&server, &[]).code, 1);
    assert_eq!(invoke(&server, &["-o", "json"]).code, 1);
}
