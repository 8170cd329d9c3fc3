//! An app's own users, from outside: they register, log in, and routes let them in.

use serde_json::{Value, json};

use crate::harness::{NO_LIMITS, Reply, TestApp, TestServer};
use crate::pic::Person;

const PASSWORD: &str = "correct horse battery staple";

/// An app whose users register and log in by its script, and whose route `/me` is for them.
fn with_users(server: &TestServer) -> TestApp<'_> {
    let app = server.app();
    app.serve(
        "register",
        "let body = ctx.request.body; users::register(body.login, body.password, #{ name: body.login.to_upper() })",
        &NO_LIMITS,
    );
    let login = r#"
        let body = ctx.request.body;
        let session = users::login(body.login, body.password);
        if session == () { throw #{ statusCode: 403, body: "wrong" } }
        log::info("token " + session.token, #{ password: body.password });
        let cookie = `__Host-picloud-user=${session.token}; Path=/; Secure; HttpOnly; SameSite=Lax`;
        #{ statusCode: 200, headers: #{ "set-cookie": cookie }, body: #{ token: session.token } }
    "#;
    app.serve("login", login, &NO_LIMITS);
    app.deploy("me", "#{ user: ctx.user, headers: ctx.request.headers }", &NO_LIMITS);
    app.deploy("leave", "users::logout()", &NO_LIMITS);
    for (path, script) in [("/me", "me"), ("/leave", "leave")] {
        app.admin("POST", "/routes", &json!({ "path": path, "script": script, "auth": "user" })).is(201);
    }
    app
}

fn send(app: &TestApp<'_>, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    app.client().send(method, &app.host, path, headers, b"")
}

fn post(app: &TestApp<'_>, path: &str, login: &str, password: &str) -> Reply {
    let body = json!({ "login": login, "password": password }).to_string();
    app.post(path, "application/json", body.as_bytes())
}

fn token(reply: &Reply) -> String {
    reply.is(200).json()["token"].as_str().unwrap().to_owned()
}

#[test]
fn a_user_registers_logs_in_is_known_to_the_route_and_logs_out() {
    let server = TestServer::shared();
    let [app, other] = [with_users(&server), with_users(&server)];
    let eve = post(&app, "/register", "eve@example.org", PASSWORD).is(200).json();
    assert_eq!(eve["login"], "eve@example.org");
    post(&app, "/login", "eve@example.org", "wrong").is(403);
    let entered = post(&app, "/login", "Eve@Example.Org", PASSWORD);
    let token = token(&entered);
    let record = app.execution_of(&entered);
    assert_eq!(record["logs"][0]["message"], "token [secret]", "{record}");
    assert!(!record.to_string().contains(PASSWORD) && !record.to_string().contains(&token), "{record}");

    let refused = send(&app, "GET", "/me", &[]);
    refused.is(401).is_problem("unauthenticated");
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    let bearer = format!("Bearer {token}");
    let by_token = |app: &TestApp<'_>| send(app, "GET", "/me", &[("authorization", &bearer)]);
    let seen = by_token(&app).is(200).json();
    let expected = json!({ "id": eve["id"], "login": "eve@example.org", "roles": [], "profile": { "name": "EVE@EXAMPLE.ORG" } });
    assert_eq!(seen["user"], expected);
    assert!(seen["headers"].get("authorization").is_none(), "{seen}");
    by_token(&other).is(401).is_problem("unauthenticated");
    send(&app, "GET", "/me", &[("authorization", &server.bearer())]).is(401);

    assert_eq!(send(&app, "POST", "/leave", &[("authorization", &bearer)]).is(200).json(), true);
    by_token(&app).is(401);
    assert_eq!(
        app.admin("GET", "/users", &Value::Null).is(200).json()["items"][0]["login"],
        "eve@example.org"
    );
}

#[test]
fn a_browser_shows_its_cookie_which_no_script_sees_and_no_other_page_can_use_to_change_anything() {
    let server = TestServer::shared();
    let app = with_users(&server);
    post(&app, "/register", "eve", PASSWORD).is(200);
    let entered = post(&app, "/login", "eve", PASSWORD);
    let token = token(&entered);
    assert!(entered.header("set-cookie").starts_with(&format!("__Host-picloud-user={token};")));
    let cookie = format!("a=1; __Host-picloud-user={token}; b=2");
    let seen = send(&app, "GET", "/me", &[("cookie", &cookie)]).is(200).json();
    assert_eq!((&seen["user"]["login"], &seen["headers"]["cookie"]), (&json!("eve"), &json!("a=1; b=2")));
    let change = |header| send(&app, "POST", "/me", &[("cookie", &cookie), header]);
    change(("sec-fetch-site", "same-origin")).is(200);
    change(("sec-fetch-site", "same-site")).is(403).is_problem("forbidden");
    change(("origin", "https://evil.example")).is(403);
    // A page of a public route does not see it either.
    app.serve("public", "ctx.request.headers", &NO_LIMITS);
    let seen = send(&app, "GET", "/public", &[("cookie", &cookie)]).is(200).json();
    assert!(!seen.to_string().contains(&token), "{seen}");
}

#[test]
fn what_a_user_asks_for_runs_later_as_theirs_and_with_nobodys_rights() {
    let server = TestServer::shared();
    let app = with_users(&server);
    let source = r#"
        let refused = ();
        try { secrets::set("key", "value of it"); } catch (error) { refused = error.code; }
        [ctx.user.login, refused]
    "#;
    app.deploy("later", source, &NO_LIMITS);
    let route = json!({ "path": "/later", "script": "later", "auth": "user", "dispatch_mode": "durable" });
    app.admin("POST", "/routes", &route).is(201);
    post(&app, "/register", "eve", PASSWORD).is(200);
    let bearer = format!("Bearer {}", token(&post(&app, "/login", "eve", PASSWORD)));
    let answer = send(&app, "POST", "/later", &[("authorization", &bearer)]);
    assert_eq!(answer.is(200).json(), json!(["eve", "forbidden"]));
}

#[test]
fn pic_shows_disables_logs_out_and_removes_users() {
    let server = TestServer::shared();
    let app = with_users(&server);
    let enter = || token(&post(&app, "/login", "eve@example.org", PASSWORD));
    let status =
        |token: &str| send(&app, "GET", "/me", &[("authorization", &format!("Bearer {token}"))]).status;
    post(&app, "/register", "eve@example.org", PASSWORD).is(200);
    let person = Person::logged_in(&server);
    let pic = |args: &[&str]| person.pic(&[&["users"][..], args, &["--app", &app.slug]].concat(), "");
    pic(&["ls"]).is(0).says(&["eve@example.org"]);
    pic(&["set", "EVE@example.org", "--verified", "true", "--role", "editor"]).is(0);
    pic(&["get", "eve@example.org"]).is(0).says(&["roles     editor", "{\"name\":\"EVE@EXAMPLE.ORG\"}"]);
    let session = enter();
    assert_eq!(status(&session), 200);
    pic(&["logout", "eve@example.org"]).is(0).says(&["there were 1"]);
    assert_eq!(status(&session), 401);
    let session = enter();
    pic(&["disable", "eve@example.org"]).is(0);
    assert_eq!(status(&session), 401);
    post(&app, "/login", "eve@example.org", PASSWORD).is(403);
    pic(&["enable", "eve@example.org"]).is(0);
    assert_eq!(status(&enter()), 200);
    pic(&["rm", "eve@example.org"]).is(0);
    pic(&["get", "eve@example.org"]).is(4);
    pic(&["ls"]).is(0);
}
