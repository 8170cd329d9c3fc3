//! `ctx`: what a script sees of its request.

use serde_json::{Value, json};

use crate::harness::{NO_LIMITS, TestServer};

const BODY: &str = r#"
    let request = ctx.request;
    #{ body: request.body, body_type: type_of(request.body), raw_type: type_of(request.body_raw),
       raw_len: request.body_raw.len() }
"#;

#[test]
fn a_script_sees_method_path_params_query_and_headers() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("see", "ctx", &NO_LIMITS);
    app.route("/users/:id/*", "see");
    let headers = [("x-one", "1"), ("x-two", "2"), ("X-Two", "3")];
    let path = "/users/7%20a/b/c?q=x%20y&q=second&empty=";
    let reply = server.client.send("PATCH", &app.host, path, &headers, b"");
    let ctx = reply.is(200).json();
    let request = &ctx["request"];
    assert_eq!(request["method"], "PATCH");
    assert_eq!(request["path"], "/users/7%20a/b/c");
    assert_eq!(request["params"], json!({ "id": "7 a" }));
    assert_eq!(request["rest"], "b/c");
    assert_eq!(request["query"], json!({ "q": "x y", "empty": "" }));
    assert_eq!(request["headers"]["x-one"], "1");
    assert_eq!(request["headers"]["x-two"], "2, 3");
    assert_eq!(request["headers"]["host"], app.host.as_str());
    assert_eq!(request["remote_ip"], "127.0.0.1");
    assert_eq!(request["body"], Value::Null);
    assert_eq!(request["body_raw"], "");

    assert_eq!(ctx["request_id"], reply.header("x-request-id"));
    assert_eq!((&ctx["app"], &ctx["script"]), (&json!(app.slug), &json!("see")));
    assert_eq!(ctx["invocation_type"], "http");
    assert_eq!(ctx["trigger_depth"], 0);
    assert_eq!(ctx["limits"]["timeout_ms"], 10_000);
    assert_eq!(ctx["sdk_version"], shared::SDK_VERSION);
    assert!(ctx["execution_id"].is_string(), "{ctx}");
    assert_eq!(ctx.get("event"), None, "an HTTP execution has no event");
    assert_eq!(ctx["execution_id"], app.execution_of(&reply)["id"]);
}

#[test]
fn a_body_is_parsed_when_it_is_json_or_a_form() {
    let server = TestServer::shared();
    let app = server.app();
    app.serve("body", BODY, &NO_LIMITS);
    let post = |media: &str, body: &[u8]| app.post("/body", media, body).is(200).json();

    let parsed = post("application/json; charset=utf-8", br#"{"a":[1,2.5,null,"x"],"big":9007199254740993}"#);
    assert_eq!(parsed["body"], json!({ "a": [1, 2.5, null, "x"], "big": 9_007_199_254_740_993_i64 }));
    let parsed = post("application/problem+json", b"[true]");
    assert_eq!(parsed["body"], json!([true]));
    let parsed = post("application/x-www-form-urlencoded", b"name=a+b&c=%C3%A9&name=second");
    assert_eq!(parsed["body"], json!({ "name": "a b", "c": "é" }));
    let parsed = post("text/plain", "grüße".as_bytes());
    assert_eq!((&parsed["body"], &parsed["raw_type"]), (&json!("grüße"), &json!("string")));
    let parsed = post("application/octet-stream", &[0, 255, 1, 254]);
    assert_eq!((&parsed["body_type"], &parsed["raw_type"]), (&json!("blob"), &json!("blob")));
    assert_eq!(parsed["raw_len"], 4);
}

#[test]
fn a_malformed_json_body_still_reaches_the_script_as_raw() {
    let server = TestServer::shared();
    let app = server.app();
    app.serve("raw", "#{ is_unit: ctx.request.body == (), raw: ctx.request.body_raw }", &NO_LIMITS);
    for body in [r#"{"a":"#, "nonsense", "{\"a\":1}x", "[1,]", "\u{feff}{}"] {
        let seen = app.post("/raw", "application/json", body.as_bytes()).is(200).json();
        assert_eq!(seen, json!({ "is_unit": true, "raw": body }));
    }
}

#[test]
fn functions_see_ctx_and_cannot_change_it_for_others() {
    let server = TestServer::shared();
    let app = server.app();
    let source = r#"
        fn name() { ctx.request.params.name }
        fn outer() { name() + "!" }
        outer()
    "#;
    app.deploy("deep", source, &NO_LIMITS);
    app.route("/deep/:name", "deep");
    assert_eq!(app.get("/deep/a").is(200).json(), json!("a!"));
    assert_eq!(app.get("/deep/b").is(200).json(), json!("b!"));

    // What a script leaves behind in its globals is gone with it.
    let counter = "let n = 0; n += 1; let seen = #{}; seen.n = n; seen";
    app.serve("counter", counter, &NO_LIMITS);
    for _ in 0..40 {
        assert_eq!(app.get("/counter").is(200).json(), json!({ "n": 1 }));
    }
}
