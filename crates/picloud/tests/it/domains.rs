//! Domains of apps' own, from the claim to the certificate, with a DNS server to ask.

use serde_json::{Value, json};

use crate::harness::{DnsServer, NO_LIMITS, TestApp, TestServer};

/// Claims a domain; answers the claim's path and its record.
fn claim(app: &TestApp<'_>, domain: &str) -> (String, String, String) {
    let claim = app.admin("POST", "/domains", &json!({ "domain": domain })).is(201).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (
        format!("/domains/{}", text(&claim["id"])),
        text(&claim["record"]["name"]),
        text(&claim["record"]["value"]),
    )
}

fn may_have_certificate(server: &TestServer, domain: &str) -> bool {
    let path = format!("/internal/tls-allow?domain={domain}");
    match server.client.get("127.0.0.1", &path).status {
        200 => true,
        404 => false,
        other => panic!("{other}"),
    }
}

#[test]
fn a_domain_answers_once_its_record_is_in_the_dns() {
    let dns = DnsServer::start();
    let server = TestServer::start_with(&[
        ("PICLOUD_DNS_SERVERS", &dns.address.to_string()),
        ("PICLOUD_BASE_DOMAIN", "pi.example.org"),
        ("PICLOUD_PUBLIC_URL", "https://pi.example.org"),
    ]);
    let app = server.app();
    app.deploy("page", "[ctx.request.params, ctx.request.headers.host]", &NO_LIMITS);
    app.route("/page/:id", "page");
    let (path, name, value) = claim(&app, "{tenant}.example.com");
    let verify = || app.admin("POST", &format!("{path}:verify"), &Value::Null);
    let page = |host: &str| server.client.get(host, "/page/7");

    let missing = verify().is(409).is_problem("domain_unproven");
    assert_eq!((&missing["record"]["name"], &missing["found"]), (&json!(name), &json!([])));
    dns.set(&name, &["v=spf1 -all", "picloud-verification=somebody-elses"]);
    let wrong = verify().is(409).is_problem("domain_unproven");
    assert_eq!(wrong["found"].as_array().unwrap().len(), 2);
    page("ada.example.com").is(404).is_problem("unknown_host");
    assert!(!may_have_certificate(&server, "ada.example.com"));

    dns.set(&name, &["v=spf1 -all", &value]);
    assert_eq!(verify().is(200).json()["verified_by"], "dns");
    let answer = page("Ada.Example.com:443").is(200).json();
    assert_eq!(answer, json!([{ "tenant": "ada", "id": "7" }, "Ada.Example.com:443"]));
    let question = json!({ "url": "https://ada.example.com/page/7" });
    let told = app.admin("POST", "/routes:match", &question).is(200).json();
    assert_eq!(told["matched"]["params"], answer[0], "{told}");
    page("b.ada.example.com").is(404).is_problem("unknown_host");
    for name in ["ada.example.com", "ADA.example.com", "pi.example.org"] {
        assert!(may_have_certificate(&server, name), "{name}");
    }
    for name in ["example.com", "nobody.pi.example.org", "127.0.0.1", "localhost", "b.a.example.com", ""] {
        assert!(!may_have_certificate(&server, name), "{name}");
    }
    app.admin("DELETE", &path, &Value::Null).is(204);
    page("ada.example.com").is(404);
    assert!(!may_have_certificate(&server, "ada.example.com"));
}

#[test]
fn attack_a_stranger_behind_the_proxy_does_not_learn_which_hosts_there_are() {
    let server = TestServer::shared();
    for header in ["x-forwarded-for", "forwarded", "via"] {
        let asked = server.client.send(
            "GET",
            "localhost",
            "/internal/tls-allow?domain=app-0.localhost",
            &[(header, "203.0.113.9")],
            b"",
        );
        asked.is(404);
    }
}

#[test]
fn attack_an_app_cannot_take_the_platforms_or_another_apps_hosts() {
    let server = TestServer::shared();
    let [owner, thief] = [server.app(), server.app()];
    let domain = format!("{}.example.com", owner.slug);
    let (path, ..) = claim(&owner, &domain);
    owner.admin("POST", &format!("{path}:waive"), &Value::Null).is(200);
    owner.serve("page", "`mine`", &NO_LIMITS);
    thief.admin("POST", "/domains", &json!({ "domain": domain })).is(409).is_problem("conflict");
    for host in [owner.host.as_str(), "*.localhost", "a.b.localhost"] {
        thief.admin("POST", "/domains", &json!({ "domain": host })).is(422).is_problem("invalid_input");
    }
    thief.deploy("page", "`stolen`", &NO_LIMITS);
    let route = json!({ "path": "/page", "script": "page", "host": domain });
    thief.admin("POST", "/routes", &route).is(422).is_problem("invalid_input");
    assert_eq!(server.client.get(&domain, "/page").is(200).json(), "mine");
}
