//! The platform is killed between a change and its event: under load, and at each point where it could
//! matter. There is no change without its event, and no event without its change.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{At, Disk, Failpoint, NO_LIMITS, TestApp, TestServer, eventually, within};

/// Threads that write.
const WRITERS: u32 = 4;
/// What was tried in vain during several outages waits for half a minute and more before it is tried again.
const DELIVERED_WITHIN: Duration = Duration::from_secs(120);

const KINDS: [&str; 3] = ["kv", "docs", "files"];

/// Leaves a mark with the name of the change that it is told of.
const HANDLER: &str = r#"
    let event = ctx.event;
    let name = switch event.kind {
        "kv" => "kv/" + event.kv.key,
        "docs" => "docs/" + event.docs.data.n,
        "files" => "files/" + event.files.meta.name,
    };
    kv::collection("marks").incr(name);
"#;

/// How each kind is changed, with a name of the request's choice.
const CHANGES: [&str; 3] = [
    r#"kv::collection("changes").set(n, 1);"#,
    r#"docs::collection("changes").create(#{ n: n });"#,
    r#"files::collection("changes").create(#{ name: n, data: n });"#,
];

/// All changes that there are, and all marks.
const HISTORY: &str = r#"
    with changed (name) as (
        select 'kv/' || key from kv where collection = 'changes'
        union all
        select 'docs/' || (data ->> 'n') from docs where collection = 'changes'
        union all
        select 'files/' || name from files where collection = 'changes'
    ), marked (name) as (
        select key from kv where collection = 'marks'
    )
"#;

/// An app that watches its changes, and answers at `/kv`, `/docs`, `/files` and `/all` by making some.
fn watched_app(server: &TestServer) -> TestApp<'_> {
    let app = server.app();
    app.deploy("mark", HANDLER, &NO_LIMITS);
    for (kind, change) in KINDS.iter().zip(CHANGES) {
        let trigger = json!({ "kind": kind, "script": "mark", "config": { "collection": "changes" } });
        app.admin("POST", "/triggers", &trigger).is(201);
        app.serve(kind, &format!("let n = ctx.request.query.n; {change}"), &NO_LIMITS);
    }
    app.serve("all", &format!("let n = ctx.request.query.n; {}", CHANGES.concat()), &NO_LIMITS);
    app
}

fn number(disk: &Disk, sql: &str) -> usize {
    disk.query(&format!("{HISTORY} {sql}")).parse().unwrap()
}

fn changes(disk: &Disk) -> usize {
    number(disk, "select count(*)::text from changed")
}

/// Changes without a mark, and marks without a change, once everything is delivered.
fn differences(app: &TestApp<'_>) -> usize {
    let is_done = || app.admin("GET", "/outbox", &Value::Null).is(200).json()["items"] == json!([]);
    within(DELIVERED_WITHIN, "everything is delivered", || is_done().then_some(()));
    let sql = "select count(*)::text from changed full join marked using (name)
               where changed.name is null or marked.name is null";
    number(&app.server.disk, sql)
}

/// Makes changes until told to stop; remembers those that were answered.
#[derive(Default)]
struct Writer {
    answered: Mutex<Vec<String>>,
    next: AtomicU32,
    is_stopped: AtomicBool,
}

impl Writer {
    fn run(&self, app: &TestApp<'_>) {
        while !self.is_stopped.load(Ordering::Relaxed) {
            let name = format!("n{}", self.next.fetch_add(1, Ordering::Relaxed));
            let sent = app.client().try_send("GET", &app.host, &format!("/all?n={name}"), &[], &[]);
            if sent.is_ok_and(|reply| reply.status == 200) {
                self.answered.lock().unwrap().push(name);
            }
        }
    }

    fn count(&self) -> usize {
        self.answered.lock().unwrap().len()
    }
}

#[test]
fn no_change_and_no_event_is_lost_when_the_platform_is_killed_under_load() {
    let disk = Arc::new(Disk::new());
    let writer = Writer::default();
    let mut slug = String::new();
    for round in 0..3 {
        let mut server = TestServer::start_on(Arc::clone(&disk));
        if round == 0 {
            slug = watched_app(&server).slug;
        }
        writer.is_stopped.store(false, Ordering::Relaxed);
        let app = server.existing_app(&slug);
        std::thread::scope(|scope| {
            for _ in 0..WRITERS {
                scope.spawn(|| writer.run(&app));
            }
            // Somewhere in the middle of work, another place each time.
            let enough = writer.count() + 15 + round * 7;
            eventually("more is written", || (writer.count() >= enough).then_some(()));
            app.server.signal(Signal::SIGKILL);
            writer.is_stopped.store(true, Ordering::Relaxed);
        });
        server.wait();
    }
    let server = TestServer::start_on(Arc::clone(&disk));
    assert_eq!(differences(&server.existing_app(&slug)), 0);
    let answered = writer.answered.into_inner().unwrap();
    let there = format!(
        "select count(*)::text from changed where split_part(name, '/', 2) = any('{{{}}}')",
        answered.join(",")
    );
    assert_eq!(number(&disk, &there), KINDS.len() * answered.len(), "of what was answered");
}

/// Holds whoever writes an event at this point, kills the platform there, and lets the database go on.
/// Answers what there is then: a server on what is left, and the app.
fn kill_at(at: At) -> (TestServer, String) {
    let disk = Arc::new(Disk::new());
    let mut server = TestServer::start_on(Arc::clone(&disk));
    let app = watched_app(&server);
    let point = Failpoint::set(&disk, at, "insert", "outbox", "true");
    std::thread::scope(|scope| {
        for kind in KINDS {
            let app = &app;
            scope.spawn(move || app.client().try_send("GET", &app.host, &format!("/{kind}?n=n"), &[], &[]));
        }
        point.is_reached_by(KINDS.len());
        app.server.signal(Signal::SIGKILL);
    });
    let slug = app.slug.clone();
    server.wait();
    point.remove();
    (TestServer::start_on(disk), slug)
}

#[test]
fn a_change_whose_event_was_not_written_is_not_made() {
    let (server, slug) = kill_at(At::Statement);
    assert_eq!(changes(&server.disk), 0);
    assert_eq!(differences(&server.existing_app(&slug)), 0);
}

#[test]
fn a_change_that_was_committed_when_nobody_could_be_told_is_told_after_the_restart() {
    let (server, slug) = kill_at(At::Commit);
    assert_eq!(changes(&server.disk), KINDS.len());
    assert_eq!(differences(&server.existing_app(&slug)), 0);
}
