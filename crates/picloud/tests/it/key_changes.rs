//! The keys of secrets are changed while secrets are set and read, and the platform is killed while they are.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{At, Disk, Failpoint, NO_LIMITS, TestApp, TestServer};

const VALUE: &str = "a-value-that-outlives-its-keys";
/// How often each key is changed under load, at least.
const CHANGES: usize = 10;
/// People and scripts that set secrets.
const WRITERS: usize = 4;
/// What each of them sets before the keys are left alone.
const WRITES_MIN: usize = 20;
const ROTATE_MASTER: &str = "/api/v1/admin/system/secrets:rotate-master";

/// An app whose secrets are read at `/get` and set by the script `set`.
fn app_with_scripts<'a>(server: &'a TestServer, slug: &str) -> TestApp<'a> {
    server.admin("POST", "/apps", &json!({ "slug": slug })).is(201);
    let app = server.existing_app(slug);
    app.serve("get", "secrets::get(ctx.request.query.name)", &NO_LIMITS);
    app.deploy("set", "secrets::set(ctx.request.body.name, ctx.request.body.value)", &NO_LIMITS);
    app
}

fn get(app: &TestApp<'_>, name: &str) -> Value {
    app.get(&format!("/get?name={name}")).is(200).json()
}

fn put(app: &TestApp<'_>, name: &str, value: &str) {
    let reply = app.admin("PUT", &format!("/secrets/{name}"), &json!({ "value": value }));
    assert!(matches!(reply.status, 200 | 201), "{reply:?}");
}

fn set(app: &TestApp<'_>, name: &str, value: &str) {
    let run = json!({ "method": "POST", "path": "/", "body": { "name": name, "value": value } });
    let answer = app.admin("POST", "/scripts/set/invoke", &run).is(200).json();
    assert_eq!(answer["execution"]["status"], "ok", "{answer}");
}

/// Sets secrets of its own and reads each back, until told to stop. Answers what it set last.
fn write(app: &TestApp<'_>, writer: usize, is_over: &AtomicBool) -> HashMap<String, String> {
    let mut values = HashMap::new();
    let mut round = 0;
    while round < WRITES_MIN || !is_over.load(Ordering::Relaxed) {
        round += 1;
        let (name, value) = (format!("w{writer}.{}", round % 8), format!("value {writer} {round}"));
        let change = if writer.is_multiple_of(2) { put } else { set };
        change(app, &name, &value);
        assert_eq!(get(app, &name), value, "{name}");
        values.insert(name, value);
    }
    values
}

#[test]
fn both_keys_are_changed_under_load_and_no_secret_is_lost_or_unreadable() {
    let server = TestServer::start();
    let app = app_with_scripts(&server, "kept");
    put(&app, "first", VALUE);
    let masters = "select string_agg(distinct encode(master_id, 'hex'), ',') from app_keys";
    let first_master = server.disk.query(masters);
    let is_over = AtomicBool::new(false);
    let values: HashMap<_, _> = std::thread::scope(|scope| {
        let (app, is_over) = (&app, &is_over);
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| scope.spawn(move || write(app, writer, is_over))).collect();
        let data_keys = scope.spawn(move || {
            for _ in 0..CHANGES {
                app.admin("POST", "/secrets:rotate-key", &json!({})).is(200);
            }
        });
        let master_keys = scope.spawn(move || {
            for _ in 0..CHANGES {
                app.server.admin("POST", "/system/secrets:rotate-master", &json!({})).is(200);
            }
        });
        let ends = [data_keys.join(), master_keys.join()];
        // Also when they failed: the writers wait for it.
        is_over.store(true, Ordering::Relaxed);
        ends.into_iter().for_each(|end| end.unwrap());
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    let check = |app: &TestApp<'_>| {
        assert_eq!(get(app, "first"), VALUE);
        values.iter().for_each(|(name, value)| assert_eq!(get(app, name), *value, "{name}"));
    };
    check(&app);
    // One key is left of each kind, and it is none of the first.
    let newest = (CHANGES + 1).to_string();
    let versions = "select string_agg(distinct key_version::text, ',') from secrets";
    assert_eq!(server.disk.query("select string_agg(version::text, ',') from app_keys"), newest);
    assert_eq!(server.disk.query(versions), newest);
    let master = server.disk.query(masters);
    assert!(master != first_master && !master.contains(','), "{first_master}, then {master}");
    let disk = Arc::clone(&server.disk);
    drop(server);
    let server = TestServer::start_on(disk);
    check(&server.existing_app("kept"));
}

/// What the crash leaves of the change of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It was before its commit, and its session ends.
    Nothing,
    /// It was in its commit, which is made.
    All,
}

/// Kills the server in a change of the secret key, at this point of its transaction.
fn kill_while_the_key_changes(server: &mut TestServer, at: At, left: Left, body: &str) {
    let disk = Arc::clone(&server.disk);
    let point = Failpoint::set(&disk, at, "update", "app_keys", "true");
    let bearer = server.bearer();
    std::thread::scope(|scope| {
        let client = &server.client;
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        scope.spawn(move || client.try_send("POST", "localhost", ROTATE_MASTER, &headers, body.as_bytes()));
        point.is_reached_by(1);
        server.signal(Signal::SIGKILL);
    });
    server.wait();
    if left == Left::Nothing {
        disk.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and wait_event = 'advisory'",
        );
    }
    point.remove();
}

fn key_file(disk: &Disk, name: &str) -> PathBuf {
    disk.path().join("data").join(name)
}

fn key_in(disk: &Disk, name: &str) -> String {
    std::fs::read_to_string(key_file(disk, name)).unwrap()
}

#[test]
fn a_server_that_is_killed_at_any_point_of_a_change_of_its_key_starts_and_reads_everything() {
    // In its statements; when the new key stands beside the old; when the database is under the new one.
    let points = [(At::Statement, Left::Nothing), (At::Commit, Left::Nothing), (At::Commit, Left::All)];
    for (at, left) in points {
        let mut server = TestServer::start();
        let disk = Arc::clone(&server.disk);
        let app = app_with_scripts(&server, "kept");
        put(&app, "before", VALUE);
        let old = key_in(&disk, "secret-key");
        kill_while_the_key_changes(&mut server, at, left, "{}");
        assert_eq!(key_in(&disk, "secret-key"), old, "{at:?} {left:?}");
        let is_staged = key_file(&disk, "secret-key.staged").exists();
        assert_eq!(is_staged, at == At::Commit, "{at:?} {left:?}");

        let server = TestServer::start_on(Arc::clone(&disk));
        let app = server.existing_app("kept");
        assert_eq!(get(&app, "before"), VALUE, "{at:?} {left:?}");
        // The file has followed the database, whichever way that went.
        assert_eq!(key_in(&disk, "secret-key") != old, left == Left::All, "{at:?} {left:?}");
        put(&app, "after", VALUE);
        put(&app_with_scripts(&server, "other"), "first", VALUE);
        let between = key_in(&disk, "secret-key");
        server.admin("POST", "/system/secrets:rotate-master", &json!({})).is(200);
        assert_ne!(key_in(&disk, "secret-key"), between, "{at:?} {left:?}");
        assert!(!key_file(&disk, "secret-key.staged").exists(), "{at:?} {left:?}");
        drop(server);
        let server = TestServer::start_on(Arc::clone(&disk));
        for (slug, name) in [("kept", "before"), ("kept", "after"), ("other", "first")] {
            assert_eq!(get(&server.existing_app(slug), name), VALUE, "{name}, {at:?} {left:?}");
        }
    }
}

/// A server whose secret key is its operator's to keep.
fn start_with_key(disk: &Arc<Disk>, key: &str) -> Option<TestServer> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_picloud"));
    command.arg("serve").env_clear().env("DATABASE_URL", disk.database_url()).env("PICLOUD_SECRET_KEY", key);
    TestServer::try_launch(command, Arc::clone(disk)).ok()
}

#[test]
fn a_key_that_was_given_is_the_key_from_its_commit_on_and_the_old_one_until_then() {
    let [old, new] = [[1_u8; 32], [2; 32]].map(|key| STANDARD.encode(key));
    for (left, key, gone) in [(Left::Nothing, &old, &new), (Left::All, &new, &old)] {
        let disk = Arc::new(Disk::new());
        let mut server = start_with_key(&disk, &old).unwrap();
        let app = app_with_scripts(&server, "kept");
        put(&app, "before", VALUE);
        let body = json!({ "key": new }).to_string();
        kill_while_the_key_changes(&mut server, At::Commit, left, &body);
        assert!(start_with_key(&disk, gone).is_none(), "{left:?}");
        let server = start_with_key(&disk, key).unwrap();
        assert_eq!(get(&server.existing_app("kept"), "before"), VALUE, "{left:?}");
        // Given again, in doubt of what became of it.
        server.admin("POST", "/system/secrets:rotate-master", &json!({ "key": new })).is(200);
        drop(server);
        let server = start_with_key(&disk, &new).unwrap();
        assert_eq!(get(&server.existing_app("kept"), "before"), VALUE, "{left:?}");
    }
}
