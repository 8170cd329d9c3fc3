//! How a server ends, and how it comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Disk, NO_LIMITS, PASSWORD, TestServer, eventually, print_row, process, within};

#[test]
fn after_kill_9_no_worker_is_left_and_the_next_start_serves_the_same_scripts() {
    let disk = Arc::new(Disk::new());
    let mut server = TestServer::start_on(disk.clone());
    let app = server.app();
    app.serve("kept", "\"still here\"", &NO_LIMITS);
    let slug = app.slug.clone();
    let workers = server.workers();
    server.signal(Signal::SIGKILL);
    server.wait();
    eventually("all workers died with their parent", || {
        (!workers.iter().any(|worker| process::is_there(*worker))).then_some(())
    });
    drop(server);

    let server = TestServer::start_on(disk);
    let app = server.existing_app(&slug);
    assert_eq!(app.get("/kept").is(200).json(), "still here");
    assert_eq!(server.client.get("localhost", "/hello/pi").is(200).text(), "Hello, pi!\n");
    // And everything else works: a login was made by the start above, a deploy is made here.
    app.deploy("kept", "\"new\"", &NO_LIMITS);
    assert_eq!(app.get("/kept").is(200).json(), "new");
}

#[test]
fn a_busy_worker_ends_with_its_parent_long_before_its_deadline() {
    let mut server = TestServer::start();
    let app = server.app();
    app.serve("busy", "loop { }", &json!({ "fuel": 300_000_000_000_u64, "timeout_ms": 300_000 }));
    let idle: Vec<(u32, u64)> =
        server.workers().into_iter().map(|worker| (worker, process::ticks(worker))).collect();
    let (host, client) = (app.host.clone(), server.client.clone());
    let request = std::thread::spawn(move || client.try_send("GET", &host, "/busy", &[], b"").is_ok());
    let busy = eventually("the script runs", || {
        let busy = idle.iter().find(|(worker, before)| process::ticks(*worker) > before + 5);
        busy.map(|(worker, _)| *worker)
    });
    server.signal(Signal::SIGKILL);
    server.wait();
    within(Duration::from_secs(5), "the busy worker died with its parent", || {
        (!process::is_there(busy)).then_some(())
    });
    assert!(!request.join().unwrap(), "the script ended too early for this test to tell anything");
}

/// On a machine where no other limit comes first.
#[test]
fn attack_50_for_want_of_memory_workers_go_before_their_parent() {
    let score = |pid: u32| -> i32 {
        let score = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
        score.trim().parse().unwrap()
    };
    let server = TestServer::shared();
    assert_eq!(score(server.pid()), score(std::process::id()), "a server asks for no place");
    let workers = server.workers();
    assert!(!workers.is_empty());
    for worker in workers {
        let seen = score(worker);
        print_row("50", "no memory left anywhere", "a worker's score is 1000", &seen.to_string());
        assert_eq!(seen, 1_000);
    }
}

#[test]
fn sigterm_lets_what_runs_finish_and_exits_with_0() {
    let mut server = TestServer::start();
    let workers = server.workers();
    let app = server.app();
    let work = "log::info(\"begun\"); let n = 0; for i in 0..1500000 { n += i; } n";
    app.serve("work", work, &json!({ "fuel": 100_000_000_000_u64 }));
    let (host, client) = (app.host.clone(), server.client.clone());
    let burnt = || workers.iter().map(|worker| process::ticks(*worker)).sum::<u64>();
    let before = burnt();
    let request = std::thread::spawn(move || client.get(&host, "/work"));
    eventually("the script runs", || (burnt() > before + 5).then_some(()));
    server.signal(Signal::SIGTERM);
    eventually("no new connection is accepted", || {
        std::net::TcpStream::connect(("127.0.0.1", server.port)).is_err().then_some(())
    });
    assert!(!request.is_finished(), "the script ended too early for this test to tell anything");
    let reply = request.join().unwrap();
    assert_eq!(reply.is(200).json(), json!(1_124_999_250_000_i64));
    let status = server.wait();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(!server.log().contains("worker lost"), "{}", server.log());
    eventually("all workers are gone", || {
        (!workers.iter().any(|worker| process::is_there(*worker))).then_some(())
    });
}

#[test]
fn an_idle_server_ends_at_once_and_its_records_are_kept() {
    let disk = Arc::new(Disk::new());
    let mut server = TestServer::start_on(disk.clone());
    let app = server.app();
    let slug = app.slug.clone();
    app.serve("last", "throw \"the last words\"", &NO_LIMITS);
    let reply = app.get("/last");
    let request_id = reply.is(500).header("x-request-id").to_owned();
    let begun = Instant::now();
    server.signal(Signal::SIGINT);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!server.log().contains("worker lost"), "{}", server.log());
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    drop(server);

    let server = TestServer::start_on(disk);
    let list = server.existing_app(&slug).admin("GET", "/executions", &Value::Null).is(200).json();
    assert_eq!(list["items"][0]["request_id"], request_id.as_str(), "{list}");
    assert_eq!(list["items"][0]["status"], "script_error");
}

#[test]
fn the_file_with_the_first_password_goes_when_the_password_was_changed() {
    let disk = Arc::new(Disk::new());
    let file = disk.path().join("data/initial-admin-password");
    drop(TestServer::start_on(disk.clone()));
    for (password, is_kept) in [(PASSWORD, true), ("another one", false)] {
        std::fs::write(&file, password).unwrap();
        drop(TestServer::start_on(disk.clone()));
        assert_eq!(file.exists(), is_kept, "{password}");
    }
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let server = TestServer::start();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_picloud"))
        .arg("serve")
        .env_clear()
        .env("PICLOUD_BIND", "127.0.0.1:0")
        .env("PICLOUD_DATA_DIR", server.disk.path().join("data"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains(&format!("process {}", server.pid())), "{complaint}");
    server.client.get("localhost", "/hello/pi").is(200);
}
