//! The few connections that the calls of all scripts share: no call takes two, and neither an app nor an owner takes
//! those of the others.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use shared::host_call::HostOp;
use shared::host_call::atomic::{Commit, Op};
use shared::host_call::docs::{Create, Created, Mode, Update};
use shared::host_call::kv::{Condition, Set};
use shared::id::UserId;
use sqlx::postgres::PgConnection;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::calls::Script;
use crate::catalogue::{encoded, print_row};
use crate::harness::TestApi;
use crate::neighbour::Neighbour;
use crate::outbox::eventually;

/// Executions of one app at once: more than there are connections, and half of the slots of two workers.
const EXECUTIONS: usize = 16;
const SCHEMA: &str = "/apps/default/doc-schemas/orders";
const SET: Set<'_> =
    Set { collection: "c", key: "locked", value: "1", ttl_ms: 0, condition: Condition::None };

async fn run(conn: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(conn).await.unwrap();
}

/// Waits until at least so many statements wait for a lock; answers how many do.
pub(crate) async fn are_stuck(api: &TestApi, statements: i64) -> i64 {
    let sql = "select count(*) from pg_stat_activity
               where datname = current_database() and wait_event_type = 'Lock'";
    eventually("statements wait for the lock", || async {
        let stuck: i64 = api.database.scalar(sql).await;
        (stuck >= statements).then_some(stuck)
    })
    .await
}

/// Each would wait for a second connection while it has one, of which there are fewer than writes.
#[tokio::test]
async fn writes_at_once_need_one_connection_each_when_nobody_has_read_their_schema() {
    let api = TestApi::start().await;
    let mut neighbour = Neighbour::beside(&api).await;
    let script = Script::of(&api, "default").await;
    let create = Create { collection: "orders", data: r#"{"total":1}"# };
    let made = script.call(HostOp::DocsCreate, &create).await.unwrap();
    let id = made.read::<Created<'_>>().id.to_owned();
    let data = r#"{"note":"n"}"#;
    let patch = Update { collection: "orders", id: &id, data, mode: Mode::Merge, if_version: None };
    let schema = json!({ "schema": { "required": ["total"] } });
    for (op, args) in [
        (HostOp::DocsCreate, encoded(&create)),
        (HostOp::DocsUpdate, encoded(&patch)),
        (HostOp::AtomicCommit, encoded(&Commit { ops: vec![Op::DocsCreate(create)] })),
    ] {
        // Of another version than what was read before.
        api.call("PUT", SCHEMA, Some(schema.clone())).await.is(200);
        let writes = join_all((0..EXECUTIONS).map(|_| script.call_bytes(op, args.clone())));
        let (answers, ()) = tokio::join!(writes, neighbour.is_well());
        for answer in answers {
            assert_eq!(answer.map(drop), Ok(()), "{op:?}");
        }
    }
    neighbour.leave().await;
}

#[tokio::test]
async fn a_schema_that_comes_while_a_write_waits_holds_for_it() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let create = Create { collection: "orders", data: r#"{"total":1}"# };
    let put = async |member: &str| {
        let schema = json!({ "schema": { "required": [member] } });
        api.call("PUT", SCHEMA, Some(schema)).await.is(200);
    };
    put("total").await;
    let made = script.call(HostOp::DocsCreate, &create).await.unwrap();
    let id = made.read::<Created<'_>>().id.to_owned();
    let mut lock = api.database.connect().await;
    run(&mut lock, "begin; select from docs for update").await;
    let waiting = tokio::spawn(async move {
        let data = r#"{"total":2}"#;
        let replace = Update { collection: "orders", id: &id, data, mode: Mode::Replace, if_version: None };
        script.call(HostOp::DocsUpdate, &replace).await.map(drop)
    });
    are_stuck(&api, 1).await;
    put("sum").await;
    run(&mut lock, "rollback").await;
    assert_eq!(waiting.await.unwrap(), Err("invalid_argument".into()));
}

/// Apps whose calls all wait for a lock, and answers how many of them wait on a connection; meanwhile the neighbour finds
/// what it keeps. What they wait for stands for anything that takes the database long, such as a search without an index.
async fn stuck_beside_a_neighbour(api: &TestApi, apps: &[(&str, UserId)], least: i64) -> i64 {
    let mut neighbour = Neighbour::beside(api).await;
    let mut scripts = Vec::new();
    for (slug, owner) in apps {
        let app = api.app_id(slug).await;
        Script::of_app(api, app, slug).call(HostOp::KvSet, &SET).await.unwrap();
        scripts.extend((0..EXECUTIONS).map(|_| Script::of_app(api, app, slug).owned_by(*owner)));
    }
    let mut lock = api.database.connect().await;
    run(&mut lock, "begin; select from kv where key = 'locked' for update").await;
    let mut attack = JoinSet::new();
    for script in scripts {
        attack.spawn(async move { script.call(HostOp::KvSet, &SET).await.map(drop) });
    }
    let stuck = are_stuck(api, least).await;
    for _ in 0..20 {
        let asked = timeout(Duration::from_secs(2), neighbour.is_well()).await;
        asked.expect("the neighbour waits for what others hold");
    }
    let well = neighbour.leave().await;
    run(&mut lock, "rollback").await;
    while let Some(done) = attack.join_next().await {
        // On a machine that was busy some have waited too long.
        let code = done.unwrap().err();
        assert!(matches!(code.as_deref(), None | Some("budget_exhausted" | "unavailable")), "{code:?}");
    }
    print_row("–", "another app", "finds what it keeps", &well.to_string());
    stuck
}

#[tokio::test]
async fn attack_two_apps_whose_statements_keep_every_connection_that_they_get() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    let apps = [("default", UserId::new()), ("other", UserId::new())];
    let stuck = stuck_beside_a_neighbour(&api, &apps, 7).await;
    print_row("–", "slow statements", "7 or 8 of 12 connections for two owners", &stuck.to_string());
    assert!((7..=8).contains(&stuck), "{stuck}");
}

#[tokio::test]
async fn attack_four_apps_of_one_owner_whose_statements_keep_every_connection_that_they_get() {
    let api = TestApi::start().await;
    let owner = UserId::new();
    let apps = ["default", "second", "third", "fourth"].map(|slug| (slug, owner));
    for (slug, _) in &apps[1..] {
        api.post("/apps", json!({ "slug": slug })).await.is(201);
    }
    let stuck = stuck_beside_a_neighbour(&api, &apps, 5).await;
    print_row("–", "slow statements", "5 or 6 of 12 connections for one owner", &stuck.to_string());
    assert!((5..=6).contains(&stuck), "{stuck}");
}
