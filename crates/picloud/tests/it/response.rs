//! What a script's value becomes in HTTP.

use serde_json::json;

use crate::harness::{NO_LIMITS, TestServer};

#[test]
fn a_map_with_a_status_code_is_the_response() {
    let server = TestServer::shared();
    let app = server.app();
    let source =
        r##"#{ statusCode: 201, headers: #{ "X-Made": "here", "content-type": "text/html" }, body: "<p>" }"##;
    let reply = app.run("full", source, &NO_LIMITS);
    assert_eq!((reply.is(201).header("x-made"), reply.header("content-type")), ("here", "text/html"));
    assert_eq!(reply.text(), "<p>");

    let reply = app.run("empty", "#{ statusCode: 204 }", &NO_LIMITS);
    assert!(reply.is(204).body.is_empty());
}

#[test]
fn a_body_is_text_bytes_or_json_by_its_type() {
    let server = TestServer::shared();
    let app = server.app();
    let kinds: [(&str, &str, &str, &[u8]); 4] = [
        ("text", r#"#{ statusCode: 200, body: "grüße" }"#, "text/plain; charset=utf-8", "grüße".as_bytes()),
        ("bytes", "#{ statusCode: 200, body: blob(3, 255) }", "application/octet-stream", &[255; 3]),
        ("map", "#{ statusCode: 200, body: #{ a: 1 } }", "application/json", br#"{"a":1}"#),
        ("number", "#{ statusCode: 200, body: 7 }", "application/json", b"7"),
    ];
    for (name, source, content_type, body) in kinds {
        let reply = app.run(name, source, &NO_LIMITS);
        assert_eq!(reply.is(200).header("content-type"), content_type, "{name}");
        assert_eq!(reply.body, body, "{name}");
    }
}

#[test]
fn a_value_without_a_status_code_is_answered_as_json() {
    let server = TestServer::shared();
    let app = server.app();
    let values = [
        ("map", "#{ a: [1, 2.5, true, (), \"x\"] }", json!({ "a": [1, 2.5, true, null, "x"] })),
        ("string", "\"text\"", json!("text")),
        ("unit", "()", json!(null)),
        ("nothing", "let x = 1;", json!(null)),
        ("returned", "return [1]; 2", json!([1])),
    ];
    for (name, source, value) in values {
        let reply = app.run(name, source, &NO_LIMITS);
        assert_eq!(reply.is(200).header("content-type"), "application/json", "{name}");
        assert_eq!(reply.json(), value, "{name}");
    }
}

#[test]
fn a_thrown_map_with_a_status_code_is_a_response_too() {
    let server = TestServer::shared();
    let app = server.app();
    let source = r#"
        fn find(id) { if id != "1" { throw #{ statusCode: 404, body: `no ${id}` }; } id }
        find(ctx.request.query.id)
    "#;
    app.serve("find", source, &NO_LIMITS);
    assert_eq!(app.get("/find?id=1").is(200).json(), json!("1"));
    let reply = app.get("/find?id=2");
    assert_eq!(reply.is(404).text(), "no 2");
    assert_eq!(app.execution_of(&reply)["status"], "ok");
}

#[test]
fn an_array_sets_a_header_several_times() {
    let server = TestServer::shared();
    let app = server.app();
    let source = r#"#{ statusCode: 200, headers: #{ "set-cookie": ["a=1; Path=/", "b=2"], "x-count": 3 } }"#;
    let reply = app.run("cookies", source, &NO_LIMITS);
    let cookies: Vec<_> = reply.is(200).headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1; Path=/", "b=2"]);
    assert_eq!(reply.header("x-count"), "3");
}

#[test]
fn an_answer_that_is_no_response_is_a_502() {
    let server = TestServer::shared();
    let app = server.app();
    let many = (0..100).map(|n| format!("\"x-{n}\": \"v\"")).collect::<Vec<_>>().join(", ");
    let invalid = [
        ("status-1000", "#{ statusCode: 1000 }".to_owned()),
        ("status-99", "#{ statusCode: 99 }".to_owned()),
        ("status-101", "#{ statusCode: 101 }".to_owned()),
        ("status-big", "#{ statusCode: 4294967496 }".to_owned()),
        ("status-text", "#{ statusCode: \"200\\r\\nX\" }".to_owned()),
        ("split-value", "#{ statusCode: 200, headers: #{ x: \"a\\r\\nset-cookie: b=1\" } }".to_owned()),
        ("split-name", "#{ statusCode: 200, headers: #{ \"a\\r\\nb\": \"c\" } }".to_owned()),
        ("headers-100", format!("#{{ statusCode: 200, headers: #{{ {many} }} }}")),
        (
            "header-long",
            "let v = \"\"; v.pad(20000, 'x'); #{ statusCode: 200, headers: #{ v: v } }".to_owned(),
        ),
        ("headers-text", "#{ statusCode: 200, headers: \"x: y\" }".to_owned()),
        ("no-number", "#{ average: 0.0 / 0.0 }".to_owned()),
        ("endless-body", "#{ statusCode: 200, body: [1.0 / 0.0] }".to_owned()),
        ("handle", "[secrets::handle(\"token\")]".to_owned()),
    ];
    for (name, source) in invalid {
        let reply = app.run(name, &source, &NO_LIMITS);
        let problem = reply.is(502).is_problem("invalid_response");
        assert_eq!(problem["fault"], "script", "{name}");
        assert_eq!(app.execution_of(&reply)["status"], "invalid_response", "{name}");
    }
}

#[test]
fn a_body_over_response_bytes_is_a_502_and_one_at_the_limit_is_sent() {
    let server = TestServer::shared();
    let app = server.app();
    let source = "let s = \"\"; s.pad(parse_int(ctx.request.query.n), 'x'); #{ statusCode: 200, body: s }";
    app.serve("long", source, &json!({ "response_bytes": 1000 }));
    assert_eq!(app.get("/long?n=1000").is(200).body.len(), 1000);
    app.get("/long?n=100000").is(502).is_problem("invalid_response");
    app.get("/long?n=1001").is(502).is_problem("invalid_response");
}

#[test]
fn a_function_in_a_result_is_no_response() {
    let server = TestServer::shared();
    let app = server.app();
    for (name, source) in [
        ("bare", "|x| x + 1"),
        ("inside", "let n = 1; #{ a: [1, |x| x + n] }"),
        ("body", "#{ statusCode: 200, body: #{ f: Fn(\"abs\") } }"),
    ] {
        let reply = app.run(name, source, &NO_LIMITS);
        let problem = reply.is(502).is_problem("invalid_response");
        assert_eq!(problem["fault"], "script", "{name}");
        let error = &app.execution_of(&reply)["error"]["message"];
        assert!(error.as_str().unwrap().contains("a function has no JSON form"), "{error}");
    }
}

#[test]
fn what_is_kept_of_an_invalid_response_is_bounded() {
    let server = TestServer::shared();
    let app = server.app();
    let source = "let h = #{}; let k = \"\"; k.pad(500000, 'k'); h[k] = (); #{ statusCode: 200, headers: h }";
    let reply = app.run("huge", source, &NO_LIMITS);
    reply.is(502).is_problem("invalid_response");
    let message = app.execution_of(&reply)["error"]["message"].as_str().unwrap().to_owned();
    assert!((100..=4096).contains(&message.len()), "{} bytes are kept", message.len());
}
