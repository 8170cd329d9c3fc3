//! Documents, as scripts and people use them.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};
use shared::host_call::HostOp;
use shared::host_call::docs::{
    Counted, Create, Created, Deleted, Find, Found, Id, Mode, Page, Update, Updated,
};
use shared::limits::DOC_BYTES_MAX;

use crate::calls::Script;
use crate::catalogue::print_row;
use crate::harness::TestApi;
use crate::kv::read_beside;

impl Script {
    async fn create(&self, data: &Value) -> Result<String, String> {
        let data = data.to_string();
        let answer = self.call(HostOp::DocsCreate, &Create { collection: "d", data: &data }).await?;
        Ok(answer.read::<Created<'_>>().id.to_owned())
    }

    async fn data(&self, id: &str) -> Option<(Value, u64)> {
        let answer = self.call(HostOp::DocsGet, &Id { collection: "d", id }).await.unwrap();
        let document = answer.read::<Found<'_>>().document?;
        Some((serde_json::from_str(document.data).unwrap(), document.version))
    }

    async fn change(
        &self,
        mode: Mode,
        id: &str,
        data: &Value,
        if_version: Option<u64>,
    ) -> Result<Option<u64>, String> {
        let data = data.to_string();
        let update = Update { collection: "d", id, data: &data, mode, if_version };
        Ok(self.call(HostOp::DocsUpdate, &update).await?.read::<Updated>().version)
    }

    async fn page(&self, query: &Value, cursor: &str) -> Result<(Vec<Value>, Option<String>), String> {
        let query = query.to_string();
        let answer = self.call(HostOp::DocsFind, &Find { collection: "d", query: &query, cursor }).await?;
        let page: Page<'_> = answer.read();
        let documents = page.documents.iter().map(|document| serde_json::from_str(document.data).unwrap());
        Ok((documents.collect(), page.cursor.map(str::to_owned)))
    }

    async fn find(&self, query: Value) -> Vec<Value> {
        self.page(&query, "").await.unwrap().0
    }
}

#[tokio::test]
async fn a_document_is_made_read_changed_and_removed() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let id = script.create(&json!({ "a": { "b": 1, "c": 2 }, "d": [1] })).await.unwrap();
    let (data, first) = script.data(&id).await.unwrap();
    assert_eq!(data, json!({ "a": { "b": 1, "c": 2 }, "d": [1] }));

    let patch = json!({ "a": { "b": null, "e": { "f": null, "g": 1 } }, "d": "x" });
    let second = script.change(Mode::Merge, &id, &patch, Some(first)).await.unwrap().unwrap();
    assert!(second > first);
    let merged = json!({ "a": { "c": 2, "e": { "g": 1 } }, "d": "x" });
    assert_eq!(script.data(&id).await, Some((merged, second)));
    let stale = script.change(Mode::Replace, &id, &json!({}), Some(first)).await;
    assert_eq!(stale, Err("conflict".into()));
    script.change(Mode::Replace, &id, &json!({ "z": 1 }), None).await.unwrap().unwrap();
    assert_eq!(script.data(&id).await.unwrap().0, json!({ "z": 1 }));

    let delete = Id { collection: "d", id: &id };
    assert!(script.call(HostOp::DocsDelete, &delete).await.unwrap().read::<Deleted>().existed);
    assert!(!script.call(HostOp::DocsDelete, &delete).await.unwrap().read::<Deleted>().existed);
    assert_eq!(script.data(&id).await, None);
    assert_eq!(script.change(Mode::Merge, &id, &json!({}), Some(second)).await, Ok(None));
    for nobody in ["", "x", "../../etc/passwd", "a\0b"] {
        assert_eq!(script.data(nobody).await, None);
    }
}

#[tokio::test]
async fn what_is_no_document_or_too_large_is_refused() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    for data in ["1", "[]", "null", "{", "{\"a\":1e9999}", "{\"a\":\"\\u0000\"}", "{\"\\u0000\":1}", ""] {
        let refused = script.call(HostOp::DocsCreate, &Create { collection: "d", data }).await;
        assert_eq!(refused, Err("invalid_argument".into()), "{data}");
    }
    let long = |bytes: usize| json!({ "a": "x".repeat(bytes) });
    let id = script.create(&long(DOC_BYTES_MAX - 8)).await.unwrap();
    assert_eq!(script.create(&long(DOC_BYTES_MAX)).await, Err("too_large".into()));
    let more = json!({ "b": "x".repeat(205_000) });
    script.change(Mode::Merge, &id, &json!({ "c": "x".repeat(60_000) }), None).await.unwrap();
    let merged = script.change(Mode::Merge, &id, &more, None).await;
    assert_eq!(merged, Err("too_large".into()));
    assert_eq!(script.data(&id).await.unwrap().0.get("b"), None, "what the merge did is undone");
}

#[tokio::test]
async fn operators_find_what_they_say() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    for (n, data) in [
        json!({ "age": 5, "name": "Ann", "tags": ["a", "b"] }),
        json!({ "age": 7.5, "name": "Bob", "tags": ["b"], "address": { "city": "X" } }),
        json!({ "age": "7", "name": null }),
        json!({ "name": "Cid", "tags": "ab" }),
    ]
    .iter_mut()
    .enumerate()
    {
        data["n"] = n.into();
        script.create(data).await.unwrap();
    }
    for (filter, expected) in [
        (json!({}), vec![0, 1, 2, 3]),
        (json!({ "age": 5.0 }), vec![0]),
        (json!({ "age": { "$gt": 5 } }), vec![1]),
        (json!({ "age": { "$gte": 5, "$lt": 7.5 } }), vec![0]),
        (json!({ "age": { "$gt": "6" } }), vec![2]),
        (json!({ "age": null }), vec![3]),
        (json!({ "age": { "$exists": false } }), vec![3]),
        (json!({ "name": { "$exists": true } }), vec![0, 1, 2, 3]),
        (json!({ "name": null }), vec![2]),
        (json!({ "name": { "$ne": "Ann" } }), vec![1, 2, 3]),
        (json!({ "name": { "$in": ["Ann", null] } }), vec![0, 2]),
        (json!({ "name": { "$nin": ["Ann", null] } }), vec![1, 3]),
        (json!({ "tags": { "$contains": "b" } }), vec![0, 1, 3]),
        (json!({ "tags": ["b"] }), vec![1]),
        (json!({ "address.city": "X" }), vec![1]),
        (json!({ "address": { "city": "X" } }), vec![1]),
        (json!({ "tags.0": "a" }), vec![0]),
        (json!({ "$or": [{ "age": 5 }, { "name": "Cid" }] }), vec![0, 3]),
        (json!({ "$and": [{ "age": 5 }, { "name": "Cid" }] }), vec![]),
        (json!({ "$not": { "age": 5 } }), vec![1, 2, 3]),
        (json!({ "age": { "$not": { "$gt": 1 } } }), vec![2, 3]),
        (json!({ "$or": [] }), vec![]),
        (json!({ "$sort": "-n", "$limit": 2, "$skip": 1 }), vec![2, 1]),
        (json!({ "$sort": [{ "age": 1 }] }), vec![3, 2, 0, 1]),
    ] {
        let found: Vec<_> = script.find(filter.clone()).await.iter().map(|data| data["n"].clone()).collect();
        assert_eq!(json!(found), json!(expected), "{filter}");
        let query = filter.to_string();
        let find = Find { collection: "d", query: &query, cursor: "" };
        if filter.get("$limit").is_none() {
            let counted = script.call(HostOp::DocsCount, &find).await.unwrap().read::<Counted>();
            assert_eq!(counted.count, expected.len() as u64, "{filter}");
        }
    }
}

#[tokio::test]
async fn attack_26_names_and_values_of_a_query_are_never_sql() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    script.create(&json!({ "a": 1 })).await.unwrap();
    for evil in ["'; drop table docs; --", "a'||(select 1)||'", "\\", "}',null)", "{a,b}", "\"", "x$1", "?"] {
        assert_eq!(script.find(json!({ evil: evil })).await, Vec::<Value>::new(), "{evil}");
        script.find(json!({ "$sort": format!("-{evil}") })).await;
        script.find(json!({ "a": { "$contains": evil } })).await;
        let find = Find { collection: evil, query: "{}", cursor: "" };
        let answer = script.call(HostOp::DocsFind, &find).await.unwrap();
        assert!(answer.read::<Page<'_>>().documents.is_empty(), "{evil}");
        let left = script.find(json!({})).await.len();
        print_row("26", &format!("{evil:?}"), "finds nothing", &format!("{left} of 1 is left"));
        assert_eq!(left, 1, "{evil}");
    }
    // Names that are words of SQL, and others that are only nearly as harmless.
    for name in ["null", "NULL", "select", "_", "0", "a b", "\"", "'", "{", ",", "\\", "\u{e9}"] {
        script.create(&json!({ name: "x" })).await.unwrap();
        assert_eq!(script.find(json!({ name: "x" })).await, [json!({ name: "x" })], "{name:?}");
        assert_eq!(script.find(json!({ name: { "$exists": true } })).await.len(), 1, "{name:?}");
    }
}

/// Where a script puts what a stranger sent into a filter.
#[tokio::test]
async fn attack_26_a_value_from_outside_is_no_operator_behind_eq() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    script.create(&json!({ "token": "secret" })).await.unwrap();
    let operators = [
        json!({ "$ne": "" }),
        json!({ "$gt": "" }),
        json!({ "$exists": true }),
        json!({ "$nin": [] }),
        json!({ "$not": { "$eq": "" } }),
        json!({ "$contains": "s" }),
    ];
    for sent in &operators {
        // What docs/data.md warns of.
        assert_eq!(script.find(json!({ "token": sent })).await.len(), 1, "{sent}");
        let seen = script.find(json!({ "token": { "$eq": sent } })).await.len();
        print_row("26", &sent.to_string(), "finds nothing behind $eq", &format!("{seen} found"));
        assert_eq!(seen, 0, "{sent}");
    }
    // None of those above is one of these.
    assert_eq!(script.find(json!({ "token": { "$in": operators } })).await.len(), 0);
    for sent in [json!(["secret"]), json!(true), json!({ "$eq": "secret" })] {
        assert_eq!(script.find(json!({ "token": { "$eq": sent } })).await.len(), 0, "{sent}");
    }
    assert_eq!(script.find(json!({ "token": { "$eq": "secret" } })).await.len(), 1);
}

#[tokio::test]
async fn pages_neither_skip_nor_repeat_while_others_write() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let mixed = [json!(null), json!(1), json!("a"), json!(true)];
    for n in 0..23 {
        script.create(&json!({ "n": n, "group": n % 3, "mixed": mixed[n % 4] })).await.unwrap();
    }
    for sort in [json!([]), json!("n"), json!("-group"), json!(["group", "-n"]), json!(["-mixed", "group"])] {
        let query = json!({ "n": { "$gte": 0 }, "$sort": sort, "$limit": 4 });
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let (documents, next) = script.page(&query, &cursor).await.unwrap();
            // Anywhere in the order, before and after the cursor.
            let id = script.create(&json!({ "n": -1, "group": 1 })).await.unwrap();
            script.call(HostOp::DocsDelete, &Id { collection: "d", id: &id }).await.unwrap();
            script.create(&json!({ "n": -2, "group": 1 })).await.unwrap();
            seen.extend(documents.iter().map(|data| data["n"].as_i64().unwrap()));
            match next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..23).collect::<Vec<_>>(), "{sort}");
    }
    // What is skipped is skipped once, before the first page.
    let query = json!({ "n": { "$gte": 0 }, "$sort": "n", "$limit": 4, "$skip": 5 });
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let (documents, next) = script.page(&query, &cursor).await.unwrap();
        seen.extend(documents.iter().map(|data| data["n"].as_i64().unwrap()));
        match next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    assert_eq!(seen, (5..23).collect::<Vec<_>>());
    let other = script.page(&json!({ "$sort": "n" }), "abc").await;
    assert_eq!(other, Err("invalid_argument".into()));
}

#[tokio::test]
async fn a_page_whose_cursor_would_be_too_long_is_refused_where_there_is_more() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    for n in 0..2 {
        script.create(&json!({ "n": n, "text": "x".repeat(60_000) })).await.unwrap();
    }
    let page = async |sort: &str, limit: u32| {
        let query = json!({ "$sort": sort, "$limit": limit });
        script.page(&query, "").await.map(|(documents, cursor)| (documents.len(), cursor.is_some()))
    };
    assert_eq!(page("text", 1).await, Err("too_large".into()));
    assert_eq!(page("text", 2).await, Ok((2, false)), "nothing comes after it");
    assert_eq!(page("n", 1).await, Ok((1, true)));
}

#[tokio::test]
async fn what_is_there_all_the_time_is_in_the_pages_once_whatever_a_writer_does() {
    let api = TestApi::start().await;
    let app = api.app_id("default").await;
    let script = || Script::of_app(&api, app, "default");
    let (mut kept, mut ids) = (Vec::new(), Vec::new());
    for n in 10..40 {
        ids.push(script().create(&json!({ "n": n, "group": n % 3 })).await.unwrap());
        kept.push(n.to_string());
    }
    for sort in [json!([]), json!("n"), json!(["-group", "n"])] {
        let write = async |n: usize| {
            let script = script();
            let passing = json!({ "n": n % 50, "group": n % 4, "is_passing": true });
            let passing = script.create(&passing).await.unwrap();
            let change = json!({ "changed": n });
            script.change(Mode::Merge, &ids[n * 7 % ids.len()], &change, None).await.unwrap().unwrap();
            script.call(HostOp::DocsDelete, &Id { collection: "d", id: &passing }).await.unwrap();
        };
        let read = async || {
            let query = json!({ "$sort": sort, "$limit": 4 });
            let (script, mut seen, mut cursor) = (script(), Vec::new(), String::new());
            loop {
                let (documents, next) = script.page(&query, &cursor).await.unwrap();
                let lasting = documents.iter().filter(|data| data.get("is_passing").is_none());
                seen.extend(lasting.map(|data| data["n"].to_string()));
                match next {
                    Some(next) => cursor = next,
                    None => return seen,
                }
            }
        };
        read_beside(&kept, write, read).await;
    }
}

#[tokio::test]
async fn people_browse_and_change_documents() {
    let api = TestApi::start().await;
    let docs = "/apps/default/docs";
    let made = api.post(&format!("{docs}/d"), json!({ "data": { "a": 1 } })).await;
    let id = made.is(201)["id"].as_str().unwrap().to_owned();
    let path = format!("{docs}/d/{id}");
    let version = api.get(&path).await.is(200)["version"].clone();
    let patch = json!({ "data": { "b": 2 }, "if_version": version });
    api.call("PATCH", &path, Some(patch.clone())).await.is(200);
    api.call("PATCH", &path, Some(patch)).await.is_problem("conflict");
    api.call("PUT", &path, Some(json!({ "data": { "c": [3] } }))).await.is(200);
    api.post(&format!("{docs}/d"), json!({ "data": { "c": 4 } })).await.is(201);
    let found = api.get(&format!("{docs}/d?filter=%7B%22c%22%3A%5B3%5D%7D")).await;
    assert_eq!(found.is(200)["items"][0]["data"], json!({ "c": [3] }));
    assert_eq!(api.all_pages(&format!("{docs}/d"), 1).await.len(), 2);
    assert_eq!(api.get(docs).await.is(200)["items"], json!([{ "name": "d" }]));
    api.get(&format!("{docs}/d?filter=1")).await.is_problem("invalid_input");
    assert_eq!(api.call("DELETE", &path, None).await.status, 204);
    api.get(&path).await.is_problem("not_found");
}

/// What the language of filters means, written down a second time.
fn holds(filter: &Value, document: &Value) -> bool {
    filter.as_object().unwrap().iter().all(|(name, value)| match name.as_str() {
        "$and" => value.as_array().unwrap().iter().all(|filter| holds(filter, document)),
        "$or" => value.as_array().unwrap().iter().any(|filter| holds(filter, document)),
        "$not" => !holds(value, document),
        path => {
            let member = member(document, path);
            match value.as_object().filter(|operators| operators.keys().any(|name| name.starts_with('$'))) {
                Some(operators) => operators.iter().all(|(name, value)| operator(name, member, value)),
                None => equal(member.unwrap_or(&Value::Null), value),
            }
        }
    })
}

/// What a path leads to, through maps by their names and through lists by their places, from the end where those are
/// negative.
fn member<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(document, |value, name| match value {
        Value::Array(elements) => {
            let place: isize = name.parse().ok()?;
            let place =
                if place < 0 { elements.len().checked_add_signed(place)? } else { place.unsigned_abs() };
            elements.get(place)
        }
        value => value.get(name),
    })
}

fn operator(name: &str, member: Option<&Value>, operand: &Value) -> bool {
    let value = member.unwrap_or(&Value::Null);
    let is_in = || operand.as_array().unwrap().iter().any(|one| equal(value, one));
    match name {
        "$eq" => equal(value, operand),
        "$ne" => !equal(value, operand),
        "$in" => is_in(),
        "$nin" => !is_in(),
        "$gt" => order(value, operand).is_some_and(std::cmp::Ordering::is_gt),
        "$gte" => order(value, operand).is_some_and(std::cmp::Ordering::is_ge),
        "$lt" => order(value, operand).is_some_and(std::cmp::Ordering::is_lt),
        "$lte" => order(value, operand).is_some_and(std::cmp::Ordering::is_le),
        "$exists" => member.is_some() == operand.as_bool().unwrap(),
        "$contains" => match (value, operand) {
            (Value::Array(elements), one) => elements.iter().any(|element| equal(element, one)),
            (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
            _ => false,
        },
        "$not" => !operand.as_object().unwrap().iter().all(|(name, value)| operator(name, member, value)),
        other => panic!("{other}"),
    }
}

/// Numbers are alike by what they are worth, not by how they are written.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        (a, b) => a == b,
    }
}

fn order(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// Few of each, so that conditions hold often enough.
fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..3_i64).prop_map(Value::from),
        prop_oneof![Just(0.5), Just(1.0), Just(-1.5)].prop_map(Value::from),
        prop_oneof![Just(""), Just("a"), Just("ab"), Just("é"), Just("B")].prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn document() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-c]", value(), 0..4)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn comparison() -> impl Strategy<Value = Value> {
    let ordered = || scalar().prop_filter("has an order", |value| !value.is_null());
    prop_oneof![
        (prop_oneof![Just("$eq"), Just("$ne")], value()).prop_map(|(name, value)| json!({ name: value })),
        (prop_oneof![Just("$gt"), Just("$gte"), Just("$lt"), Just("$lte")], ordered())
            .prop_map(|(name, value)| json!({ name: value })),
        (prop_oneof![Just("$in"), Just("$nin")], prop::collection::vec(value(), 0..3))
            .prop_map(|(name, values)| json!({ name: values })),
        any::<bool>().prop_map(|wanted| json!({ "$exists": wanted })),
        scalar().prop_map(|value| json!({ "$contains": value })),
    ]
}

/// Several maps as one; of equal names the last counts.
fn merged(maps: Vec<Value>) -> Value {
    let members = maps.into_iter().flat_map(|map| match map {
        Value::Object(members) => members,
        other => panic!("{other} is no map"),
    });
    Value::Object(members.collect::<Map<_, _>>())
}

fn filter() -> impl Strategy<Value = Value> {
    let operators = || prop::collection::vec(comparison(), 1..4).prop_map(merged);
    let test = prop_oneof![
        operators(),
        operators().prop_map(|inner| json!({ "$not": inner })),
        (comparison(), operators()).prop_map(|(one, inner)| merged(vec![one, json!({ "$not": inner })])),
        scalar(),
        prop::collection::vec(scalar(), 0..2).prop_map(Value::from),
    ];
    let member = ("[a-c](\\.([a-c]|0|1|-1)){0,2}", test).prop_map(|(path, test)| json!({ path: test }));
    let members = prop::collection::vec(member, 1..3).prop_map(merged);
    members.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (prop_oneof![Just("$and"), Just("$or")], prop::collection::vec(inner.clone(), 0..3))
                .prop_map(|(name, filters)| json!({ name: filters })),
            inner.prop_map(|filter| json!({ "$not": filter })),
        ]
    })
}

#[test]
fn every_filter_finds_what_the_evaluator_says() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (api, script) = runtime.block_on(async {
        let api = TestApi::start().await;
        let script = Script::of(&api, "default").await;
        (api, script)
    });
    // Each an execution of its own, as one reads only so many rows.
    let execution = || runtime.block_on(Script::of(&api, "default"));
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(12) });
    let documents = runner.run(&prop::collection::vec(document(), 30..40), |documents| {
        runtime.block_on(async {
            for data in &documents {
                script.create(data).await.unwrap();
            }
        });
        Ok(())
    });
    documents.unwrap();
    let all: Vec<Value> = runtime.block_on(async { script.find(json!({ "$limit": 1_000 })).await });
    assert!(all.len() > 300);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(600) });
    runner
        .run(&filter(), |filter| {
            let mut query = filter.clone();
            query["$limit"] = 1_000.into();
            let found = runtime.block_on(execution().page(&query, "")).unwrap().0;
            let expected: Vec<_> = all.iter().filter(|document| holds(&filter, document)).cloned().collect();
            let query = filter.to_string();
            let find = Find { collection: "d", query: &query, cursor: "" };
            let counted = runtime.block_on(execution().call(HostOp::DocsCount, &find)).unwrap();
            prop_assert_eq!(counted.read::<Counted>().count, expected.len() as u64, "{}", filter);
            prop_assert_eq!(found, expected, "{}", filter);
            Ok(())
        })
        .unwrap();
    drop(api);
}

/// The place of a value among those of other types, as the order of documents has it.
fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::String(_) => 1,
        Value::Number(_) => 2,
        Value::Bool(_) => 3,
        Value::Array(_) | Value::Object(_) => panic!("{value} has no place here"),
    }
}

/// By the members in their order; those that are alike stand as they were made, or the other way round when the
/// last member's order is turned.
fn by_members(keys: &[(String, bool)], a: (usize, &Value), b: (usize, &Value)) -> std::cmp::Ordering {
    use std::cmp::Ordering::Equal;
    let ways = keys.iter().map(|(path, is_descending)| {
        let [a, b] = [a.1, b.1].map(|document| member(document, path).unwrap_or(&Value::Null));
        let way = rank(a).cmp(&rank(b)).then_with(|| order(a, b).unwrap_or(Equal));
        if *is_descending { way.reverse() } else { way }
    });
    let made = a.0.cmp(&b.0);
    let made =
        if keys.last().is_some_and(|(_, is_descending)| *is_descending) { made.reverse() } else { made };
    ways.fold(Equal, std::cmp::Ordering::then).then(made)
}

fn sort_keys() -> impl Strategy<Value = Vec<(String, bool)>> {
    let path = prop::sample::select(vec!["s", "t", "u", "v.w", "v.0", "v.-1"]).prop_map(str::to_owned);
    prop::collection::vec((path, any::<bool>()), 0..4)
}

#[test]
fn every_order_and_every_part_of_it_is_what_the_evaluator_says() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (api, script) = runtime.block_on(async {
        let api = TestApi::start().await;
        let script = Script::of(&api, "default").await;
        (api, script)
    });
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(1) });
    // A member is missing in some, which counts as null, and so does what is behind one that is no map or list.
    let within = prop_oneof![
        scalar(),
        scalar().prop_map(|w| json!({ "w": w })),
        prop::collection::vec(scalar(), 0..3).prop_map(Value::from),
    ];
    let members = (scalar(), scalar(), prop::option::of(scalar()), within);
    let made = runner.run(&prop::collection::vec(members, 120), |members| {
        for (s, t, u, v) in members {
            let mut data = json!({ "s": s, "t": t, "v": v });
            if let Some(u) = u {
                data["u"] = u;
            }
            runtime.block_on(script.create(&data)).unwrap();
        }
        Ok(())
    });
    made.unwrap();
    let all: Vec<Value> = runtime.block_on(async { script.find(json!({ "$limit": 1_000 })).await });
    assert_eq!(all.len(), 120);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(200) });
    let queries = (comparison(), sort_keys(), 0..130_usize, 1..130_usize);
    let held = runner.run(&queries, |(test, keys, skip, limit)| {
        let filter = json!({ "s": test });
        let mut expected: Vec<(usize, &Value)> =
            all.iter().enumerate().filter(|(_, document)| holds(&filter, document)).collect();
        expected.sort_by(|a, b| by_members(&keys, *a, *b));
        let expected: Vec<Value> =
            expected.into_iter().skip(skip).take(limit).map(|(_, data)| data.clone()).collect();
        let sort = keys.iter().map(|(name, is_descending)| match is_descending {
            true => json!(format!("-{name}")),
            false => json!({ name: 1 }),
        });
        let mut query = filter.clone();
        query["$sort"] = sort.collect();
        query["$skip"] = skip.into();
        query["$limit"] = limit.into();
        // Each an execution of its own, as one reads only so many rows.
        let execution = runtime.block_on(Script::of(&api, "default"));
        let (found, _) = runtime.block_on(execution.page(&query, "")).unwrap();
        prop_assert_eq!(found, expected, "{}", query);
        Ok(())
    });
    held.unwrap();
}
