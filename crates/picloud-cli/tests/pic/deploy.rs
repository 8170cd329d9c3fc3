use serde_json::{Value, json};

use crate::sandbox::{Ran, Sandbox};
use crate::server::{Running, Server, problem};

const PUT: &str = "PUT /apps/default/scripts/hello";
const ROUTES: &str = "GET /apps/default/routes?limit=200";

fn deployed(version: u32) -> Value {
    json!({
        "id": "s1", "name": "hello", "kind": "endpoint", "version": version, "bundle_hash": "ab12",
        "limits": {}, "warnings": []
    })
}

fn route(method: Option<&str>, path: &str, script: &str) -> Value {
    json!({ "id": "r1", "method": method, "path": path, "script": script, "dispatch_mode": "sync", "host": null })
}

fn server(routes: &[Value]) -> Server {
    Server::default()
        .on(ROUTES, 200, json!({ "items": routes, "next_cursor": null }))
        .on(PUT, 201, deployed(1))
        .on("POST /apps/default/routes", 201, route(None, "/hello/:name", "hello"))
}

fn deploy(server: &Running, args: &[&str]) -> Ran {
    let sandbox = Sandbox::new();
    sandbox.write("hello.rhai", "\"Hello\"\n");
    sandbox.pic_at(&server.url, &[&["deploy", "hello.rhai"], args].concat())
}

#[test]
fn a_file_becomes_a_script_with_a_route_and_a_curl_line() {
    let server = server(&[]).start();
    let ran = deploy(&server, &["--route", "/hello/:name"]);
    let expected = format!(
        "hello version 1 is live in app default.\nANY /hello/:name leads to it.\n\n  curl {}/hello/world\n",
        server.url
    );
    assert_eq!((ran.code, ran.stdout, ran.stderr), (0, expected, String::new()));
    assert_eq!(server.lines(), [ROUTES, PUT, "POST /apps/default/routes"]);
    assert_eq!(server.asked()[1].body, json!({ "source": "\"Hello\"\n" }));
    assert_eq!(server.asked()[2].body, json!({ "path": "/hello/:name", "script": "hello" }));
}

#[test]
fn limits_and_description_go_along() {
    let server = server(&[]).start();
    let args = ["--fuel", "5000000", "--memory-mb", "8", "--timeout-ms", "99", "--description", "says hello"];
    assert_eq!(deploy(&server, &args).code, 0);
    let body = &server.asked()[1].body;
    assert_eq!(body["description"], "says hello");
    assert_eq!(
        (&body["limits"]["fuel"], &body["limits"]["memory_mb"], &body["limits"]["timeout_ms"]),
        (&json!(5_000_000), &json!(8), &json!(99))
    );
}

#[test]
fn a_route_of_the_same_script_is_left_alone() {
    let server = server(&[route(Some("GET"), "/hello/:who", "hello")]).start();
    let ran = deploy(&server, &["--route", "/hello/:name", "--method", "get"]);
    assert!(ran.stdout.contains("GET /hello/:name leads to it already.\n"), "{ran:?}");
    assert_eq!(server.lines(), [ROUTES, PUT]);
}

#[test]
fn a_route_of_another_script_stops_the_deploy_before_it_begins() {
    let server = server(&[route(None, "/hello/:name", "greeter")]).start();
    let ran = deploy(&server, &["--route", "/hello/:name"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("ANY /hello/:name leads to script greeter already (route r1)"),
        "{}",
        ran.stderr
    );
    assert_eq!(server.lines(), [ROUTES]);
}

#[test]
fn a_route_for_another_method_is_another_route() {
    let server = server(&[route(Some("POST"), "/hello/:name", "greeter")]).start();
    let ran = deploy(&server, &["--route", "/hello/:name", "--method", "GET"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let body = json!({ "method": "GET", "path": "/hello/:name", "script": "hello" });
    assert_eq!(server.asked()[2].body, body);
}

#[test]
fn a_compile_error_points_into_the_file() {
    let mut refusal = problem(422, "compile_error", "The script does not compile", "Expecting ';'");
    refusal["line"] = json!(1);
    refusal["column"] = json!(8);
    refusal["message"] = json!("Expecting ';' to terminate this statement");
    refusal["script"] = json!("hello");
    refusal["source_line"] = json!("lett x = 1;");
    let routes = json!({ "items": [], "next_cursor": null });
    let server = Server::default().on(ROUTES, 200, routes).on(PUT, 422, refusal).start();
    let sandbox = Sandbox::new();
    sandbox.write("hello.rhai", "lett x = 1;\n");
    let ran = sandbox.pic_at(&server.url, &["deploy", "hello.rhai", "--route", "/hello"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(
        ran.stderr.starts_with(
            "error[compile_error]: hello does not compile\n --> hello.rhai:1:8\n  |\n1 | lett x = 1;\n"
        ),
        "{}",
        ran.stderr
    );
    // No route was made for a script that is not there.
    assert_eq!(server.lines(), [ROUTES, PUT]);

    let ran = sandbox.pic_at(&server.url, &["deploy", "hello.rhai", "-o", "json"]);
    let raw: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!((ran.code, &raw["column"]), (1, &json!(8)));
}

#[test]
fn warnings_of_the_server_are_passed_on() {
    let mut answer = deployed(4);
    answer["warnings"] = json!(["used by page and feed"]);
    let server = Server::default()
        .on(ROUTES, 200, json!({ "items": [], "next_cursor": null }))
        .on(PUT, 200, answer)
        .start();
    let ran = deploy(&server, &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "hello version 4 is live in app default.\n"));
    assert!(ran.stderr.contains("warning: used by page and feed\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("`pic routes add /hello hello`"), "{}", ran.stderr);
}

#[test]
fn json_is_the_answer_of_the_server_with_the_routes_made() {
    let server = server(&[]).start();
    let ran = deploy(&server, &["--route", "/hello/:name", "-o", "json"]);
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&answer["version"], &answer["created_routes"][0]["id"]), (&json!(1), &json!("r1")));
}

#[test]
fn what_cannot_be_a_script_is_refused_before_anything_is_sent() {
    let (sandbox, server) = (Sandbox::new(), server(&[]).start());
    sandbox.write("latin.rhai", b"let a = 1;\n\"\xe9\"");
    sandbox.write("big.rhai", "x".repeat((1 << 20) + 1));
    sandbox.write("no good.rhai", "1");
    let cases = [
        (&["deploy", "latin.rhai"][..], 1, "latin.rhai is not UTF-8 text: line 2, byte 12"),
        (&["deploy", "big.rhai"], 1, "big.rhai is over the limit of 1 MiB"),
        (&["deploy", "missing.rhai"], 1, "missing.rhai cannot be read"),
        (&["deploy", "no good.rhai"], 2, "give another with --name"),
        (&["deploy", "latin.rhai", "--route", "hello"], 2, "a path begins with '/'"),
        (&["deploy", "latin.rhai", "--app", "Not A Slug"], 2, "app slug"),
    ];
    for (args, code, text) in cases {
        let ran = sandbox.pic_at(&server.url, args);
        assert_eq!(ran.code, code, "{args:?} {ran:?}");
        assert!(ran.stderr.contains(text), "{args:?} {}", ran.stderr);
    }
    assert!(server.asked().is_empty());
}
