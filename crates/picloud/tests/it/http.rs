//! Requests of scripts to the world: what they can do, and every way they might be used to reach what
//! they must not. Section D of the security catalogue is here, by number.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shared::host_call::http::Request;
use shared::http::PairBlock;
use shared::limits::{
    HOST_CALL_BYTES_MAX, OUTBOUND_RESPONSE_BYTES_MAX, RESPONSE_HEADER_BYTES_MAX, RESPONSE_HEADERS_MAX,
};
use shared::wire::codec;

use crate::harness::{
    Canary, DnsServer, NO_LIMITS, TestApp, TestServer, World, eventually, print_row, process,
};

/// A script that tries an address and says with which code it failed, or `reached`.
fn attempt(url: &str) -> String {
    let url = url.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "try {{ http::get(\"{url}\"); return \"reached\" }} \
         catch (error) {{ return `${{error.code}}: ${{error.message}}` }}"
    )
}

fn outcome(app: &TestApp<'_>, url: &str) -> String {
    run(app, &attempt(url)).as_str().unwrap().to_owned()
}

fn run(app: &TestApp<'_>, source: &str) -> Value {
    app.deploy("asks", source, &json!({ "timeout_ms": 60_000 }));
    app.admin("POST", "/scripts/asks/invoke", &json!({})).is(200).json()["body"].clone()
}

/// A server whose operator lets scripts reach the loopback, and a world there.
fn open_server() -> (TestServer, World) {
    (TestServer::start_with(&[("PICLOUD_HTTP_ALLOW_PRIVATE", "127.0.0.0/8")]), World::start())
}

fn allow_port(app: &TestApp<'_>, port: u16) {
    app.admin("PUT", "/egress", &json!({ "allow": null, "ports": [port] })).is(200);
}

#[test]
fn attack_33_no_spelling_of_the_loopback_is_reached() {
    let server = TestServer::shared();
    let (app, canary) = (server.app(), Canary::beside(&server));
    for host in [
        "127.0.0.1",
        "localhost",
        "app.localhost",
        "0",
        "0.0.0.0",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "①②⑦.⓪.⓪.①",
        "localhost.",
    ] {
        let seen = outcome(&app, &format!("http://{host}:8080/"));
        print_row("33", host, "forbidden: loopback", &seen);
        assert_eq!(seen, "forbidden: the destination is refused: loopback", "{host}");
    }
    canary.release("33");
}

#[test]
fn attack_34_metadata_and_private_networks_are_not_reached() {
    let server = TestServer::shared();
    let (app, canary) = (server.app(), Canary::beside(&server));
    for host in ["169.254.169.254", "[fd00:ec2::254]", "10.0.0.1", "192.168.0.1", "172.16.0.1", "100.64.0.1"]
    {
        let seen = outcome(&app, &format!("http://{host}/latest/meta-data/"));
        print_row("34", host, "forbidden", &seen);
        assert!(seen.starts_with("forbidden: the destination is refused"), "{host}: {seen}");
        assert!(!seen.contains(host.trim_matches(['[', ']'])), "{seen}");
    }
    for port in [22, 25, 5432, 6379] {
        let seen = outcome(&app, &format!("http://93.184.216.34:{port}/"));
        print_row("34", &format!("port {port}"), "forbidden: port", &seen);
        assert!(seen.starts_with("forbidden: port"), "{seen}");
    }
    canary.release("34");
}

#[test]
fn attack_34_what_is_allowed_privately_never_reaches_the_server_itself() {
    let (server, _world) = open_server();
    let (app, canary) = (server.app(), Canary::beside(&server));
    allow_port(&app, server.port);
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let seen = outcome(&app, &format!("http://{host}:{}/", server.port));
        print_row("34", &format!("the server: {host}"), "forbidden: this server", &seen);
        assert_eq!(seen, "forbidden: the destination is refused: this server", "{host}");
    }
    canary.release("34");
}

#[test]
fn attack_34_what_the_operator_denies_is_not_reached_although_its_network_is_open() {
    let world = World::start();
    let settings = [("PICLOUD_HTTP_ALLOW_PRIVATE", "127.0.0.0/8"), ("PICLOUD_HTTP_DENY", "127.0.0.2/32")];
    let server = TestServer::start_with(&settings);
    let (app, canary) = (server.app(), Canary::beside(&server));
    allow_port(&app, world.port());
    for host in ["127.0.0.2", "[::ffff:127.0.0.2]", "0x7f000002"] {
        let seen = outcome(&app, &format!("http://{host}:{}/echo", world.port()));
        print_row("34", &format!("denied: {host}"), "forbidden: denied by the operator", &seen);
        assert_eq!(seen, "forbidden: the destination is refused: denied by the operator", "{host}");
    }
    assert_eq!(outcome(&app, &world.url("/echo")), "reached");
    canary.release("34");
}

#[test]
fn attack_35_names_that_lead_to_private_addresses_are_refused_however_they_change() {
    let dns = DnsServer::start();
    let address = dns.address.to_string();
    let server = TestServer::start_with(&[("PICLOUD_DNS_SERVERS", &address)]);
    let (app, canary) = (server.app(), Canary::beside(&server));
    dns.set_addresses("inner.example.com", &[&["192.168.1.1"]]);
    dns.set_addresses("mixed.example.com", &[&["93.184.216.34", "10.0.0.1"]]);
    dns.set_addresses("six.example.com", &[&["fd00::1"]]);
    dns.set_addresses("127.0.0.1.nip.io", &[&["127.0.0.1"]]);
    dns.set_addresses("metadata.google.internal", &[&["169.254.169.254"]]);
    // By way of two other names.
    dns.set_alias("public.example.com", "cdn.example.net");
    dns.set_alias("cdn.example.net", "inner.example.com");
    for name in [
        "inner.example.com",
        "mixed.example.com",
        "six.example.com",
        "127.0.0.1.nip.io",
        "metadata.google.internal",
        "public.example.com",
    ] {
        let seen = outcome(&app, &format!("http://{name}/"));
        print_row("35", name, "forbidden", &seen);
        assert!(seen.starts_with("forbidden: the destination is refused"), "{name}: {seen}");
    }
    assert!(outcome(&app, "http://nowhere.example.com/").contains("cannot be resolved"));
    canary.release("35");
}

#[test]
fn attack_35_a_name_that_changes_between_check_and_connection_is_asked_once() {
    let dns = DnsServer::start();
    let address = dns.address.to_string();
    // 127.0.0.2 plays the public address: nobody listens there. The second answer is the world's.
    let settings =
        [("PICLOUD_DNS_SERVERS", address.as_str()), ("PICLOUD_HTTP_ALLOW_PRIVATE", "127.0.0.2/32")];
    let server = TestServer::start_with(&settings);
    let (app, world, canary) = (server.app(), World::start(), Canary::beside(&server));
    allow_port(&app, world.port());
    dns.set_addresses("rebind.example.com", &[&["127.0.0.2"], &["127.0.0.1"]]);
    let url = format!("http://rebind.example.com:{}/echo", world.port());
    let seen = outcome(&app, &url);
    print_row("35", "rebinding", "connects to what was checked", &seen);
    assert!(seen.starts_with("unavailable: the exchange failed: no connection"), "{seen}");
    assert_eq!(world.requests.load(Ordering::Relaxed), 0);
    // By now the name leads to the loopback, which is seen.
    let seen = outcome(&app, &url);
    print_row("35", "rebinding, again", "forbidden: loopback", &seen);
    assert_eq!(seen, "forbidden: the destination is refused: loopback");
    canary.release("35");
}

#[test]
fn attack_35_a_resolver_that_stalls_is_given_up() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let server = TestServer::start_with(&[("PICLOUD_DNS_SERVERS", &address)]);
    let (app, canary) = (server.app(), Canary::beside(&server));
    let begun = Instant::now();
    let seen = outcome(&app, "http://slow.example.com/");
    let took = begun.elapsed();
    print_row("35", "a silent resolver", "given up within 4 s", &format!("{} ms", took.as_millis()));
    assert!(seen.contains("cannot be resolved"), "{seen}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    canary.release("35");
}

#[test]
fn attack_36_every_hop_of_a_redirect_is_looked_at() {
    let (server, world) = open_server();
    let (app, canary) = (server.app(), Canary::beside(&server));
    allow_port(&app, world.port());
    for to in [
        "http://169.254.169.254/",
        "http://192.168.0.1/",
        "http://[::1]:8080/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "data:text/plain,x",
        "http://127.0.0.1:22/",
        "http://127.0.0.1:25/",
        "http://127.0.0.1:6379/",
        "http://good@127.0.0.1/",
        // The loopback is open here, so it is a private network that is spelled in other ways.
        "http://167772161/",
        "http://0xa000001/",
        "http://012.0.0.1/",
        "http://10.1/",
        "http://[::ffff:10.0.0.1]/",
        "http://[64:ff9b::a00:1]/",
        "http://[2002:a00:1::]/",
        "http://100.64.0.1/",
        "//10.0.0.1/",
    ] {
        let seen = outcome(&app, &world.url(&format!("/to?{to}")));
        print_row("36", to, "forbidden, invalid_argument", &seen);
        assert!(seen.starts_with("forbidden:") || seen.starts_with("invalid_argument:"), "{to}: {seen}");
    }
    assert!(outcome(&app, &world.url("/loop")).starts_with("unavailable: too many redirects"));
    let before = world.requests.load(Ordering::Relaxed);
    assert!(outcome(&app, &world.url("/chain?0")).starts_with("unavailable: too many redirects"));
    assert!(world.requests.load(Ordering::Relaxed) - before <= 6, "a chain is not followed to its end");
    assert_eq!(outcome(&app, &world.url("/to?/echo")), "reached");
    for url in
        ["http://good@127.0.0.1/", "http:\\\\127.0.0.1\\", "http://exam\tple.com/", "ftp://example.com/"]
    {
        assert!(outcome(&app, url).starts_with("invalid_argument:"), "{url}");
    }
    canary.release("36");
}

#[test]
fn attack_37_headers_and_method_cannot_be_used_to_smuggle() {
    let (server, world) = open_server();
    let (app, canary) = (server.app(), Canary::beside(&server));
    allow_port(&app, world.port());
    let url = world.url("/echo");
    for (name, value) in [
        ("x", "a\\r\\nhost: other"),
        ("x\\r\\ny", "a"),
        ("host", "other.example.com"),
        ("Transfer-Encoding", "chunked"),
        ("content-length", "5"),
        ("connection", "upgrade"),
        ("x-picloud-app", "another"),
        ("", "a"),
    ] {
        let source = format!(
            "try {{ http::get(\"{url}\", #{{ headers: #{{ \"{name}\": \"{value}\" }} }}); return \"reached\" }} \
             catch (e) {{ return e.code }}"
        );
        let seen = run(&app, &source);
        print_row("37", &format!("header {name:?}"), "invalid_argument", &seen.to_string());
        assert_eq!(seen, "invalid_argument", "{name}");
    }
    let source = format!(
        "try {{ http::request(\"GET / HTTP/1.1\\r\\nx: y\", \"{url}\", (), #{{}}) }} catch (e) {{ return e.code }}"
    );
    assert_eq!(run(&app, &source), "invalid_argument");
    assert!(outcome(&app, &format!("{url}\\r\\nx: y")).starts_with("invalid_argument"));
    assert_eq!(world.requests.load(Ordering::Relaxed), 0);
    canary.release("37");
}

/// Catalogue B19.
#[test]
fn attack_19_servers_without_end_are_given_up_and_memory_stays_flat() {
    let (server, world) = open_server();
    let app = server.app();
    allow_port(&app, world.port());
    assert_eq!(outcome(&app, &world.url("/echo")), "reached");
    let (canary, before) = (Canary::beside(&server), process::resident_kib(server.pid()));
    for (path, seen) in [
        ("/bomb", "too_large"),
        ("/huge", "too_large"),
        ("/brotli", "too_large"),
        ("/zstd", "too_large"),
        ("/headers", "unavailable"),
        ("/header", "unavailable"),
    ] {
        let outcome = outcome(&app, &world.url(path));
        print_row("19", path, seen, &outcome);
        assert!(outcome.starts_with(seen), "{path}: {outcome}");
    }
    for path in ["/drip", "/silent"] {
        let source = format!(
            "try {{ http::get(\"{}\", #{{ timeout_ms: 1500 }}) }} catch (e) {{ return `${{e.code}}: ${{e.message}}` }}",
            world.url(path)
        );
        let outcome = run(&app, &source);
        print_row("19", path, "unavailable: no answer came in time", &outcome.to_string());
        assert_eq!(outcome, "unavailable: no answer came in time", "{path}");
    }
    let grown = process::resident_kib(server.pid()).saturating_sub(before);
    print_row("19", "growth of the parent", "less than 64 MiB", &format!("{grown} KiB"));
    assert!(grown < 64 << 10, "the parent grew by {grown} KiB");
    assert!(world.sent.load(Ordering::Relaxed) < 1 << 30);
    canary.release("19");
}

/// The deadline is the execution's own, and the worker goes on with others meanwhile.
#[test]
fn a_request_ends_with_its_execution() {
    let (server, world) = open_server();
    let app = server.app();
    allow_port(&app, world.port());
    let begun = Instant::now();
    app.serve("waits", &format!("http::get(\"{}\")", world.url("/silent")), &json!({ "timeout_ms": 1000 }));
    app.get("/waits");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn an_app_reaches_only_what_its_lists_allow_and_its_destinations_are_noted() {
    let (server, world) = open_server();
    let app = server.app();
    allow_port(&app, world.port());
    assert_eq!(outcome(&app, &world.url("/echo")), "reached");
    let seen = app.admin("GET", "/egress/destinations", &Value::Null).is(200).json();
    assert_eq!(seen["items"][0]["destination"], world.address.to_string().as_str());
    assert_eq!(seen["items"][0]["script"], "asks");
    let rules = json!({ "allow": ["*.example.com"], "deny": ["bad.example.com"], "ports": [world.port()] });
    assert_eq!(app.admin("PUT", "/egress", &rules).is(200).json(), rules);
    assert!(outcome(&app, &world.url("/echo")).starts_with("forbidden: the host"));
    assert!(outcome(&app, "http://bad.example.com/").starts_with("forbidden: the host"));
    app.admin("PUT", "/egress", &json!({ "allow": ["not a host"] })).is(422);
    // Another app has rules of its own.
    let other = server.app();
    allow_port(&other, world.port());
    assert_eq!(outcome(&other, &world.url("/echo")), "reached");
}

#[test]
fn attack_a_destination_is_not_hidden_by_a_list_full_of_made_up_ones() {
    let (server, world) = open_server();
    let (app, first, second) = (server.app(), World::start(), World::start());
    let ports = [world.port(), first.port(), second.port()];
    app.admin("PUT", "/egress", &json!({ "allow": null, "ports": ports })).is(200);
    let destinations = || app.admin("GET", "/egress/destinations", &Value::Null).is(200).json();
    assert_eq!(outcome(&app, &world.url("/echo")), "reached");
    assert_eq!(destinations()["passed_over"], Value::Null);
    let id = app.admin("GET", "", &Value::Null).is(200).json()["id"].clone();
    server.disk.execute(&format!(
        "insert into egress_destinations (app_id, destination, script)
         select '{}', n || '.example.com:443', 'asks' from generate_series(1, 9999) n",
        id.as_str().unwrap()
    ));
    for _ in 0..2 {
        assert_eq!(outcome(&app, &first.url("/echo")), "reached");
    }
    let passed_over = destinations()["passed_over"].take();
    assert_eq!(passed_over["count"], 1, "what is known already is not counted: {passed_over}");
    assert_eq!(passed_over["last_destination"], first.address.to_string().as_str());
    assert_eq!(passed_over["last_script"], "asks");
    assert_eq!(passed_over["first_at"], passed_over["last_at"]);
    for url in [world.url("/echo"), second.url("/echo")] {
        assert_eq!(outcome(&app, &url), "reached");
    }
    let passed_over = destinations()["passed_over"].take();
    assert_eq!(passed_over["count"], 2, "{passed_over}");
    assert_eq!(passed_over["last_destination"], second.address.to_string().as_str());
    assert_ne!(passed_over["first_at"], passed_over["last_at"]);
}

#[test]
fn a_packed_page_is_read_and_so_are_its_headers_alone() {
    let (server, world) = open_server();
    let app = server.app();
    allow_port(&app, world.port());
    let ask = |method: &str, path: &str| {
        let source = format!(
            "let answer = http::{method}({:?}); \
             [answer.status, answer.headers[\"content-encoding\"], answer.body_raw.len()]",
            world.url(path)
        );
        run(&app, &source)
    };
    assert_eq!(ask("get", "/gzip"), json!([200, "gzip", "what was packed".len()]));
    assert_eq!(ask("head", "/gzip"), json!([200, "gzip", 0]));
    for status in [200, 204, 304] {
        assert_eq!(ask("get", &format!("/gzip?{status}")), json!([status, "gzip", 0]));
    }
}

#[test]
fn a_request_says_who_asks_and_a_repeated_one_can_be_told() {
    let (server, world) = open_server();
    let app = server.app();
    allow_port(&app, world.port());
    let headers = run(&app, &format!("http::post(\"{}\", #{{}}).body.headers", world.url("/echo")));
    let id = app.admin("GET", "", &Value::Null).is(200).json()["id"].clone();
    assert_eq!(headers["x-picloud-app"], id);
    assert!(headers["traceparent"].as_str().unwrap().starts_with("00-"));
    assert!(headers["user-agent"].as_str().unwrap().starts_with("PiCloud/"));
    assert!(headers["idempotency-key"].as_str().unwrap().ends_with("-1"), "{headers}");
}

/// Those who record the trace see the requests as steps of the execution; nobody else's trace goes out.
#[test]
fn a_request_goes_on_with_the_trace_of_the_executions_caller() {
    let (server, world) = open_server();
    let app = server.app();
    allow_port(&app, world.port());
    let ask = format!("http::get(\"{}\").body.headers.traceparent", world.url("/echo"));
    app.deploy("called", &ask, &NO_LIMITS);
    let source = format!("[ctx.request.headers.traceparent, {ask}, {ask}, invoke(\"called\")]");
    app.serve("traced", &source, &NO_LIMITS);
    for flags in ["00", "01"] {
        let given = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
        let headers = [("traceparent", given.as_str())];
        let seen = app.client().send("GET", &app.host, "/traced", &headers, b"").is(200).json();
        let steps: Vec<&str> = seen.as_array().unwrap().iter().map(|step| step.as_str().unwrap()).collect();
        let [of_request, first, second, nested] = steps[..] else { panic!("{seen}") };
        for step in [of_request, first, second, nested] {
            assert_eq!((step.len(), &step[..36], &step[52..]), (55, &given[..36], &given[52..]), "{seen}");
            assert_ne!(&step[36..52], &given[36..52], "a step of our own");
        }
        assert!(first != of_request && first == second && first == nested, "{seen}");
    }
    // Where there is none, the execution's id is the trace, and each request a step of it.
    app.serve("untraced", &format!("[{ask}, {ask}]"), &NO_LIMITS);
    let reply = app.get("/untraced");
    let seen = reply.is(200).json();
    let trace = app.execution_of(&reply)["id"].as_str().unwrap().replace('-', "");
    for step in seen.as_array().unwrap() {
        let step = step.as_str().unwrap();
        assert_eq!((step.len(), &step[3..35], &step[52..]), (55, trace.as_str(), "-00"), "{seen}");
    }
    assert_ne!(seen[0], seen[1]);
}

/// Who is asked can tell a request that is made again from another one.
#[test]
fn a_delivery_that_runs_again_sends_its_requests_with_the_same_keys() {
    let (server, world) = open_server();
    let app = server.app();
    allow_port(&app, world.port());
    let source = format!(
        "let keys = []; \
         for i in 0..2 {{ keys.push(http::post({:?}, #{{ n: i }}).body.headers[\"idempotency-key\"]); }} \
         kv::collection(\"keys\").set(`${{ctx.delivery.attempt}}`, keys); \
         if ctx.delivery.attempt < 2 {{ throw \"once more\" }}",
        world.url("/echo")
    );
    app.deploy("tell", &source, &NO_LIMITS);
    let route = json!({ "path": "/tell", "script": "tell", "dispatch_mode": "async" });
    app.admin("POST", "/routes", &route).is(201);
    let keys_of = |attempt: u32| {
        let reply = app.admin("GET", &format!("/kv/keys/{attempt}"), &Value::Null);
        (reply.status == 200).then(|| reply.json()["value"].clone())
    };
    let mut all = Vec::new();
    for _ in 0..2 {
        app.post("/tell", "text/plain", b"").is(202);
        let second = eventually("it has run twice", || keys_of(2));
        assert_eq!(keys_of(1), Some(second.clone()));
        assert_ne!(second[0], second[1], "each request has its own");
        all.push(second);
        for attempt in [1, 2] {
            app.admin("DELETE", &format!("/kv/keys/{attempt}"), &Value::Null).is(204);
        }
    }
    assert_ne!(all[0], all[1], "another delivery is another");
}

#[test]
fn an_execution_makes_fifty_requests_and_no_more() {
    let (server, world) = open_server();
    let app = server.app();
    allow_port(&app, world.port());
    let source = format!(
        "let made = 0; try {{ loop {{ http::get(\"{}\"); made += 1; }} }} catch (e) {{ return [made, e.code] }}",
        world.url("/echo")
    );
    assert_eq!(run(&app, &source), json!([50, "budget_exhausted"]));
}

#[test]
fn a_secret_goes_out_in_a_header_and_never_comes_in() {
    let (server, world) = open_server();
    let app = server.app();
    allow_port(&app, world.port());
    app.admin("PUT", "/secrets/token", &json!({ "value": "s3cret-value-of-the-token" })).is(201);
    let source = format!(
        "let answer = http::get(\"{}\", #{{ headers: #{{ authorization: secrets::handle(\"token\", \"Bearer {{}}\") }} }});\n\
         log::info(answer.body_raw);\nanswer.body.headers.authorization",
        world.url("/echo")
    );
    app.serve("call", &source, &NO_LIMITS);
    let reply = app.get("/call");
    assert_eq!(reply.is(200).json(), "Bearer [secret]");
    let record = app.execution_of(&reply);
    assert!(!record.to_string().contains("s3cret-value"), "{record}");
    // To another origin it does not go along.
    let other = World::start();
    app.admin("PUT", "/egress", &json!({ "allow": null, "ports": [world.port(), other.port()] })).is(200);
    let source = format!(
        "http::get(\"{}\", #{{ headers: #{{ \"x-key\": secrets::handle(\"token\") }} }}).body.headers",
        world.url(&format!("/to?{}", other.url("/echo")))
    );
    let headers = run(&app, &source);
    assert!(headers["user-agent"].is_string() && headers["x-key"].is_null(), "{headers}");
    eventually("the other world was asked", || (other.requests.load(Ordering::Relaxed) > 0).then_some(()));
}

/// The other secret, which the script asks for, shows that the search finds what is there.
#[test]
fn attack_44_a_secret_that_goes_out_in_a_header_is_in_no_workers_memory() {
    let (server, world) = open_server();
    if !server.workers().iter().all(|worker| process::is_open(*worker)) {
        eprintln!("SKIPPED: only root may read a worker's memory from outside");
        return;
    }
    let app = server.app();
    allow_port(&app, world.port());
    let (handed, read) = ("handed-over-and-never-seen-5b1e", "read-by-the-script-itself-c94d");
    app.admin("PUT", "/secrets/handed", &json!({ "value": handed })).is(201);
    app.admin("PUT", "/secrets/read", &json!({ "value": read })).is(201);
    // `/echo` sends back what it was sent. At last nobody answers, four times for half a minute, so that the script
    // still has all it ever had.
    let headers = "#{ headers: #{ authorization: secrets::handle(\"handed\", \"Bearer {}\") } }";
    let source = format!(
        "let sent = http::get({:?}, {headers}); let echoed = http::get({:?}, {headers}); \
         let value = secrets::get(\"read\"); \
         for n in 0..4 {{ try {{ http::get({:?}); }} catch {{ }} }} \
         let seen = [sent.status, echoed.body.headers.authorization, value.len()]; \
         kv::collection(\"c\").set(\"seen\", seen);",
        world.url("/inbox/handed"),
        world.url("/echo"),
        world.url("/silent"),
    );
    app.deploy("hand", &source, &json!({ "timeout_ms": 150_000 }));
    // Nobody waits for it, so that the search may take its time.
    let route = json!({ "path": "/hand", "script": "hand", "dispatch_mode": "async" });
    app.admin("POST", "/routes", &route).is(201);
    let canary = Canary::beside(&server);
    app.post("/hand", "text/plain", b"").is(202);
    let is_waiting = || (world.requests.load(Ordering::Relaxed) > 2).then_some(());
    eventually("the script waits for an answer", is_waiting);
    let workers = server.workers();
    let hits = |value: &str| -> usize {
        workers.iter().map(|pid| process::find_in_memory(*pid, value.as_bytes())).sum()
    };
    let (of_read, of_handed) = (hits(read), hits(handed));
    let expected = "hits of one that is read, none of one handed over";
    print_row("44", "a secret in a header", expected, &format!("{of_read} and {of_handed} hits"));
    assert!(of_read > 0, "the search finds nothing at all");
    assert_eq!(of_handed, 0);
    assert_eq!(
        world.taken("/inbox/handed")[0]["headers"]["authorization"],
        format!("Bearer {handed}"),
        "it went out"
    );
    drop(world);
    let seen = eventually("the script ends", || {
        let reply = app.admin("GET", "/kv/c/seen", &Value::Null);
        (reply.status == 200).then(|| reply.json()["value"].clone())
    });
    assert_eq!(seen, json!([202, "Bearer [secret]", read.len()]));
    canary.release("44");
}

/// What a script catches of a request, or the status that it was answered with.
fn caught(app: &TestApp<'_>, before: &str, request: &str) -> Value {
    run(app, &format!("{before} try {{ return {request} }} catch (e) {{ return e.code }}"))
}

#[test]
fn a_request_at_its_limits_goes_out_and_one_over_them_does_not() {
    let (server, world) = open_server();
    let app = server.app();
    allow_port(&app, world.port());
    let url = world.url("/echo");
    let headers = |count: usize| {
        let before = format!("let h = #{{ }}; for n in 0..{count} {{ h[`x-${{n}}`] = \"v\"; }}");
        caught(&app, &before, &format!("http::get({url:?}, #{{ headers: h }}).status"))
    };
    assert_eq!(headers(RESPONSE_HEADERS_MAX), 200);
    assert_eq!(headers(RESPONSE_HEADERS_MAX + 1), "invalid_argument");
    let header = |bytes: usize| {
        let before = format!("let v = \"\"; v.pad({bytes}, \"v\");");
        caught(&app, &before, &format!("http::get({url:?}, #{{ headers: #{{ x: v }} }}).status"))
    };
    assert_eq!(header(RESPONSE_HEADER_BYTES_MAX), 200);
    assert_eq!(header(RESPONSE_HEADER_BYTES_MAX + 1), "invalid_argument");
    let asking = format!("{url}?");
    let address = |bytes: usize| {
        let before = format!("let to = {asking:?}; to.pad({bytes}, \"q\");");
        caught(&app, &before, "http::get(to).status")
    };
    assert_eq!(address(8_192), 200);
    assert_eq!(address(8_193), "invalid_argument");
    assert_eq!(world.requests.load(Ordering::Relaxed), 3, "what is refused asks nobody");
}

#[test]
fn what_a_call_sends_and_what_the_world_answers_at_and_over_their_limits() {
    let (server, world) = open_server();
    let app = server.app();
    allow_port(&app, world.port());
    // A call's arguments are counted with all that is in them.
    let url = world.url("/inbox/large");
    let mut headers = PairBlock::default();
    headers.push(b"content-type", b"text/plain; charset=utf-8");
    let body = vec![b'x'; HOST_CALL_BYTES_MAX / 2];
    let request = Request {
        method: "POST",
        url: &url,
        headers: headers.as_bytes(),
        secret_headers: b"",
        body: &body,
        timeout_ms: 0,
        follows: true,
    };
    let mut encoded = Vec::new();
    codec::encode_body(&mut encoded, &request);
    let most = HOST_CALL_BYTES_MAX - (encoded.len() - body.len());
    let post = |bytes: usize| {
        let before = format!("let body = \"\"; body.pad({bytes}, \"x\");");
        caught(&app, &before, &format!("http::post({url:?}, body).status"))
    };
    assert_eq!(post(most), 202);
    assert_eq!(post(most + 1), "too_large");
    let taken = world.taken("/inbox/large");
    assert_eq!((taken.len(), taken[0]["body"].as_str().unwrap().len()), (1, most));

    let get = |bytes: usize| {
        let from = world.url(&format!("/sized?{bytes}"));
        caught(&app, "", &format!("http::get({from:?}).body_raw.len()"))
    };
    assert_eq!(get(OUTBOUND_RESPONSE_BYTES_MAX), OUTBOUND_RESPONSE_BYTES_MAX);
    assert_eq!(get(OUTBOUND_RESPONSE_BYTES_MAX + 1), "too_large");
}

#[test]
fn as_many_redirects_as_the_limit_are_followed_and_one_more_is_not() {
    const REDIRECTS_MAX: usize = 5;
    let (server, world) = open_server();
    let app = server.app();
    allow_port(&app, world.port());
    let after = |redirects: usize| outcome(&app, &world.url(&format!("{}/echo", "/to?".repeat(redirects))));
    assert_eq!(after(REDIRECTS_MAX), "reached");
    assert_eq!(world.requests.load(Ordering::Relaxed), 6);
    let refused = format!("unavailable: too many redirects: {REDIRECTS_MAX} are followed");
    assert_eq!(after(REDIRECTS_MAX + 1), refused);
    assert_eq!(world.requests.load(Ordering::Relaxed), 12, "the last place is not asked");
}

#[test]
fn a_name_of_as_many_addresses_as_the_limit_is_reached_and_one_of_more_is_not() {
    const ADDRESSES_MAX: usize = 32;
    let (dns, world) = (DnsServer::start(), World::start());
    let address = dns.address.to_string();
    let settings = [("PICLOUD_DNS_SERVERS", address.as_str()), ("PICLOUD_HTTP_ALLOW_PRIVATE", "127.0.0.0/8")];
    let server = TestServer::start_with(&settings);
    let app = server.app();
    allow_port(&app, world.port());
    // The first is the world's.
    let addresses: Vec<_> = (1..=ADDRESSES_MAX + 1).map(|number| format!("127.0.0.{number}")).collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    dns.set_addresses("most.example.com", &[&addresses[..ADDRESSES_MAX]]);
    dns.set_addresses("more.example.com", &[&addresses[..]]);
    let to = |name: &str| outcome(&app, &format!("http://{name}:{}/echo", world.port()));
    assert_eq!(to("most.example.com"), "reached");
    let refused = format!("unavailable: the host's name has over {ADDRESSES_MAX} addresses");
    assert_eq!(to("more.example.com"), refused);
    assert_eq!(world.requests.load(Ordering::Relaxed), 1);
}
