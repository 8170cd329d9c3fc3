//! Secrets: who may set them, who sees them, and that nothing but a script's own use gives them away.

use std::process::Command;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Canary, Disk, NO_LIMITS, TestApp, TestServer, eventually, print_row, process};

const VALUE: &str = "a-value-that-is-nowhere-else-7f3a";
/// In a script, so that a worker has it.
const OWN_TEXT: &str = "a-text-of-the-script-itself-c41d";
const DATABASE_PASSWORD: &str = "a-password-that-is-nowhere-else-52be";

#[test]
fn a_secret_is_used_by_its_apps_scripts_and_shown_by_nobody() {
    let server = TestServer::shared();
    let (app, other) = (server.app(), server.app());
    app.admin("PUT", "/secrets/api.key", &json!({ "value": VALUE })).is(201);
    app.admin("PUT", "/secrets/api.key", &json!({ "value": VALUE })).is(200);
    let list = app.admin("GET", "/secrets", &Value::Null).is(200).json();
    assert_eq!(list["items"][0]["name"], "api.key");
    assert!(!list.to_string().contains(VALUE));
    let source = "let v = secrets::get(\"api.key\"); log::info(`got ${v}`, #{ v: v }); v.len()";
    app.serve("use", source, &NO_LIMITS);
    let reply = app.get("/use");
    assert_eq!(reply.is(200).json(), VALUE.len());
    let record = app.execution_of(&reply);
    assert_eq!(record["logs"][0]["message"], "got [secret]", "{record}");
    assert!(!record.to_string().contains(VALUE), "{record}");
    app.serve("throw", "throw secrets::get(\"api.key\")", &NO_LIMITS);
    let reply = app.get("/throw");
    assert!(!app.execution_of(&reply).to_string().contains(VALUE));
    // Another app has none by that name.
    other.serve("use", "secrets::get(\"api.key\")", &NO_LIMITS);
    assert_eq!(other.get("/use").is(200).json(), Value::Null);
    app.admin("DELETE", "/secrets/api.key", &Value::Null).is(204);
    app.admin("DELETE", "/secrets/api.key", &Value::Null).is(404);
}

#[test]
fn scripts_that_call_each_other_say_no_secret_of_the_other() {
    let server = TestServer::shared();
    let app = server.app();
    app.admin("PUT", "/secrets/api.key", &json!({ "value": VALUE })).is(201);
    // None of these asks for a secret, and only the one between asks for anything.
    app.deploy("told", "log::info(`told ${ctx.args}`, #{ told: ctx.args }); ctx.args.len()", &NO_LIMITS);
    app.deploy("throws", "throw `no good: ${ctx.args}`", &NO_LIMITS);
    app.deploy("between", "log::info(ctx.args); invoke(\"told\", ctx.args)", &NO_LIMITS);
    let source = r#"
        let value = secrets::get("api.key");
        let code = ();
        try { invoke("throws", value); } catch (error) { code = error.code; }
        [invoke("between", value), code]"#;
    let reply = app.run("caller", source, &NO_LIMITS);
    assert_eq!(reply.is(200).json(), json!([VALUE.len(), "script_failed"]));
    let told = only_run(&app, "told");
    assert_eq!(told["logs"][0]["message"], "told [secret]", "{told}");
    assert_eq!(told["logs"][0]["data"]["told"], "[secret]", "{told}");
    assert_eq!(only_run(&app, "between")["logs"][0]["message"], "[secret]");
    let thrown = only_run(&app, "throws");
    assert!(thrown.to_string().contains("no good: [secret]"), "{thrown}");
    assert!(![told, thrown].iter().any(|record| record.to_string().contains(VALUE)));
}

#[test]
fn a_script_says_no_secret_that_the_one_it_called_has_returned() {
    let server = TestServer::shared();
    let app = server.app();
    app.admin("PUT", "/secrets/api.key", &json!({ "value": VALUE })).is(201);
    app.deploy("gives", "secrets::get(\"api.key\")", &NO_LIMITS);
    let source = "let value = invoke(\"gives\"); log::info(`got ${value}`); throw `no good: ${value}`";
    app.run("caller", source, &NO_LIMITS).is(500);
    let record = only_run(&app, "caller");
    assert_eq!(record["logs"][0]["message"], "got [secret]", "{record}");
    assert!(record.to_string().contains("no good: [secret]"), "{record}");
    assert!(!record.to_string().contains(VALUE), "{record}");
}

/// The record of the only execution of a script.
fn only_run(app: &TestApp<'_>, script: &str) -> Value {
    let id = eventually("the execution is recorded", || {
        let list = app.admin("GET", &format!("/executions?script={script}"), &Value::Null).is(200).json();
        list["items"][0]["id"].as_str().map(str::to_owned)
    });
    app.admin("GET", &format!("/executions/{id}"), &Value::Null).is(200).json()
}

#[test]
fn the_database_holds_no_value_and_a_moved_one_does_not_open() {
    let server = TestServer::shared();
    let (app, other) = (server.app(), server.app());
    for app in [&app, &other] {
        app.admin("PUT", "/secrets/key", &json!({ "value": VALUE })).is(201);
    }
    let dump = server.disk.query("select string_agg(encode(sealed, 'escape'), ' ') from secrets");
    assert!(!dump.contains(VALUE) && dump.len() > 100, "{dump}");
    // Somebody who can write to the database gives one app the other's.
    let of = |slug: &str| format!("app_id = (select id from apps where slug = '{slug}')");
    server.disk.query(&format!(
        "with moved as (update secrets set sealed = (select sealed from secrets where {}) where {} returning 1)
         select count(*)::text from moved",
        of(&app.slug),
        of(&other.slug)
    ));
    other.serve("use", "try { return secrets::get(\"key\") } catch (e) { return e.code }", &NO_LIMITS);
    assert_eq!(other.get("/use").is(200).json(), "internal");
}

#[test]
fn on_a_public_route_a_script_reads_secrets_and_changes_none() {
    let server = TestServer::shared();
    let app = server.app();
    let source = "let seen = [];\n\
        try { secrets::set(\"a\", \"a new value\"); } catch (e) { seen += e.code; }\n\
        try { secrets::delete(\"a\"); } catch (e) { seen += e.code; }\n\
        seen.push(secrets::list().len()); seen";
    app.serve("public", source, &NO_LIMITS);
    assert_eq!(app.get("/public").is(200).json(), json!(["forbidden", "forbidden", 0]));
    // Run by somebody who may.
    let run = app.admin("POST", "/scripts/public/invoke", &json!({})).is(200).json();
    assert_eq!(run["body"], json!([0]), "{run}");
    let audit = app.admin("GET", "/audit", &Value::Null).is(200).json();
    assert!(audit.to_string().contains("script public"), "{audit}");
}

#[test]
fn names_and_values_out_of_bounds_are_refused() {
    let server = TestServer::shared();
    let app = server.app();
    for name in ["a%2Fb", "%2e%2e", "a%00b", "%E2%80%AEx", &"n".repeat(129), "-a"] {
        app.admin("PUT", &format!("/secrets/{name}"), &json!({ "value": "v" })).is(422);
    }
    app.admin("PUT", "/secrets/a", &json!({ "value": "" })).is(422);
    app.admin("PUT", "/secrets/a", &json!({ "value": "x".repeat(32_769) })).is(422);
    app.admin("PUT", "/secrets/a", &json!({ "value": "x".repeat(32_768) })).is(201);
}

#[test]
fn keys_are_changed_while_everything_goes_on_and_after_a_restart() {
    let server = TestServer::start();
    let app = server.app();
    app.admin("PUT", "/secrets/key", &json!({ "value": VALUE })).is(201);
    app.serve("use", "secrets::get(\"key\")", &NO_LIMITS);
    let key_file = server.disk.path().join("data/secret-key");
    let first = std::fs::read_to_string(&key_file).unwrap();
    assert_eq!(app.admin("POST", "/secrets:rotate-key", &json!({})).is(200).json()["count"], 1);
    assert_eq!(app.get("/use").is(200).json(), VALUE);
    assert_eq!(server.disk.query("select string_agg(version::text, ',') from app_keys"), "2");
    assert_eq!(server.admin("POST", "/system/secrets:rotate-master", &json!({})).is(200).json()["count"], 1);
    assert_ne!(std::fs::read_to_string(&key_file).unwrap(), first);
    assert_eq!(app.get("/use").is(200).json(), VALUE);
    let (disk, slug) = (server.disk.clone(), app.slug.clone());
    drop(server);
    let server = TestServer::start_on(disk);
    assert_eq!(server.existing_app(&slug).get("/use").is(200).json(), VALUE);
}

#[test]
fn a_wrong_secret_key_is_noticed_at_the_start() {
    let server = TestServer::start();
    let app = server.app();
    app.admin("PUT", "/secrets/key", &json!({ "value": VALUE })).is(201);
    let disk = server.disk.clone();
    drop(server);
    std::fs::write(disk.path().join("data/secret-key"), format!("{}=\n", "A".repeat(43))).unwrap();
    let error = TestServer::refused_start(disk);
    assert!(error.contains("the secret key is not the one"), "{error}");
}

/// Security catalogue E44, for what is new: a worker knows no key, no password and no secret that it did not ask for.
#[test]
fn attack_44_workers_hold_neither_the_key_nor_other_secrets() {
    let (server, has_password) = start_with_a_password();
    let app = server.app();
    app.admin("PUT", "/secrets/unused", &json!({ "value": VALUE })).is(201);
    app.serve("other", &format!("let own = \"{OWN_TEXT}\"; [secrets::list().len(), own.len()]"), &NO_LIMITS);
    assert_eq!(app.get("/other").is(200).json(), json!([1, OWN_TEXT.len()]));
    let workers = server.workers();
    if !workers.iter().all(|worker| process::is_open(*worker)) {
        eprintln!("SKIPPED: only root may read a worker's memory from outside");
        return;
    }
    let canary = Canary::beside(&server);
    let text = std::fs::read_to_string(server.disk.path().join("data/secret-key")).unwrap();
    let key = STANDARD.decode(text.trim()).unwrap();
    let mut held = vec![("the key", key.as_slice())];
    if has_password {
        held.push(("the database's password", DATABASE_PASSWORD.as_bytes()));
    }
    // What the server itself holds in this form, so that it could have come into a worker.
    for (name, needle) in &held {
        assert!(process::find_in_memory(server.pid(), needle) > 0, "the search does not find {name}");
    }
    held.push(("the key as text", text.trim().as_bytes()));
    held.push(("another secret", VALUE.as_bytes()));
    let find = |needle: &[u8]| -> usize {
        workers.iter().map(|worker| process::find_in_memory(*worker, needle)).sum()
    };
    let own = find(OWN_TEXT.as_bytes());
    print_row("44", "a script's own text", "hits in workers", &format!("{own} hits"));
    assert!(own > 0, "the search finds nothing in workers");
    for (name, needle) in &held {
        let hits = find(needle);
        print_row("44", name, "no hits in workers", &format!("{hits} hits"));
        assert_eq!(hits, 0, "a worker holds {name}");
    }
    canary.release("44");
}

/// A server that logs in to its database with a password, if the database lets it.
fn start_with_a_password() -> (TestServer, bool) {
    let disk = Arc::new(Disk::new());
    let without = disk.database_url();
    // The one that the tests start trusts whoever reaches its socket, with any password.
    let url = without.replacen("//postgres@", &format!("//postgres:{DATABASE_PASSWORD}@"), 1);
    let has_password = url != without;
    if !has_password {
        eprintln!("SKIPPED: the password is not searched for, as the database wants another one");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_picloud"));
    command.arg("serve").env_clear().env("DATABASE_URL", url);
    (TestServer::try_launch(command, disk).unwrap(), has_password)
}
