//! Modules: what may be imported, and what happens to the importers when a module changes.

use serde_json::{Value, json};

use crate::harness::{NO_LIMITS, Reply, TestApp, TestServer};
use crate::pic::Person;

const TAX: &str = "export const RATE = 20;\nfn with_tax(n) { n + n * global::RATE / 100 }";

fn try_module(app: &TestApp<'_>, name: &str, source: &str) -> Reply {
    app.admin("PUT", &format!("/scripts/{name}"), &json!({ "source": source, "kind": "module" }))
}

#[track_caller]
fn module(app: &TestApp<'_>, name: &str, source: &str) -> Value {
    let reply = try_module(app, name, source);
    assert!(matches!(reply.status, 200 | 201), "{}", String::from_utf8_lossy(&reply.body));
    reply.json()
}

fn shown(app: &TestApp<'_>, name: &str) -> Value {
    app.admin("GET", &format!("/scripts/{name}"), &Value::Null).is(200).json()
}

#[test]
fn a_script_uses_functions_and_constants_of_modules_and_of_their_modules() {
    let server = TestServer::shared();
    let app = server.app();
    module(&app, "tax", TAX);
    module(
        &app,
        "shop",
        "import \"tax\" as tax;\nfn total(n) { tax::with_tax(n) }\nfn path() { ctx.request.path }",
    );
    let source =
        "import \"shop\" as shop;\nimport \"tax\" as tax;\n[shop::total(100), tax::RATE, shop::path()]";
    app.serve("till", source, &NO_LIMITS);
    assert_eq!(app.get("/till").is(200).json(), json!([120, 20, "/till"]));
    assert_eq!(shown(&app, "till")["imports"], json!(["shop", "tax"]));
    assert_eq!(shown(&app, "tax")["used_by"], json!(["shop", "till"]));
    // Also where it is imported only when it is needed.
    app.serve("late", "fn f() { import \"tax\" as t; t::with_tax(50) }\nf()", &NO_LIMITS);
    assert_eq!(app.get("/late").is(200).json(), 60);
}

#[test]
fn an_error_in_a_module_is_placed_in_its_source() {
    let server = TestServer::shared();
    let app = server.app();
    module(&app, "fragile", "fn f() {\n  throw \"broken\"\n}");
    app.serve("user", "import \"fragile\" as m;\n\n\nm::f()", &NO_LIMITS);
    let reply = app.get("/user");
    reply.is(500).is_problem("script_error");
    let error = &app.execution_of(&reply)["error"];
    assert_eq!((&error["script"], &error["line"]), (&json!("fragile"), &json!(2)), "{error}");
}

#[test]
fn a_changed_module_is_in_every_script_that_uses_it_and_so_is_one_that_is_rolled_back() {
    let server = TestServer::shared();
    let app = server.app();
    module(&app, "tax", TAX);
    module(&app, "shop", "import \"tax\" as tax;\nfn total(n) { tax::with_tax(n) }");
    app.serve("till", "import \"shop\" as shop;\nshop::total(100)", &NO_LIMITS);
    app.serve("other", "1", &NO_LIMITS);
    let changed = module(&app, "tax", &TAX.replace("20", "10"));
    assert_eq!(changed["used_by"], json!(["shop", "till"]));
    assert_eq!(
        changed["rebundled"],
        json!([{ "name": "shop", "version": 2 }, { "name": "till", "version": 2 }])
    );
    assert_eq!(app.get("/till").is(200).json(), 110);
    assert_eq!(shown(&app, "other")["version"], 1);
    // The same again changes nothing.
    assert_eq!(module(&app, "tax", &TAX.replace("20", "10"))["rebundled"], json!([]));

    let back = app.admin("POST", "/scripts/tax/rollback", &json!({ "version": 1 })).is(200).json();
    assert_eq!((&back["version"], &back["rebundled"][1]["name"]), (&json!(1), &json!("till")));
    assert_eq!(app.get("/till").is(200).json(), 120);
    // A version of an endpoint is as it was deployed, whatever became of its modules.
    app.admin("POST", "/scripts/till/rollback", &json!({ "version": 2 })).is(200);
    assert_eq!(app.get("/till").is(200).json(), 110);
}

#[test]
fn the_whole_graph_of_an_app_is_one_answer() {
    let server = TestServer::shared();
    let (app, other) = (server.app(), server.app());
    module(&other, "theirs", "fn f() { 1 }");
    module(&app, "tax", TAX);
    module(&app, "shop", "import \"tax\" as tax;\nfn total(n) { tax::with_tax(n) }");
    app.deploy("till", "import \"shop\" as shop;\nimport \"tax\" as tax;\nshop::total(100)", &NO_LIMITS);
    module(&app, "tax", &TAX.replace("20", "10"));
    let graph = app.admin("GET", "/modules", &Value::Null).is(200).json();
    assert_eq!(
        graph,
        json!({
            "nodes": [
                { "name": "shop", "kind": "module", "version": 2 },
                { "name": "tax", "kind": "module", "version": 2 },
                { "name": "till", "kind": "endpoint", "version": 2 },
            ],
            "edges": [
                { "from": "shop", "to": "tax" },
                { "from": "till", "to": "shop" },
                { "from": "till", "to": "tax" },
            ],
            "is_whole": true,
        })
    );
    let person = Person::logged_in(&server);
    let pic = |args: &[&str]| person.pic(&[args, &["--app", &app.slug]].concat(), "");
    let tree = "till@2\n├─ shop@2 module\n│  └─ tax@2 module\n└─ tax@2 module\n";
    pic(&["modules"]).is(0).says(&[tree]);
    pic(&["modules", "tax", "--used-by"])
        .is(0)
        .says(&["tax@2 module\n├─ shop@2 module\n│  └─ till@2\n└─ till@2"]);
    pic(&["modules", "nothing"]).is(4);
    pic(&["modules", "-o", "json"]).is(0).says(&["\"is_whole\": true"]);
}

#[test]
fn imports_that_cannot_be_are_refused_with_their_chain() {
    let server = TestServer::shared();
    let app = server.app();
    let elsewhere = server.app();
    module(&elsewhere, "theirs", "fn f() { 1 }");
    module(&app, "a", "fn f() { 1 }");
    module(&app, "b", "import \"a\" as a;\nfn f() { a::f() }");
    app.deploy("page", "1", &NO_LIMITS);
    let refused = |name: &str, kind: &str, source: &str| {
        let body = json!({ "source": source, "kind": kind });
        app.admin("PUT", &format!("/scripts/{name}"), &body).is(422).is_problem("compile_error")
    };
    let cycle = refused("a", "module", "fn g() { 1 }\nimport \"b\" as b;\nfn f() { b::f() }");
    assert_eq!((&cycle["chain"], &cycle["line"]), (&json!(["a", "b", "a"]), &json!(2)));
    assert!(cycle["detail"].as_str().unwrap().contains("a → b → a"), "{cycle}");
    assert_eq!(refused("a", "module", "import \"a\" as a;")["chain"], json!(["a", "a"]));
    assert_eq!(refused("x", "endpoint", "import \"page\" as p;")["chain"], json!(["x", "page"]));
    assert_eq!(refused("x", "endpoint", "import \"theirs\" as t;")["chain"], json!(["x", "theirs"]));
    let dynamic = refused("x", "endpoint", "let n = ctx.app;\nimport n as m;\n1");
    assert!(dynamic["message"].as_str().unwrap().contains("plain string"), "{dynamic}");
    assert_eq!(dynamic["line"], 2);
    // What a text says is what counts, and not what is left of it when constants are folded.
    let folded = ["import \"a\" + \"\" as m; 1", "const N = \"a\"; import N as m; 1"];
    for source in folded {
        let problem = refused("x", "endpoint", source);
        assert!(problem["message"].as_str().unwrap().contains("plain string"), "{source}: {problem}");
    }
    refused("x", "endpoint", "if false { import \"gone\" as g; } 1");
    refused("m", "module", "if false { print(\"hi\"); }");
    for source in ["let x = 1;", "fn f() { 1 }\nprint(\"hi\");", "const ID = random::uuid();"] {
        assert_eq!(refused("m", "module", source)["script"], "m", "{source}");
    }
    app.admin("PUT", "/scripts/page", &json!({ "source": "", "kind": "module" })).is(409);
}

#[test]
fn a_module_that_would_break_a_user_is_refused_and_names_it() {
    let server = TestServer::shared();
    let app = server.app();
    module(&app, "m0", "fn f() { 1 }");
    for n in 1..8 {
        module(&app, &format!("m{n}"), &format!("import \"m{}\" as m;\nfn f() {{ m::f() }}", n - 1));
    }
    app.serve("deep", "import \"m7\" as m;\nm::f()", &NO_LIMITS);
    assert_eq!(app.get("/deep").is(200).json(), 1);
    module(&app, "base", "fn f() { 2 }");
    let refused = try_module(&app, "m0", "import \"base\" as m;\nfn f() { m::f() }");
    let problem = refused.is(422).is_problem("compile_error");
    assert_eq!(problem["script"], "deep", "{problem}");
    assert_eq!((&shown(&app, "m0")["version"], &shown(&app, "m1")["version"]), (&json!(1), &json!(1)));
}

#[test]
fn a_module_in_use_cannot_be_removed_or_answer_requests() {
    let server = TestServer::shared();
    let app = server.app();
    module(&app, "tax", TAX);
    app.deploy("till", "import \"tax\" as t;\nt::RATE", &NO_LIMITS);
    let conflict =
        app.admin("DELETE", "/scripts/tax?force=true", &Value::Null).is(409).is_problem("conflict");
    assert_eq!(conflict["used_by"], json!(["till"]));
    app.admin("POST", "/routes", &json!({ "path": "/tax", "script": "tax" })).is(422);
    app.admin("DELETE", "/scripts/till", &Value::Null).is(204);
    app.admin("DELETE", "/scripts/tax", &Value::Null).is(204);
}
