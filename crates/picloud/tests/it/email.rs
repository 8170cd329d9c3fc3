//! Mail of scripts, at a real mail server: what arrives, what does not, and what nobody can make of it.

use std::io::ErrorKind;
use std::net::TcpListener;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use shared::host_call::email::{Attachment, Send};
use shared::limits::{EMAIL_ATTACHMENTS_MAX, HOST_CALL_BYTES_MAX};
use shared::wire::codec;

use crate::harness::{
    Canary, Certificates, DnsServer, FROM, MailServer, NO_LIMITS, TestApp, TestServer, World, eventually,
    print_row,
};

fn start(settings: &[(&'static str, String)]) -> TestServer {
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    TestServer::start_with(&settings)
}

/// A server that hands its mails to this one.
fn server_of(mail: &MailServer) -> TestServer {
    start(&mail.settings())
}

/// With some settings changed.
fn changed(mail: &MailServer, changes: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let mut settings = mail.settings();
    settings.retain(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    settings.extend(changes.iter().map(|(name, value)| (*name, (*value).to_owned())));
    settings
}

/// A script that sends a mail and says with which code that failed, or `sent`.
fn attempt(mail: &str) -> String {
    format!(
        "try {{ email::send({mail}); return \"sent\" }} catch (error) {{ return `${{error.code}}: ${{error.message}}` }}"
    )
}

fn outcome(app: &TestApp<'_>, mail: &str) -> String {
    run(app, &attempt(mail)).as_str().unwrap().to_owned()
}

fn run(app: &TestApp<'_>, source: &str) -> Value {
    app.deploy("sends", source, &json!({ "timeout_ms": 60_000 }));
    app.admin("POST", "/scripts/sends/invoke", &json!({})).is(200).json()["body"].clone()
}

const PLAIN: &str = r#"#{ to: "ada@example.com", subject: "Hello", text: "Hello." }"#;

#[test]
fn a_mail_arrives_as_the_script_wrote_it_and_from_the_operator() {
    let mail = MailServer::start();
    let server = server_of(&mail);
    let app = server.app();
    let source = r#"
        let picture = base64::decode("iVBORw0KGgoAAQID//79");
        email::send(#{
            to: ["Zoë Müller <zoe@example.com>", "bob@bücher.example"],
            cc: "\"Lovelace, Ada\" <ada@example.com>",
            bcc: "carla@example.net",
            reply_to: "Help <help@example.net>",
            from_name: "Blumen & Töchter",
            subject: "Grüße aus 東京 🗼",
            text: "Zeile eins\nZeile zwei: äöü\n.\nund kein Ende",
            html: "<p>Zeile <b>eins</b> – 東京</p>",
            attachments: [
                #{ name: "Übersicht 東京.png", content_type: "image/png", content: picture },
                #{ name: "list.csv", content: "a,b\n1,2\n" },
            ],
        })
    "#;
    let reply = app.run("order", source, &NO_LIMITS);
    let id = reply.is(200).json()["id"].as_str().unwrap().to_owned();
    let taken = &mail.mails(1)[0];
    assert_eq!(taken["from"], "noreply@example.org");
    let recipients = ["zoe@example.com", "bob@xn--bcher-kva.example", "ada@example.com", "carla@example.net"];
    assert_eq!(taken["to"], json!(recipients));
    let headers = &taken["headers"];
    for (name, value) in [
        ("from", "Blumen & Töchter <noreply@example.org>"),
        ("to", "Zoë Müller <zoe@example.com>, bob@xn--bcher-kva.example"),
        ("cc", "\"Lovelace, Ada\" <ada@example.com>"),
        ("reply-to", "Help <help@example.net>"),
        ("subject", "Grüße aus 東京 🗼"),
        ("message-id", id.as_str()),
        ("auto-submitted", "auto-generated"),
        ("mime-version", "1.0"),
    ] {
        assert_eq!(headers[name], value, "{headers}");
    }
    assert!(headers["bcc"].is_null() && headers["date"].is_string(), "{headers}");
    assert_eq!(headers["x-picloud-app"], app.admin("GET", "", &Value::Null).is(200).json()["id"]);
    let types =
        ["multipart/mixed", "multipart/alternative", "text/plain", "text/html", "image/png", "text/plain"];
    assert_eq!(taken["types"], json!(types));
    assert_eq!(taken["parts"][0]["text"], "Zeile eins\r\nZeile zwei: äöü\r\n.\r\nund kein Ende");
    assert_eq!(taken["parts"][1]["text"], "<p>Zeile <b>eins</b> – 東京</p>");
    let picture = &taken["parts"][2];
    assert_eq!(
        (&picture["name"], &picture["disposition"]),
        (&json!("Übersicht 東京.png"), &json!("attachment"))
    );
    assert_eq!(picture["content"], "iVBORw0KGgoAAQID//79");
    assert_eq!(taken["parts"][3]["text"], "a,b\n1,2\n", "what goes along keeps its bytes");
    assert!(taken["is_ascii"] == true && taken["longest_line"].as_u64().unwrap() <= 998, "{taken}");
    // It is logged that there was a mail, and not what or for whom.
    let log =
        eventually("the mail is logged", || Some(server.log()).filter(|log| log.contains("a mail was sent")));
    assert!(log.contains("mail.recipients=4"), "{log}");
    for private in ["zoe@example.com", "carla", "Zeile", "東京"] {
        assert!(!log.contains(private), "{private}: {log}");
    }
}

#[test]
fn one_content_alone_is_a_mail_without_parts_and_from_is_as_the_operator_set_it() {
    let mail = MailServer::start();
    let server = server_of(&mail);
    let app = server.app();
    assert_eq!(outcome(&app, PLAIN), "sent");
    let html = r#"#{ to: "ada@example.com", subject: "Hello", html: "<p>Hello.</p>" }"#;
    assert_eq!(outcome(&app, html), "sent");
    let taken = mail.mails(2);
    assert_eq!(taken[0]["headers"]["from"], FROM);
    assert_eq!((&taken[0]["types"], &taken[1]["types"]), (&json!(["text/plain"]), &json!(["text/html"])));
    assert_eq!(taken[0]["parts"][0]["text"].as_str().unwrap().trim_end(), "Hello.");
}

#[test]
fn a_script_learns_why_the_mail_server_did_not_take_its_mail() {
    let mail = MailServer::start();
    let server = server_of(&mail);
    let app = server.app();
    let to = |address: &str| {
        outcome(&app, &format!(r#"#{{ to: ["ada@example.com", "{address}"], subject: "a", text: "b" }}"#))
    };
    assert_eq!(
        to("unknown@example.com"),
        "refused: the mail server refused it: 550 5.1.1 unknown@example.com is not known here"
    );
    assert_eq!(
        to("later@example.com"),
        "unavailable: the mail server does not take it now: 451 4.3.0 come again"
    );
    assert_eq!(
        to("zoë@example.com"),
        "refused: the mail server refused it: it takes no addresses with characters beyond ASCII"
    );
    // None of the others got it, and the next mail goes through.
    assert_eq!(outcome(&app, PLAIN), "sent");
    mail.mails(1);
}

#[test]
fn without_a_mail_server_a_script_learns_what_to_set() {
    let server = TestServer::shared();
    let app = server.app();
    let seen = outcome(&app, PLAIN);
    assert!(seen.starts_with("not_configured:") && seen.contains("PICLOUD_SMTP_HOST"), "{seen}");
}

#[test]
fn a_mail_server_that_is_away_or_breaks_off_is_unavailable() {
    let mail = MailServer::start();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port().to_string();
    let server = start(&changed(&mail, &[("PICLOUD_SMTP_PORT", &port)]));
    let app = server.app();
    let visitors = std::thread::spawn(move || nobody.accept().map(drop));
    let seen = outcome(&app, PLAIN);
    assert_eq!(seen, "unavailable: the mail server cannot be used now: there is no connection");
    visitors.join().unwrap().unwrap();
    // By now nobody listens there.
    assert_eq!(outcome(&app, PLAIN), seen);
    // The operator finds more in the log.
    assert!(server.log().contains("the mail server cannot be used"), "{}", server.log());
}

#[test]
fn mails_and_the_password_go_out_encrypted_or_not_at_all() {
    let certificates = Certificates::new();
    let authority = certificates.authority();
    let trusted = ("SSL_CERT_FILE", authority.to_str().unwrap());
    let login = [("PICLOUD_SMTP_USERNAME", "picloud"), ("PICLOUD_SMTP_PASSWORD", "correct horse")];
    for tls in ["starttls", "tls"] {
        let mut options = certificates.options(tls);
        options["password"] = "correct horse".into();
        let mail = MailServer::start_with(&options);
        let name = [("PICLOUD_SMTP_HOST", "localhost"), ("PICLOUD_SMTP_TLS", tls)];
        let server = start(&changed(&mail, &[&name[..], &login, &[trusted]].concat()));
        assert_eq!(outcome(&server.app(), PLAIN), "sent", "{tls}");
        let taken = &mail.mails(1)[0];
        assert_eq!((&taken["user"], &taken["is_encrypted"]), (&json!("picloud"), &json!(true)), "{tls}");
        let why = |changes: &[(&'static str, &str)]| {
            let server = start(&changed(&mail, &[&name[..], &login, &[trusted], changes].concat()));
            let seen = outcome(&server.app(), PLAIN);
            assert!(!server.log().contains("correct horse"), "{}", server.log());
            seen
        };
        let wrong = why(&[("PICLOUD_SMTP_PASSWORD", "wrong horse")]);
        assert!(wrong.ends_with("it does not let this server in"), "{tls}: {wrong}");
        // It says who it is, and not that it is at this address.
        let other = why(&[("PICLOUD_SMTP_HOST", "127.0.0.1")]);
        assert!(other.starts_with("unavailable: the mail server cannot be used now"), "{tls}: {other}");
        mail.mails(1);
    }
}

/// Somebody in between who takes the offer to encrypt away gets nothing.
#[test]
fn attack_37_a_mail_server_that_cannot_encrypt_gets_neither_mail_nor_password() {
    let mail = MailServer::start_with(&json!({ "password": "correct horse" }));
    let login = [("PICLOUD_SMTP_USERNAME", "picloud"), ("PICLOUD_SMTP_PASSWORD", "correct horse")];
    let server = start(&changed(&mail, &[&[("PICLOUD_SMTP_TLS", "starttls")][..], &login].concat()));
    let canary = Canary::beside(&server);
    let seen = outcome(&server.app(), PLAIN);
    print_row("37", "no encryption", "neither mail nor password goes out", &seen);
    assert_eq!(seen, "unavailable: the mail server cannot be used now: the connection cannot be encrypted");
    mail.mails(0);
    canary.release("37");
}

#[test]
fn attack_37_no_field_of_a_mail_adds_a_header_a_recipient_or_a_second_mail() {
    let mail = MailServer::start();
    let server = server_of(&mail);
    let (app, canary) = (server.app(), Canary::beside(&server));
    for field in [
        r#"subject: "a\r\nBcc: eve@example.com""#,
        r#"subject: "a\nX-Evil: 1""#,
        r#"subject: "a\x00b""#,
        r#"to: "ada@example.com\r\nBcc: eve@example.com""#,
        r#"to: "ada@example.com>\r\nRCPT TO:<eve@example.com""#,
        r#"to: "ada@example.com, eve@example.com""#,
        r#"cc: ["ada@example.com\r\n"]"#,
        r#"bcc: "Eve <eve@example.com>, Mallory <mallory@example.com>""#,
        r#"reply_to: "Ada\r\n <ada@example.com>""#,
        r#"from_name: "Ada\r\nBcc: eve@example.com""#,
        r#"from_name: "ceo@bank.example""#,
        r#"from: "ceo@bank.example""#,
        r#"headers: #{ "x-evil": "1" }"#,
        r#"attachments: [#{ name: "a\"\r\nX-Evil: 1", content: "" }]"#,
        r#"attachments: [#{ name: "a", content_type: "text/plain\r\nX-Evil: 1", content: "" }]"#,
        r#"attachments: [#{ name: "a", content_type: "multipart/mixed; boundary=x", content: "" }]"#,
        r#"attachments: [#{ name: "a", content_type: "message/rfc822", content: "" }]"#,
    ] {
        let source = format!("let mail = {PLAIN}; mail += #{{ {field} }}; {}", attempt("mail"));
        let seen = run(&app, &source);
        let seen = seen.as_str().unwrap();
        print_row("37", field, "invalid_argument", seen.split(':').next().unwrap());
        assert!(seen.starts_with("invalid_argument: email::send"), "{field}: {seen}");
    }
    // In the content all of it is text.
    let text = "a\\r\\n.\\r\\nMAIL FROM:<eve@example.com>\\n.\\rQUIT\\r.\\r\\n\\x00\\n..\\nb";
    let smuggling = format!(r#"#{{ to: "ada@example.com", subject: "a", text: "{text}", html: "{text}" }}"#);
    assert_eq!(outcome(&app, &smuggling), "sent");
    let taken = &mail.mails(1)[0];
    let expected = "a\r\n.\r\nMAIL FROM:<eve@example.com>\r\n.\r\nQUIT\r\n.\r\n\0\r\n..\r\nb";
    assert_eq!(taken["to"], json!(["ada@example.com"]));
    for part in [0, 1] {
        let content = STANDARD.decode(taken["parts"][part]["content"].as_str().unwrap()).unwrap();
        assert_eq!(String::from_utf8(content).unwrap(), expected);
    }
    print_row("37", "ends of a mail in it", "text", "text");
    canary.release("37");
}

#[test]
fn attack_18_floods_of_mails_by_one_execution_and_by_many_after_each_other() {
    let mail = MailServer::start();
    let server = server_of(&mail);
    let (app, other, canary) = (server.app(), server.app(), Canary::beside(&server));
    let source = format!(
        "let sent = 0; try {{ loop {{ email::send({PLAIN}); sent += 1; }} }} catch (e) {{ return [sent, e.code] }}"
    );
    for _ in 0..3 {
        let seen = run(&app, &source);
        print_row("18", "mails of one execution", "10, then budget_exhausted", &seen.to_string());
        assert_eq!(seen, json!([10, "budget_exhausted"]));
    }
    let seen = run(&app, &source);
    print_row("18", "after 30 of one app", "none in that minute: throttled", &seen.to_string());
    assert_eq!(seen, json!([0, "throttled"]));
    assert_eq!(outcome(&other, PLAIN), "sent", "another app has its own share");
    mail.mails(31);
    canary.release("18");
}

#[test]
fn attack_18_mails_of_many_executions_at_once() {
    const AT_ONCE: usize = 4;
    let mail = MailServer::start();
    // It says nothing to whoever comes.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let server = start(&changed(&mail, &[("PICLOUD_SMTP_PORT", &port)]));
    let (app, canary) = (server.app(), Canary::beside(&server));
    app.serve("mails", &attempt(PLAIN), &json!({ "timeout_ms": 60_000 }));
    app.serve("late", &attempt(PLAIN), &json!({ "timeout_ms": 500 }));
    std::thread::scope(|scope| {
        let first = [(); AT_ONCE].map(|()| scope.spawn(|| app.get("/mails").is(200).json()));
        let held: Vec<_> = silent.incoming().take(AT_ONCE).collect();
        let late = [(); 2 * AT_ONCE].map(|()| scope.spawn(|| app.get("/late")));
        for late in late {
            late.join().unwrap().is(504).is_problem("timeout");
        }
        silent.set_nonblocking(true).unwrap();
        let more = silent.accept().map(drop).map_err(|error| error.kind());
        print_row("18", "mails at the same time", "4", if more.is_ok() { "more" } else { "4" });
        assert_eq!(more, Err(ErrorKind::WouldBlock));
        drop(held);
        for one in first {
            let seen = one.join().unwrap();
            assert!(seen.as_str().unwrap().starts_with("unavailable"), "{seen}");
        }
    });
    canary.release("18");
}

#[test]
fn too_many_or_too_long_is_refused_before_anybody_is_asked() {
    let mail = MailServer::start();
    let server = server_of(&mail);
    let app = server.app();
    let with = |change: &str| run(&app, &format!("let mail = {PLAIN}; {change}; {}", attempt("mail")));
    let people = |count: usize| {
        format!("mail.to = []; for i in 0..{count} {{ mail.to.push(`person-${{i}}@example.com`); }}")
    };
    assert_eq!(with(&people(50)), "sent");
    for (change, seen) in [
        (people(51).as_str(), "invalid_argument: email::send: to has"),
        ("mail.to = []", "invalid_argument: email::send: to is missing"),
        ("mail.remove(\"subject\")", "invalid_argument: email::send: subject is missing"),
        ("mail.remove(\"text\")", "invalid_argument: email::send: text is missing, and so is html"),
        ("mail.subject = \"\"; mail.subject.pad(999, \"a \")", "invalid_argument: email::send: subject has"),
        (
            "mail.subject = \"\"; mail.subject.pad(950, \"a\")",
            "invalid_argument: email::send: subject has a word",
        ),
        (
            "mail.attachments = []; for i in 0..11 { mail.attachments.push(#{ name: `${i}`, content: \"\" }); }",
            "invalid_argument: email::send: attachments has 11 files",
        ),
        (
            "mail.attachments = [#{ name: \"a\" }]",
            "invalid_argument: email::send: the content of an attachment",
        ),
        ("mail.attachments = [#{ name: \"a\", content: blob(1048576) }]", "too_large"),
        ("mail.to = 1", "invalid_argument: email::send: to must be"),
    ] {
        let outcome = with(change);
        assert!(outcome.as_str().unwrap().starts_with(seen), "{change}: {outcome}");
    }
    assert_eq!(with("mail.subject = \"\"; mail.subject.pad(998, \"a \")"), "sent");
    let taken = mail.mails(2);
    assert_eq!(taken[0]["to"].as_array().unwrap().len(), 50);
    assert!(taken[1]["longest_line"].as_u64().unwrap() < 100, "{}", taken[1]);
}

#[test]
fn as_many_files_as_the_limit_and_as_long_as_a_call_may_be_arrive() {
    let mail = MailServer::start();
    let server = server_of(&mail);
    let app = server.app();
    // A call's arguments are counted with all that is in them.
    let half = vec![0_u8; HOST_CALL_BYTES_MAX / 2];
    let small = Attachment { name: "n", content_type: "application/octet-stream", content: &half[..1] };
    let mut attachments = vec![small; EMAIL_ATTACHMENTS_MAX - 1];
    attachments.push(Attachment { content: &half, ..small });
    let (to, text) = (vec!["ada@example.com"], Some("Hello."));
    let send = Send { to, subject: "Hello", text, attachments, ..Send::default() };
    let mut encoded = Vec::new();
    codec::encode_body(&mut encoded, &send);
    let most = HOST_CALL_BYTES_MAX - (encoded.len() - half.len());
    let with_files = |bytes: usize| {
        let source = format!(
            "let mail = {PLAIN}; mail.attachments = []; \
             for i in 1..{EMAIL_ATTACHMENTS_MAX} {{ mail.attachments.push(#{{ name: \"n\", content: blob(1) }}); }} \
             mail.attachments.push(#{{ name: \"n\", content: blob({bytes}) }}); {}",
            attempt("mail")
        );
        run(&app, &source).as_str().unwrap().to_owned()
    };
    assert_eq!(with_files(most), "sent");
    let refused = with_files(most + 1);
    assert!(refused.starts_with("too_large:"), "{refused}");
    assert!(refused.contains(&HOST_CALL_BYTES_MAX.to_string()), "{refused}");
    let taken = &mail.mails(1)[0];
    let parts = taken["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 1 + EMAIL_ATTACHMENTS_MAX, "the text, and the files");
    let longest = parts[EMAIL_ATTACHMENTS_MAX]["content"].as_str().unwrap();
    assert_eq!(STANDARD.decode(longest).unwrap().len(), most);
}

#[test]
fn a_dry_run_sends_nothing_and_says_what_it_would() {
    let mail = MailServer::start();
    let server = server_of(&mail);
    let app = server.app();
    let source = r#"
        let file = #{ name: "a.txt", content: "abc" };
        let to = ["ada@example.com", "Bob <bob@example.com>"];
        email::send(#{ to: to, bcc: "carla@example.com", subject: "Grüße", text: "a", html: "<b>a</b>", attachments: [file] }).id"#;
    app.deploy("try", source, &NO_LIMITS);
    let answer = app.admin("POST", "/scripts/try/invoke?dry_run=true", &json!({})).is(200).json();
    assert!(answer["body"].as_str().unwrap().ends_with("@example.org>"), "{answer}");
    let expected = json!([{
        "call": "email.send",
        "target": "ada@example.com, Bob <bob@example.com>, carla@example.com",
        "value": {
            "subject": "Grüße",
            "text": "a",
            "html": "<b>a</b>",
            "attachments": [{ "name": "a.txt", "content_type": "text/plain; charset=utf-8", "bytes": 3 }],
        },
    }]);
    assert_eq!(answer["dry_run"]["deeds"], expected, "{answer}");
    // The next one is the first that arrives.
    assert_eq!(outcome(&app, PLAIN), "sent");
    assert_eq!(mail.mails(1)[0]["headers"]["subject"], "Hello");
}

#[test]
fn a_queue_sends_in_the_background_and_a_repeated_delivery_is_the_same_mail() {
    let mail = MailServer::start();
    let server = server_of(&mail);
    let app = server.app();
    let source = "email::send(ctx.event.queue.message); if ctx.delivery.attempt < 2 { throw \"once more\" }";
    app.deploy("mailer", source, &NO_LIMITS);
    let trigger = json!({
        "kind": "queue", "script": "mailer", "config": { "queue": "mails" },
        "retry": { "max_attempts": 2, "base_ms": 1, "cap_ms": 1 },
    });
    app.admin("POST", "/triggers", &trigger).is(201);
    app.run("order", &format!("queue::send(\"mails\", {PLAIN})"), &NO_LIMITS).is(200);
    let taken = mail.mails(2);
    assert_eq!(taken[0]["headers"]["message-id"], taken[1]["headers"]["message-id"]);
    app.get("/order").is(200);
    let taken = mail.mails(4);
    assert_ne!(taken[0]["headers"]["message-id"], taken[2]["headers"]["message-id"]);
}

#[test]
fn attack_34_the_mail_server_is_not_reached_by_http_although_its_network_is_open() {
    let mail = MailServer::start();
    let server = start(&changed(&mail, &[("PICLOUD_HTTP_ALLOW_PRIVATE", "127.0.0.0/8")]));
    let (app, canary) = (server.app(), Canary::beside(&server));
    app.admin("PUT", "/egress", &json!({ "allow": null, "ports": [mail.port] })).is(200);
    let source = format!(
        "try {{ http::get(\"http://127.0.0.1:{}/\") }} catch (error) {{ return `${{error.code}}: ${{error.message}}` }}",
        mail.port
    );
    let seen = run(&app, &source);
    print_row("34", "the mail server", "forbidden: this server", seen.as_str().unwrap());
    assert_eq!(seen, "forbidden: the destination is refused: this server");
    canary.release("34");
}

#[test]
fn attack_34_a_mail_server_that_is_given_by_name_is_known_by_its_name_and_its_address() {
    let (mail, dns, world) = (MailServer::start(), DnsServer::start(), World::start());
    let dns_server = dns.address.to_string();
    // The machine does not know this name, as if what is behind it had changed since the start.
    dns.set_addresses("mail.example.com", &[&["127.0.0.1"]]);
    // The other is a name to all but the machine's resolver.
    for (given, asked) in [("Mail.Example.com.", "mail.example.com"), ("127.1", "127.0.0.1")] {
        let settings = [
            ("PICLOUD_SMTP_HOST", given),
            ("PICLOUD_DNS_SERVERS", dns_server.as_str()),
            ("PICLOUD_HTTP_ALLOW_PRIVATE", "127.0.0.0/8"),
        ];
        let server = start(&changed(&mail, &settings));
        let (app, canary) = (server.app(), Canary::beside(&server));
        let ports = [mail.port, world.port()];
        app.admin("PUT", "/egress", &json!({ "allow": null, "ports": ports })).is(200);
        let ask = |port: u16| {
            let source = format!(
                "try {{ return http::get(\"http://{asked}:{port}/echo\").status }} \
                 catch (error) {{ return `${{error.code}}: ${{error.message}}` }}"
            );
            run(&app, &source)
        };
        let seen = ask(mail.port);
        print_row("34", &format!("mail server {given}"), "forbidden: this server", &seen.to_string());
        assert_eq!(seen, "forbidden: the destination is refused: this server", "{given}");
        assert_eq!(ask(world.port()), 200, "{given}: the rest of the host is open");
        canary.release("34");
    }
}

#[test]
fn a_deploy_says_that_a_script_sends_mail() {
    let server = TestServer::shared();
    let app = server.app();
    let answer = app.deploy("sends", &format!("email::send({PLAIN})"), &NO_LIMITS);
    assert_eq!(answer["capabilities"]["namespaces"], json!(["email"]), "{answer}");
}
