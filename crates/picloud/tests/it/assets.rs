//! Static files beside an app's routes.

use serde_json::{Value, json};

use crate::harness::{NO_LIMITS, Reply, TestApp, TestServer};

fn put(app: &TestApp<'_>, path: &str, content_type: &str, content: &[u8]) -> Reply {
    let bearer = app.server.bearer();
    let headers = [("authorization", bearer.as_str()), ("content-type", content_type)];
    let path = format!("/api/v1/admin/apps/{}/assets?path={path}", app.slug);
    app.client().send("PUT", "localhost", &path, &headers, content)
}

#[test]
fn a_file_is_served_where_no_route_answers_and_changes_at_once() {
    let server = TestServer::shared();
    let app = server.app();
    app.get("/site.css").is(404).is_problem("no_route");
    let made = put(&app, "/site.css", "application/octet-stream", b"a{}").is(200).json();
    assert_eq!(
        (&made["content_type"], &made["is_changed"]),
        (&json!("text/css; charset=utf-8"), &json!(true))
    );
    put(&app, "/docs/index.html", "text/html", b"<p>docs").is(200);

    let file = app.get("/site.css");
    assert_eq!(file.is(200).text(), "a{}");
    assert_eq!(
        (file.header("content-type"), file.header("cache-control")),
        ("text/css; charset=utf-8", "no-cache")
    );
    assert_eq!(file.header("x-content-type-options"), "nosniff");
    assert_eq!(app.get("/docs/").is(200).text(), "<p>docs");
    app.get("/docs").is(404);
    app.post("/site.css", "text/plain", b"x").is(404);

    let etag = file.header("etag").to_owned();
    let again =
        |etag: &str| app.client().send("GET", &app.host, "/site.css", &[("if-none-match", etag)], b"");
    assert!(again(&etag).is(304).body.is_empty());
    assert_eq!(put(&app, "/site.css", "text/css", b"b{}").is(200).json()["is_changed"], true);
    assert_eq!(again(&etag).is(200).text(), "b{}");
    assert_eq!(put(&app, "/site.css", "text/css", b"b{}").is(200).json()["is_changed"], false);

    // A route goes first.
    app.deploy("page", "`from the script`", &NO_LIMITS);
    app.route("/site.css", "page");
    assert_eq!(app.get("/site.css").is(200).json(), "from the script");
    let told = app.admin("POST", "/routes:match", &json!({ "path": "/docs/" })).is(200).json();
    assert_eq!(told["outcome"], "file");

    let listed = app.admin("GET", "/assets", &Value::Null).is(200).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    app.admin("DELETE", "/assets?path=/docs/index.html", &Value::Null).is(204);
    app.get("/docs/").is(404);
    app.admin("DELETE", "/assets?path=/docs/index.html", &Value::Null).is(404);
}

#[test]
fn attack_files_stay_in_their_app_and_their_folder() {
    let server = TestServer::shared();
    let [app, other] = [server.app(), server.app()];
    put(&app, "/secret.txt", "text/plain", b"mine").is(200);
    put(&other, "/own.txt", "text/plain", b"other").is(200);
    other.get("/secret.txt").is(404);
    for path in ["/../secret.txt", "/%2e%2e/secret.txt", "/x/..%2fsecret.txt", "//secret.txt"] {
        assert_ne!(app.get(path).status, 200, "{path}");
    }
    for path in ["x", "/", "/a/", "/a//b", "/../a", "/api/x", "/healthz", "/a%2500", "/a%2562"] {
        put(&app, path, "text/plain", b"x").is(422).is_problem("invalid_input");
    }
    put(&app, "/a", "nonsense", b"x").is(422);
}
