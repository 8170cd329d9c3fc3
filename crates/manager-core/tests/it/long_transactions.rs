//! Somebody holds a snapshot for long, as `pg_dump` does. Whatever is done meanwhile stays in tables and indexes, and
//! events are dispatched as fast as before.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::Connection;

use crate::harness::TestApi;
use crate::outbox::eventually;

/// Events that were done since the snapshot was taken: those of a minute at a good rate.
const DONE: u32 = 100_000;
const ROUNDS: usize = 5;
const EVENTS: usize = 20;
const SLOTS: usize = 8;

/// An API with a trigger each of whose events is found by reading the table, because they stand in a line.
async fn with_trigger() -> TestApi {
    let api = TestApi::start().await;
    let config = json!({ "collection": "c", "ordered": true });
    let body = json!({ "kind": "kv", "script": "hello", "config": config });
    api.post("/apps/default/triggers", body).await.is(201);
    api
}

/// How long it takes until some events have run, each after the one before.
async fn round(api: &TestApi) -> Duration {
    let before = api.pool.requests().len();
    let begun = Instant::now();
    for number in 0..EVENTS {
        let value = json!({ "value": number });
        api.call("PUT", "/apps/default/kv/c/k", Some(value)).await.is(200);
    }
    let ran = eventually("all have run", || async {
        let requests = api.pool.requests();
        (requests.len() >= before + EVENTS).then_some(requests)
    })
    .await;
    let took = begun.elapsed();
    let values: Vec<_> = ran[before..].iter().map(|ran| ran.event["kv"]["value"].clone()).collect();
    assert_eq!(values, (0..EVENTS).map(|number| json!(number)).collect::<Vec<_>>());
    took
}

#[tokio::test]
async fn a_snapshot_that_is_held_does_not_slow_the_dispatch_of_what_comes() {
    let (free, held) = (with_trigger().await, with_trigger().await);
    let app = held.app_id("default").await;
    let shard = app.to_bytes()[15] % 16;
    held.database
        .execute(&format!(
            "insert into outbox (shard, app_id, delivery_id, kind, script_id, due_at, max_attempts, base_ms, cap_ms,
                                 root_id, depth, payload)
             select {shard}, '{app}', gen_random_uuid(), 'kv', gen_random_uuid(), now() - interval '1 hour', 5, 1,
                    1, gen_random_uuid(), 1, 'x'
             from generate_series(1, {DONE})"
        ))
        .await;
    let mut dump = held.database.connect().await;
    let snapshot = "begin isolation level repeatable read; select count(*) from outbox";
    sqlx::raw_sql(snapshot).execute(&mut dump).await.unwrap();
    held.database.execute("delete from outbox").await;

    for api in [&free, &held] {
        api.manager.start_events(api.pool.clone(), SLOTS);
        // Who takes over reads everything, once.
        round(api).await;
    }
    // By turns, and the best of each: a machine that is busy with something else is so for both.
    let (mut without, mut with) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        without = without.min(round(&free).await);
        with = with.min(round(&held).await);
    }
    assert!(
        with < without * 3,
        "{EVENTS} events take {with:?}, and {without:?} where nobody holds a snapshot"
    );
    dump.close().await.unwrap();
    for api in [free, held] {
        api.manager.stop_events().await;
    }
}
