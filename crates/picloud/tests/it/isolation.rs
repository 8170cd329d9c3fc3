//! What the server says of the walls around its workers, and what happens without them.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Canary, Disk, NO_LIMITS, TestApp, TestServer, eventually, print_row, process};
use crate::starters::{Doctor, STRICT};

const OFF: &[(&str, &str)] = &[("PICLOUD_ISOLATION", "off")];

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
    let wall = checks.iter().find(|check| check["name"] == "row security").unwrap();
    assert_eq!(wall["verdict"], "holds");
    let groups = checks.iter().find(|check| check["name"] == "control groups").unwrap();
    // It says what it has, and never that it does not know.
    let has_groups = groups["found"].as_str().unwrap().starts_with("each worker is in a group of its own");
    assert_eq!(groups["verdict"], if has_groups { "holds" } else { "degraded" }, "{groups}");
    assert!(checks.iter().all(|check| check["name"] != "judged"), "{checks:?}");

    let workers = server.admin("GET", "/system/workers", &Value::Null).is(200).json();
    let me = server.admin("GET", "/auth/me", &Value::Null).is(200).json();
    let mut pids = workers["items"].as_array().unwrap().iter().map(|worker| worker["pid"].as_u64().unwrap());
    assert!(pids.all(|pid| server.workers().contains(&pid.try_into().unwrap())), "{workers}");
    let owner = me["id"].as_str().or_else(|| me["user"]["id"].as_str()).unwrap();
    assert!(workers["items"].as_array().unwrap().iter().any(|worker| worker["owner"] == owner), "{workers}");
    assert!(workers["workers_max"].as_u64() > workers["workers_ready"].as_u64());
}

/// What a harness finds by itself says nothing of the connections of the server.
#[test]
fn what_scripts_ask_a_server_for_is_behind_the_wall_of_the_database() {
    let server = TestServer::start();
    let app = server.app();
    app.run("keep", "kv::collection(\"c\").set(\"k\", 1)", &NO_LIMITS).is(200);
    app.serve("look", "kv::collection(\"c\").has(\"k\")", &NO_LIMITS);
    assert_eq!(app.get("/look").is(200).json(), true);
    server.disk.execute("alter policy of_app on kv using (false)");
    assert_eq!(app.get("/look").is(200).json(), false, "nothing but the policy keeps it from the script");
}

/// For each report a worker is started, and has to be waited for although nobody waits for the report any more.
#[test]
fn who_asks_for_the_report_and_leaves_leaves_no_process_behind() {
    let server = TestServer::start();
    let workers = server.workers().len();
    let request = format!(
        "GET /api/v1/admin/system/isolation HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\n\r\n",
        server.bearer()
    );
    for _ in 0..20 {
        eventually("the worker of the last report is gone", || {
            (process::workers(server.pid()).len() == workers).then_some(())
        });
        let mut asking = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        asking.write_all(request.as_bytes()).unwrap();
        asking.set_nonblocking(true).unwrap();
        let is_unanswered =
            || asking.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        // Until the worker is there, or has come and gone.
        while process::workers(server.pid()).len() <= workers && is_unanswered() {}
    }
    server.admin("GET", "/system/isolation", &Value::Null).is(200);
    eventually("all that were started have been waited for", || {
        // With the one that workers are copies of.
        let is_clean =
            process::zombies(server.pid()).is_empty() && process::children(server.pid()).len() == workers + 1;
        is_clean.then_some(())
    });
}

#[test]
fn strangers_see_nothing_of_the_machine() {
    let server = TestServer::shared();
    for path in ["isolation", "workers"] {
        let path = format!("/api/v1/admin/system/{path}");
        server.client.get("localhost", &path).is(401).is_problem("unauthenticated");
    }
}

/// Whoever takes over a worker searches it for what another tenant left behind.
#[test]
fn attack_45_searching_a_worker_for_another_tenants_secrets() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root may read a worker's memory from outside");
        return;
    }
    search("pinned");
    if Doctor::asked(&["env"], STRICT).verdict("control groups") == "holds" {
        search("strict");
    } else {
        eprintln!("SKIPPED: strict isolation does not start where there are no control groups");
    }
}

fn search(mode: &str) {
    let server = TestServer::start_with(&[("PICLOUD_ISOLATION", mode)]);
    let (one, two, neighbour) = (server.app(), server.app(), Canary::beside(&server));
    // Another owner: `pinned` keeps owners apart, `strict` apps too.
    let bob = json!({ "username": "bob", "password": "correct horse battery staple" });
    server.admin("POST", "/users", &bob).is(201);
    server.admin("POST", &format!("/apps/{}:assign", two.slug), &json!({ "user": "bob" })).is(200);
    let canary = format!("canary-{}-of-{}", server.port, one.slug);
    one.run("keep", &format!("let secret = \"{canary}\"; secret.len()"), &NO_LIMITS).is(200);
    two.run("look", "1", &NO_LIMITS).is(200);
    let workers_of = |app: &TestApp<'_>| -> Vec<u32> {
        let shown = app.admin("GET", "", &Value::Null).is(200).json();
        let (id, owner) = (shown["id"].clone(), shown["owner_id"].clone());
        let workers = server.admin("GET", "/system/workers", &Value::Null).is(200).json();
        let items = workers["items"].as_array().unwrap().clone();
        let theirs = items.into_iter().filter(|worker| worker["app"] == id || worker["owner"] == owner);
        theirs.map(|worker| worker["pid"].as_u64().unwrap().try_into().unwrap()).collect()
    };
    let hits = |workers: &[u32]| -> usize {
        workers.iter().map(|pid| process::find_in_memory(*pid, canary.as_bytes())).sum()
    };
    let others = workers_of(&two);
    assert!(!others.is_empty(), "nobody serves the other tenant");
    let (own, others) = (hits(&workers_of(&one)), hits(&others));
    let expected = "hits in its own worker, none in another tenant's";
    print_row("45", &format!("{mode}: a secret"), expected, &format!("{own} and {others} hits"));
    assert!(own > 0, "the search finds nothing at all");
    assert_eq!(others, 0);
    neighbour.release("45");
}

#[test]
fn a_server_without_walls_says_so_everywhere_and_works() {
    let server = TestServer::start_with(OFF);
    let app = server.app();
    app.run("hello", "1", &NO_LIMITS).is(200);
    let ready = server.client.get("localhost", "/readyz");
    assert!(String::from_utf8_lossy(&ready.body).contains("isolation off\n"));
    let isolation = server.admin("GET", "/system/isolation", &Value::Null).is(200).json();
    assert_eq!((&isolation["mode"], &isolation["layers"]), (&"off".into(), &Value::Array(Vec::new())));
    let groups =
        isolation["checks"].as_array().unwrap().iter().find(|check| check["name"] == "control groups");
    assert_eq!(groups.unwrap()["found"], "none, as isolation is off");
    assert!(server.log().contains("ISOLATION IS OFF"));
    let doctor = Doctor::asked(&["env"], OFF);
    assert_eq!(doctor.verdict("isolation"), "degraded");
    assert!(doctor.found("isolation").starts_with("OFF"), "{}", doctor.found("isolation"));
    let banner = banner(OFF);
    assert!(banner.contains("ISOLATION OFF"), "{banner}");
}

/// What a server with further settings greets its operator with.
fn banner(settings: &[(&str, &str)]) -> String {
    /// How the last line of the greeting begins.
    const LAST: &str = "  stop ";
    let disk = Disk::new();
    let mut server = Command::new(env!("CARGO_BIN_EXE_picloud"))
        .arg("serve")
        .env_clear()
        .env("DATABASE_URL", disk.database_url())
        .env("PICLOUD_DATA_DIR", disk.path().join("data"))
        .env("PICLOUD_BIND", "127.0.0.1:0")
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
    let banner: Vec<_> = lines.take_while(|line| !line.starts_with(LAST)).collect();
    process::send_if_there(server.id(), Signal::SIGTERM);
    server.wait().unwrap();
    banner.join("\n")
}
