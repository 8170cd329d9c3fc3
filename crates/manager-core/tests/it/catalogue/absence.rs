//! What another app has is as absent as what never was: the same answer, after the same time.

use std::time::Instant;

use serde_json::json;
use shared::host_call::HostOp;
use shared::host_call::{dead_letters, docs, files, invoke, kv, pubsub, queue, secrets, users};

use super::{encoded, print_row};
use crate::app_users::{Account, PASSWORD};
use crate::calls::Script;
use crate::harness::TestApi;

/// A name that only the other app has, and one as long that nobody has.
const THEIRS: &str = "theirs-alone";
const NOBODYS: &str = "nobodys-name";
const NO_ID: &str = "0195a3a0-0000-7000-8000-000000000000";

/// A call twice: aimed at what the other app has, and at what nobody has. The names go into no comparison.
struct Pair {
    op: HostOp,
    aimed: [Vec<u8>; 2],
    names: [String; 2],
}

fn pair(op: HostOp, names: [&str; 2], args: impl Fn(&str) -> Vec<u8>) -> Pair {
    Pair { op, aimed: names.map(args), names: names.map(str::to_owned) }
}

/// The other app with one of each, and every call that could tell whether it has it.
async fn pairs(api: &TestApi, app: &str) -> Vec<Pair> {
    let theirs = Script::of(api, app).await;
    let put = async |path: &str, body| api.call("PUT", &format!("/apps/{app}/{path}"), Some(body)).await;
    put(&format!("secrets/{THEIRS}"), json!({ "value": "theirs" })).await.is(201);
    put(&format!("kv/c/{THEIRS}"), json!({ "value": 1 })).await.is(200);
    api.deploy(app, THEIRS, "1").await.is(201);
    api.post(&format!("/apps/{app}/topics"), json!({ "name": THEIRS, "external": true })).await.is(201);
    let made = async |path: &str, body| {
        let made = api.post(&format!("/apps/{app}/{path}"), body).await;
        made.is(201)["id"].as_str().unwrap().to_owned()
    };
    api.post(&format!("/apps/{app}/queues/{THEIRS}/messages"), json!({ "message": 1 })).await.is(202);
    let document = made("docs/c", json!({ "data": {} })).await;
    let file = made("files/c?name=f", json!("theirs")).await;
    let letters = [give_up(api).await, give_up(api).await];
    let user = Account::of(&theirs, THEIRS).await;
    let names = [THEIRS, NOBODYS];
    let key = |key: &str| encoded(&kv::Key { collection: "c", key });
    let document_id = |id: &str| encoded(&docs::Id { collection: "c", id });
    let file_id = |id: &str| encoded(&files::Id { collection: "c", id });
    let letter = |id: &str| encoded(&dead_letters::One { id, reason: "theirs" });
    let user_id = |id: &str| encoded(&users::Id { id });
    let token = |token: &str| encoded(&users::Token { token });
    let mut pairs = Vec::new();
    for (op, theirs) in [(HostOp::UsersMe, &user.session), (HostOp::UsersVerify, &user.verification)] {
        let nobodys = theirs.chars().rev().collect::<String>();
        pairs.push(pair(op, [theirs, &nobodys], token));
    }
    for op in [HostOp::UsersGet, HostOp::UsersVerification] {
        pairs.push(pair(op, [&user.id, NO_ID], user_id));
    }
    for (op, id) in [
        (HostOp::DeadLettersGet, &letters[0]),
        (HostOp::DeadLettersReplay, &letters[0]),
        (HostOp::DeadLettersResolve, &letters[1]),
    ] {
        pairs.push(pair(op, [id, NO_ID], letter));
    }
    for op in [HostOp::KvGet, HostOp::KvHas, HostOp::KvEntry] {
        pairs.push(pair(op, names, key));
    }
    pairs.extend([
        pair(HostOp::DocsGet, [&document, NO_ID], document_id),
        pair(HostOp::FilesHead, [&file, NO_ID], file_id),
        pair(HostOp::DocsUpdate, [&document, NO_ID], |id| {
            let mode = docs::Mode::Merge;
            encoded(&docs::Update { collection: "c", id, data: "{}", mode, if_version: None })
        }),
        pair(HostOp::FilesRead, [&file, NO_ID], |id| {
            encoded(&files::Read { collection: "c", id, offset: 0, version: 0 })
        }),
        pair(HostOp::FilesUrl, [&file, NO_ID], |id| {
            encoded(&files::Link { collection: "c", id, expires_s: 60 })
        }),
        pair(HostOp::SecretsGet, names, |name| encoded(&secrets::SecretName { name })),
        pair(HostOp::QueueStats, names, |queue| encoded(&queue::Named { queue })),
        pair(HostOp::PubsubSubscriberToken, names, |topic| {
            encoded(&pubsub::SubscriberToken { topics: vec![topic], ttl_s: 60 })
        }),
        pair(HostOp::Invoke, names, |script| encoded(&invoke::Invoke { script, args: "1" })),
        pair(HostOp::UsersReset, names, |login| encoded(&users::Named { login })),
        pair(HostOp::UsersLogin, names, |login| encoded(&users::Login { login, password: PASSWORD })),
        // What removes comes last, so that its owner still has the rest.
        pair(HostOp::KvDelete, names, key),
        pair(HostOp::DocsDelete, [&document, NO_ID], document_id),
        pair(HostOp::FilesDelete, [&file, NO_ID], file_id),
        pair(HostOp::SecretsDelete, names, |name| encoded(&secrets::SecretName { name })),
        pair(HostOp::UsersDelete, [&user.id, NO_ID], user_id),
    ]);
    pairs
}

async fn give_up(api: &TestApi) -> String {
    let id = uuid::Uuid::now_v7();
    api.database
        .execute(&format!(
            "insert into dead_letters (app_id, id, delivery_id, kind, script_id, reason, attempts, errors, root_id,
                                       depth, max_attempts, base_ms, cap_ms, payload, enqueued_at)
             select app_id, '{id}', '{id}', 'function', id, 'exhausted', 1, '[]', '{id}', 0, 1, 0, 0, '1', now()
             from scripts
             where name = '{THEIRS}'"
        ))
        .await;
    id.to_string()
}

/// Status and words of an answer, without the name that was asked for.
async fn answer(script: &Script, op: HostOp, args: &[u8], name: &str) -> (u8, String) {
    let reply = script.forge(op, args.to_vec()).await;
    (reply.status, String::from_utf8_lossy(&reply.body).replace(name, "NAME"))
}

/// A script of an app that may do everything to it, run for somebody who may do everything to both.
async fn thief(api: &TestApi, app: &str) -> Script {
    let owner = api.get("/auth/me").await.is(200)["id"].as_str().unwrap().parse().unwrap();
    Script::of(api, app).await.on_behalf_of(owner)
}

#[tokio::test]
async fn attack_24_asking_whether_another_app_has_something() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    let pairs = pairs(&api, "default").await;
    let (thief, owner) = (thief(&api, "other").await, thief(&api, "default").await);
    for Pair { op, aimed: [theirs, nobodys], names: [name, no_name] } in &pairs {
        let foreign = answer(&thief, *op, theirs, name).await;
        let absent = answer(&thief, *op, nobodys, no_name).await;
        let seen = if foreign == absent { "the same" } else { "another" };
        print_row("24", &format!("{op:?}"), "the same answer as for what nobody has", seen);
        assert_eq!(foreign, absent, "{op:?}");
        // Whose it is gets another answer, or the aim was wrong.
        assert_ne!(answer(&owner, *op, theirs, name).await, foreign, "{op:?}");
    }
}

/// A difference that is there is there in most rounds; what else the machine does comes and goes. So each round
/// compares its medians, and the median of what they say is looked at.
#[tokio::test]
async fn attack_24_taking_the_time_of_what_another_app_has() {
    const ROUNDS: usize = 11;
    const CALLS: usize = 100;
    const BOUND: f64 = 0.1;
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    let pairs = pairs(&api, "default").await;
    let timed = [HostOp::KvGet, HostOp::DocsGet, HostOp::FilesHead, HostOp::SecretsGet, HostOp::UsersGet];
    for Pair { op, aimed, .. } in pairs.iter().filter(|pair| timed.contains(&pair.op)) {
        let mut ratios = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            // Each round is another execution, which has rows to read.
            let thief = thief(&api, "other").await;
            let mut times = [Vec::with_capacity(CALLS), Vec::with_capacity(CALLS)];
            for call in 0..CALLS {
                // Neither is always the first of the two.
                for at in [call % 2, 1 - call % 2] {
                    let args = aimed[at].clone();
                    let since = Instant::now();
                    thief.forge(*op, args).await;
                    times[at].push(since.elapsed().as_secs_f64());
                }
            }
            let [theirs, nobodys] = times.map(median);
            ratios.push(theirs / nobodys);
        }
        let differ = (median(ratios) - 1.0).abs();
        eprintln!("| 24 {op:?} | the medians differ by less than 10 % | {:.1} % |", differ * 100.0);
        assert!(differ < BOUND, "{op:?}: the medians differ by {:.1} %", differ * 100.0);
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
