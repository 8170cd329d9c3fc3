//! Logging in with an identity provider: a real one, with its own pages.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use serde_json::{Value, json};

use crate::harness::{Browser, PASSWORD, PUBLIC_URL, Provider, Reply, TestServer};

/// One server and one provider for the tests that disturb neither.
struct World {
    server: TestServer,
    provider: Provider,
}

impl World {
    fn start() -> Self {
        let provider = Provider::start();
        let issuer = provider.issuer();
        let of = |name: &str, more: &str| format!("{{ name = '{name}', issuer = '{issuer}', {more} }}");
        let secret = "client_id = 'with-secret', client_secret = 'hush-hush'";
        let providers = [
            of("open", &format!("{secret}, title = 'Our club', create_users = true")),
            of("closed", &format!("{secret}, allowed_domains = ['example.org']")),
            of(
                "public",
                "client_id = 'without-secret', create_users = true, allowed_domains = ['example.org']",
            ),
        ];
        let list = format!("[{}]", providers.join(", "));
        let server = TestServer::start_with(&[("PICLOUD_OIDC", &list), ("PICLOUD_PUBLIC_URL", PUBLIC_URL)]);
        Self { server, provider }
    }

    fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Mutex<Weak<World>>> = OnceLock::new();
        let mut shared = SHARED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let world = Arc::new(Self::start());
            *shared = Arc::downgrade(&world);
            world
        })
    }

    fn browser(&self) -> Browser<'_> {
        Browser::new(&self.server.client, &self.provider)
    }
}

fn start(browser: &mut Browser<'_>, provider: &str, query: &str) -> String {
    let sent = browser.send("GET", &format!("/api/v1/admin/auth/oidc/{provider}/login{query}"), "");
    assert_eq!(sent.status, 303, "{sent:?}");
    sent.header("location").to_owned()
}

/// Everything that a person does to log in.
fn log_in(browser: &mut Browser<'_>, provider: &str, name: &str) -> Reply {
    let away = start(browser, provider, "");
    let back = browser.visit_provider(&away, name);
    browser.send("GET", &back, "")
}

fn me(browser: &mut Browser<'_>) -> Value {
    browser.send("GET", "/api/v1/admin/auth/me", "").is(200).json()
}

#[test]
fn a_new_person_gets_an_account_and_finds_it_again() {
    let world = World::shared();
    let listed = world.server.client.get("localhost", "/api/v1/admin/auth/oidc").is(200).json();
    assert_eq!(listed["items"][0]["title"], "Our club");
    let mut browser = world.browser();
    let away = start(&mut browser, "open", "?return_to=/admin/apps/blog");
    for part in
        ["code_challenge_method=S256", "code_challenge=", "nonce=", "state=", "scope=openid+profile+email"]
    {
        assert!(away.contains(part), "{away}");
    }
    let back = browser.visit_provider(&away, "grace@example.net");
    let home = browser.send("GET", &back, "");
    assert_eq!((home.status, home.header("location")), (303, "/admin/apps/blog"));
    let mut cookies = home.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap());
    let session = cookies.find(|line| line.starts_with("__Host-picloud=pics_")).unwrap();
    assert!(session.ends_with("Path=/; Secure; HttpOnly; SameSite=Strict"), "{session}");
    assert_eq!(browser.cookie("__Host-picloud-oidc"), None, "it is good for one answer");
    let first = me(&mut browser);
    assert_eq!((&first["username"], &first["role"]), (&json!("grace"), &json!("member")));

    let mut elsewhere = world.browser();
    assert_eq!(log_in(&mut elsewhere, "open", "grace@example.net").status, 303);
    assert_eq!(me(&mut elsewhere)["id"], first["id"]);
    let mut namesake = world.browser();
    assert_eq!(log_in(&mut namesake, "open", "grace@example.com").status, 303);
    assert_eq!(me(&mut namesake)["username"], "grace-2");
    // A password was never set, so none is right.
    let guess = json!({ "username": "grace", "password": "none" });
    world.server.admin("POST", "/auth/login", &guess).is(401).is_problem("unauthenticated");
}

#[test]
fn a_client_without_a_secret_logs_in_by_its_proof_alone() {
    let world = World::shared();
    let mut browser = world.browser();
    assert_eq!(log_in(&mut browser, "public", "joan@example.org").status, 303);
    assert_eq!(me(&mut browser)["username"], "joan");
}

#[test]
fn nobody_comes_in_whom_the_settings_leave_out() {
    let world = World::shared();
    for (provider, name, rule) in [
        ("closed", "stranger@example.org", "identity_unknown"),
        ("public", "eve@evil-example.org", "identity_domain"),
        ("public", "unverified@example.org", "identity_domain"),
    ] {
        let mut browser = world.browser();
        let refused = log_in(&mut browser, provider, name);
        let problem = refused.is(403).is_problem("forbidden");
        assert_eq!(problem["rule"], rule, "{problem}");
        assert!(problem["remedy"].is_string() && browser.cookie("__Host-picloud").is_none());
    }
    let users = world.server.admin("GET", "/users?limit=200", &Value::Null).is(200).json().to_string();
    assert!(!users.contains("stranger") && !users.contains("eve"), "{users}");
}

#[test]
fn an_address_that_is_somebodys_name_here_makes_nobody_that_person() {
    let world = World::shared();
    let mut browser = world.browser();
    assert_eq!(log_in(&mut browser, "open", "ada@example.org").status, 303);
    let me = me(&mut browser);
    assert_eq!((&me["username"], &me["role"]), (&json!("ada-2"), &json!("member")));
}

#[test]
fn an_answer_is_worth_nothing_in_another_browser_or_twice() {
    let world = World::shared();
    let mut attacker = world.browser();
    let away = start(&mut attacker, "open", "");
    let back = attacker.visit_provider(&away, "mallory@example.net");
    let mut victim = world.browser();
    victim.send("GET", &back, "").is(400).is_problem("bad_request");
    start(&mut victim, "open", "");
    victim.send("GET", &back, "").is(400).is_problem("bad_request");
    assert_eq!(victim.cookie("__Host-picloud"), None);

    let kept = attacker.cookies.clone();
    assert_eq!(attacker.send("GET", &back, "").status, 303);
    attacker.cookies = kept;
    let again = attacker.send("GET", &back, "");
    assert!(
        again.is(502).is_problem("identity_provider_failed")["detail"]
            .as_str()
            .unwrap()
            .contains("invalid_grant")
    );
}

#[test]
fn a_token_of_another_login_is_refused() {
    let world = World::shared();
    // What the cookie says was changed: the nonce, then the proof that goes with the code.
    for (member, word) in [("nonce", "nonce"), ("verifier", "invalid_grant")] {
        let mut browser = world.browser();
        let away = start(&mut browser, "open", "");
        let back = browser.visit_provider(&away, "oscar@example.net");
        let key = (true, "__Host-picloud-oidc".to_owned());
        let mut flow = decoded(&browser.cookies[&key]);
        flow[member] = json!("A".repeat(43));
        browser.cookies.insert(key, encoded(&flow));
        let problem = browser.send("GET", &back, "").is(502).is_problem("identity_provider_failed");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{problem}");
    }
}

#[test]
fn another_providers_answer_is_refused() {
    let world = World::shared();
    let mut browser = world.browser();
    let away = start(&mut browser, "open", "");
    let back = browser.visit_provider(&away, "oscar@example.net");
    browser.send("GET", &back.replace("/open/", "/closed/"), "").is(400).is_problem("bad_request");
    let (path, query) = back.split_once('?').unwrap();
    let pairs = query.split('&').filter(|pair| !pair.starts_with("iss="));
    let query: Vec<_> = pairs.chain(["iss=https%3A%2F%2Fevil.example"]).collect();
    let mixed = format!("{path}?{}", query.join("&"));
    browser.send("GET", &mixed, "").is(400).is_problem("bad_request");
}

#[test]
fn who_does_not_agree_at_the_provider_is_told_so() {
    let world = World::shared();
    let mut browser = world.browser();
    let away = start(&mut browser, "open", "");
    let login = browser.send("GET", &away, "");
    let page = login.header("location").to_owned();
    let page = if page.starts_with('/') { world.provider.issuer() + &page } else { page };
    let aborted = browser.send("GET", &format!("{page}/abort"), "");
    let resumed = browser.send("GET", aborted.header("location"), "");
    let back = resumed.header("location").to_owned();
    assert!(back.contains("error=access_denied"), "{back}");
    let problem = browser.send("GET", &back, "").is(401).is_problem("unauthenticated");
    assert!(problem["detail"].as_str().unwrap().contains("End-User aborted interaction"), "{problem}");
}

#[test]
fn an_account_is_linked_by_who_has_both_and_to_nobody_else() {
    let world = World::shared();
    let admin = |method: &str, path: &str, body: Value| world.server.admin(method, path, &body);
    let wrong = admin("POST", "/auth/identities", json!({ "provider": "closed", "password": "not the one" }));
    assert_eq!(wrong.is(422).is_problem("invalid_input")["field"], "password");
    let begun = admin("POST", "/auth/identities", json!({ "provider": "closed", "password": PASSWORD }));
    let url = begun.is(200).json()["url"].as_str().unwrap().to_owned();
    let mut browser = world.browser();
    let cookie = begun.header("set-cookie").split(';').next().unwrap().split_once('=').unwrap().1.to_owned();
    browser.cookies.insert((true, "__Host-picloud-oidc".to_owned()), cookie);
    let back = browser.visit_provider(&url, "lovelace@example.org");
    assert_eq!(browser.send("GET", &back, "").status, 303);
    assert_eq!(browser.cookie("__Host-picloud"), None, "linking is no login");

    let mut other = world.browser();
    assert_eq!(log_in(&mut other, "closed", "lovelace@example.org").status, 303);
    assert_eq!(me(&mut other)["username"], "ada");
    let linked = admin("GET", "/auth/identities", Value::Null).is(200).json();
    assert_eq!(linked["items"][0]["email"], "lovelace@example.org");
    let id = linked["items"][0]["id"].as_str().unwrap().to_owned();
    admin("DELETE", &format!("/auth/identities/{id}"), Value::Null).is(204);
    log_in(&mut world.browser(), "closed", "lovelace@example.org").is(403).is_problem("forbidden");
    let log = admin("GET", "/audit?action=identity.link", Value::Null).is(200).json();
    assert_eq!(log["items"][0]["credential"], "oidc closed");
}

#[test]
fn a_disabled_person_does_not_come_in_by_a_provider_either() {
    let world = World::shared();
    let mut browser = world.browser();
    assert_eq!(log_in(&mut browser, "open", "hedy@example.net").status, 303);
    world.server.admin("PATCH", "/users/hedy", &json!({ "disabled": true })).is(200);
    browser.send("GET", "/api/v1/admin/auth/me", "").is(401);
    let refused = log_in(&mut world.browser(), "open", "hedy@example.net");
    assert_eq!(refused.is(403).is_problem("forbidden")["rule"], "account_disabled");
}

#[test]
fn a_provider_that_is_away_is_a_problem_that_says_so() {
    let mut world = World::start();
    world.provider.stop();
    let path = "/api/v1/admin/auth/oidc/open/login";
    let problem = world.server.client.get("localhost", path).is(502).is_problem("identity_provider_failed");
    assert!(problem["detail"].as_str().unwrap().contains("cannot be reached"), "{problem}");
    let log = world.server.log();
    assert!(!log.contains("hush-hush"), "{log}");
}

/// The public key of a provider is no secret, so a token that is signed with it as if it were one says
/// nothing; nor does one that is not signed, or brings the key to believe it by.
#[test]
fn attack_29_forged_id_tokens() {
    let forger = Provider::forger();
    let of = |name: &str, client: &str| {
        format!("{{ name = '{name}', issuer = '{}', create_users = true, {client} }}", forger.issuer())
    };
    let list = [
        of("with-secret", "client_id = 'with-secret', client_secret = 'hush-hush'"),
        of("without-secret", "client_id = 'without-secret'"),
    ];
    let list = format!("[{}]", list.join(", "));
    let server = TestServer::start_with(&[("PICLOUD_OIDC", &list), ("PICLOUD_PUBLIC_URL", PUBLIC_URL)]);
    // The answer to a login, with a token of that kind.
    let answer = |browser: &mut Browser<'_>, client: &str, kind: &str| {
        let away = start(browser, client, "");
        let given = |name: &str| {
            let mut pairs = away.split(['?', '&']).filter_map(|pair| pair.split_once('='));
            pairs.find(|(its, _)| *its == name).unwrap_or_else(|| panic!("{away}")).1.to_owned()
        };
        let (nonce, state) = (given("nonce"), given("state"));
        let back = format!("/api/v1/admin/auth/oidc/{client}/callback");
        browser.send("GET", &format!("{back}?code={kind}~{nonce}~{client}&state={state}"), "")
    };
    for client in ["with-secret", "without-secret"] {
        for kind in [
            "none",
            "none-in-capitals",
            "without-signature",
            "hmac-by-pem",
            "hmac-by-der",
            "hmac-by-modulus",
            "hmac-by-nothing",
            "by-a-strange-key",
            "brings-its-key",
            "for-another",
            "of-another",
            "too-old",
        ] {
            let mut browser = Browser::new(&server.client, &forger);
            let refused = answer(&mut browser, client, kind);
            assert_eq!(refused.status, 502, "{client}, {kind}: {refused:?}");
            refused.is_problem("identity_provider_failed");
            assert_eq!(browser.cookie("__Host-picloud"), None, "{client}, {kind}");
        }
        let mut browser = Browser::new(&server.client, &forger);
        let let_in = answer(&mut browser, client, "good");
        assert_eq!(let_in.status, 303, "what is signed well is believed, or this shows nothing: {let_in:?}");
    }
    let users = server.admin("GET", "/users?limit=200", &Value::Null).is(200).json();
    let made = users["items"].as_array().unwrap().iter();
    let made = made.filter(|user| user["username"].as_str().unwrap().starts_with("mallory")).count();
    assert_eq!(made, 1, "only the good ones made somebody, and both the same person: {users}");
}

/// The value of the cookie that a login is begun with.
fn decoded(value: &str) -> Value {
    use base64::Engine;
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(value).unwrap()).unwrap()
}

fn encoded(flow: &Value) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(flow.to_string())
}
