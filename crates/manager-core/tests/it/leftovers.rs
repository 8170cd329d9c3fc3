//! What events leave behind goes when it is too old, or too much for one app.

use std::time::Duration;

use serde_json::json;
use shared::id::AppId;
use shared::invocation::ExecutionStatus;

use crate::harness::{TestApi, config, record};
use crate::outbox::eventually;

/// Letters and abandoned executions of this app, the newest with the highest number.
struct Leftovers<'a> {
    app: AppId,
    numbers: &'a str,
    days_old: u32,
    payload_bytes: u32,
}

impl Leftovers<'_> {
    fn statement(&self) -> String {
        let Self { app, numbers, days_old, payload_bytes } = self;
        let id = "('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid";
        let then = format!("now() - {days_old} * interval '1 day'");
        format!(
            "insert into dead_letters (app_id, id, delivery_id, kind, script_id, reason, attempts, errors,
                                       root_id, depth, max_attempts, base_ms, cap_ms, payload, enqueued_at,
                                       failed_at)
             select '{app}', {id}, {id}, 'queue', {id}, 'exhausted', 5, '[]', {id}, 1, 5, 1, 1,
                    convert_to(repeat('x', {payload_bytes}), 'UTF8'), {then}, {then}
             from generate_series({numbers}) n;
             insert into abandoned_executions (app_id, delivery_id, script_id, abandoned_at)
             select '{app}', {id}, {id}, {then}
             from generate_series({numbers}) n;"
        )
    }
}

/// The numbers of what is kept of an app, in these columns.
async fn kept(api: &TestApi, app: AppId, table: &str, id: &str) -> String {
    let sql = format!(
        "select coalesce(string_agg(ltrim(right({id}::text, 12), '0'), ' ' order by {id}), '')
         from {table}
         where app_id = '{app}'"
    );
    api.database.scalar(&sql).await
}

#[tokio::test]
async fn what_is_too_old_or_too_much_for_its_app_goes_oldest_first_and_nothing_else() {
    let mut config = config();
    config.retention.every = Duration::from_millis(5);
    config.retention.events.dead_letters_per_app = 3;
    config.retention.events.dead_letter_bytes_per_app = 1_000;
    config.retention.events.abandoned_per_app = 2;
    let api = TestApi::start_with(config).await;
    let busy = api.app_id("default").await;
    let (mut ids, slugs) = (Vec::new(), ["bulky", "old", "quiet"]);
    for slug in slugs {
        let made = api.post("/apps", json!({ "slug": slug })).await;
        ids.push(made.is(201)["id"].as_str().unwrap().parse::<AppId>().unwrap());
    }
    let (bulky, old, quiet) = (ids[0], ids[1], ids[2]);
    let leftovers = [
        // More than go at once.
        Leftovers { app: busy, numbers: "1, 250", days_old: 1, payload_bytes: 1 },
        // Two of them have room, three have not.
        Leftovers { app: bulky, numbers: "1, 3", days_old: 1, payload_bytes: 400 },
        Leftovers { app: old, numbers: "1, 1", days_old: 31, payload_bytes: 1 },
        Leftovers { app: old, numbers: "2, 2", days_old: 8, payload_bytes: 1 },
        Leftovers { app: quiet, numbers: "1, 2", days_old: 6, payload_bytes: 1 },
    ];
    let statements: String = leftovers.iter().map(Leftovers::statement).collect();
    api.database.execute(&statements).await;
    // Whatever ran is reason to look again.
    api.manager.recorder().record(record(busy, ExecutionStatus::Ok));

    let expected =
        [(busy, "248 249 250", "249 250"), (bulky, "2 3", "2 3"), (old, "2", ""), (quiet, "1 2", "1 2")];
    for (app, letters, abandoned) in expected {
        for (table, id, expected) in
            [("dead_letters", "id", letters), ("abandoned_executions", "delivery_id", abandoned)]
        {
            eventually(&format!("{table} of {app} are {expected:?}"), || async {
                (kept(&api, app, table, id).await == expected).then_some(())
            })
            .await;
        }
    }
}

/// Two hundred of the longest on one page would be gigabytes, and so would the thousand that one call tries again.
#[tokio::test]
async fn attack_dead_letters_of_the_longest_events_are_not_in_memory_together() {
    let api = TestApi::start().await;
    let app = api.app_id("default").await;
    let letters = |numbers, payload_bytes| Leftovers { app, numbers, days_old: 1, payload_bytes }.statement();
    let statements = [letters("1, 5", 16 << 20), letters("6, 6", 33 << 20), letters("7, 7", 1)].concat();
    api.database.execute(&statements).await;
    let listed = api.get("/apps/default/dead-letters?limit=200").await;
    let listed = listed.is(200)["items"].as_array().unwrap();
    assert_eq!(listed.len(), 7);
    assert!(listed.iter().all(|letter| letter.get("event").is_none()), "{listed:?}");
    let again = async || {
        let replayed = api.post("/apps/default/dead-letters:replay", json!({ "filter": {} })).await;
        replayed.is(202)["count"].as_u64().unwrap()
    };
    let counts = [again().await, again().await, again().await, again().await];
    assert_eq!(counts, [2, 2, 1, 1], "32 MiB at a time, or one that is longer");
    let resolved = api.post("/apps/default/dead-letters:resolve", json!({ "filter": {} })).await;
    assert_eq!(resolved.is(200)["count"], 1);
    assert_eq!(again().await, 0);
}
