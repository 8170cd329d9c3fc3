//! `docs` and `atomic` from a script.

use serde_json::json;

use crate::harness::{NO_LIMITS, TestServer};

#[test]
fn a_script_keeps_finds_changes_and_removes_documents() {
    let server = TestServer::shared();
    let app = server.app();
    let source = r#"
        let orders = docs::collection("orders");
        let id = orders.create(#{who: "ada", total: 12.5, lines: [#{n: 2}]});
        orders.create(#{who: "bob", total: 3});
        let made = orders.get(id);
        let patched = orders.patch(id, #{total: 20, lines: ()}, #{if_version: made.version});
        let conflict = ();
        try { orders.patch(id, #{}, #{if_version: made.version}); } catch (error) { conflict = error.code; }
        let found = orders.find(#{total: #{"$gte": 3}, "$sort": "-total"}).map(|order| order.data.who);
        let page = orders.list(#{filter: #{}, sort: "total", limit: 1});
        let rest = orders.list(#{filter: #{}, sort: "total", limit: 1, cursor: page.cursor});
        [
            made.id == id, made.data, type_of(made.created_at), type_of(patched), conflict, found,
            page.items[0].data.who, rest.items[0].data, rest.cursor,
            orders.find_one(#{who: "bob"}).data.total, orders.count(#{who: "ada"}), orders.count(),
            orders.update(id, #{a: 1}) > patched, orders.get(id).data, orders.delete(id), orders.delete(id),
            orders.get(id), orders.update("nobody", #{}), orders.find_one(#{who: "nobody"}),
        ]
    "#;
    app.serve("orders", source, &NO_LIMITS);
    let seen = app.get("/orders").is(200).json();
    let expected = json!([
        true, { "who": "ada", "total": 12.5, "lines": [{ "n": 2 }] }, "string", "i64", "conflict",
        ["ada", "bob"], "bob", { "who": "ada", "total": 20 }, null, 3, 1, 2, true, { "a": 1 }, true, false,
        null, null, null
    ]);
    assert_eq!(seen, expected);
}

#[test]
fn a_script_commits_all_or_nothing() {
    let server = TestServer::shared();
    let app = server.app();
    let source = r#"
        let c = kv::collection("c");
        let done = atomic::commit([
            #{kv: "c", key: "a", check: ()},
            #{kv: "c", key: "a", set: 10},
            #{kv: "c", key: "a", incr: -3},
            #{docs: "d", create: #{n: 1}},
        ]);
        let refused = ();
        try {
            atomic::commit([#{kv: "c", key: "b", set: 1}, #{kv: "c", key: "a", check: 1}]); } catch (error) { refused = error.code; }
        let misspelt = ();
        try { atomic::commit([#{kv: "c", key: "b", sett: 1}]); } catch (error) { misspelt = error.code; }
        let id = done[3];
        let version = docs::collection("d").get(id).version;
        atomic::commit([
            #{docs: "d", id: id, check: version},
            #{docs: "d", id: id, patch: #{m: 2}, if_version: version},
            #{kv: "c", key: "a", delete: true},
        ]);
        [done[2], refused, misspelt, c.get("b"), c.get("a"), docs::collection("d").get(id).data]
    "#;
    app.serve("commit", source, &NO_LIMITS);
    let seen = app.get("/commit").is(200).json();
    assert_eq!(seen, json!([7, "conflict", "invalid_argument", null, null, { "n": 1, "m": 2 }]));
}

/// An array that ends early looks like one that ends.
#[test]
fn a_search_that_cannot_answer_all_it_was_asked_for_says_so() {
    let server = TestServer::shared();
    let app = server.app();
    let source = r#"
        let long = docs::collection("long");
        let text = "";
        text.pad(100000, "x");
        for n in 0..12 { long.create(#{ n: n, text: text }); }
        let few = docs::collection("few");
        for n in 0..101 { few.create(#{ n: n }); }
        let codes = [];
        for query in [#{}, #{ "$limit": 1000 }, #{ "$limit": 12 }] {
            try { codes.push(long.find(query).len()); } catch (error) { codes.push(error.code); }
        }
        let page = long.list(#{ filter: #{}, limit: 1000 });
        let rest = long.list(#{ filter: #{}, limit: 1000, cursor: page.cursor });
        [
            codes, long.find(#{ "$limit": 10 }).len(), long.find(#{ n: #{ "$lt": 8 } }).len(),
            long.find_one(#{}).data.n, page.items.len() + rest.items.len(), rest.cursor,
            few.find(#{}).len(), few.find(#{ "$limit": () }).len(), few.find(#{ "$limit": 101 }).len(),
        ]
    "#;
    app.serve("long", source, &NO_LIMITS);
    let seen = app.get("/long").is(200).json();
    let expected = json!([["too_large", "too_large", "too_large"], 10, 8, 0, 12, null, 100, 100, 101]);
    assert_eq!(seen, expected);
}
