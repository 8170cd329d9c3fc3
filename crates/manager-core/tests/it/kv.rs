//! Values by key, as scripts and people use them.

use std::cell::Cell;

use serde_json::json;
use shared::call::Stage;
use shared::host_call::HostOp;
use shared::host_call::kv::{
    Condition, Entry, Existed, Found, FoundEntry, FoundMany, Incr, Key, Keys, List, Page, Set, Sum, Written,
};
use shared::limits::{HOST_REPLY_BYTES_MAX, KV_KEY_BYTES_MAX, KV_LIST_MAX, KV_VALUE_BYTES_MAX, ROWS_MAX};

use crate::calls::Script;
use crate::harness::TestApi;
use crate::outbox::eventually;

const SET: Set<'_> = Set { collection: "c", key: "k", value: "1", ttl_ms: 0, condition: Condition::None };

impl Script {
    async fn get(&self, key: &str) -> Option<String> {
        let answer = self.call(HostOp::KvGet, &Key { collection: "c", key }).await.unwrap();
        answer.read::<Found<'_>>().value.map(str::to_owned)
    }

    /// Gets these, one after the other, as calls from this number on.
    async fn gets(&self, first: u32, keys: &[&str]) -> Vec<Option<String>> {
        let mut values = Vec::new();
        for (number, key) in (first..).zip(keys) {
            let answer = self.call_as(number, HostOp::KvGet, &Key { collection: "c", key }).await.unwrap();
            values.push(answer.read::<Found<'_>>().value.map(str::to_owned));
        }
        values
    }

    async fn set(&self, set: Set<'_>) -> Result<u64, String> {
        self.call(HostOp::KvSet, &set).await.map(|answer| answer.read::<Written>().version)
    }

    async fn incr(&self, key: &str, by: i64) -> Result<i64, String> {
        let incr = Incr { collection: "c", key, by };
        self.call(HostOp::KvIncr, &incr).await.map(|answer| answer.read::<Sum>().value)
    }

    async fn is(&self, op: HostOp, key: &str) -> bool {
        self.call(op, &Key { collection: "c", key }).await.unwrap().read::<Existed>().existed
    }

    async fn list(&self, prefix: &str, limit: u32, after: &str) -> (Vec<String>, bool) {
        let list = List { collection: "c", prefix, limit, after };
        let answer = self.call(HostOp::KvList, &list).await.unwrap();
        let Page { entries, has_more } = answer.read();
        (entries.iter().map(|entry| entry.key.to_owned()).collect(), has_more)
    }
}

/// Beside somebody who makes, changes and removes something each time, reads all there is, over and over, until much
/// was written. What was kept all the time is in each reading, and once; what came and went may be in it or not.
pub(crate) async fn read_beside(
    kept: &[String],
    write: impl AsyncFn(usize),
    read: impl AsyncFn() -> Vec<String>,
) {
    let written = Cell::new(0);
    let writing = async {
        for n in 0_usize.. {
            write(n).await;
            written.set(n + 1);
        }
    };
    let reading = async {
        while written.get() < 40 {
            let mut seen = read().await;
            seen.retain(|one| kept.contains(one));
            seen.sort_unstable();
            assert_eq!(seen, kept);
        }
    };
    tokio::select! {
        () = writing => unreachable!("there is always more to write"),
        () = reading => {}
    }
}

#[tokio::test]
async fn a_value_stays_until_it_is_removed() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    assert_eq!(script.get("k").await, None);
    script.set(Set { value: r#"{"b":1,"a":[1.0,"\u0000"]}"#, ..SET }).await.unwrap();
    assert_eq!(script.get("k").await.as_deref(), Some(r#"{"b":1,"a":[1.0,"\u0000"]}"#), "as it was written");
    assert!(script.is(HostOp::KvHas, "k").await && !script.is(HostOp::KvHas, "K").await);
    assert!(script.is(HostOp::KvDelete, "k").await && !script.is(HostOp::KvDelete, "k").await);
    assert_eq!(script.get("k").await, None);
}

#[tokio::test]
async fn a_write_with_a_condition_happens_only_if_it_holds() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let if_version = |version| Set { condition: Condition::Version(version), value: "2", ..SET };
    let if_absent = Set { condition: Condition::Absent, ..SET };
    assert_eq!(script.set(if_version(1)).await, Err("conflict".into()));
    let first = script.set(if_absent).await.unwrap();
    assert_eq!(script.set(if_absent).await, Err("conflict".into()));
    let second = script.set(if_version(first)).await.unwrap();
    assert!(second > first);
    assert_eq!(script.set(if_version(first)).await, Err("conflict".into()));
    assert_eq!(script.set(if_version(u64::MAX)).await, Err("conflict".into()));
    assert_eq!(script.get("k").await.as_deref(), Some("2"));
    let entry = script.call(HostOp::KvEntry, &Key { collection: "c", key: "k" }).await.unwrap();
    let expected = Entry { key: "k", value: "2", version: second, expires_at_ms: None };
    assert_eq!(entry.read::<FoundEntry<'_>>().entry, Some(expected));
    assert!(script.is(HostOp::KvDelete, "k").await);
    assert!(script.set(if_absent).await.unwrap() > second, "no version comes twice");
}

#[tokio::test]
async fn an_expired_value_is_not_there_although_nothing_removed_it() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let version = script.set(Set { ttl_ms: 3_600_000, value: "5", ..SET }).await.unwrap();
    assert_eq!(script.incr("k", 1).await, Ok(6), "a sum keeps the time");
    api.database.execute("update kv set expires_at = now() - interval '1 second'").await;
    assert_eq!(script.get("k").await, None);
    assert!(!script.is(HostOp::KvHas, "k").await && !script.is(HostOp::KvDelete, "k").await);
    assert_eq!(script.list("", 10, "").await, (vec![], false));
    let keys = Keys { collection: "c", keys: vec!["k"] };
    let many = script.call(HostOp::KvGetMany, &keys).await.unwrap();
    assert_eq!(many.read::<FoundMany<'_>>().values, [None]);
    let if_version = Set { condition: Condition::Version(version), ..SET };
    assert_eq!(script.set(if_version).await, Err("conflict".into()));
    assert_eq!(script.incr("k", 1).await, Ok(1), "it begins at 0 again");
    api.database.execute("update kv set expires_at = now() - interval '1 second'").await;
    script.set(Set { condition: Condition::Absent, value: "7", ..SET }).await.unwrap();
    assert_eq!(script.get("k").await.as_deref(), Some("7"));
}

#[tokio::test]
async fn only_whole_numbers_are_added_to() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    assert_eq!((script.incr("n", 2).await, script.incr("n", -5).await), (Ok(2), Ok(-3)));
    for value in ["\"1\"", "1.5", "1e2", "null", "[1]", "true", "99999999999999999999", "9223372036854775807"]
    {
        script.set(Set { value, ..SET }).await.unwrap();
        assert_eq!(script.incr("k", 1).await, Err("conflict".into()), "{value}");
        assert_eq!(script.get("k").await.as_deref(), Some(value));
    }
}

#[tokio::test]
async fn no_addition_is_lost_when_many_add_at_once() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let sums = futures_util::future::join_all((0..64).map(|_| script.incr("n", 1))).await;
    let mut sums: Vec<_> = sums.into_iter().map(Result::unwrap).collect();
    sums.sort_unstable();
    assert_eq!(sums, (1..=64).collect::<Vec<_>>());
}

#[tokio::test]
async fn of_many_who_set_if_absent_one_succeeds() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let set = Set { condition: Condition::Absent, ..SET };
    let results = futures_util::future::join_all((0..16).map(|_| script.set(set))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
}

#[tokio::test]
async fn pages_neither_skip_nor_repeat_while_others_write() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let names = ["", "a", "a/", "a/1", "a/10", "a/2", "a0", "b", "é", "\u{10ffff}"];
    for key in &names[1..] {
        script.set(Set { key, ..SET }).await.unwrap();
    }
    assert_eq!(script.list("a/", 10, "").await, (["a/", "a/1", "a/10", "a/2"].map(Into::into).into(), false));
    assert_eq!(script.list("\u{10ffff}", 10, "").await.0, ["\u{10ffff}"]);
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let (keys, has_more) = script.list("", 2, &after).await;
        // Behind and before the cursor.
        script.set(Set { key: "A", ..SET }).await.unwrap();
        script.is(HostOp::KvDelete, keys.last().unwrap()).await;
        after = keys.last().unwrap().clone();
        seen.extend(keys);
        if !has_more {
            break;
        }
    }
    assert_eq!(seen, &names[1..]);
}

#[tokio::test]
async fn what_is_there_all_the_time_is_in_the_pages_once_whatever_a_writer_does() {
    let api = TestApi::start().await;
    let app = api.app_id("default").await;
    let script = || Script::of_app(&api, app, "default");
    let kept: Vec<String> = (0..40).map(|n| format!("{n:02}")).collect();
    for key in &kept {
        script().set(Set { key, ..SET }).await.unwrap();
    }
    let write = async |n: usize| {
        let (script, key, value) = (script(), &kept[n * 7 % kept.len()], n.to_string());
        let passing = format!("{key}-passing");
        script.set(Set { key: &passing, ..SET }).await.unwrap();
        script.set(Set { key, value: &value, ..SET }).await.unwrap();
        assert!(script.is(HostOp::KvDelete, &passing).await);
    };
    let read = async || {
        let (script, mut seen, mut after) = (script(), Vec::new(), String::new());
        loop {
            let (keys, has_more) = script.list("", 3, &after).await;
            seen.extend(keys);
            if !has_more {
                return seen;
            }
            after.clone_from(seen.last().unwrap());
        }
    };
    read_beside(&kept, write, read).await;
}

#[tokio::test]
async fn a_page_of_long_values_is_cut_short_and_goes_on() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let value = format!("\"{}\"", "x".repeat(60_000));
    for n in 0..40 {
        script.set(Set { key: &format!("{n:02}"), value: &value, ..SET }).await.unwrap();
    }
    let (first, has_more) = script.list("", 1_000, "").await;
    assert!(has_more && (15..30).contains(&first.len()), "{}", first.len());
    let (rest, _) = script.list("", 1_000, first.last().unwrap()).await;
    assert_eq!(rest[0], format!("{:02}", first.len()));
}

#[tokio::test]
async fn attack_many_values_at_once_are_refused_before_there_is_an_answer() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let value = format!("\"{}\"", "x".repeat(KV_VALUE_BYTES_MAX - 2));
    let names: Vec<String> = (0..100).map(|n| format!("{n:02}")).collect();
    for key in &names {
        script.set(Set { key, value: &value, ..SET }).await.unwrap();
    }
    let many = async |keys: Vec<&str>| {
        let answer = script.call(HostOp::KvGetMany, &Keys { collection: "c", keys }).await;
        answer.map(|answer| answer.read::<FoundMany<'_>>().values.iter().flatten().count())
    };
    let room = HOST_REPLY_BYTES_MAX / KV_VALUE_BYTES_MAX - 1;
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let refused: Result<usize, String> = Err("too_large".into());
    // The same key again and again, all there are, and one more than there is room for.
    assert_eq!(many(vec!["00"; 1_000]).await, refused);
    assert_eq!(many(all.clone()).await, refused);
    assert_eq!(many(all[..=room].to_vec()).await, refused);
    assert_eq!(many([&all[..room - 1], &["00"; 2]].concat()).await, refused);
    assert_eq!(many(all[..room].to_vec()).await, Ok(room));
    assert_eq!(many([&all[..room - 1], &["00", "none"]].concat()).await, Ok(room));
    // Those that have none take no room.
    assert_eq!(many(vec!["none"; 1_000]).await, Ok(0));
}

#[tokio::test]
async fn what_is_at_its_limit_passes_and_what_is_over_is_refused() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let value = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let key = "\u{10ffff}".repeat(KV_KEY_BYTES_MAX / 4);
    script.set(Set { key: &key, value: &value(KV_VALUE_BYTES_MAX), ..SET }).await.unwrap();
    assert_eq!(
        script.set(Set { value: &value(KV_VALUE_BYTES_MAX + 1), ..SET }).await,
        Err("too_large".into())
    );
    for (collection, key) in [("", "k"), ("c", ""), ("c\0", "k"), ("c", "a\0b"), ("c", &format!("{key}x"))] {
        assert_eq!(script.set(Set { collection, key, ..SET }).await, Err("invalid_argument".into()));
    }
    for value in ["", "x", "{", "[1,]", "1 2", &"[".repeat(65)] {
        assert_eq!(script.set(Set { value, ..SET }).await, Err("invalid_argument".into()), "{value}");
    }
    assert_eq!(script.set(Set { ttl_ms: u64::MAX, ..SET }).await, Err("invalid_argument".into()));
}

#[tokio::test]
async fn a_call_that_was_given_up_changes_nothing() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let stage = std::sync::Arc::new(Stage::default());
    assert!(stage.abandon());
    assert_eq!(script.call_at(HostOp::KvSet, &SET, stage).await, Err("unavailable".into()));
    assert_eq!(script.get("k").await, None);
}

#[tokio::test]
async fn arguments_that_are_none_are_taken_for_forged() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    for op in HostOp::ALL.iter().filter(|op| **op != HostOp::Log) {
        assert_eq!(script.call(*op, &[0xff_u8; 32]).await, Err("forged".into()), "{op:?}");
    }
}

#[tokio::test]
async fn people_browse_and_change_what_scripts_keep() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    script.set(Set { collection: "a b/ü", key: "x/y?", value: "[1]", ..SET }).await.unwrap();
    let names = api.get("/apps/default/kv").await;
    assert_eq!(names.is(200)["items"], json!([{ "name": "a b/ü" }]));
    let path = "/apps/default/kv/a%20b%2F%C3%BC/x%2Fy%3F";
    assert_eq!(api.get(path).await.is(200)["value"], json!([1]));

    let put = |body| api.call("PUT", "/apps/default/kv/c/k", Some(body));
    let version = put(json!({ "value": { "n": null } })).await.is(200)["version"].clone();
    put(json!({ "value": 2, "if_absent": true })).await.is_problem("conflict");
    put(json!({ "value": 2, "if_version": 1 })).await.is_problem("conflict");
    put(json!({ "value": 2, "if_version": version, "ttl": 60 })).await.is(200);
    put(json!({ "value": "x".repeat(KV_VALUE_BYTES_MAX) })).await.is_problem("body_too_large");
    assert_eq!(script.get("k").await.as_deref(), Some("2"));
    let listed = api.get("/apps/default/kv/c?prefix=k").await;
    assert_eq!(listed.is(200)["items"][0]["value"], json!(2));
    assert!(listed.json["items"][0]["expires_at"].is_string() && listed.json["next_cursor"].is_null());
    assert_eq!(api.call("DELETE", "/apps/default/kv/c/k", None).await.status, 204);
    api.get("/apps/default/kv/c/k").await.is_problem("not_found");
    api.call("DELETE", "/apps/default/kv/c/k", None).await.is_problem("not_found");
    let actions: Vec<_> =
        api.all_pages("/apps/default/audit", 50).await.iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(&actions[..3], ["kv.delete", "kv.set", "kv.set"]);
}

#[tokio::test]
async fn what_is_read_ahead_is_what_single_gets_would_find() {
    let api = TestApi::start().await;
    let (script, long) = (Script::of(&api, "default").await, format!("\"{}\"", "x".repeat(4_000)));
    let values = [("a", "1".to_owned()), ("b", "2".to_owned()), ("long", long)];
    for (key, value) in &values {
        script.set(Set { key, value, ..SET }).await.unwrap();
    }
    let rows: [&[&str]; 5] = [
        &["a", "b", "a"],
        &["b", "none", "a", "none", "b"],
        &["none", "a", "b"],
        &["long", "a", "long", "b", "long"],
        &["d", "long", "none", "long", "b", "a"],
    ];
    for keys in rows {
        let value_of = |key: &&str| values.iter().find(|(its, _)| its == key).map(|(_, value)| value.clone());
        let expected: Vec<_> = keys.iter().map(value_of).collect();
        for _ in 0..4 {
            assert_eq!(script.again().gets(1, keys).await, expected, "{keys:?}");
        }
    }
    script.set(Set { key: "b", value: "3", ..SET }).await.unwrap();
    assert_eq!(
        script.again().gets(1, rows[0]).await[1].as_deref(),
        Some("3"),
        "nothing outlives its execution"
    );
}

#[tokio::test]
async fn after_any_other_call_nothing_is_told_that_was_read_before_it() {
    let api = TestApi::start().await;
    let (script, other) = (Script::of(&api, "default").await, Script::of(&api, "default").await);
    let keys = ["a", "b", "c"];
    for _ in 0..3 {
        script.again().gets(1, &keys).await;
    }
    let reader = script.again();
    assert_eq!(reader.gets(1, &keys[..1]).await, [None]);
    other.set(Set { key: "b", value: "2", ..SET }).await.unwrap();
    // By the second call it may have heard of it.
    assert_eq!(reader.gets(3, &keys[1..]).await, [Some("2".to_owned()), None]);
}

#[tokio::test]
async fn what_is_read_ahead_is_counted_when_it_is_asked_for() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let keys = ["a", "b", "c"];
    for _ in 0..3 {
        script.again().gets(1, &keys).await;
    }
    let last = script.again();
    let rows = |count: usize| Keys { collection: "c", keys: vec!["a"; count] };
    for _ in 1..ROWS_MAX / KV_LIST_MAX {
        last.call(HostOp::KvGetMany, &rows(KV_LIST_MAX as usize)).await.unwrap();
    }
    last.call(HostOp::KvGetMany, &rows(KV_LIST_MAX as usize - 2)).await.unwrap();
    last.gets(200, &keys[..2]).await;
    let third = last.call_as(202, HostOp::KvGet, &Key { collection: "c", key: "c" }).await;
    assert_eq!(third.unwrap_err(), "budget_exhausted");
}

/// It can be told from a single get by a write between the two, of which the script cannot have heard.
#[tokio::test]
async fn a_row_that_was_read_twice_is_read_ahead() {
    let api = TestApi::start().await;
    let (script, other) = (Script::of(&api, "default").await, Script::of(&api, "default").await);
    let keys = ["a", "b", "c"];
    for _ in 0..2 {
        script.again().gets(1, &keys).await;
    }
    // More than once on a machine on which the write takes longer than a moment lasts.
    let mut round = 0;
    loop {
        round += 1;
        let (reader, before) = (script.again(), script.again().gets(1, &keys[1..2]).await);
        reader.gets(1, &keys[..1]).await;
        other.set(Set { key: "b", value: &round.to_string(), ..SET }).await.unwrap();
        if reader.gets(2, &keys[1..]).await[..1] == before {
            break;
        }
        assert!(round < 200, "nothing is read ahead");
    }
}

#[tokio::test]
async fn what_is_guessed_is_what_single_gets_would_find() {
    let api = TestApi::start().await;
    let (script, long) = (Script::of(&api, "default").await, format!("\"{}\"", "x".repeat(4_000)));
    let keys: Vec<String> = (0..60).map(|n| format!("page-{n:03}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let value_of = |n: usize| match n {
        5..=7 | 20 => Some(long.clone()),
        9 | 40.. => None,
        _ => Some(n.to_string()),
    };
    let expected: Vec<_> = (0..keys.len()).map(value_of).collect();
    for (key, value) in keys.iter().zip(&expected) {
        if let Some(value) = value {
            script.set(Set { key, value, ..SET }).await.unwrap();
        }
    }
    assert_eq!(script.again().gets(1, &keys).await, expected);
    let twice: Vec<_> = keys.iter().flat_map(|key| [*key; 2]).collect();
    let found = Script::of(&api, "default").await.gets(1, &twice).await;
    assert!(found.iter().step_by(2).eq(&expected) && found.iter().skip(1).step_by(2).eq(&expected));
}

#[tokio::test]
async fn a_number_that_goes_up_is_read_ahead_until_another_call() {
    let api = TestApi::start().await;
    let (script, other) = (Script::of(&api, "default").await, Script::of(&api, "default").await);
    // More than once on a machine on which the write takes longer than a moment lasts.
    let mut round = 0;
    loop {
        round += 1;
        // Others each time, so that none of them is learned.
        let keys = [1, 2, 3].map(|n| format!("{round}:{n}:name"));
        let keys = keys.each_ref().map(String::as_str);
        let (calls, gets) = (script.again(), script.again());
        calls.gets(1, &keys[..2]).await;
        gets.gets(1, &keys[..2]).await;
        other.set(Set { key: keys[2], ..SET }).await.unwrap();
        let third = gets.gets(3, &keys[2..]).await;
        assert_eq!(calls.gets(4, &keys[2..]).await, [Some("1".to_owned())], "it may have heard of it");
        if third == [None] {
            break;
        }
        assert!(round < 200, "nothing is read ahead");
    }
}

#[tokio::test]
async fn a_handler_is_told_what_a_value_was_also_when_it_is_not_told_of_who_changed_it_meanwhile() {
    const LISTENER: &str = "listener";
    const WAITING: &str = "select count(*) from pg_stat_activity
                           where datname = current_database() and wait_event_type = 'Lock'";
    for (operation, other, prev) in [
        ("set", "delete from kv where key = 'k'", "null"),
        ("delete", "update kv set value = '2' where key = 'k'", "2"),
    ] {
        let api = TestApi::start().await;
        let script = Script::of(&api, "default").await;
        script.set(SET).await.unwrap();
        api.deploy("default", LISTENER, "1").await.is(201);
        let config = json!({ "collection": "c", "operations": [operation] });
        let trigger = json!({ "kind": "kv", "script": LISTENER, "config": config });
        api.post("/apps/default/triggers", trigger).await.is(201);
        let mut conn = api.database.connect().await;
        sqlx::raw_sql("begin").execute(&mut conn).await.unwrap();
        sqlx::raw_sql(other).execute(&mut conn).await.unwrap();
        let change = async {
            match operation {
                "set" => {
                    script.set(Set { value: "3", ..SET }).await.unwrap();
                }
                _ => assert!(script.is(HostOp::KvDelete, "k").await),
            }
        };
        let commit = async {
            let is_waiting = async || (api.database.scalar::<i64>(WAITING).await > 0).then_some(());
            eventually("the change waits for the other", is_waiting).await;
            sqlx::raw_sql("commit").execute(&mut conn).await.unwrap();
        };
        tokio::join!(change, commit);
        let told = "select (convert_from(payload, 'UTF8')::jsonb -> 'kv' -> 'prev')::text from outbox";
        assert_eq!(api.database.scalar::<String>(told).await, prev, "{operation}");
    }
}
