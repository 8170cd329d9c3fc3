//! Dry runs: a script runs for real, and nothing of it is there afterwards.

use std::net::UdpSocket;

use serde_json::{Value, json};

use crate::harness::{NO_LIMITS, PASSWORD, TestApp, TestServer, World, eventually};

fn dry_run(app: &TestApp<'_>, source: &str) -> Value {
    app.deploy("try", source, &NO_LIMITS);
    let reply = eventually("there is room for a dry run", || {
        let reply = app.admin("POST", "/scripts/try/invoke?dry_run=true", &json!({}));
        (reply.status != 503).then_some(reply)
    });
    reply.is(200).json()
}

/// Call, target and value of each deed.
fn deeds(answer: &Value) -> Value {
    let deeds = answer["dry_run"]["deeds"].as_array().unwrap();
    deeds.iter().map(|deed| json!([deed["call"], deed["target"], deed["value"]])).collect()
}

#[test]
fn a_dry_run_reads_what_it_wrote_and_leaves_nothing() {
    let server = TestServer::start();
    let app = server.app();
    app.admin("PUT", "/kv/c/there", &json!({ "value": 1 })).is(200);
    app.deploy("handler", "kv::collection(\"told\").set(\"k\", 1)", &NO_LIMITS);
    let trigger = json!({ "kind": "kv", "script": "handler", "config": { "collection": "c" } });
    app.admin("POST", "/triggers", &trigger).is(201);
    let source = r#"
        let c = kv::collection("c");
        c.set("there", 2);
        c.incr("there", 5);
        let refused = ();
        try { c.set_with("there", 0, #{ if_absent: true }); } catch (error) { refused = error.code; }
        let id = docs::collection("d").create(#{ n: 1 });
        docs::collection("d").patch(id, #{ m: 2 });
        let file = files::collection("f").create(#{ name: "a", data: "x" });
        atomic::commit([#{ kv: "c", key: "there", check: c.entry("there").version }, #{ kv: "c", key: "b", set: 3 }]);
        [c.get("there"), refused, docs::collection("d").get(id).data, files::collection("f").get(file.id).len(), c.get("b")]
    "#;
    let answer = dry_run(&app, source);
    assert_eq!(answer["body"], json!([7, "conflict", { "n": 1, "m": 2 }, 1, 3]), "{answer}");
    let would = &answer["dry_run"];
    let deeds: Vec<_> =
        would["deeds"].as_array().unwrap().iter().map(|deed| deed["call"].as_str().unwrap()).collect();
    let expected = ["kv.set", "kv.incr", "docs.create", "docs.patch", "files.create", "kv.set"];
    assert_eq!(deeds, expected, "{would}");
    assert_eq!((&would["deeds"][0]["target"], &would["deeds"][0]["value"]), (&json!("c/there"), &json!(2)));
    assert_eq!(would["events"], 3, "{would}");
    assert_eq!(app.admin("GET", "/kv/c/there", &Value::Null).is(200).json()["value"], 1);
    for list in ["/docs/d", "/files/f", "/kv/told"] {
        let items = app.admin("GET", list, &Value::Null).is(200).json()["items"].clone();
        assert_eq!(items, json!([]), "{list}");
    }
    assert_eq!(server.disk.query("select count(*)::text from outbox"), "0");
    assert_eq!(would["budget"], json!([]), "the app has none");
    let budget = json!({ "fuel_per_day": 1_000_000_000_000_u64, "executions_per_day": 8 });
    app.admin("PUT", "/budgets", &budget).is(200);
    let answer = app.admin("POST", "/scripts/try/invoke?dry_run=true", &json!({})).is(200).json();
    let [fuel, executions] = answer["dry_run"]["budget"].as_array().unwrap().as_slice() else {
        panic!("{answer}")
    };
    let takes = fuel["takes"].as_u64().unwrap();
    assert!(takes >= answer["execution"]["fuel"].as_u64().unwrap() && takes < 1_000_000_000, "{answer}");
    let of_all = fuel["share"].as_f64().unwrap() * 1e12 / fuel["takes"].as_f64().unwrap();
    assert!(fuel["name"] == "fuel_per_day" && (of_all - 1.0).abs() < 1e-6, "{fuel}");
    assert_eq!((&executions["takes"], &executions["share"]), (&json!(1), &json!(0.125)));
    // For real it does the same.
    let answer = app.admin("POST", "/scripts/try/invoke", &json!({})).is(200).json();
    assert_eq!(answer["body"][0], 7);
    assert!(answer.get("dry_run").is_none());
}

#[test]
fn a_change_of_what_is_not_there_is_no_deed() {
    let server = TestServer::shared();
    let app = server.app();
    let source = r#"
        let nobody = "00000000-0000-7000-8000-000000000000";
        let c = kv::collection("c");
        let d = docs::collection("d");
        let f = files::collection("f");
        c.delete("k");
        d.update(nobody, #{ n: 1 });
        d.patch(nobody, #{ n: 1 });
        d.delete(nobody);
        f.update(nobody, #{ name: "b" });
        f.delete(nobody);
        atomic::commit([
            #{ kv: "c", key: "k", delete: true },
            #{ docs: "d", id: nobody, patch: #{ n: 1 } },
            #{ docs: "d", id: nobody, delete: true },
            #{ kv: "c", key: "k", set: 1 },
        ]);
        let id = d.create(#{ n: 1 });
        let file = f.create(#{ name: "a", data: "x" }).id;
        c.delete("k");
        d.patch(id, #{ n: 2 });
        f.update(file, #{ name: "b" });
        f.delete(file);
        atomic::commit([
            #{ docs: "d", id: id, update: #{ n: 3 } },
            #{ docs: "d", id: id, delete: true },
            #{ kv: "c", key: "k", incr: 1 },
            #{ kv: "c", key: "k", delete: true },
        ]);
        d.delete(id)
    "#;
    let answer = dry_run(&app, source);
    let deeds = answer["dry_run"]["deeds"].as_array().unwrap();
    let calls: Vec<_> = deeds.iter().map(|deed| deed["call"].as_str().unwrap()).collect();
    let nothing_and_then = ["kv.set", "docs.create", "files.create"];
    let changes = ["kv.delete", "docs.patch", "files.update", "files.delete"];
    let together = ["docs.update", "docs.delete", "kv.incr", "kv.delete"];
    assert_eq!(calls, [&nothing_and_then[..], &changes, &together].concat(), "{answer}");
}

#[test]
fn a_dry_run_sends_no_messages_and_says_which_it_would() {
    let server = TestServer::start();
    let app = server.app();
    app.deploy("handler", "kv::collection(\"told\").set(\"k\", 1)", &NO_LIMITS);
    app.deploy("callee", "kv::collection(\"c\").set(\"callee\", ctx.args); ctx.args + 1", &NO_LIMITS);
    for (kind, config) in [("queue", json!({ "queue": "q" })), ("pubsub", json!({ "topic": "t.*" }))] {
        let trigger = json!({ "kind": kind, "script": "handler", "config": config });
        app.admin("POST", "/triggers", &trigger).is(201);
    }
    let source = r#"
        queue::send("q", #{ n: 1 });
        let heard = [pubsub::publish("t.a", 2), pubsub::publish_ephemeral("t.b", 3)];
        invoke_async("callee", 4);
        let answered = invoke("callee", 5);
        [queue::stats("q").ready, heard, answered, kv::collection("c").get("callee")]
    "#;
    let answer = dry_run(&app, source);
    assert_eq!(answer["body"], json!([1, [1, 1], 6, 5]), "{answer}");
    let would = &answer["dry_run"];
    let expected = json!([
        ["queue.send", "q", { "n": 1 }],
        ["pubsub.publish", "t.a", 2],
        ["pubsub.publish_ephemeral", "t.b", 3],
        ["invoke_async", "callee", 4],
        ["kv.set", "c/callee", 5],
    ]);
    assert_eq!(deeds(&answer), expected, "{would}");
    assert_eq!(would["events"], 2, "{would}");
    assert_eq!(server.disk.query("select count(*)::text from outbox"), "0");
    assert_eq!(server.disk.query("select count(*)::text from queue_messages"), "0");
    // What is sent for real now is the first that the handler hears of.
    app.run("send", "queue::send(\"q\", 1)", &NO_LIMITS).is(200);
    let runs = eventually("the handler ran", || {
        let list = app.admin("GET", "/executions?script=handler", &Value::Null).is(200).json();
        let items = list["items"].as_array().unwrap().clone();
        (!items.is_empty()).then_some(items)
    });
    assert_eq!(runs.len(), 1, "{runs:?}");
}

#[test]
fn a_dry_run_asks_nobody_in_the_world() {
    let server = TestServer::start_with(&[("PICLOUD_HTTP_ALLOW_PRIVATE", "127.0.0.0/8")]);
    let (app, world) = (server.app(), World::start());
    app.admin("PUT", "/egress", &json!({ "allow": null, "ports": [world.port()] })).is(200);
    app.admin("PUT", "/secrets/key", &json!({ "value": "a-secret-of-the-app" })).is(201);
    let source = format!(
        "let r = http::post({:?}, #{{ n: 1 }}, #{{ headers: #{{ authorization: secrets::handle(\"key\") }} }}); \
         let refused = (); \
         try {{ http::get(\"http://10.0.0.1/\") }} catch (error) {{ refused = error.code; }} \
         [r.status, r.headers, refused]",
        world.url("/anything")
    );
    let answer = dry_run(&app, &source);
    assert_eq!(answer["body"][0], 200, "{answer}");
    assert_eq!(answer["body"][1]["x-picloud-dry-run"], "true");
    assert_eq!(world.requests.load(std::sync::atomic::Ordering::Relaxed), 0);
    let deed = &answer["dry_run"]["deeds"][0];
    assert_eq!(deed["target"], format!("POST {}", world.url("/anything")));
    let headers = json!({ "authorization": "[secret]", "content-type": "application/json" });
    assert_eq!(deed["value"], json!({ "headers": headers, "body": "{\"n\":1}" }));
    assert!(!answer.to_string().contains("a-secret-of-the-app"), "{answer}");
}

#[test]
fn attack_a_dry_run_tells_nothing_by_the_names_that_it_asks() {
    let resolver = UdpSocket::bind("127.0.0.1:0").unwrap();
    resolver.set_nonblocking(true).unwrap();
    let address = resolver.local_addr().unwrap().to_string();
    let server = TestServer::start_with(&[("PICLOUD_DNS_SERVERS", &address)]);
    let app = server.app();
    let asks = r#"
        let seen = [];
        for url in ["http://told-by-its-name.example.com/", "http://app.localhost/"] {
            try { seen.push(http::get(url).status); } catch (error) { seen.push(error.code); }
        }
        seen"#;
    let asked = |buffer: &mut [u8]| resolver.recv(buffer).ok();
    let mut buffer = [0; 512];
    assert_eq!(dry_run(&app, asks)["body"], json!([200, "forbidden"]));
    assert_eq!(asked(&mut buffer), None, "the resolver was asked");
    // For real the name is looked up, and nobody answers.
    assert_eq!(app.run("real", asks, &NO_LIMITS).is(200).json(), json!(["unavailable", "forbidden"]));
    let length = asked(&mut buffer).expect("the resolver was asked");
    assert!(buffer[..length].windows(16).any(|bytes| bytes == b"told-by-its-name"));
}

#[test]
fn a_long_body_is_told_up_to_where_it_is_cut_and_a_run_of_them_has_a_small_report() {
    let server = TestServer::shared();
    let app = server.app();
    let source = r#"
        let body = ""; body.pad(100000, "x");
        for n in 0..40 { http::post("http://example.com/", body); }
        kv::collection("c").set("k", 1);"#;
    let answer = dry_run(&app, source);
    let would = &answer["dry_run"];
    let deeds = would["deeds"].as_array().unwrap();
    let body = deeds[0]["value"]["body"].as_str().unwrap();
    assert!(body.ends_with("x… [cut: 100000 bytes in all]") && body.len() < 17 << 10, "{}", body.len());
    assert_eq!((deeds.len(), &would["more"]), (41, &json!(0)), "each is told");
    let without = deeds.iter().filter(|deed| deed["value"].is_null()).count();
    assert!(without > 20 && would["without_value"] == without, "{without} of them without what they send");
    assert!(would.to_string().len() < 300 << 10, "{}", would.to_string().len());
}

#[test]
fn attack_a_dry_run_shows_no_secret_among_what_it_would_write() {
    let server = TestServer::shared();
    let app = server.app();
    let secret = "a-\"secret\"\nof the app";
    app.admin("PUT", "/secrets/key", &json!({ "value": secret })).is(201);
    let source = r#"
        let secret = secrets::get("key");
        kv::collection("c").set("k", #{ token: "Bearer " + secret });
        docs::collection("d").create(#{ s: secret });
        queue::send("q", secret);
        let body = "";
        body.pad(16380, "x");
        http::post("http://example.com/", #{ s: secret });
        http::post("http://example.com/", body + secret);
        1"#;
    let answer = dry_run(&app, source);
    let deeds = answer["dry_run"]["deeds"].as_array().unwrap();
    let values: Vec<_> = deeds.iter().map(|deed| deed["value"].clone()).collect();
    let [written @ .., within, cut] = values.as_slice() else { panic!("{answer}") };
    assert_eq!(within["body"], r#"{"s":"[secret]"}"#);
    let (filler, cut) = cut["body"].as_str().unwrap().split_at(16_380);
    assert!(filler.bytes().all(|byte| byte == b'x') && cut.starts_with("[sec… [cut: "), "{cut}");
    assert_eq!(
        written,
        [json!({ "token": "Bearer [secret]" }), json!({ "s": "[secret]" }), json!("[secret]")],
        "{answer}"
    );
}

#[test]
fn a_dry_run_reads_the_secrets_that_it_set_and_leaves_none() {
    let server = TestServer::start();
    let app = server.app();
    let source = r#"
        secrets::set("key", "a value of the dry run");
        let read = [secrets::get("key"), secrets::list()];
        let gone = [secrets::delete("key"), secrets::delete("key"), secrets::get("key")];
        [read, gone]"#;
    let answer = dry_run(&app, source);
    let expected = json!([["a value of the dry run", ["key"]], [true, false, null]]);
    assert_eq!(answer["body"], expected, "{answer}");
    assert_eq!(deeds(&answer), json!([["secrets.set", "key", null], ["secrets.delete", "key", null]]));
    assert_eq!(app.admin("GET", "/secrets", &Value::Null).is(200).json()["items"], json!([]));
    let audit = app.admin("GET", "/audit", &Value::Null).is(200).json();
    assert!(!audit.to_string().contains("secret."), "{audit}");
    // The app's first key was the dry run's: the one that it gets now has the same number.
    app.admin("PUT", "/secrets/key", &json!({ "value": "a value that stays" })).is(201);
    assert_eq!(app.run("real", "secrets::get(\"key\")", &NO_LIMITS).is(200).json(), "a value that stays");
    assert_eq!(dry_run(&app, source)["body"], expected);
    assert_eq!(app.get("/real").is(200).json(), "a value that stays");
}

#[test]
fn a_dry_run_registers_users_and_lets_them_in_and_none_is_there_afterwards() {
    let server = TestServer::start();
    let app = server.app();
    let source = format!(
        r#"
        let user = users::register("eve@example.org", {PASSWORD:?}, #{{ n: 1 }});
        let wrong = users::login("eve@example.org", "not the password");
        let session = users::login("EVE@example.org", {PASSWORD:?});
        kv::collection("c").set("token", session.token);
        let me = users::me(session.token).login;
        let verified = users::verify(users::verification(user.id)).verified;
        users::update(user.id, #{{ roles: ["editor"], password: "a password from now on" }});
        let ended = users::me(session.token);
        let renewed = users::reset_password(users::reset("eve@example.org"), {PASSWORD:?}).id == user.id;
        let left = users::logout(users::login("eve@example.org", {PASSWORD:?}).token);
        let gone = [users::delete(user.id), users::delete(user.id), users::get(user.id)];
        #{{ id: user.id, token: session.token, seen: [wrong, me, verified, ended, renewed, left, gone] }}"#
    );
    let answer = dry_run(&app, &source);
    let (id, token) = (&answer["body"]["id"], answer["body"]["token"].as_str().unwrap());
    let expected = json!([null, "eve@example.org", true, null, true, true, [true, false, null]]);
    assert_eq!(answer["body"]["seen"], expected, "{answer}");
    let expected = json!([
        ["users.register", "eve@example.org", { "n": 1 }],
        ["users.login", "EVE@example.org", null],
        ["kv.set", "c/token", "[secret]"],
        ["users.verification", id, null],
        ["users.verify", id, null],
        ["users.update", id, { "password": "[secret]", "roles": ["editor"] }],
        ["users.reset", "eve@example.org", null],
        ["users.reset_password", id, null],
        ["users.login", "eve@example.org", null],
        ["users.logout", "session of the token", null],
        ["users.delete", id, null],
    ]);
    assert_eq!(deeds(&answer), expected, "{answer}");
    let report = answer["dry_run"].to_string();
    for secret in [PASSWORD, "a password from now on", token] {
        assert!(!report.contains(secret), "{report}");
    }
    for table in ["app_users", "app_user_sessions", "app_user_tokens"] {
        assert_eq!(server.disk.query(&format!("select count(*)::text from {table}")), "0", "{table}");
    }
}

#[test]
fn attack_what_a_dry_run_gives_out_is_good_for_nothing_afterwards() {
    let server = TestServer::shared();
    let app = server.app();
    let source = format!("users::register(\"eve\", {PASSWORD:?}).id");
    let id = app.run("register", &source, &NO_LIMITS).is(200).json();
    let source = format!(
        "[users::login(\"eve\", {PASSWORD:?}).token, users::reset(\"eve\"), users::verification({id})]"
    );
    let answer = dry_run(&app, &source);
    let [session, reset, verification] = answer["body"].as_array().unwrap().as_slice() else {
        panic!("{answer}")
    };
    let source = format!(
        "[users::me({session}), users::reset_password({reset}, \"another password\"), \
          users::verify({verification}), users::login(\"eve\", {PASSWORD:?}).user.verified]"
    );
    let seen = app.run("use", &source, &NO_LIMITS).is(200).json();
    assert_eq!(seen, json!([null, null, null, false]));
}

#[test]
fn attack_passwords_are_not_guessed_in_dry_runs_and_nobody_waits_for_who_tries() {
    let server = TestServer::shared();
    let app = server.app();
    let source = format!("users::register(\"eve\", {PASSWORD:?}).id");
    let id = app.run("register", &source, &NO_LIMITS).is(200).json();
    // Each guess is at another login of the same account.
    let source = format!(
        "let seen = []; \
         for n in 0..6 {{ \
             users::update({id}, #{{ login: `eve${{n}}` }}); \
             try {{ seen.push(users::login(`eve${{n}}`, `the guess ${{n}}`)); }} \
             catch (error) {{ seen.push(error.code); }} \
         }} \
         seen"
    );
    let answer = dry_run(&app, &source);
    assert_eq!(answer["body"], json!([null, null, null, null, null, "throttled"]), "{answer}");
    let login = format!("users::login(\"eve\", {PASSWORD:?}).user.login");
    let source = format!("try {{ return {login} }} catch (error) {{ return error.code }}");
    assert_eq!(dry_run(&app, &source)["body"], "throttled", "the next dry run waits as well");
    assert_eq!(app.run("login", &source, &NO_LIMITS).is(200).json(), "eve");
}

#[test]
fn attack_a_link_of_a_dry_run_opens_no_file() {
    let server = TestServer::shared();
    let app = server.app();
    let source = "files::collection(\"f\").create(#{ name: \"a\", data: \"x\" }).id";
    let id = app.run("create", source, &NO_LIMITS).is(200).json();
    let source = format!(
        r#"
        let f = files::collection("f");
        let made = f.create(#{{ name: "b", data: "y" }}).id;
        let nothing = f.url("00000000-0000-7000-8000-000000000000", #{{ expires: 60 }});
        [made, f.url({id}, #{{ expires: 60 }}), f.url(made, #{{ expires: 60 }}), nothing]"#
    );
    let answer = dry_run(&app, &source);
    let [made, there, new, nothing] = answer["body"].as_array().unwrap().as_slice() else {
        panic!("{answer}")
    };
    assert_eq!(nothing, &Value::Null);
    for url in [there, new] {
        let path = url.as_str().unwrap().splitn(4, '/').nth(3).unwrap();
        assert!(path.starts_with("api/v1/files/dry-run-"), "{path}");
        server.client.get("localhost", &format!("/{path}")).is(404);
    }
    let target = |id: &Value| format!("f/{}", id.as_str().unwrap());
    let expected = json!([
        ["files.create", "f/b", null],
        ["files.url", target(&id), { "expires_s": 60 }],
        ["files.url", target(made), { "expires_s": 60 }],
    ]);
    assert_eq!(deeds(&answer), expected, "{answer}");
}

#[test]
fn attack_a_token_of_a_dry_run_lets_nobody_listen() {
    let server = TestServer::shared();
    let app = server.app();
    app.admin("POST", "/topics", &json!({ "name": "news", "external": true })).is(201);
    let answer = dry_run(&app, "pubsub::subscriber_token([\"news\"], 60)");
    let expected = json!([["pubsub.subscriber_token", "news", { "ttl_s": 60 }]]);
    assert_eq!(deeds(&answer), expected, "{answer}");
    let bearer = format!("Bearer {}", answer["body"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    let path = "/realtime/topics/news";
    app.client().send("GET", &app.host, path, &headers, b"").is_problem("unauthenticated");
}
