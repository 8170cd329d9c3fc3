//! What scripts cause elsewhere: events that cause events, requests to the world, changes that are not theirs to
//! make.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Target;
use crate::harness::{NO_LIMITS, TestApp, TestServer, World, within};

/// A busy machine takes its time for a thousand executions.
const PATIENCE: Duration = Duration::from_secs(60);

fn listen(app: &TestApp<'_>, topic: &str, script: &str) {
    let body = json!({ "kind": "pubsub", "script": script, "config": { "topic": topic } });
    app.admin("POST", "/triggers", &body).is(201);
}

/// A script that answers a topic by publishing on another.
fn passes_on(app: &TestApp<'_>, from: &str, to: &str, script: &str) {
    app.deploy(script, &format!("pubsub::publish(\"{to}\", 1);"), &NO_LIMITS);
    listen(app, from, script);
}

/// How many executions of these scripts ended because their chain of causes was too long.
fn cut_off(app: &TestApp<'_>, scripts: &str) -> u64 {
    let sql = format!(
        "select count(*)::text
         from executions e
         join apps a on a.id = e.app_id
         where a.slug = '{}' and e.status = 'depth_exceeded' and e.script_name = any('{{{scripts}}}')",
        app.slug
    );
    app.server.disk.query(&sql).parse().unwrap()
}

fn waits_for_nothing(app: &TestApp<'_>) {
    within(PATIENCE, "no event waits any more", || {
        let outbox = app.admin("GET", "/outbox", &Value::Null).is(200).json();
        outbox["items"].as_array().unwrap().is_empty().then_some(())
    });
}

#[test]
fn attack_17_events_that_cause_events() {
    let target = Target::new("17");
    let app = target.server.app();
    passes_on(&app, "loop", "loop", "itself");
    passes_on(&app, "ping", "pong", "ping");
    passes_on(&app, "pong", "ping", "pong");
    // Two that listen, each of which tells both: twice as many at each step.
    passes_on(&app, "fan", "fan", "left");
    passes_on(&app, "fan", "fan", "right");
    for (topic, scripts, expected) in
        [("loop", "itself", 1), ("ping", "ping,pong", 1), ("fan", "left,right", 512)]
    {
        app.run(&format!("start-{topic}"), &format!("pubsub::publish(\"{topic}\", 1)"), &NO_LIMITS).is(200);
        let ends = within(PATIENCE, "the chain is cut off", || {
            Some(cut_off(&app, scripts)).filter(|ends| *ends >= expected)
        });
        waits_for_nothing(&app);
        target.row(topic, &format!("{expected} cut off at depth 9"), &ends.to_string());
        assert_eq!(cut_off(&app, scripts), expected);
    }
    let letters = app.admin("GET", "/dead-letters", &Value::Null).is(200).json();
    assert_eq!(letters["items"], json!([]), "what is too deep is no dead letter");

    app.deploy("quiet", "1", &NO_LIMITS);
    (0..10).for_each(|_| listen(&app, "flood", "quiet"));
    let flood = "let told = 0; let code = ();
                 try { loop { told += pubsub::publish(\"flood\", told); } } catch (error) { code = error.code }
                 [told, code]";
    let reply = app.run("flood", flood, &NO_LIMITS).is(200).json();
    target.row("a flood of one execution", "1,000 events, then an error", &reply.to_string());
    assert_eq!(reply, json!([1_000, "budget_exhausted"]));
    waits_for_nothing(&app);
    target.ends_unharmed();
}

/// A thousand requests by many executions of one app at the same time.
#[test]
fn attack_18_a_flood_of_requests_to_the_world() {
    let settings = [("PICLOUD_HTTP_ALLOW_PRIVATE", "127.0.0.0/8")];
    let target = Target::on("18", Arc::new(TestServer::start_with(&settings)));
    let (app, world) = (target.server.app(), World::start());
    app.admin("PUT", "/egress", &json!({ "allow": null, "ports": [world.port()] })).is(200);
    let source = format!(
        "let made = 0; let codes = #{{}};
         for i in 0..50 {{ try {{ http::get(\"{}\"); made += 1; }} catch (error) {{ codes[error.code] = true; }} }}
         [made, codes.keys()]",
        world.url("/slow")
    );
    app.serve("ask", &source, &json!({ "timeout_ms": 60_000 }));
    let since = Instant::now();
    let replies: Vec<Value> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..20).map(|_| scope.spawn(|| app.get("/ask").is(200).json())).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let minutes = 1 + since.elapsed().as_secs() / 60;
    let made: u64 = replies.iter().map(|reply| reply[0].as_u64().unwrap()).sum();
    target.row("requests of 1,000", "600 in a minute", &made.to_string());
    assert!(made <= 600 * minutes && made >= 600, "{made} in {minutes} min");
    assert_eq!(made, world.requests.load(Ordering::Relaxed), "what is refused does not go out");
    let most = world.most_at_once.load(Ordering::Relaxed);
    target.row("at the same time", "8", &most.to_string());
    assert!((2..=8).contains(&most), "{most}");
    for reply in &replies {
        let codes = reply[1].as_array().unwrap();
        assert!(codes.iter().all(|code| code == "budget_exhausted"), "{reply}");
    }
    target.ends_unharmed();
}

/// A public route runs for nobody, so its script may not do what manages the app.
#[test]
fn attack_48_calls_that_a_public_route_may_not_make() {
    let target = Target::new("48");
    let app = target.server.app();
    app.admin("PUT", "/secrets/key", &json!({ "value": "as it was" })).is(201);
    let id = "00000000-0000-7000-8000-000000000000";
    let calls = [
        ("set a secret", "secrets::set(\"key\", \"overwritten\")".to_owned()),
        ("delete a secret", "secrets::delete(\"key\")".to_owned()),
        ("list dead letters", "dead_letters::list()".to_owned()),
        ("read a dead letter", format!("dead_letters::get(\"{id}\")")),
        ("replay a dead letter", format!("dead_letters::replay(\"{id}\")")),
        ("resolve a dead letter", format!("dead_letters::resolve(\"{id}\", \"gone\")")),
    ];
    for (number, (name, call)) in calls.iter().enumerate() {
        let source = format!("try {{ {call}; return \"done\" }} catch (error) {{ return error.code }}");
        let seen = app.run(&format!("call-{number}"), &source, &NO_LIMITS).is(200).json();
        target.row(name, "forbidden", seen.as_str().unwrap());
        assert_eq!(seen, "forbidden", "{name}");
    }
    assert_eq!(app.run("read", "secrets::get(\"key\")", &NO_LIMITS).is(200).json(), "as it was");
    let denials = app.admin("GET", "/denials", &Value::Null).is(200).json();
    let items = denials["items"].as_array().unwrap();
    assert_eq!(items.len(), calls.len(), "{denials}");
    assert!(items.iter().all(|denied| denied["rule"] == "nobody_logged_in"), "{denials}");
    target.ends_unharmed();
}
