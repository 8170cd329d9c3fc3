//! Versions: immutable, numbered, one of them live.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::{NO_LIMITS, TestApp, TestServer};

/// A script whose answer tells its version in three places that must agree.
fn source(version: u32) -> String {
    format!("let v = {version};\nfn w() {{ {version} }}\n[ctx.version, v, w()]")
}

fn versions(app: &TestApp<'_>, script: &str) -> Vec<u64> {
    let list = app.admin("GET", &format!("/scripts/{script}/versions"), &Value::Null).is(200).json();
    list["items"].as_array().unwrap().iter().map(|item| item["version"].as_u64().unwrap()).collect()
}

#[test]
fn every_answer_during_a_thousand_deploys_is_wholly_of_one_version() {
    let server = TestServer::shared();
    let app = server.app();
    app.serve("step", &source(1), &NO_LIMITS);
    let is_over = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = BTreeSet::new();
                    let mut last = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        let answer = app.get("/step").is(200).json();
                        let version = answer[0].as_u64().unwrap();
                        assert_eq!(answer, json!([version, version, version]));
                        assert!(version >= last, "version {version} after {last}");
                        last = version;
                        seen.insert(version);
                    }
                    seen
                })
            })
            .collect();
        for version in 2..=1_001 {
            assert_eq!(app.deploy("step", &source(version), &NO_LIMITS)["version"], version);
            // Whoever asks after the deploy is answered by it.
            assert_eq!(app.get("/step").is(200).json()[0], version);
        }
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<BTreeSet<_>>()
    });
    assert!(seen.len() > 100, "the clients saw {} versions", seen.len());
}

#[test]
fn a_rollback_moves_the_pointer_back_and_forth() {
    let server = TestServer::shared();
    let app = server.app();
    app.serve("step", &source(1), &NO_LIMITS);
    app.deploy("step", &source(2), &NO_LIMITS);
    let rollback = |version: u32| app.admin("POST", "/scripts/step/rollback", &json!({ "version": version }));
    for version in [1, 2, 1] {
        assert_eq!(rollback(version).is(200).json()["version"], version);
        assert_eq!(app.get("/step").is(200).json(), json!([version, version, version]));
    }
    rollback(3).is(404).is_problem("not_found");
    assert_eq!(app.get("/step").is(200).json()[0], 1);
    let reply = app.get("/step");
    assert_eq!(app.execution_of(&reply)["version"], 1);
    assert_eq!(versions(&app, "step").len(), 2, "a rollback makes no version");
}

#[test]
fn the_same_source_makes_no_new_version_and_new_limits_do() {
    let server = TestServer::shared();
    let app = server.app();
    app.try_deploy("same", "1", &NO_LIMITS).is(201);
    let again = app.try_deploy("same", "1", &NO_LIMITS);
    assert_eq!(again.is(200).json()["version"], 1);
    let limited = app.deploy("same", "1", &json!({ "fuel": 1_000_000 }));
    assert_eq!((&limited["version"], &limited["limits"]["fuel"]), (&json!(2), &json!(1_000_000)));
    let changed = app.deploy("same", "2", &NO_LIMITS);
    assert_eq!(changed["version"], 3);
    assert_ne!(changed["bundle_hash"], limited["bundle_hash"]);
    assert_eq!(versions(&app, "same").len(), 3);
}

#[test]
fn a_refused_deploy_leaves_the_live_version_alone() {
    let server = TestServer::shared();
    let app = server.app();
    app.serve("step", &source(1), &NO_LIMITS);
    app.try_deploy("step", "let = ", &NO_LIMITS).is(422);
    assert_eq!(app.get("/step").is(200).json(), json!([1, 1, 1]));
    assert_eq!(versions(&app, "step"), [1]);
}

#[test]
fn a_deploy_of_a_module_never_mixes_its_versions_in_one_answer() {
    let server = TestServer::shared();
    let app = server.app();
    let module = |version: u32| {
        let source = format!("export const V = {version}; fn v() {{ {version} }}");
        app.admin("PUT", "/scripts/base", &json!({ "source": source, "kind": "module" }))
    };
    module(1).is(201);
    // The version is in the module twice, and comes through another module too.
    let middle = "import \"base\" as base; fn v() { base::v() }";
    app.admin("PUT", "/scripts/middle", &json!({ "source": middle, "kind": "module" })).is(201);
    let main = "import \"base\" as base; import \"middle\" as middle; [base::V, base::v(), middle::v()]";
    app.serve("page", main, &NO_LIMITS);
    let is_over = AtomicBool::new(false);
    let answers = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut answers = 0;
                    let mut last = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        let answer = app.get("/page").is(200).json();
                        let version = answer[0].as_u64().unwrap();
                        assert_eq!(answer, json!([version, version, version]));
                        assert!(version >= last, "version {version} after {last}");
                        last = version;
                        answers += 1;
                    }
                    answers
                })
            })
            .collect();
        for version in 2..=15 {
            let rebundled = module(version).is(200).json()["rebundled"].as_array().unwrap().len();
            assert_eq!(rebundled, 2, "the page and the module between");
            assert_eq!(app.get("/page").is(200).json(), json!([version, version, version]));
        }
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).sum::<u32>()
    });
    assert!(answers > 14, "{answers}");
}

#[test]
fn two_versions_are_compared_with_what_they_import() {
    let server = TestServer::shared();
    let app = server.app();
    let module = |text: &str| {
        app.admin("PUT", "/scripts/rates", &json!({ "source": text, "kind": "module" }));
    };
    module("export const RATE = 20;\n");
    app.deploy("till", "import \"rates\" as r;\nr::RATE\n", &NO_LIMITS);
    module("export const RATE = 10;\n");
    app.deploy("till", "import \"rates\" as r;\nr::RATE * 2\n", &json!({ "fuel": 1_000_000 }));
    let diff = |query: &str| app.admin("GET", &format!("/scripts/till/versions/{query}"), &Value::Null);
    let all = diff("1:diff").is(200).json();
    assert_eq!((&all["from"], &all["to"]), (&json!(1), &json!(3)));
    let text = all["diff"].as_str().unwrap();
    for line in ["--- a/rates.rhai", "-export const RATE = 20;", "+export const RATE = 10;", "+r::RATE * 2"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(all["limits"], json!({ "fuel": { "from": 10_000_000_000_u64, "to": 1_000_000 } }));
    assert_eq!(diff("2:diff?to=2").is(200).json()["diff"], "");
    diff("1:diff?to=9").is(404).is_problem("not_found");
    diff("x:diff").is(404).is_problem("not_found");
}

#[test]
fn a_manifest_is_applied_under_load_whole_or_not_at_all() {
    let server = TestServer::shared();
    let app = server.app();
    // The page and the module both say the version, and each version has another limit.
    let manifest = |version: u64| {
        json!({
            "scripts": {
                "base": { "source": format!("fn v() {{ {version} }}"), "kind": "module" },
                "page": {
                    "source": format!("import \"base\" as b; [{version}, b::v(), ctx.limits.fuel]"),
                    "limits": { "fuel": 1_000_000_000 + version },
                },
            },
            "routes": [{ "path": format!("/only/{version}"), "script": "page" }, { "path": "/page", "script": "page" }],
        })
    };
    let apply = |version| app.admin("POST", ":apply", &manifest(version)).is(200).json();
    apply(1);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let answer = app.get("/page").is(200).json();
                    let version = answer[0].as_u64().unwrap();
                    assert_eq!(answer, json!([version, version, 1_000_000_000 + version]));
                }
            });
        }
        for version in 2..=12 {
            assert_eq!(apply(version)["update"], 2);
            assert_eq!(app.get("/page").is(200).json()[1], version);
            app.get(&format!("/only/{version}")).is(200);
            app.get(&format!("/only/{}", version - 1)).is(404);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(apply(12)["changes"], json!([]));
}
