//! What the server says of the walls around its workers, and what happens without them.

use serde_json::Value;

use crate::harness::{NO_LIMITS, TestApp, TestServer, process};

#[test]
fn the_walls_and_the_workers_are_shown_to_those_who_run_the_instance() {
    let server = TestServer::shared();
    let app = server.app();
    app.run("hello", "1", &NO_LIMITS).is(200);
    let isolation = server.admin("GET", "/system/isolation", &Value::Null).is(200).json();
    assert_eq!(isolation["mode"], "pinned");
    assert!(isolation["layers"].as_array().unwrap().contains(&"system-call-filter".into()));
    let checks = isolation["checks"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["name"] == "file system"), "{checks:?}");

    let workers = server.admin("GET", "/system/workers", &Value::Null).is(200).json();
    let me = server.admin("GET", "/auth/me", &Value::Null).is(200).json();
    let mut pids = workers["items"].as_array().unwrap().iter().map(|worker| worker["pid"].as_u64().unwrap());
    assert!(pids.all(|pid| server.workers().contains(&pid.try_into().unwrap())), "{workers}");
    let owner = me["id"].as_str().or_else(|| me["user"]["id"].as_str()).unwrap();
    assert!(workers["items"].as_array().unwrap().iter().any(|worker| worker["owner"] == owner), "{workers}");
    assert!(workers["workers_max"].as_u64() > workers["workers_ready"].as_u64());
}

#[test]
fn strangers_see_nothing_of_the_machine() {
    let server = TestServer::shared();
    for path in ["isolation", "workers"] {
        let path = format!("/api/v1/admin/system/{path}");
        server.client.get("localhost", &path).is(401).is_problem("unauthenticated");
    }
}

/// Attack 45: whoever takes over a worker searches it for what another tenant left behind.
#[test]
fn a_workers_memory_holds_nothing_of_another_tenant() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root may read a worker's memory from outside");
        return;
    }
    let server = TestServer::start_with(&[("PICLOUD_ISOLATION", "strict")]);
    let (one, two) = (server.app(), server.app());
    let canary = format!("canary-{}-of-{}", server.port, one.slug);
    one.run("keep", &format!("let secret = \"{canary}\"; secret.len()"), &NO_LIMITS).is(200);
    two.run("look", "1", &NO_LIMITS).is(200);
    let worker_of = |app: &TestApp<'_>| {
        let id = app.admin("GET", "", &Value::Null).is(200).json()["id"].clone();
        let workers = server.admin("GET", "/system/workers", &Value::Null).is(200).json();
        let items = workers["items"].as_array().unwrap().clone();
        let worker = items.into_iter().find(|worker| worker["app"] == id).unwrap();
        u32::try_from(worker["pid"].as_u64().unwrap()).unwrap()
    };
    let (kept, found) = (worker_of(&one), worker_of(&two));
    let hits = |pid| process::find_in_memory(pid, canary.as_bytes());
    let (own, others) = (hits(kept), hits(found));
    eprintln!(
        "| 45 another tenant's canary | in its own worker: {own} hits | in the next one's: {others} hits |"
    );
    assert!(own > 0, "the search finds nothing at all");
    assert_eq!(others, 0);
}

#[test]
fn a_server_without_walls_says_so_everywhere_and_works() {
    let server = TestServer::start_with(&[("PICLOUD_ISOLATION", "off")]);
    let app = server.app();
    app.run("hello", "1", &NO_LIMITS).is(200);
    let ready = server.client.get("localhost", "/readyz");
    assert!(String::from_utf8_lossy(&ready.body).contains("isolation off\n"));
    let isolation = server.admin("GET", "/system/isolation", &Value::Null).is(200).json();
    assert_eq!((&isolation["mode"], &isolation["layers"]), (&"off".into(), &Value::Array(Vec::new())));
    assert!(server.log().contains("ISOLATION IS OFF"));
}
