//! Names as strange as they come: refused, or kept to the byte and no other's.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use shared::host_call::HostOp;
use shared::host_call::docs::{Create, Find, Page as Documents};
use shared::host_call::files::{self, Content};
use shared::host_call::kv::{Condition, Found, Key, List, Page, Set};

use super::{print_row, segment};
use crate::calls::Script;
use crate::harness::TestApi;

/// Pairs of them are the same to somebody: to the eye, to a file system, to a decoder, to Unicode.
const STRANGE: [&str; 38] = [
    "a",
    "A",
    "a ",
    " a",
    "\u{a0}a",
    "a\u{200b}",
    "\u{feff}a",
    // Cyrillic, full width, mathematical.
    "\u{430}",
    "\u{ff41}",
    "\u{1d41a}",
    // One letter composed and in two parts, and a ligature.
    "\u{e9}",
    "e\u{301}",
    "\u{fb01}",
    "fi",
    "\u{202e}gpj.exe",
    "\u{2066}a\u{2069}",
    ".",
    "..",
    "../",
    "../../etc/passwd",
    "a/../b",
    "a/./b",
    "a//b",
    "b",
    "/",
    "\\",
    "c:\\a",
    "con",
    "CON",
    "nul.txt",
    "%00",
    "%2e%2e",
    "%2e%2e%2f",
    "\n",
    "a\r\nb",
    "\t",
    "*",
    "\u{10ffff}",
];

/// What the database, a path or a limit cannot take.
fn impossible() -> Vec<String> {
    let mut names = vec![String::new(), "\0".to_owned(), "a\0b".to_owned(), "a\0".to_owned()];
    names.extend(["\u{10ffff}".repeat(255), "x".repeat(2_000)]);
    names
}

/// `'a` is kept as its own place in the list.
fn numbered() -> impl Iterator<Item = (String, &'static str)> {
    STRANGE.iter().enumerate().map(|(number, name)| (number.to_string(), *name))
}

fn set<'a>(collection: &'a str, key: &'a str, value: &'a str) -> Set<'a> {
    Set { collection, key, value, ttl_ms: 0, condition: Condition::None }
}

async fn get(script: &Script, collection: &str, key: &str) -> Option<String> {
    let answer = script.call(HostOp::KvGet, &Key { collection, key }).await.unwrap();
    answer.read::<Found<'_>>().value.map(str::to_owned)
}

#[tokio::test]
async fn attack_25_keys_and_collections_that_look_like_others() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    for (number, name) in numbered() {
        script.call(HostOp::KvSet, &set("keys", name, &number)).await.unwrap();
        script.call(HostOp::KvSet, &set(name, "k", &number)).await.unwrap();
        let data = json!({ "n": number, name: number }).to_string();
        script.call(HostOp::DocsCreate, &Create { collection: name, data: &data }).await.unwrap();
        let content = Content { upload: 0, data: number.as_bytes() };
        let create = files::Create { collection: name, name, content_type: "text/plain", content };
        script.call(HostOp::FilesCreate, &create).await.unwrap();
    }
    for (number, name) in numbered() {
        assert_eq!(get(&script, "keys", name).await, Some(number.clone()), "{name:?}");
        assert_eq!(get(&script, name, "k").await, Some(number.clone()), "{name:?}");
        let all = Find { collection: name, query: "{}", cursor: "" };
        let found = script.call(HostOp::DocsFind, &all).await.unwrap();
        let found: Documents<'_> = found.read();
        let [document] = found.documents.as_slice() else { panic!("{name:?}") };
        assert_eq!(serde_json::from_str::<Value>(document.data).unwrap()[name], number, "{name:?}");
        let list = files::List { collection: name, limit: 10, after: "" };
        let listed = script.call(HostOp::FilesList, &list).await.unwrap();
        let listed: files::Page<'_> = listed.read();
        assert_eq!(listed.files.iter().map(|file| file.name).collect::<Vec<_>>(), [name]);
    }
    let list = List { collection: "keys", prefix: "", limit: 100, after: "" };
    let listed = script.call(HostOp::KvList, &list).await.unwrap();
    let listed: Page<'_> = listed.read();
    let keys: Vec<&str> = listed.entries.iter().map(|entry| entry.key).collect();
    let expected = format!("{} names, none another", STRANGE.len());
    print_row("25", "keys and collections", &expected, &format!("{} names", keys.len()));
    assert_eq!(keys, BTreeSet::from(STRANGE).into_iter().collect::<Vec<_>>(), "by their bytes, each once");
    for name in impossible() {
        let refused = script.call(HostOp::KvSet, &set("keys", &name, "1")).await;
        assert_eq!(refused, Err("invalid_argument".into()), "{name:.20?}");
        let refused = script.call(HostOp::KvSet, &set(&name, "k", "1")).await;
        assert_eq!(refused, Err("invalid_argument".into()), "{name:.20?}");
        let refused = script.call(HostOp::DocsCreate, &Create { collection: &name, data: "{}" }).await;
        assert_eq!(refused, Err("invalid_argument".into()), "{name:.20?}");
        let content = Content { upload: 0, data: b"" };
        let create = files::Create { collection: "c", name: &name, content_type: "text/plain", content };
        let refused = script.call(HostOp::FilesCreate, &create).await;
        assert_eq!(refused, Err("invalid_argument".into()), "{name:.20?}");
    }
}

#[tokio::test]
async fn attack_25_the_same_names_by_way_of_addresses() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let path = |name: &str| format!("/apps/default/kv/{}/{}", segment(name), segment(name));
    for (number, name) in numbered() {
        api.call("PUT", &path(name), Some(json!({ "value": number }))).await.is(200);
    }
    for (number, name) in numbered() {
        assert_eq!(api.get(&path(name)).await.is(200)["value"], number, "{name:?}");
        let as_script = get(&script, name, name).await;
        assert_eq!(
            as_script,
            Some(format!("\"{number}\"")),
            "{name:?}: what people write is what scripts read"
        );
    }
    let collections = api.all_pages("/apps/default/kv", 7).await;
    let collections: BTreeSet<_> = collections.iter().map(|found| found["name"].as_str().unwrap()).collect();
    let expected = format!("{} names, none another", STRANGE.len());
    print_row("25", "by way of addresses", &expected, &format!("{} names", collections.len()));
    assert_eq!(collections, BTreeSet::from(STRANGE));
    for (at, name) in STRANGE.iter().enumerate() {
        assert_eq!(api.call("DELETE", &path(name), None).await.status, 204, "{name:?}");
        let left = api.all_pages("/apps/default/kv", 50).await.len();
        assert_eq!(left, STRANGE.len() - at - 1, "{name:?} took another with it");
    }
    for name in impossible() {
        let refused = api.call("PUT", &path(&name), Some(json!({ "value": 1 }))).await;
        assert!(matches!(refused.status.as_u16(), 404 | 414 | 422), "{name:.20?}: {refused:?}");
    }
}

/// Names that have a form: what has another is refused, and what is kept is what was given.
#[tokio::test]
async fn attack_25_names_of_things_that_people_make() {
    let api = TestApi::start().await;
    let mut kept: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let names: Vec<String> = STRANGE.iter().map(|name| (*name).to_owned()).chain(impossible()).collect();
    for name in &names {
        let at = |kind: &str| format!("/apps/default/{kind}/{}", segment(name));
        let pubsub = json!({ "topic": "t" });
        let trigger = json!({ "kind": "pubsub", "name": name, "script": "hello", "config": pubsub });
        let member = json!({ "user": name, "role": "viewer" });
        for (kind, method, path, body) in [
            ("scripts", "PUT", at("scripts"), json!({ "source": "1" })),
            ("secrets", "PUT", at("secrets"), json!({ "value": "1" })),
            ("queues", "POST", format!("{}/messages", at("queues")), json!({ "message": 1 })),
            ("topics", "POST", "/apps/default/topics".into(), json!({ "name": name })),
            ("triggers", "POST", "/apps/default/triggers".into(), trigger),
            ("members", "POST", "/apps/default/members".into(), member),
            ("", "POST", "/apps".into(), json!({ "slug": name })),
        ] {
            let reply = api.call(method, &path, Some(body)).await;
            if reply.status.is_success() {
                kept.entry(kind).or_default().insert(name.clone());
            } else {
                let is_refused = matches!(reply.status.as_u16(), 404 | 414 | 422);
                assert!(is_refused, "{kind} {name:.20?}: {reply:?}");
            }
        }
    }
    for (kind, member, before) in [
        ("scripts", "name", &["hello"][..]),
        ("secrets", "name", &[]),
        ("queues", "name", &[]),
        ("topics", "name", &[]),
        ("triggers", "name", &[]),
        ("members", "username", &["ada"]),
        ("", "slug", &["default"]),
    ] {
        let list = if kind.is_empty() { "/apps".to_owned() } else { format!("/apps/default/{kind}") };
        let listed = api.all_pages(&list, 50).await;
        let listed: Vec<_> = listed.iter().map(|thing| thing[member].as_str().unwrap().to_owned()).collect();
        let distinct: BTreeSet<_> = listed.iter().cloned().collect();
        assert_eq!(distinct.len(), listed.len(), "{kind}: {listed:?}");
        let made: BTreeSet<_> =
            distinct.into_iter().filter(|name| !before.contains(&name.as_str())).collect();
        let given = kept.remove(kind).unwrap_or_default();
        let what = if kind.is_empty() { "apps" } else { kind };
        let expected = format!("{} kept as given, others refused", given.len());
        print_row("25", what, &expected, &format!("{} kept", made.len()));
        assert_eq!(made, given, "{kind}: what is kept is what was given");
        let is_plain = |name: &String| name.is_ascii() && !name.contains(['/', '\\', '%', ' ', '\n', '*']);
        assert!(given.iter().all(is_plain), "{kind}: {given:?}");
    }
}

/// Operators and places that other databases know, aimed at the language of queries.
#[tokio::test]
async fn attack_26_operators_and_paths_of_other_languages() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let document = Create { collection: "d", data: r#"{"a":{"b":1},"list":[1,2]}"# };
    script.call(HostOp::DocsCreate, &document).await.unwrap();
    let found = async |query: &Value| {
        let query = query.to_string();
        let find = Find { collection: "d", query: &query, cursor: "" };
        let answer = script.call(HostOp::DocsFind, &find).await?;
        Ok::<_, String>(answer.read::<Documents<'_>>().documents.len())
    };
    for operator in
        ["$where", "$expr", "$function", "$jsonSchema", "$regex", "$text", "$comment", "$sql", "$"]
    {
        for query in [
            json!({ operator: "1 = 1" }),
            json!({ "a": { operator: "sleep(5)" } }),
            json!({ "a": { "$not": { operator: 1 } } }),
            json!({ "$or": [{ operator: "true" }] }),
            json!({ "$sort": operator }),
            json!({ "$sort": { operator: 1 } }),
        ] {
            assert_eq!(found(&query).await, Err("invalid_argument".into()), "{query}");
        }
        print_row("26", operator, "invalid_argument", "invalid_argument, in 6 places");
    }
    for path in
        ["$.a.b", "$", "a.$**", "a.*", "*", "**", "a[*]", "list[0]", "a->b", "a->>'b'", "a ? (@ > 0)", "a{b}"]
    {
        for query in [json!({ path: 1 }), json!({ path: { "$exists": true } }), json!({ path: { "$gt": 0 } })]
        {
            assert!(matches!(found(&query).await, Ok(0) | Err(_)), "{query}");
        }
        let sorted = found(&json!({ "$sort": path })).await;
        print_row("26", path, "a member's name, or invalid_argument", &format!("{sorted:?}"));
        assert!(matches!(sorted, Ok(1)) || sorted == Err("invalid_argument".into()), "{path}: {sorted:?}");
    }
    assert_eq!(found(&json!({ "a.b": 1, "list.1": 2 })).await, Ok(1), "the document is there");
}
