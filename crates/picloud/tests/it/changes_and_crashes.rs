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
/// Changes that wait at once, each on a connection: one app gets no more than five.
const HELD: usize = 3;
/// What was tried in vain during several outages waits for half a minute and more before it is tried again.
const DELIVERED_WITHIN: Duration = Duration::from_secs(120);

/// What is heard of, as kind and config of a trigger.
const HEARD: [(&str, &str); 9] = [
    ("kv", r#"{ "collection": "changes" }"#),
    ("docs", r#"{ "collection": "changes" }"#),
    ("files", r#"{ "collection": "changes" }"#),
    ("docs", r#"{ "collection": "updated", "operations": ["update"] }"#),
    ("kv", r#"{ "collection": "deleted", "operations": ["delete"] }"#),
    ("kv", r#"{ "collection": "together" }"#),
    ("docs", r#"{ "collection": "together" }"#),
    ("queue", r#"{ "queue": "together" }"#),
    ("pubsub", r#"{ "topic": "together" }"#),
];

/// Leaves a mark with the name of the change that it is told of.
const HANDLER: &str = r#"
    let kind = ctx.event.kind;
    let told = ctx.event[kind];
    let name = switch kind {
        "kv" => `${told.collection}/${told.key}`,
        "docs" => `${told.collection}/${told.data.n}`,
        "files" => `${told.collection}/${told.meta.name}`,
        _ => `together/${told.message}`,
    };
    kv::collection("marks").incr(`${kind}/${name}`);
"#;

/// What changes something, each once, by the name of its script; what is changed has a name of the request's choice.
/// What is there before is made unheard, and what is to be deleted is also written down.
const CHANGES: [(&str, &str); 6] = [
    ("kv", r#"kv::collection("changes").set(n, 1);"#),
    ("docs", r#"docs::collection("changes").create(#{ n: n });"#),
    ("files", r#"files::collection("changes").create(#{ name: n, data: n });"#),
    (
        "update",
        r#"
            let updated = docs::collection("updated");
            updated.patch(updated.create(#{ n: n }), #{ is_done: true });
        "#,
    ),
    (
        "delete",
        r#"
            kv::collection("deleted").set(n, 1);
            kv::collection("to-delete").set(n, 1);
            kv::collection("deleted").delete(n);
        "#,
    ),
    (
        "together",
        r#"
            atomic::commit([
                #{ kv: "together", key: n, set: 1 },
                #{ docs: "together", create: #{ n: n } },
                #{ queue: "together", send: n },
                #{ pubsub: "together", publish: n },
            ]);
        "#,
    ),
];

/// All changes that there are, and all marks. Of a message nothing is kept but what was committed with it.
const HISTORY: &str = r#"
    with changed (name) as (
        select 'kv/changes/' || key from kv where collection = 'changes'
        union all
        select 'docs/changes/' || (data ->> 'n') from docs where collection = 'changes'
        union all
        select 'files/changes/' || name from files where collection = 'changes'
        union all
        select 'docs/updated/' || (data ->> 'n') from docs
        where collection = 'updated' and data ->> 'is_done' is not null
        union all
        select 'kv/deleted/' || key from kv one
        where collection = 'to-delete' and not exists (
            select from kv other
            where other.app_id = one.app_id and other.collection = 'deleted' and other.key = one.key
        )
        union all
        select 'docs/together/' || (data ->> 'n') from docs where collection = 'together'
        union all
        select kind || '/together/' || key
        from kv, unnest(array['kv', 'queue', 'pubsub']) kind
        where collection = 'together'
    ), marked (name) as (
        select key from kv where collection = 'marks'
    )
"#;

/// An app that watches its changes, and answers by making one at an address for each, and all at `/all`.
fn watched_app(server: &TestServer) -> TestApp<'_> {
    let app = server.app();
    app.deploy("mark", HANDLER, &NO_LIMITS);
    for (kind, config) in HEARD {
        let config: Value = serde_json::from_str(config).unwrap();
        let trigger = json!({ "kind": kind, "script": "mark", "config": config });
        app.admin("POST", "/triggers", &trigger).is(201);
    }
    for (name, change) in CHANGES {
        app.serve(name, &format!("let n = ctx.request.query.n; {change}"), &NO_LIMITS);
    }
    let all = CHANGES.map(|(_, change)| change).concat();
    app.serve("all", &format!("let n = ctx.request.query.n; {all}"), &NO_LIMITS);
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
        "select count(*)::text from changed where split_part(name, '/', 3) = any('{{{}}}')",
        answered.join(",")
    );
    assert_eq!(number(&disk, &there), HEARD.len() * answered.len(), "of what was answered");
}

/// Holds whoever writes an event at this point, kills the platform there while these changes are made, and lets the
/// database go on. Answers what there is then: a server on what is left, and the app.
fn kill_at(at: At, changes: &[(&str, &str)]) -> (TestServer, String) {
    let disk = Arc::new(Disk::new());
    let mut server = TestServer::start_on(Arc::clone(&disk));
    let app = watched_app(&server);
    let point = Failpoint::set(&disk, at, "insert", "outbox", "true");
    std::thread::scope(|scope| {
        for (name, _) in changes {
            let app = &app;
            scope.spawn(move || app.client().try_send("GET", &app.host, &format!("/{name}?n=n"), &[], &[]));
        }
        point.is_reached_by(changes.len());
        app.server.signal(Signal::SIGKILL);
    });
    let slug = app.slug.clone();
    server.wait();
    point.remove();
    (TestServer::start_on(disk), slug)
}

#[test]
fn a_change_whose_event_was_not_written_is_not_made() {
    for held in CHANGES.chunks(HELD) {
        let (server, slug) = kill_at(At::Statement, held);
        assert_eq!(changes(&server.disk), 0);
        assert_eq!(differences(&server.existing_app(&slug)), 0);
    }
}

#[test]
fn a_change_that_was_committed_when_nobody_could_be_told_is_told_after_the_restart() {
    let mut made = 0;
    for held in CHANGES.chunks(HELD) {
        let (server, slug) = kill_at(At::Commit, held);
        made += changes(&server.disk);
        assert_eq!(differences(&server.existing_app(&slug)), 0);
    }
    assert_eq!(made, HEARD.len());
}
