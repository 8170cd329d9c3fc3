//! What scripts ask for: shown when they are deployed, and approved where the app requires it.

use serde_json::{Value, json};

use crate::harness::{NO_LIMITS, TestApp, TestServer};
use crate::pic::Person;

const QUIET: &str = "1";
const ASKING: &str = "let c = kv::collection(\"a\"); if false { http::get(\"https://api.example.com/\"); } 2";

fn require_approval(app: &TestApp<'_>, on: bool) {
    app.admin("PATCH", "", &json!({ "requires_approval": on })).is(200);
}

fn versions(app: &TestApp<'_>, script: &str) -> Vec<Value> {
    let list = app.admin("GET", &format!("/scripts/{script}/versions"), &Value::Null).is(200).json();
    list["items"].as_array().unwrap().clone()
}

fn approve(app: &TestApp<'_>, script: &str, version: u32) -> crate::harness::Reply {
    app.admin("POST", &format!("/scripts/{script}/versions/{version}:approve"), &Value::Null)
}

/// A key that may deploy and do nothing else.
fn deploys_with_a_key(app: &TestApp<'_>) -> String {
    let body = json!({ "name": "ci", "scopes": ["app:write"], "app": app.slug });
    app.server.admin("POST", "/api-keys", &body).is(201).json()["key"].as_str().unwrap().to_owned()
}

#[test]
fn a_deploy_and_its_version_say_what_the_script_asks_for_and_what_is_new() {
    let server = TestServer::shared();
    let app = server.app();
    app.admin(
        "PUT",
        "/scripts/lib",
        &json!({ "source": "fn f() { secrets::get(\"key\") }", "kind": "module" }),
    )
    .is(201);
    let first = app.deploy("page", "import \"lib\" as lib; lib::f()", &NO_LIMITS);
    assert_eq!(
        first["capabilities"],
        json!({ "namespaces": ["secrets"], "destinations": [], "secrets": ["key"] })
    );
    assert_eq!((&first["wants_more"], &first["awaiting"]), (&json!([]), &Value::Null));
    let second = app.deploy("page", ASKING, &NO_LIMITS);
    let more = json!(["namespace http", "namespace kv", "requests to api.example.com"]);
    assert_eq!((&second["wants_more"], &second["version"]), (&more, &json!(2)));
    let versions = versions(&app, "page");
    assert_eq!(versions[0]["capabilities"], second["capabilities"]);
    assert_eq!(versions[1]["capabilities"], first["capabilities"]);
    assert_eq!(app.deploy("page", QUIET, &NO_LIMITS)["wants_more"], json!([]));
}

#[test]
fn a_version_that_wants_more_waits_until_it_is_approved() {
    let server = TestServer::shared();
    let app = server.app();
    app.serve("page", QUIET, &NO_LIMITS);
    require_approval(&app, true);
    for _ in 0..2 {
        let kept = app.deploy("page", ASKING, &NO_LIMITS);
        let awaiting = json!({
            "version": 2,
            "unapproved": ["namespace http", "namespace kv", "requests to api.example.com"],
        });
        assert_eq!(
            (&kept["version"], &kept["awaiting"]),
            (&json!(1), &awaiting),
            "the same again is the same"
        );
        assert_eq!(app.get("/page").is(200).json(), 1);
    }
    // What asks for no more goes live beside it.
    assert_eq!(app.deploy("page", "3", &NO_LIMITS)["version"], 3);
    let refused = app.admin("POST", "/scripts/page/rollback", &json!({ "version": 2 }));
    assert_eq!(refused.is(409).is_problem("conflict")["unapproved"][1], "namespace kv");
    approve(&app, "page", 1).is(409).is_problem("conflict");
    approve(&app, "page", 9).is(404).is_problem("not_found");
    assert_eq!(versions(&app, "page")[1]["unapproved"][0], "namespace http");
    assert_eq!(approve(&app, "page", 2).is(200).json()["version"], 2);
    assert_eq!(app.get("/page").is(200).json(), 2);
    assert_eq!(versions(&app, "page")[1]["unapproved"], json!([]));
    approve(&app, "page", 2).is(409);
    // What has been approved once may be gone back to.
    app.admin("POST", "/scripts/page/rollback", &json!({ "version": 1 })).is(200);
    app.admin("POST", "/scripts/page/rollback", &json!({ "version": 2 })).is(200);
}

#[test]
fn a_plan_says_what_would_be_asked_for_and_what_would_wait_for_approval() {
    let server = TestServer::shared();
    let app = server.app();
    let module = "fn f() { kv::collection(\"a\").incr(\"n\") }";
    let manifest = |library: &str| {
        json!({ "scripts": {
            "lib": { "source": library, "kind": "module" },
            "page": { "source": "import \"lib\" as lib; lib::f()" },
            "quiet": { "source": "1" },
        } })
    };
    let ask = |verb: &str, library: &str| app.admin("POST", verb, &manifest(library)).is(200).json();
    let wants = |answer: &Value, member: &str| -> Vec<(String, Value)> {
        let changes = answer["changes"].as_array().unwrap().iter();
        let named =
            changes.map(|change| (change["name"].as_str().unwrap().to_owned(), change[member].clone()));
        named.filter(|(_, wants)| !wants.is_null()).collect()
    };
    let both = || ["lib", "page"].map(|name| (name.to_owned(), json!(["namespace kv"]))).to_vec();
    ask(":apply", "fn f() { 1 }");
    // Nobody has to approve it, and it is seen all the same: in the module, and in who contains it.
    let planned = ask(":plan", module);
    assert_eq!((wants(&planned, "wants_more"), wants(&planned, "unapproved")), (both(), Vec::new()));
    require_approval(&app, true);
    let planned = ask(":plan", module);
    assert_eq!((wants(&planned, "wants_more"), wants(&planned, "unapproved")), (both(), both()));
    assert_eq!(planned["awaiting"], json!([]), "a plan keeps nothing");
    assert_eq!(wants(&ask(":plan", "fn f() { 2 }"), "unapproved"), Vec::new());
    let applied = ask(":apply", module);
    assert_eq!(wants(&applied, "unapproved"), both());
    let waiting = applied["awaiting"].as_array().unwrap();
    assert_eq!(waiting.iter().map(|one| &one["name"]).collect::<Vec<_>>(), ["lib", "page"]);
    // It is not live, so it would wait again.
    assert_eq!(wants(&ask(":plan", module), "unapproved"), both());
    approve(&app, "lib", 2).is(200);
    assert_eq!(wants(&ask(":plan", module), "unapproved"), Vec::new());
}

#[test]
fn attack_who_may_deploy_and_not_approve_gets_nothing_approved_by_a_new_script_or_the_setting() {
    let server = TestServer::shared();
    let app = server.app();
    require_approval(&app, true);
    let key = deploys_with_a_key(&app);
    let authorization = format!("Bearer {key}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let send = |method: &str, path: &str, body: &Value| {
        let path = format!("/api/v1/admin/apps/{}{path}", app.slug);
        app.client().send(method, "localhost", &path, &headers, body.to_string().as_bytes())
    };
    let made = send("PUT", "/scripts/new", &json!({ "source": ASKING }));
    assert_eq!(made.is(201).json()["awaiting"]["version"], 2);
    app.route("/new", "new");
    assert_eq!(app.get("/new").is(503).text(), "This script waits for approval.\n");
    send("POST", "/scripts/new/versions/2:approve", &json!({})).is(403).is_problem("forbidden");
    send("POST", "/scripts/new/rollback", &json!({ "version": 2 })).is(409);
    send("PATCH", "", &json!({ "requires_approval": false })).is(403);
    let manifest = json!({ "scripts": { "new": { "source": ASKING } }, "routes": [{ "path": "/new", "script": "new" }] });
    let applied = send("POST", ":apply", &manifest).is(200).json();
    assert_eq!(
        (&applied["awaiting"][0]["name"], &applied["awaiting"][0]["version"]),
        (&json!("new"), &json!(2))
    );
    app.get("/new").is(503);
    approve(&app, "new", 2).is(200);
    assert_eq!(app.get("/new").is(200).json(), 2);
}

#[test]
fn attack_a_name_that_is_put_together_calls_no_script() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("other", "ctx.args + 1", &NO_LIMITS);
    let run = |name: &str, source: &str| {
        let answer = app.run(name, source, &NO_LIMITS).is(200).json();
        let namespaces = versions(&app, name)[0]["capabilities"]["namespaces"].clone();
        (answer, namespaces)
    };
    let hidden = r#"
        let seen = [];
        for name in ["inv" + "oke", "inv" + "oke_async"] {
            try { Fn(name).call("other", 1); seen.push("called"); } catch (error) { seen.push(error.code); }
        }
        seen"#;
    assert_eq!(run("hidden", hidden), (json!(["forbidden", "forbidden"]), json!([])));
    // What is shown may be called: by a pointer, too, and by a module.
    assert_eq!(run("pointer", "Fn(\"invoke\").call(\"other\", 1)"), (json!(2), json!(["invoke"])));
    let module = json!({ "source": "fn ask(n) { invoke(\"other\", n) }", "kind": "module" });
    app.admin("PUT", "/scripts/asks", &module).is(201);
    let source = "import \"asks\" as asks; asks::ask(1)";
    assert_eq!(run("importing", source), (json!(2), json!(["invoke"])));
    // A script that is called has what its own source asks for, and not what its caller does.
    assert_eq!(run("calling", "invoke(\"hidden\")").0, json!(["forbidden", "forbidden"]));
}

#[test]
fn attack_a_module_that_wants_more_reaches_nobody_before_it_is_approved() {
    let server = TestServer::shared();
    let app = server.app();
    let module = |source: &str| {
        let reply = app.admin("PUT", "/scripts/lib", &json!({ "source": source, "kind": "module" }));
        reply.json()
    };
    module("fn f() { 1 }");
    app.serve("page", "import \"lib\" as lib; lib::f()", &NO_LIMITS);
    require_approval(&app, true);
    let kept = module("fn f() { kv::collection(\"a\").incr(\"n\") + 1 }");
    assert_eq!((&kept["awaiting"]["version"], &kept["rebundled"]), (&json!(2), &json!([])));
    assert_eq!(app.get("/page").is(200).json(), 1);
    let approved = approve(&app, "lib", 2).is(200).json();
    assert_eq!(approved["rebundled"], json!([{ "name": "page", "version": 2 }]));
    assert_eq!(app.get("/page").is(200).json(), 2);
}

#[test]
fn pic_shows_what_a_script_asks_for_and_approves_it() {
    let server = TestServer::shared();
    let app = server.app();
    let person = Person::logged_in(&server);
    person.write("page.rhai", ASKING);
    let pic = |args: &[&str]| person.pic(&[args, &["--app", &app.slug]].concat(), "");
    pic(&["deploy", "page.rhai"]).is(0).says(&["It asks for http (api.example.com), kv."]);
    person.pic(&["apps", "set", &app.slug, "--require-approval", "true"], "").is(0);
    person.write("page.rhai", "secrets::get(\"key\"); 3");
    let kept = pic(&["deploy", "page.rhai"]);
    kept.is(0).says(&["page version 2 waits for approval", "namespace secrets, secret key"]);
    pic(&["scripts", "versions", "page"]).is(0).says(&["waits", "secrets (key)"]);
    pic(&["scripts", "approve", "page", "2"]).is(0).says(&["Version 2 of page is live"]);
    person.write("picloud.toml", "");
    person.write("page.rhai", "pubsub::publish(\"a\", 1)");
    person.write("other.rhai", "1");
    let planned = pic(&["plan"]);
    planned.is(0).says(&[
        "~ script page",
        "would wait for approval: namespace pubsub",
        "1 of them would wait",
    ]);
    let applied = pic(&["apply"]);
    applied.is(0).says(&["would wait for approval: namespace pubsub", "page version 3 waits for approval"]);
    person.pic(&["apps", "set", &app.slug, "--require-approval", "false"], "").is(0);
    pic(&["plan"]).is(0).says(&["asks for more: namespace pubsub"]);
}
