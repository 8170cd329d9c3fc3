//! Topics to which somebody outside listens: what they hear, who is let in, and when it is over.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Canary, Event, Listener, NO_LIMITS, Reply, TestApp, TestServer, eventually};

const TOPIC: &str = "news";
const PATH: &str = "/realtime/topics/news";
/// What one message may have that is kept nowhere.
const EPHEMERAL_BYTES: usize = 7 << 10;

/// Lets somebody outside listen.
#[track_caller]
fn open(app: &TestApp<'_>, topic: &str, auth_mode: &str) {
    let body = json!({ "name": topic, "external": true, "auth_mode": auth_mode });
    app.admin("POST", "/topics", &body).is(201);
}

/// An app with a topic that has this mode, and scripts that do what they are asked for.
fn with_topic<'a>(server: &'a TestServer, auth_mode: &str) -> TestApp<'a> {
    let app = server.app();
    open(&app, TOPIC, auth_mode);
    for (name, source) in [
        ("publish", "let ask = ctx.request.body; pubsub::publish(ask.topic, ask.message)"),
        ("pass", "let ask = ctx.request.body; pubsub::publish_ephemeral(ask.topic, ask.message)"),
        ("token", "let ask = ctx.request.body; pubsub::subscriber_token(ask.topics, ask.ttl_s)"),
    ] {
        app.serve(name, source, &NO_LIMITS);
    }
    app
}

#[track_caller]
fn ask(app: &TestApp<'_>, path: &str, body: &Value) -> Value {
    app.post(path, "application/json", body.to_string().as_bytes()).is(200).json()
}

#[track_caller]
fn publish(app: &TestApp<'_>, message: &Value) {
    ask(app, "/publish", &json!({ "topic": TOPIC, "message": message }));
}

#[track_caller]
fn pass(app: &TestApp<'_>, message: &Value) {
    ask(app, "/pass", &json!({ "topic": TOPIC, "message": message }));
}

#[track_caller]
fn token(app: &TestApp<'_>, topics: &[&str], ttl_s: u32) -> String {
    ask(app, "/token", &json!({ "topics": topics, "ttl_s": ttl_s })).as_str().unwrap().to_owned()
}

/// The header with which whoever has this token comes.
fn bearer(token: &str) -> [(&'static str, String); 1] {
    [("authorization", format!("Bearer {token}"))]
}

#[track_caller]
fn listen(app: &TestApp<'_>, headers: &[(&str, String)]) -> Listener {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Listener::to(app, TOPIC, &headers)
}

/// Comes again, having heard so much.
fn resume(app: &TestApp<'_>, last: u64) -> Listener {
    Listener::to(app, TOPIC, &[("last-event-id", &last.to_string())])
}

/// The next message, and its number.
#[track_caller]
fn heard(listener: &mut Listener) -> (Option<u64>, Value) {
    let Event { name, id, data } = listener.next().expect("the stream goes on");
    assert_eq!((name.as_str(), &data["topic"]), ("message", &json!(TOPIC)), "{data}");
    (id, data["message"].clone())
}

/// What comes next is this message under this number.
#[track_caller]
fn hears(listener: &mut Listener, id: u64, message: &Value) {
    assert_eq!(heard(listener), (Some(id), message.clone()));
}

/// What comes next says that so many are not to be had any more, up to this one.
#[track_caller]
fn misses(listener: &mut Listener, missed: &Value, until: u64) {
    let gap = Event { name: "gap".to_owned(), id: Some(until), data: json!({ "missed": missed }) };
    assert_eq!(listener.next(), Some(gap));
}

/// What somebody who asks with these headers is told instead.
fn refused(app: &TestApp<'_>, headers: &[(&str, &str)]) -> Reply {
    app.client().send("GET", &app.host, PATH, headers, b"")
}

/// Everything a refusal says but its number.
#[track_caller]
fn words(reply: &Reply, code: &str) -> Value {
    let mut problem = reply.is_problem(code);
    problem["request_id"] = Value::Null;
    problem
}

#[test]
fn who_listens_hears_what_is_published_from_then_on_in_its_order() {
    let server = TestServer::shared();
    let app = with_topic(&server, "public");
    publish(&app, &json!("before"));
    let mut listener = Listener::to(&app, TOPIC, &[]);
    let messages = [
        json!({ "id": 7, "paid": true, "items": [1, 2.5, null, []] }),
        json!(null),
        json!("ä\u{2028}\"\\"),
        json!(-1),
    ];
    for message in &messages {
        publish(&app, message);
    }
    for (id, message) in (2..).zip(&messages) {
        let event = listener.next().unwrap();
        assert_eq!((event.name.as_str(), event.id), ("message", Some(id)));
        let published_at = &event.data["published_at"];
        let expected = json!({ "topic": TOPIC, "message": message, "published_at": published_at });
        assert_eq!(event.data, expected);
        let time = published_at.as_str().unwrap();
        assert!(time.len() == "2026-11-28T03:00:00.000Z".len() && time.ends_with('Z'), "{time}");
    }
}

#[test]
fn attack_a_message_that_looks_like_an_event_is_one_message() {
    let server = TestServer::shared();
    let app = with_topic(&server, "public");
    let mut listener = Listener::to(&app, TOPIC, &[]);
    let forged =
        ["\n\nid: 99\ndata: 1\n\n", "\r\rid: 99\rdata: 1\r\r", "\r\n\r\nevent: gap\r\ndata: {}\r\n\r\n"];
    for (id, message) in (1..).zip(forged) {
        publish(&app, &json!({ message: message }));
        hears(&mut listener, id, &json!({ message: message }));
        pass(&app, &json!(message));
        assert_eq!(heard(&mut listener), (None, json!(message)));
    }
}

#[test]
fn all_who_listen_hear_the_same() {
    let server = TestServer::shared();
    let app = with_topic(&server, "public");
    let mut listeners: Vec<_> = (0..5).map(|_| Listener::to(&app, TOPIC, &[])).collect();
    for number in 1..=3 {
        publish(&app, &json!(number));
    }
    for listener in &mut listeners {
        (1..=3).for_each(|number| hears(listener, number, &json!(number)));
    }
}

#[test]
fn attack_who_listens_hears_nothing_of_another_apps_topic_of_the_same_name() {
    let server = TestServer::shared();
    let [app, other] = [with_topic(&server, "public"), with_topic(&server, "public")];
    let mut listener = Listener::to(&app, TOPIC, &[]);
    publish(&other, &json!("another app's"));
    pass(&other, &json!("another app's"));
    publish(&app, &json!("its own"));
    hears(&mut listener, 1, &json!("its own"));
    hears(&mut resume(&app, 0), 1, &json!("its own"));
}

#[test]
fn who_comes_again_hears_what_was_published_meanwhile() {
    let server = TestServer::shared();
    let app = with_topic(&server, "public");
    let mut listener = Listener::to(&app, TOPIC, &[]);
    publish(&app, &json!(1));
    publish(&app, &json!(2));
    hears(&mut listener, 1, &json!(1));
    drop(listener);
    publish(&app, &json!(3));
    let mut listener = resume(&app, 1);
    publish(&app, &json!(4));
    (2..=4).for_each(|number| hears(&mut listener, number, &json!(number)));
    // All that there is, for who asks for it.
    let mut listener = resume(&app, 0);
    (1..=4).for_each(|number| hears(&mut listener, number, &json!(number)));
}

#[test]
fn who_comes_and_goes_while_messages_are_published_hears_each_once() {
    const MESSAGES: u64 = 60;
    let server = TestServer::shared();
    let app = with_topic(&server, "public");
    std::thread::scope(|scope| {
        scope.spawn(|| (1..=MESSAGES).for_each(|number| publish(&app, &json!(number))));
        let mut last = 0;
        while last < MESSAGES {
            let mut listener = resume(&app, last);
            for _ in 0..(MESSAGES - last).min(4) {
                last += 1;
                hears(&mut listener, last, &json!(last));
            }
        }
    });
}

#[test]
fn what_is_not_in_the_history_any_more_is_counted() {
    let server = TestServer::shared();
    let app = with_topic(&server, "public");
    publish(&app, &json!("first"));
    let many = r#"
        let messages = [];
        for number in 0..1010 {
            messages.push(#{ pubsub: "news", publish: number });
            if messages.len() == 100 { atomic::commit(messages); messages = []; }
        }
        atomic::commit(messages).len()
    "#;
    assert_eq!(app.run("many", many, &json!({ "timeout_ms": 60_000 })).is(200).json(), 10);
    // Of 1,011 messages the newest 1,000 are kept.
    let mut listener = resume(&app, 1);
    misses(&mut listener, &json!(10), 11);
    (12..=1011).for_each(|id| hears(&mut listener, id, &json!(id - 2)));
    publish(&app, &json!("last"));
    hears(&mut listener, 1012, &json!("last"));

    // A number that there was not yet says nothing of what was missed.
    let mut listener = resume(&app, 5_000);
    misses(&mut listener, &Value::Null, 1012);
    publish(&app, &json!("new"));
    hears(&mut listener, 1013, &json!("new"));
    for nonsense in ["", "x", "-1", "1.5", "99999999999999999999"] {
        refused(&app, &[("last-event-id", nonsense)]).is(422).is_problem("invalid_input");
    }
}

#[test]
fn a_history_of_long_messages_is_shorter() {
    const LONG: usize = 200_000;
    let server = TestServer::shared();
    let app = with_topic(&server, "public");
    let source = format!(
        r#"let long = ""; long.pad({LONG}, 'x'); for number in 0..8 {{ pubsub::publish("news", long); }} 1"#
    );
    app.run("long", &source, &json!({ "timeout_ms": 60_000 })).is(200);
    let mut listener = resume(&app, 0);
    let gap = listener.next().unwrap();
    let missed = gap.data["missed"].as_u64().unwrap();
    // 512 KiB, or one message more where they do not fit.
    assert!((5..=6).contains(&missed), "{missed}");
    let ids: Vec<_> = (missed..8).map(|_| heard(&mut listener).0.unwrap()).collect();
    assert_eq!(ids, (missed + 1..=8).collect::<Vec<_>>());
}

#[test]
fn attack_who_reads_nothing_holds_nobody_up_and_is_told_how_much_they_missed() {
    const MESSAGES: u64 = 100;
    let server = TestServer::shared();
    let app = with_topic(&server, "public");
    let canary = Canary::beside(&server);
    let mut listener = Listener::to(&app, TOPIC, &[]);
    // More than all that stands between the server and a client who reads nothing.
    let source = format!(
        r#"let s = ""; s.pad(200000, 'x'); for n in 0..{MESSAGES} {{ pubsub::publish("news", s); }} 1"#
    );
    app.run("flood", &source, &json!({ "timeout_ms": 60_000 })).is(200);
    let (mut last, mut missed) = (0, 0);
    while last < MESSAGES {
        let event = listener.next().unwrap();
        if event.name == "gap" {
            let count = event.data["missed"].as_u64().unwrap();
            (last, missed) = (last + count, missed + count);
        } else {
            last += 1;
            assert_eq!(event.id, Some(last), "after {missed} that were missed");
        }
    }
    assert!(missed > 0, "all was read at once");
    publish(&app, &json!("and on"));
    hears(&mut listener, MESSAGES + 1, &json!("and on"));
    canary.release("–");
}

#[test]
fn what_is_rolled_back_is_never_told_and_takes_no_number() {
    let server = TestServer::shared();
    let app = with_topic(&server, "public");
    let mut listener = Listener::to(&app, TOPIC, &[]);
    let source = r#"
        let refused = ();
        try {
            atomic::commit([#{ pubsub: "news", publish: "lost" }, #{ kv: "c", key: "none", check: 5 }]);
        } catch (error) { refused = error.code; }
        atomic::commit([#{ pubsub: "news", publish: "one" }, #{ kv: "c", key: "k", set: 1 }]);
        refused
    "#;
    assert_eq!(app.run("both", source, &NO_LIMITS).is(200).json(), "conflict");
    hears(&mut listener, 1, &json!("one"));
    app.admin("POST", "/scripts/both/invoke?dry_run=true", &json!({})).is(200);
    let tried = json!({ "body": { "topic": TOPIC, "message": "lost" } });
    for script in ["publish", "pass"] {
        app.admin("POST", &format!("/scripts/{script}/invoke?dry_run=true"), &tried).is(200);
    }
    publish(&app, &json!("two"));
    hears(&mut listener, 2, &json!("two"));
}

#[test]
fn what_is_kept_nowhere_is_heard_by_who_listens_and_by_nobody_later() {
    let server = TestServer::shared();
    let app = with_topic(&server, "public");
    let mut listeners = [Listener::to(&app, TOPIC, &[]), Listener::to(&app, TOPIC, &[])];
    // With its quotes it is as long as it may be.
    let longest = json!("x".repeat(EPHEMERAL_BYTES - 2));
    for message in [&json!({ "now": 1 }), &longest] {
        pass(&app, message);
        for listener in &mut listeners {
            assert_eq!(heard(listener), (None, message.clone()));
        }
    }
    publish(&app, &json!("kept"));
    for listener in &mut listeners {
        hears(listener, 1, &json!("kept"));
    }
    hears(&mut resume(&app, 0), 1, &json!("kept"));
}

#[test]
fn what_is_kept_nowhere_is_short_where_somebody_outside_may_listen() {
    let server = TestServer::shared();
    let app = with_topic(&server, "public");
    let source = r#"
        let ask = ctx.request.body;
        let told = ();
        try { told = pubsub::publish_ephemeral(ask.topic, ask.message); }
        catch (error) { told = [error.code, error.message]; }
        told
    "#;
    app.serve("try", source, &NO_LIMITS);
    let long = json!("x".repeat(EPHEMERAL_BYTES - 1));
    let told = ask(&app, "/try", &json!({ "topic": TOPIC, "message": long }));
    assert_eq!(told[0], "too_large", "{told}");
    assert!(told[1].as_str().unwrap().contains("pubsub::publish"), "{told}");
    assert_eq!(ask(&app, "/try", &json!({ "topic": "internal", "message": long })), 0);
}

#[test]
fn attack_who_asks_for_topics_does_not_learn_which_there_are_inside() {
    let server = TestServer::shared();
    let [app, other] = [with_topic(&server, "public"), server.app()];
    app.admin("POST", "/topics", &json!({ "name": "internal", "auth_mode": "public" })).is(201);
    open(&other, "others", "public");
    ask(&app, "/publish", &json!({ "topic": "published", "message": 1 }));
    let get = |host: &str, topic: &str| {
        let reply = app.client().get(host, &format!("/realtime/topics/{topic}"));
        words(reply.is(404), "not_found")
    };
    let unknown = get(&app.host, "unknown");
    let long = "x".repeat(201);
    for topic in
        ["internal", "published", "others", "NEWS", "news.x", "news.*", "*", "a%20b", "news%00", &long]
    {
        assert_eq!(get(&app.host, topic), unknown, "{topic}");
    }
    assert_eq!(get("nobody.localhost", TOPIC), unknown);
}

#[test]
fn anybody_listens_to_a_public_topic() {
    let server = TestServer::shared();
    let app = with_topic(&server, "public");
    let [wrong] = bearer("of something else");
    let mut listeners = [listen(&app, &[]), listen(&app, &[wrong, ("cookie", "a=b".to_owned())])];
    publish(&app, &json!("for all"));
    for listener in &mut listeners {
        hears(listener, 1, &json!("for all"));
    }
}

#[test]
fn attack_a_token_opens_its_own_topics_in_its_own_app_and_refusals_are_all_the_same() {
    let server = TestServer::shared();
    let [app, other] = [with_topic(&server, "token"), with_topic(&server, "token")];
    open(&app, "second", "token");
    let good = token(&app, &["second", TOPIC], 60);
    assert!(good.starts_with("pict_"), "{good}");
    let mut listener = listen(&app, &bearer(&good));
    publish(&app, &json!("for those who are let in"));
    hears(&mut listener, 1, &json!("for those who are let in"));

    let unknown = words(refused(&app, &[]).is(401), "unauthenticated");
    let changed = good.replace("pict_", "picu_");
    let wrong = [
        token(&app, &["second"], 60),
        token(&other, &[TOPIC], 60),
        good[..good.len() - 1].to_owned(),
        format!("{good}A"),
        format!("{good} {good}"),
        changed,
        server.bearer().replace("Bearer ", ""),
        String::new(),
        "pict_".to_owned(),
    ];
    for token in &wrong {
        let [(name, value)] = bearer(token);
        assert_eq!(words(refused(&app, &[(name, &value)]).is(401), "unauthenticated"), unknown, "{token}");
    }
    let [(name, value)] = bearer(&good);
    assert_eq!(refused(&app, &[(name, &value), (name, &value)]).status, 401, "which of two is meant");
    assert_eq!(refused(&app, &[(name, &good)]).status, 401, "it is not said what it is");
    // Addresses are in the logs of proxies.
    for name in ["token", "access_token", "authorization"] {
        assert_eq!(app.get(&format!("{PATH}?{name}={good}")).status, 401, "{name}");
    }
    let cookie = format!("__Host-picloud-user={good}");
    assert_eq!(refused(&app, &[("cookie", &cookie)]).status, 401);
}

/// Adds users, one of whom registers and is logged in when `/enter` is asked.
fn with_users(app: &TestApp<'_>) {
    let enter = r#"
        let password = "correct horse battery staple";
        let login = ctx.request.body.login;
        users::register(login, password);
        users::login(login, password).token
    "#;
    app.serve("enter", enter, &NO_LIMITS);
    app.deploy("leave", "users::logout()", &NO_LIMITS);
    app.admin("POST", "/routes", &json!({ "path": "/leave", "script": "leave", "auth": "user" })).is(201);
}

#[track_caller]
fn enter(app: &TestApp<'_>, login: &str) -> String {
    ask(app, "/enter", &json!({ "login": login })).as_str().unwrap().to_owned()
}

#[track_caller]
fn leave(app: &TestApp<'_>, session: &str) {
    let [(name, value)] = bearer(session);
    let left = app.client().send("POST", &app.host, "/leave", &[(name, &value)], b"");
    assert_eq!(left.is(200).json(), true);
}

#[test]
fn attack_a_topic_for_users_lets_in_who_is_logged_in_to_its_app_and_nobody_else() {
    let server = TestServer::shared();
    let [app, other] = [with_topic(&server, "user"), with_topic(&server, "user")];
    [&app, &other].into_iter().for_each(with_users);
    let [eve, gone, stranger] = [enter(&app, "eve"), enter(&app, "gone"), enter(&other, "eve")];
    leave(&app, &gone);
    let cookie = format!("a=1; __Host-picloud-user={eve}");
    let mut listeners = [listen(&app, &bearer(&eve)), listen(&app, &[("cookie", cookie.clone())])];
    publish(&app, &json!("for users"));
    for listener in &mut listeners {
        hears(listener, 1, &json!("for users"));
    }

    let unknown = words(refused(&app, &[]).is(401), "unauthenticated");
    let subscriber = token(&app, &[TOPIC], 60);
    let operator = server.bearer().replace("Bearer ", "");
    for token in [gone.as_str(), &stranger, &subscriber, &operator, &eve[..eve.len() - 1]] {
        let [(name, value)] = bearer(token);
        let cookie = format!("__Host-picloud-user={token}");
        for header in [(name, value.as_str()), ("cookie", cookie.as_str())] {
            assert_eq!(words(refused(&app, &[header]).is(401), "unauthenticated"), unknown, "{header:?}");
        }
    }
    let twice = format!("{cookie}; __Host-picloud-user={stranger}");
    assert_eq!(refused(&app, &[("cookie", &twice)]).status, 401, "which of two is meant");
}

#[test]
fn a_stream_ends_when_the_time_of_its_token_is_over() {
    let server = TestServer::shared();
    let app = with_topic(&server, "token");
    // On a busy machine it may be over before the stream begins.
    let (mut listener, name, value) = eventually("a stream begins in time", || {
        let [(name, value)] = bearer(&token(&app, &[TOPIC], 1));
        let listener = Listener::try_to(&app, TOPIC, &[(name, &value)]).ok()?;
        Some((listener, name, value))
    });
    assert_eq!(listener.next(), None);
    refused(&app, &[(name, &value)]).is(401);

    // Nothing was heard until then, and nothing is missed by who comes again.
    assert_eq!(listener.last_id, Some(0));
    publish(&app, &json!("meanwhile"));
    let [(name, value)] = bearer(&token(&app, &[TOPIC], 60));
    let mut again = Listener::to(&app, TOPIC, &[(name, &value), ("last-event-id", "0")]);
    hears(&mut again, 1, &json!("meanwhile"));
    // Who comes without a number is told where they begin.
    let mut anew = Listener::to(&app, TOPIC, &[(name, &value)]);
    publish(&app, &json!("and on"));
    hears(&mut anew, 2, &json!("and on"));
}

/// It takes up to 15 s: who is logged in is asked for again at each heartbeat.
#[test]
fn a_stream_ends_when_its_user_is_not_logged_in_any_more() {
    let server = TestServer::shared();
    let app = with_topic(&server, "user");
    with_users(&app);
    let [leaver, stayer] = ["leaver", "stayer"].map(|login| enter(&app, login));
    let mut listeners = [listen(&app, &bearer(&stayer)), listen(&app, &bearer(&leaver))];
    leave(&app, &leaver);
    assert_eq!(listeners[1].next(), None);
    publish(&app, &json!("still here"));
    hears(&mut listeners[0], 1, &json!("still here"));
}

#[test]
fn a_stream_ends_when_its_topic_is_closed_or_wants_something_else() {
    let server = TestServer::shared();
    let app = with_topic(&server, "public");
    let mut untouched = Listener::to(&app, TOPIC, &[]);
    let changes = [
        ("PATCH", json!({ "external": false }), 200, 404),
        ("PATCH", json!({ "auth_mode": "token" }), 200, 401),
        ("PATCH", json!({ "auth_mode": "user" }), 200, 401),
        ("DELETE", Value::Null, 204, 404),
    ];
    for (number, (method, change, status, from_then_on)) in changes.iter().enumerate() {
        let topic = format!("closing-{number}");
        open(&app, &topic, "public");
        let mut listener = Listener::to(&app, &topic, &[]);
        app.admin(method, &format!("/topics/{topic}"), change).is(*status);
        assert_eq!(listener.next(), None, "{change}");
        app.get(&format!("/realtime/topics/{topic}")).is(*from_then_on);
    }
    // Who listens to another topic, or to one of which other things change, listens on.
    app.admin("PATCH", &format!("/topics/{TOPIC}"), &json!({ "description": "All that is new" })).is(200);
    publish(&app, &json!("on"));
    hears(&mut untouched, 1, &json!("on"));
}

#[test]
fn a_stream_ends_when_the_server_stops_which_does_not_wait_for_it() {
    let mut server = TestServer::start();
    let app = with_topic(&server, "public");
    let mut listener = Listener::to(&app, TOPIC, &[]);
    server.signal(Signal::SIGTERM);
    // It would be cut off, and be an error, after the patience with open connections.
    assert_eq!(listener.next(), None);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

#[test]
fn what_is_published_is_heard_after_a_restart() {
    let server = TestServer::start();
    let app = with_topic(&server, "public");
    publish(&app, &json!("before"));
    let (slug, disk) = (app.slug.clone(), server.disk.clone());
    drop(server);
    let server = TestServer::start_on(disk);
    let app = server.existing_app(&slug);
    let mut listener = resume(&app, 0);
    publish(&app, &json!("after"));
    hears(&mut listener, 1, &json!("before"));
    hears(&mut listener, 2, &json!("after"));
}

#[test]
fn what_is_published_on_one_node_is_heard_on_the_other() {
    let first = TestServer::start();
    let here = with_topic(&first, "public");
    let second = TestServer::start_beside(&first);
    let there = second.existing_app(&here.slug);
    // From when it hears of this, the second node hears all that the first tells.
    open(&here, "later", "token");
    eventually("the second node hears of a topic", || {
        (there.get("/realtime/topics/later").status == 401).then_some(())
    });
    let mut listeners = [Listener::to(&here, TOPIC, &[]), Listener::to(&there, TOPIC, &[])];
    for (id, app) in (1..).zip([&here, &there, &here]) {
        publish(app, &json!(id));
        for listener in &mut listeners {
            hears(listener, id, &json!(id));
        }
    }
    let longest = json!("ä".repeat((EPHEMERAL_BYTES - 2) / "ä".len()));
    pass(&here, &longest);
    for listener in &mut listeners {
        assert_eq!(heard(listener), (None, longest.clone()), "once on each");
    }
    // Who goes to the other node misses nothing.
    publish(&here, &json!(4));
    hears(&mut resume(&there, 3), 4, &json!(4));
    let [_, mut listener] = listeners;
    hears(&mut listener, 4, &json!(4));
    here.admin("PATCH", &format!("/topics/{TOPIC}"), &json!({ "external": false })).is(200);
    assert_eq!(listener.next(), None);
}

#[test]
fn pages_of_every_origin_may_listen_and_none_with_credentials() {
    let server = TestServer::shared();
    let app = with_topic(&server, "public");
    open(&app, "closed", "token");
    let origin = ("origin", "https://shop.example");
    let send = |method: &str, topic: &str, headers: &[(&str, &str)]| {
        app.client().send(method, &app.host, &format!("/realtime/topics/{topic}"), headers, b"")
    };
    let asked = [
        origin,
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "authorization"),
    ];
    let preflight = send("OPTIONS", TOPIC, &asked);
    preflight.is(204);
    assert_eq!(preflight.header("access-control-allow-methods"), "GET");
    let allowed: BTreeSet<_> = preflight.header("access-control-allow-headers").split(", ").collect();
    assert_eq!(allowed, BTreeSet::from(["authorization", "last-event-id"]));

    let answers = [preflight, send("GET", "closed", &[origin]), send("GET", "none", &[origin])];
    assert_eq!(answers.each_ref().map(|reply| reply.status), [204, 401, 404]);
    for reply in &answers {
        assert_eq!(reply.header("access-control-allow-origin"), "*", "{reply:?}");
        assert!(reply.headers.get("access-control-allow-credentials").is_none(), "{reply:?}");
    }
    let listener = Listener::to(&app, TOPIC, &[origin]);
    assert_eq!(listener.header("access-control-allow-origin"), "*");
    assert_eq!(listener.header("access-control-allow-credentials"), "");
    assert_eq!(listener.header("x-content-type-options"), "nosniff");
}

#[test]
fn a_topic_is_asked_for_by_get_alone() {
    let server = TestServer::shared();
    let app = with_topic(&server, "public");
    let send = |method: &str| app.client().send(method, &app.host, PATH, &[], b"");
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let reply = send(method);
        reply.is(405).is_problem("method_not_allowed");
        assert!(reply.header("allow").contains("GET"), "{reply:?}");
    }
    let head = send("HEAD");
    assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream"));
    assert!(head.body.is_empty(), "{head:?}");
}
