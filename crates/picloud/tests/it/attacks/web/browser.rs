//! What a page on another site, or an app's own page, can have a visitor's browser do.

use serde_json::{Value, json};

use super::super::Target;
use crate::harness::{ADMIN, NO_LIMITS, PASSWORD, Reply, TestServer};

const OWN: &str = "http://localhost";

fn session_cookie(server: &TestServer) -> String {
    let body = json!({ "username": ADMIN, "password": PASSWORD, "cookie": true });
    let reply = server.admin("POST", "/auth/login", &body);
    let set = reply.is(200).header("set-cookie").to_owned();
    set.split(';').next().unwrap().to_owned()
}

/// Name and value of headers.
type Headers = &'static [(&'static str, &'static str)];

/// What a browser tells of the page that asks, and whether a GET and a change by its cookie are let in.
const PAGES: [(&str, Headers, bool, bool); 10] = [
    ("our own page", &[("sec-fetch-site", "same-origin"), ("origin", OWN)], true, true),
    ("our own, an old browser", &[("origin", OWN)], true, true),
    ("an app's page", &[("sec-fetch-site", "same-site"), ("origin", "http://blog.localhost")], false, false),
    (
        "another site's page",
        &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")],
        false,
        false,
    ),
    ("a sandboxed frame", &[("sec-fetch-site", "cross-site"), ("origin", "null")], false, false),
    ("a forged origin", &[("sec-fetch-site", "cross-site"), ("origin", OWN)], false, false),
    ("the address bar", &[("sec-fetch-site", "none")], true, false),
    // A browser that says so little sends no strict cookie with a GET of another site, and nobody there
    // could read the answer.
    ("another site, old browser", &[("origin", "https://evil.example")], true, false),
    ("no origin, old browser", &[("origin", "null")], true, false),
    ("nothing said", &[], true, false),
];

#[test]
fn attack_55_changes_by_cookie_from_other_pages() {
    let target = Target::new("55");
    let server = &target.server;
    let cookie = session_cookie(server);
    let send = |method: &str, path: &str, page: &[(&str, &str)], kind: &str, body: &str| -> Reply {
        let mut headers = vec![("cookie", cookie.as_str())];
        headers.extend(page);
        headers.extend((!kind.is_empty()).then_some(("content-type", kind)));
        server.client.send(method, "localhost", &format!("/api/v1/admin{path}"), &headers, body.as_bytes())
    };
    let nobody = "/auth/sessions/0195a3a0-0000-7000-8000-000000000000";
    for (name, page, is_read, is_changed) in PAGES {
        let let_in = |is_let_in: bool, good: u16| if is_let_in { good } else { 403 };
        let read = send("GET", "/auth/me", page, "", "");
        target.answers(&format!("GET, {name}"), &read, &[let_in(is_read, 200)]);
        let removed = send("DELETE", nobody, page, "", "");
        target.answers(&format!("DELETE, {name}"), &removed, &[let_in(is_changed, 404)]);
        // Types that a form can send are refused from our own page too.
        for (kind, good) in
            [("application/json", 422), ("text/plain", 415), ("application/x-www-form-urlencoded", 415)]
        {
            let posted = send("POST", "/apps", page, kind, "{\"slug\": \"-\"}");
            target.answers(&format!("{kind}, {name}"), &posted, &[let_in(is_changed, good)]);
        }
    }
    target.ends_unharmed();
}

#[test]
fn attack_55_pages_that_read_or_frame_the_api() {
    let target = Target::new("55");
    let server = &target.server;
    let bearer = server.bearer();
    for origin in ["https://evil.example", "null", "http://blog.localhost"] {
        let asked =
            [("origin", origin), ("access-control-request-method", "DELETE"), ("authorization", &bearer)];
        for method in ["OPTIONS", "GET", "POST"] {
            let reply = server.client.send(method, "localhost", "/api/v1/admin/apps", &asked, b"");
            let allow = reply.header("access-control-allow-origin");
            target.row(&format!("{method} from {origin}"), "says nothing of origins", allow);
            assert!(
                !reply.headers.keys().any(|name| name.as_str().starts_with("access-control-")),
                "{reply:?}"
            );
        }
    }
    for path in [
        "/api/v1/docs",
        "/api/v1/openapi.json",
        "/api/v1/admin/apps",
        "/api/v1/nothing",
        "/healthz",
        "/version",
    ] {
        let reply = server.client.get("localhost", path);
        let policy = reply.header("content-security-policy");
        target.row(path, "in nobody's frame, of one type", policy);
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
    }
    target.ends_unharmed();
}

#[test]
fn attack_55_routes_that_would_let_every_page_act_for_its_visitors() {
    let target = Target::new("55");
    let app = target.server.app();
    app.deploy("page", "1", &NO_LIMITS);
    for cors in [
        json!({ "origins": ["*"], "credentials": true }),
        json!({ "origins": ["null"], "credentials": true }),
        json!({ "origins": ["https://*.example"], "credentials": true }),
        json!({ "origins": ["https://a.example/"], "credentials": true }),
        json!({ "origins": ["https://a.example", "*"], "credentials": true }),
    ] {
        let refused =
            app.admin("POST", "/routes", &json!({ "path": "/page", "script": "page", "cors": cors }));
        target.answers(&cors["origins"].to_string(), &refused, &[422]);
    }
    let cors = json!({ "origins": ["https://a.example"], "credentials": true });
    app.admin("POST", "/routes", &json!({ "path": "/page", "script": "page", "cors": cors })).is(201);
    for origin in ["null", "https://a.example.evil.example", "http://a.example", "https://A.example", ""] {
        let reply = target.server.client.send("GET", &app.host, "/page", &[("origin", origin)], b"");
        target.answers(&format!("from {origin:?}"), &reply, &[200]);
        assert_eq!(reply.header("access-control-allow-origin"), "", "{origin}");
    }
    target.ends_unharmed();
}

#[test]
fn attack_55_a_file_that_is_not_what_its_name_says() {
    let target = Target::new("55");
    let app = target.server.app();
    let bearer = target.server.bearer();
    let page = b"<html><script>alert(1)</script></html>";
    for (path, kind) in [("/a.txt", "text/plain"), ("/b.png", "image/png")] {
        let put = format!("/api/v1/admin/apps/{}/assets?path={path}", app.slug);
        let headers = [("authorization", bearer.as_str()), ("content-type", kind)];
        target.server.client.send("PUT", "localhost", &put, &headers, page).is(200);
        let reply = app.get(path);
        target.answers(path, &reply, &[200]);
        assert!(reply.header("content-type").starts_with(kind), "{reply:?}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
    }
    target.ends_unharmed();
}

#[test]
fn attack_56_a_script_sets_or_reads_the_cookie_of_a_session() {
    let target = Target::new("56");
    let server = &target.server;
    let app = server.existing_app("default");
    for (name, cookie) in [
        ("toss", "__Host-picloud=pics_x; Path=/; Secure"),
        ("toss-case", "__host-PICLOUD=x; Domain=localhost"),
    ] {
        let source = format!("#{{ statusCode: 200, headers: #{{ \"set-cookie\": \"{cookie}\" }} }}");
        app.serve(name, &source, &NO_LIMITS);
        let reply = server.client.get("localhost", &format!("/{name}"));
        target.answers(name, &reply, &[200, 502]);
        assert_eq!(reply.header("set-cookie"), "", "{reply:?}");
    }
    app.serve("read", "ctx.request.headers", &NO_LIMITS);
    let cookie = session_cookie(server);
    let reply = server.client.send("GET", "localhost", "/read", &[("cookie", &cookie)], b"");
    target.answers("a script reads the cookie", &reply, &[200]);
    assert!(!reply.text().contains("pics_"), "{reply:?}");
    for name in ["toss", "toss-case", "read"] {
        app.admin("DELETE", &format!("/scripts/{name}?force=true"), &Value::Null).is(204);
    }
    target.ends_unharmed();
}

#[test]
fn attack_56_the_admin_api_by_way_of_an_apps_host() {
    let target = Target::new("56");
    let server = &target.server;
    let app = server.app();
    let bearer = server.bearer();
    let login = json!({ "username": ADMIN, "password": PASSWORD, "cookie": true }).to_string();
    let kind = ("content-type", "application/json");
    for host in [app.host.as_str(), "default.localhost"] {
        for (method, path, body) in [
            ("GET", "/api/v1/admin/apps", ""),
            ("POST", "/api/v1/admin/auth/login", login.as_str()),
            ("GET", "/admin/", ""),
        ] {
            let headers = [("authorization", bearer.as_str()), kind];
            let reply = server.client.send(method, host, path, &headers, body.as_bytes());
            target.answers(&format!("{method} {host}{path}"), &reply, &[404]);
            reply.is_problem("not_found");
        }
    }
    for host in ["localhost", "127.0.0.1"] {
        server.client.send("GET", host, "/api/v1/admin/apps", &[("authorization", &bearer)], b"").is(200);
    }
    target.ends_unharmed();
}
