//! What is written into the outbox is delivered, whatever happens meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shared::caller::Caller;
use shared::guest_abi::GuestHttp;
use shared::id::{RouteId, UserId};
use shared::invocation::{ExecutionStatus, Outcome, ScriptTarget, WorkResult};
use shared::ports::{Accept, Accepted, Arrived, NotAccepted};

use crate::harness::TestApi;
use crate::pool::{fail, respond};

/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const SLOTS: usize = 8;

pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "after {} s still not: {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An API whose events are delivered.
async fn delivering() -> TestApi {
    let api = TestApi::start().await;
    api.manager.start_events(api.pool.clone(), SLOTS);
    api
}

fn target(api: &TestApi) -> Arc<ScriptTarget> {
    let table = api.manager.routes().current();
    let app = table.apps.iter().find(|app| app.is_default).unwrap();
    Arc::clone(&app.routes[0].target)
}

/// A request to the hello script, as the ingress passes it on.
struct Request {
    is_awaited: bool,
    key: Option<&'static str>,
    body: &'static str,
}

const LATER: Request = Request { is_awaited: false, key: None, body: "body" };

async fn accept(api: &TestApi, request: Request) -> Result<Accepted, NotAccepted> {
    accept_by(&*api.manager.acceptor(), api, request).await
}

async fn accept_by(acceptor: &dyn Accept, api: &TestApi, request: Request) -> Result<Accepted, NotAccepted> {
    let target = target(api);
    let caller = Caller::Person { id: UserId::new(), name: "grace".into() };
    let http = GuestHttp {
        method: "POST",
        path: "/hello",
        rest: "",
        remote_ip: "192.0.2.1",
        params: &[],
        query: &[],
        headers: &[],
        body: request.body.as_bytes(),
    };
    let mut digest = [0; 32];
    digest[..request.body.len()].copy_from_slice(request.body.as_bytes());
    let arrived = Arrived {
        route: RouteId::from_uuid(uuid::Uuid::from_u128(7)),
        target: &target,
        request_id: "request-7",
        caller: Some(&caller),
        http,
        is_awaited: request.is_awaited,
        key: request.key.map(|key| (key.as_bytes(), digest)),
    };
    acceptor.accept(arrived).await
}

/// Accepts a request that runs later; answers its delivery.
pub(crate) async fn later(api: &TestApi) -> uuid::Uuid {
    match accept(api, LATER).await.unwrap() {
        Accepted::Later { delivery, .. } => delivery.as_uuid(),
        Accepted::Ended(result) => panic!("{result:?}"),
    }
}

async fn is_drained(api: &TestApi) -> Option<()> {
    (api.database.scalar::<i64>("select count(*) from outbox").await == 0).then_some(())
}

async fn drained(api: &TestApi) {
    eventually("the outbox is empty", || is_drained(api)).await;
}

async fn dead_letters(api: &TestApi, count: usize) -> Vec<Value> {
    eventually("there are dead letters", || async {
        let list = api.get("/apps/default/dead-letters").await;
        let items = list.is(200)["items"].as_array().unwrap().clone();
        (items.len() == count).then_some(items)
    })
    .await
}

#[tokio::test]
async fn an_accepted_request_runs_as_it_came_and_its_row_goes() {
    let api = delivering().await;
    let delivery = later(&api).await;
    drained(&api).await;
    let seen = api.pool.last_request();
    assert_eq!((seen.method.as_str(), seen.path.as_str(), seen.body.as_str()), ("POST", "/hello", "body"));
    assert_eq!((seen.user.as_deref(), &seen.event), (Some("grace"), &Value::Null));
    let attempt = seen.delivery.unwrap();
    assert_eq!((attempt.id, attempt.attempt, attempt.replay_of), (delivery, 1, None));
    api.manager.stop_events().await;
}

#[tokio::test]
async fn a_failed_attempt_is_followed_by_another_of_the_same_delivery() {
    let api = delivering().await;
    api.pool.will_answer(fail(ExecutionStatus::Timeout, "slow", 0, 0));
    let delivery = later(&api).await;
    drained(&api).await;
    let attempts: Vec<_> = api.pool.requests().into_iter().map(|seen| seen.delivery.unwrap()).collect();
    let numbers: Vec<_> = attempts.iter().map(|attempt| (attempt.id, attempt.attempt)).collect();
    assert_eq!(numbers, [(delivery, 1), (delivery, 2)]);
}

#[tokio::test]
async fn an_error_that_is_final_makes_a_dead_letter_that_keeps_everything() {
    let api = delivering().await;
    api.pool.will_answer(fatal("no such customer"));
    let delivery = later(&api).await;
    let letter = dead_letters(&api, 1).await.remove(0);
    assert_eq!((&letter["delivery_id"], &letter["reason"]), (&json!(delivery), &json!("fatal")));
    assert_eq!((&letter["attempts"], &letter["script"]), (&json!(1), &json!("hello")));
    assert_eq!(letter["errors"][0]["message"], "script_error: no such customer");
    drained(&api).await;
    assert_eq!(api.pool.requests().len(), 1, "it is not tried again");
}

fn fatal(message: &str) -> WorkResult {
    let WorkResult::Ran(mut outcome) = fail(ExecutionStatus::ScriptError, message, 1, 1) else {
        unreachable!()
    };
    outcome.failure.as_mut().unwrap().is_fatal = true;
    WorkResult::Ran(outcome)
}

#[tokio::test]
async fn a_dead_letter_is_replayed_as_a_new_delivery_and_only_once() {
    let api = delivering().await;
    api.pool.will_answer(fatal("boom"));
    let delivery = later(&api).await;
    let letter = dead_letters(&api, 1).await.remove(0);
    let id = letter["id"].as_str().unwrap();
    let replay = api.post(&format!("/apps/default/dead-letters/{id}:replay"), json!({})).await;
    assert_eq!(replay.is(202)["count"], 1);
    drained(&api).await;
    let seen = api.pool.last_request().delivery.unwrap();
    assert_eq!((seen.attempt, seen.replay_of), (1, Some(delivery)));
    assert_ne!(seen.id, delivery);
    let shown = api.get(&format!("/apps/default/dead-letters/{id}")).await;
    let shown = shown.is(200);
    assert_eq!((&shown["resolution"], &shown["replayed_as"]), (&json!("replayed"), &json!(seen.id)));
    let again = api.post(&format!("/apps/default/dead-letters/{id}:replay"), json!({})).await;
    again.is_problem("conflict");
}

#[tokio::test]
async fn dead_letters_are_resolved_and_replayed_by_filter() {
    let api = delivering().await;
    for _ in 0..3 {
        api.pool.will_answer(fatal("boom"));
        later(&api).await;
    }
    let letters = dead_letters(&api, 3).await;
    let id = letters[0]["id"].as_str().unwrap();
    let body = json!({ "reason": "known" });
    let one = api.post(&format!("/apps/default/dead-letters/{id}:resolve"), body).await;
    assert_eq!(one.is(200)["count"], 1);
    let filter = json!({ "filter": { "script": "hello", "reason": "fatal", "kind": "http" } });
    let many = api.post("/apps/default/dead-letters:replay", filter).await;
    assert_eq!(many.is(202)["count"], 2);
    let open = api.get("/apps/default/dead-letters?unresolved=true").await;
    assert_eq!(open.is(200)["items"], json!([]));
    api.post("/apps/default/dead-letters:resolve", json!({ "filter": {} })).await.is(200);
    let missing = format!("/apps/default/dead-letters/{}:resolve", uuid::Uuid::now_v7());
    api.post(&missing, json!({})).await.is_problem("not_found");
}

#[tokio::test]
async fn a_replay_is_tried_as_often_as_before_and_stands_in_the_same_line() {
    let api = delivering().await;
    api.pool.will_answer(fatal("boom"));
    later(&api).await;
    let letter = dead_letters(&api, 1).await.remove(0);
    let keyed = "update dead_letters set max_attempts = 1, order_key = decode(repeat('07', 16), 'hex')";
    api.database.execute(keyed).await;
    api.pool.will_answer(fail(ExecutionStatus::ScriptError, "boom", 1, 1));
    let path = format!("/apps/default/dead-letters/{}:replay", letter["id"].as_str().unwrap());
    api.post(&path, json!({})).await.is(202);
    assert_eq!(dead_letters(&api, 2).await[0]["reason"], "exhausted", "after one attempt");
    let in_line =
        "select count(distinct order_key) + count(*) filter (where order_key is null) from dead_letters";
    assert_eq!(api.database.scalar::<i64>(in_line).await, 1);
}

#[tokio::test]
async fn a_replay_runs_the_version_that_is_asked_for() {
    let api = delivering().await;
    api.pool.will_answer(fatal("boom"));
    later(&api).await;
    let letter = dead_letters(&api, 1).await.remove(0);
    api.deploy("default", "hello", "2").await.is(200);
    let path = format!("/apps/default/dead-letters/{}:replay", letter["id"].as_str().unwrap());
    api.post(&path, json!({ "version": 1 })).await.is(202);
    drained(&api).await;
    assert_eq!(api.pool.last_request().version, 1);
    later(&api).await;
    drained(&api).await;
    assert_eq!(api.pool.last_request().version, 2, "without one it is the live version");
}

#[tokio::test]
async fn the_same_key_is_accepted_once_and_another_request_with_it_not_at_all() {
    let api = delivering().await;
    let request = |body| Request { key: Some("k"), body, ..LATER };
    let Accepted::Later { delivery, is_repeated: false } = accept(&api, request("a")).await.unwrap() else {
        panic!("it is new");
    };
    let Accepted::Later { delivery: again, is_repeated: true } = accept(&api, request("a")).await.unwrap()
    else {
        panic!("it is known");
    };
    assert_eq!(again, delivery);
    assert_eq!(accept(&api, request("b")).await.unwrap_err(), NotAccepted::KeyReused);
    drained(&api).await;
    assert_eq!(api.pool.requests().len(), 1);
    api.database.execute("update outbox_dedup set expires_at = now() - interval '1 s'").await;
    let Accepted::Later { is_repeated: false, .. } = accept(&api, request("b")).await.unwrap() else {
        panic!("a day later it is new");
    };
}

fn ran(accepted: Accepted) -> Outcome {
    match accepted {
        Accepted::Ended(result) => match *result {
            WorkResult::Ran(outcome) => outcome,
            other => panic!("{other:?}"),
        },
        later @ Accepted::Later { .. } => panic!("{later:?}"),
    }
}

#[tokio::test]
async fn who_waits_is_answered_and_a_failure_is_not_tried_again() {
    let api = delivering().await;
    let waiting = || Request { is_awaited: true, ..LATER };
    api.pool.will_answer(respond(201, "text/plain", b"made"));
    let outcome = ran(accept(&api, waiting()).await.unwrap());
    assert_eq!(outcome.response.unwrap().status, 201);
    api.pool.will_answer(fail(ExecutionStatus::ScriptError, "boom", 1, 1));
    let outcome = ran(accept(&api, waiting()).await.unwrap());
    assert_eq!(outcome.status, ExecutionStatus::ScriptError);
    drained(&api).await;
    assert_eq!(api.pool.requests().len(), 2);
    assert_eq!(api.database.scalar::<i64>("select count(*) from dead_letters").await, 0);
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_any_more_is_noted() {
    let api = delivering().await;
    let held = api.pool.hold().await;
    let waiting = accept(&api, Request { is_awaited: true, ..LATER });
    {
        let mut waiting = std::pin::pin!(waiting);
        let started = eventually("it has started", || async { api.pool.requests().pop() });
        tokio::select! {
            _ = &mut waiting => panic!("nothing can end yet"),
            _ = started => {}
        }
    }
    drop(held);
    drained(&api).await;
    let list = api.get("/apps/default/abandoned-executions").await;
    let items = list.is(200)["items"].as_array().unwrap().clone();
    assert_eq!((items.len(), &items[0]["status"], &items[0]["http_status"]), (1, &json!("ok"), &json!(200)));
}

#[tokio::test]
async fn what_was_accepted_before_a_crash_runs_after_it() {
    let mut api = TestApi::start().await;
    let delivery = later(&api).await;
    let durable = Request { is_awaited: true, ..LATER };
    {
        // Whoever waited is gone with the process.
        let waiting = std::pin::pin!(accept(&api, durable));
        let written = eventually("it is written", || async {
            (api.database.scalar::<i64>("select count(*) from outbox").await == 2).then_some(())
        });
        tokio::select! {
            _ = waiting => panic!("nothing is delivered yet"),
            () = written => {}
        }
    }
    api.restart().await;
    api.manager.start_events(api.pool.clone(), SLOTS);
    drained(&api).await;
    let seen = api.pool.requests();
    assert_eq!(seen.len(), 1, "what somebody waited for is not run for nobody");
    assert_eq!(seen[0].delivery.as_ref().unwrap().id, delivery);
    let list = api.get("/apps/default/abandoned-executions").await;
    assert_eq!(list.is(200)["items"][0]["execution_id"], Value::Null, "whether it ran is not known");
}

#[tokio::test]
async fn a_deposed_owner_changes_nothing() {
    let api = delivering().await;
    let held = api.pool.hold().await;
    later(&api).await;
    eventually("it has started", || async { api.pool.requests().pop() }).await;
    api.database.execute("update outbox_shards set owner = gen_random_uuid()").await;
    drop(held);
    eventually("it was told so", || async { (api.manager.event_counters().missed > 0).then_some(()) }).await;
    assert_eq!(api.database.scalar::<i64>("select count(*) from outbox").await, 1);
}

#[tokio::test]
async fn an_event_whose_connection_to_the_owner_ended_is_still_delivered() {
    let api = delivering().await;
    later(&api).await;
    drained(&api).await;
    api.database
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()",
        )
        .await;
    eventually("it is accepted", || async { accept(&api, LATER).await.ok() }).await;
    drained(&api).await;
    let epochs = "select count(*) from outbox_shards where epoch > 1 and suspect_max_id = 0";
    // The event may have been done before its owner heard that its connection had ended.
    eventually("all is taken again, and nothing is suspected", || async {
        (api.database.scalar::<i64>(epochs).await == 16).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_was_running_when_an_owner_died_is_struck_before_it_runs_again() {
    let api = TestApi::start().await;
    later(&api).await;
    api.database.execute("update outbox_shards set is_clean = false, owner = gen_random_uuid()").await;
    let held = api.pool.hold().await;
    api.manager.start_events(api.pool.clone(), SLOTS);
    eventually("it has started", || async { api.pool.requests().pop() }).await;
    assert_eq!(api.database.scalar::<i16>("select strikes from outbox").await, 1);
    drop(held);
    drained(&api).await;
}

#[tokio::test]
async fn what_ended_the_platform_three_times_is_poison() {
    let api = TestApi::start().await;
    later(&api).await;
    api.database.execute("update outbox_shards set is_clean = false, owner = gen_random_uuid()").await;
    api.database.execute("update outbox set strikes = 3").await;
    api.manager.start_events(api.pool.clone(), SLOTS);
    let letter = dead_letters(&api, 1).await.remove(0);
    assert_eq!(letter["reason"], "poison");
    assert!(api.pool.requests().is_empty(), "it is not run any more");
}

#[tokio::test]
async fn an_event_whose_trigger_is_news_is_not_given_up() {
    let api = delivering().await;
    let body = json!({ "kind": "pubsub", "script": "hello", "config": { "topic": "x" } });
    let id = api.post("/apps/default/triggers", body).await.is(201)["id"].as_str().unwrap().to_owned();
    // As another node makes it, whose word has not come yet.
    let news = uuid::Uuid::now_v7();
    api.database
        .execute(&format!(
            "create temporary table news as select * from triggers where id = '{id}';
             update news set id = '{news}';
             insert into triggers select * from news;"
        ))
        .await;
    api.database
        .execute(&format!(
            "insert into outbox (shard, app_id, delivery_id, kind, trigger_id, script_id, due_at, max_attempts, base_ms, cap_ms,
                                 root_id, depth, payload)
             select get_byte(uuid_send(app_id), 15) % 16, app_id, '{news}', 'pubsub', '{news}', id, now(), 5, 1, 1, '{news}', 1,
                    '{{}}'
             from scripts
             where name = 'hello';
             select pg_notify('picloud_outbox', '')"
        ))
        .await;
    drained(&api).await;
    assert_eq!(api.pool.last_request().delivery.unwrap().id, news);
    assert_eq!(api.get("/apps/default/dead-letters").await.is(200)["items"], json!([]));
    api.manager.stop_events().await;
}

#[tokio::test]
async fn an_event_for_a_script_that_is_gone_or_off_is_given_up() {
    let api = TestApi::start().await;
    later(&api).await;
    api.database.execute("update outbox set script_id = gen_random_uuid()").await;
    later(&api).await;
    api.post("/apps/default/scripts/hello:disable", json!({})).await;
    api.manager.start_events(api.pool.clone(), SLOTS);
    let letters = dead_letters(&api, 2).await;
    let mut reasons: Vec<_> = letters.iter().map(|letter| letter["reason"].as_str().unwrap()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["script_disabled", "script_missing"]);
}

#[tokio::test]
async fn a_chain_that_is_too_long_ends_with_a_record_that_says_so() {
    let api = TestApi::start().await;
    later(&api).await;
    api.database.execute("update outbox set depth = 9, parent_id = gen_random_uuid()").await;
    api.manager.start_events(api.pool.clone(), SLOTS);
    drained(&api).await;
    let record = eventually("it is recorded", || async {
        let list = api.get("/apps/default/executions?status=depth_exceeded").await;
        list.is(200)["items"].as_array().unwrap().first().cloned()
    })
    .await;
    assert!(record["error"]["message"].as_str().unwrap().contains("9 deep"), "{record}");
    assert!(api.pool.requests().is_empty());
    assert_eq!(api.database.scalar::<i64>("select count(*) from dead_letters").await, 0);
    let path = format!("/apps/default/executions/{}/causation", record["id"].as_str().unwrap());
    assert_eq!(api.get(&path).await.is(200)["tree"][0]["is_this"], true);
}

#[tokio::test]
async fn being_refused_by_busy_workers_is_no_attempt() {
    let api = delivering().await;
    for _ in 0..3 {
        api.pool.will_answer(WorkResult::Refused(shared::invocation::Refusal::Overloaded));
    }
    later(&api).await;
    drained(&api).await;
    let attempts: Vec<_> =
        api.pool.requests().into_iter().map(|seen| seen.delivery.unwrap().attempt).collect();
    assert_eq!(attempts, [1, 1, 1, 1]);
}

#[tokio::test]
async fn requests_that_come_together_are_written_in_one_commit() {
    let api = TestApi::start().await;
    let acceptor = api.manager.acceptor();
    let all = (0..40).map(|_| accept_by(&*acceptor, &api, LATER));
    let accepted = futures_util::future::join_all(all).await;
    assert!(accepted.iter().all(Result::is_ok), "{accepted:?}");
    let transactions = api.database.scalar::<i64>("select count(distinct xmin::text) from outbox").await;
    assert_eq!(api.database.scalar::<i64>("select count(*) from outbox").await, 40);
    assert!(transactions < 40 / 4, "{transactions} commits");
}

#[tokio::test]
async fn an_app_with_too_many_events_is_told_so() {
    let api = TestApi::start().await;
    later(&api).await;
    api.database
        .execute(
            "insert into outbox (shard, app_id, delivery_id, kind, script_id, due_at, max_attempts, base_ms,
                                 cap_ms, root_id, depth, payload)
             select shard, app_id, gen_random_uuid(), kind, script_id, 'infinity', 5, 1, 1, root_id, 0, payload
             from outbox, generate_series(1, 100000)",
        )
        .await;
    api.manager.start_events(api.pool.clone(), SLOTS);
    eventually("the table is counted", || async {
        (accept(&api, LATER).await.err() == Some(NotAccepted::Full)).then_some(())
    })
    .await;
    // As another node does it that delivers them, of which this one does not hear.
    api.database.execute("delete from outbox where due_at = 'infinity'").await;
    eventually("there is room again", || async { accept(&api, LATER).await.ok() }).await;
}

/// An app with a route to a script of its own that answers later.
async fn app_with_route(api: &TestApi, slug: &str) -> Arc<ScriptTarget> {
    api.post("/apps", json!({ "slug": slug })).await.is(201);
    api.deploy(slug, "later", "1").await.is(201);
    let route = json!({ "method": "POST", "path": "/later", "script": "later", "dispatch_mode": "async" });
    api.post(&format!("/apps/{slug}/routes"), route).await.is(201);
    let table = api.manager.routes().current();
    let app = table.apps.iter().find(|app| app.slug.as_str() == slug).unwrap();
    Arc::clone(&app.routes[0].target)
}

#[tokio::test]
async fn attack_an_app_with_large_events_is_told_when_it_has_too_many_bytes_and_no_other_is() {
    let api = TestApi::start().await;
    let (target, other) = (target(&api), app_with_route(&api, "other").await);
    let acceptor = api.manager.acceptor();
    let body = vec![0; 32 << 20];
    let send = |target: &Arc<ScriptTarget>, body: &[u8]| {
        let (acceptor, target, body) = (Arc::clone(&acceptor), Arc::clone(target), body.to_vec());
        async move {
            let http = GuestHttp {
                method: "POST",
                path: "/later",
                rest: "",
                remote_ip: "192.0.2.1",
                params: &[],
                query: &[],
                headers: &[],
                body: &body,
            };
            let route = RouteId::from_uuid(uuid::Uuid::from_u128(7));
            let arrived = Arrived {
                route,
                target: &target,
                request_id: "request-7",
                caller: None,
                http,
                is_awaited: false,
                key: None,
            };
            acceptor.accept(arrived).await
        }
    };
    for number in 0..7 {
        assert!(send(&target, &body).await.is_ok(), "{number} of them are not too many");
    }
    assert_eq!(
        send(&target, &body).await.unwrap_err(),
        NotAccepted::Full,
        "each is a little more than its body"
    );
    assert!(send(&target, b"small").await.is_ok(), "there is room for others");
    assert!(send(&other, &body).await.is_ok(), "another app has its own");
    // What the table says is the same.
    let bytes = "select max(bytes) from outbox_waiting";
    assert!((7 << 25..8 << 25).contains(&api.database.scalar::<i64>(bytes).await));
}

#[tokio::test]
async fn an_idle_outbox_runs_no_statement() {
    let api = delivering().await;
    later(&api).await;
    drained(&api).await;
    let before = api.manager.event_counters();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(api.manager.event_counters(), before, "nothing is fetched while nothing is due");
}
