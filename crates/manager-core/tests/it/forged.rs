//! Calls as a worker makes them that was taken over: any call, for any execution that it runs, with anything in
//! it. Numbers are those of `docs/attacks.md`.

use serde_json::{Value, json};
use shared::call::{FORGED, SUCCESS};
use shared::host_call::HostOp;
use shared::host_call::dead_letters::{List, One, Shown};
use shared::host_call::invoke::{Invoke, InvokeAsync};
use shared::host_call::secrets::{SecretName, SecretValue, SetSecret};
use shared::id::{AppId, DeadLetterId};

use crate::app_users;
use crate::calls::Script;
use crate::harness::TestApi;
use crate::neighbour::Neighbour;

/// Everything that asks for whom the script runs.
async fn call_what_manages_the_app(script: &Script) -> Vec<Result<(), String>> {
    let id = DeadLetterId::new().to_string();
    let one = One { id: &id, reason: "" };
    let set = SetSecret { name: "key", value: "overwritten" };
    let answers = [
        script.call(HostOp::SecretsSet, &set).await,
        script.call(HostOp::SecretsDelete, &SecretName { name: "key" }).await,
        script.call(HostOp::DeadLettersList, &List { unresolved: false, limit: 10 }).await,
        script.call(HostOp::DeadLettersGet, &one).await,
        script.call(HostOp::DeadLettersReplay, &one).await,
        script.call(HostOp::DeadLettersResolve, &one).await,
    ];
    answers.into_iter().map(|answer| answer.map(drop)).collect()
}

#[tokio::test]
async fn attack_48_calls_that_those_may_not_make_for_whom_the_execution_runs() {
    let api = TestApi::start().await;
    api.call("PUT", "/apps/default/secrets/key", Some(json!({ "value": "as it was" }))).await.is(201);
    let bob = json!({ "username": "bob", "password": "a long enough pass phrase 17" });
    let bob = api.post("/users", bob).await.is(201)["id"].clone();
    api.post("/apps/default/members", json!({ "user": "bob", "role": "viewer" })).await.is(201);
    let bob = bob.as_str().unwrap().parse().unwrap();

    let mut neighbour = Neighbour::beside(&api).await;
    let nobodys = Script::of(&api, "default").await;
    let bobs = Script::of(&api, "default").await.on_behalf_of(bob);
    for (name, script) in [("for nobody", &nobodys), ("for a viewer", &bobs)] {
        let answers = call_what_manages_the_app(script).await;
        neighbour.is_well().await;
        let forbidden = answers.iter().filter(|answer| **answer == Err("forbidden".into())).count();
        eprintln!("| 48 {name:<22} | {:<48} | {forbidden} forbidden |", "6 forbidden");
        for answer in answers {
            assert_eq!(answer, Err("forbidden".into()));
        }
    }
    let answer = nobodys.call(HostOp::SecretsGet, &SecretName { name: "key" }).await.unwrap();
    assert_eq!(answer.read::<SecretValue<'_>>().value, Some("as it was"));

    let denials = api.all_pages("/apps/default/denials", 50).await;
    let seen = neighbour.leave().await;
    eprintln!("| 48 {:<22} | {:<48} | {seen} |", "another app", "finds what it keeps");
    assert_eq!(denials.len(), 12, "{denials:?}");
    let of = |rule: &str| denials.iter().filter(|denied| denied["rule"] == rule).collect::<Vec<_>>();
    let (nobody, viewer) = (of("nobody_logged_in"), of("app_role"));
    assert_eq!((nobody.len(), viewer.len()), (6, 6), "{denials:?}");
    assert_eq!((&nobody[5]["method"], &nobody[5]["path"]), (&json!("*"), &json!("the script script")));
    assert_eq!((&nobody[0]["username"], &viewer[0]["username"]), (&Value::Null, &json!("bob")));
}

#[tokio::test]
async fn attack_calls_of_scripts_by_a_version_that_does_not_name_invoke() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await.that_names_no_invoke();
    let now = script.call(HostOp::Invoke, &Invoke { script: "hello", args: "1" }).await;
    let later = InvokeAsync { script: "hello", args: "1", delay_ms: 0, attempts: 0 };
    let later = script.call(HostOp::InvokeAsync, &later).await;
    assert_eq!((now, later), (Err("forbidden".into()), Err("forbidden".into())));
    assert_eq!(api.database.scalar::<i64>("select count(*) from outbox").await, 0);
}

#[tokio::test]
async fn attack_dead_letters_that_are_longer_together_than_any_answer() {
    let api = TestApi::start().await;
    let owner = api.get("/auth/me").await.is(200)["id"].as_str().unwrap().parse().unwrap();
    let script = Script::of(&api, "default").await.on_behalf_of(owner);
    let app = api.app_id("default").await;
    let give_up = async |kind: &str, payload: &str| {
        let id = DeadLetterId::new();
        api.database
            .execute(&format!(
                "insert into dead_letters (app_id, id, delivery_id, kind, script_id, reason, attempts, errors, root_id,
                    depth, max_attempts, base_ms, cap_ms, payload, enqueued_at)
                 values ('{app}', '{id}', '{id}', '{kind}', '{id}', 'exhausted', 1, '[]', '{id}',
                    0, 1, 0, 0, {payload}, now())"
            ))
            .await;
    };
    let list = async |limit: u32| {
        let answer = script.call(HostOp::DeadLettersList, &List { unresolved: true, limit }).await;
        answer.map(|answer| {
            let shown: Vec<Value> = serde_json::from_str(answer.read::<Shown<'_>>().json).unwrap();
            shown.iter().map(|letter| letter["event"].as_str().map_or(0, str::len)).collect::<Vec<_>>()
        })
    };
    let refused: Result<Vec<usize>, String> = Err("too_large".into());
    for _ in 0..10 {
        give_up("function", "convert_to('\"' || repeat('x', 1000000) || '\"', 'UTF8')").await;
    }
    // A request is not shown, and is not read for that.
    give_up("http", "convert_to(repeat('x', 8000000), 'UTF8')").await;
    assert_eq!(list(1).await, Ok(vec![0]));
    assert_eq!(list(5).await, Ok(vec![0, 1_000_000, 1_000_000, 1_000_000, 1_000_000]));
    assert_eq!(list(6).await, refused);
    assert_eq!(list(200).await, refused);
}

/// Whatever a call carries, it is about the app that its execution belongs to.
#[tokio::test]
async fn attack_47_calls_with_anything_in_them_reach_no_other_app() {
    const CANARY: &str = "canary-of-the-other-app";
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    api.deploy("other", "script", "1").await.is(201);
    for (path, body) in [
        ("secrets/key", json!({ "value": CANARY })),
        ("kv/c/k", json!({ "value": CANARY })),
        ("egress", json!({ "allow": null, "deny": [], "ports": [8000] })),
    ] {
        let status = api.call("PUT", &format!("/apps/other/{path}"), Some(body)).await.status;
        assert!(status.is_success(), "{path}: {status}");
    }
    let made =
        api.post("/apps/other/docs/c", json!({ "data": { "is": CANARY } })).await.is(201)["id"].clone();
    let stored = api.post("/apps/other/files/c?name=k", json!(CANARY)).await.is(201)["id"].clone();
    let ids = [&made, &stored].map(|id| id.as_str().unwrap());
    app_users::Account::of(&Script::of(&api, "other").await, CANARY).await;
    let other = api.app_id("other").await;
    let before = rows_of(&api, other).await;
    for table in ["app_users", "app_user_sessions", "docs", "files", "kv", "secrets"] {
        assert!(before.contains(table), "{table}: {before}");
    }

    let mut neighbour = Neighbour::beside(&api).await;
    let script = Script::of(&api, "default").await;
    let (mut forged, mut answered) = (0, 0);
    for args in bodies(&other.to_string(), ids) {
        // Waiting is all that this one does, for as long as it is told.
        for op in HostOp::ALL.iter().filter(|op| **op != HostOp::RetryWait) {
            let reply = script.forge(*op, args.clone()).await;
            forged += usize::from(reply.status == FORGED);
            answered += usize::from(reply.status == SUCCESS);
            let shown = String::from_utf8_lossy(&reply.body);
            assert!(!shown.contains(CANARY), "{op:?} with {args:?}: {shown}");
        }
        neighbour.is_well().await;
    }
    let well = neighbour.leave().await;
    let after = rows_of(&api, other).await;
    let seen = if after == before { "none is read or changed" } else { "changed" };
    let expected = "no other app's row is read or changed";
    eprintln!("| 47 {:<22} | {expected:<48} | {seen} |", "calls with anything");
    eprintln!("| 47 {:<22} | {:<48} | {well} |", "another app", "finds what it keeps");
    assert!(forged > 1_000 && answered > 10, "{forged} were forged, {answered} were answered");
    assert_eq!(after, before);
}

/// Nothing, a byte, the other app and its things by name and by id in the places where names stand, and
/// rubbish.
fn bodies(other: &str, [document, file]: [&str; 2]) -> Vec<Vec<u8>> {
    let mut bodies = vec![Vec::new()];
    bodies.extend((0..=8).map(|byte| vec![byte]));
    for texts in [
        ["c", "k"],
        ["c", document],
        ["c", file],
        ["other", "c/k"],
        [other, "k"],
        ["../other/c", "k"],
        ["key", ""],
        ["script", "null"],
    ] {
        let mut body = Vec::new();
        for text in texts {
            body.push(u8::try_from(text.len()).unwrap());
            body.extend_from_slice(text.as_bytes());
        }
        bodies.push(body.clone());
        for fields in 1..6 {
            bodies.push([body.as_slice(), &vec![0; fields]].concat());
        }
        // One text alone.
        bodies.push(body[..=usize::from(body[0])].to_vec());
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    for length in 1..60 {
        bodies.push((0..length).map(|_| random()).collect());
    }
    bodies
}

/// All rows of an app, in whatever table: number and digest for each table that has any.
async fn rows_of(api: &TestApi, app: AppId) -> String {
    let tables: String = api
        .database
        .scalar(
            "select string_agg(table_name, ',' order by table_name)
             from information_schema.columns
             where table_schema = 'public' and column_name = 'app_id'",
        )
        .await;
    let mut rows = String::new();
    for table in tables.split(',') {
        let digest: Option<String> = api
            .database
            .scalar(&format!(
                "select count(*) || ' ' || md5(string_agg(r::text, ',' order by r::text))
                 from {table} r
                 where app_id = '{app}'"
            ))
            .await;
        rows.extend(digest.map(|digest| format!("{table} {digest}\n")));
    }
    rows
}
