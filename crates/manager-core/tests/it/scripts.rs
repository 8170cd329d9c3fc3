use axum::body::Body;
use http::Request;
use serde_json::json;
use shared::limits::{SCRIPTS_MAX, SOURCES_BYTES_MAX, VERSION_BYTES_MIN, VERSIONS_BYTES_MAX};

use crate::harness::{Reply, TestApi};

#[tokio::test]
async fn a_deploy_makes_a_version_and_the_same_again_makes_none() {
    let api = TestApi::start().await;
    let first = api.deploy("default", "greet", "40 + 2").await;
    assert_eq!((&first.is(201)["version"], &first.json["kind"]), (&1.into(), &"endpoint".into()));
    assert_eq!((&first.json["warnings"], &first.json["limits"]["memory_mb"]), (&json!([]), &32.into()));
    assert_eq!(first.json["bundle_hash"].as_str().unwrap().len(), 64);

    assert_eq!(api.deploy("default", "greet", "40 + 2").await.is(200)["version"], 1);
    assert_eq!(api.deploy("default", "greet", "41 + 1").await.is(200)["version"], 2);
    let with_limits = json!({ "source": "41 + 1", "limits": { "memory_mb": 64 }, "description": "adds" });
    let third = api.call("PUT", "/apps/default/scripts/greet", Some(with_limits)).await;
    assert_eq!((&third.is(200)["version"], &third.json["description"]), (&3.into(), &"adds".into()));

    let shown = api.get("/apps/default/scripts/greet").await;
    assert_eq!((&shown.is(200)["source"], &shown.json["version"]), (&"41 + 1".into(), &3.into()));
    assert_eq!(api.database.scalar::<i64>("select count(*) from script_versions").await, 4);
}

#[tokio::test]
async fn rollback_moves_the_pointer_for_every_route() {
    let api = TestApi::start().await;
    let target = || {
        let table = api.manager.routes().current();
        table.apps[0].routes.iter().map(|route| route.target.version).collect::<Vec<_>>()
    };
    api.deploy("default", "hello", "2").await.is(200);
    assert_eq!(target(), [2, 2]);
    let back = api.post("/apps/default/scripts/hello/rollback", json!({ "version": 1 })).await;
    assert_eq!(back.is(200)["version"], 1);
    assert_eq!(target(), [1, 1]);
    // The next version never takes a number that was used.
    assert_eq!(api.deploy("default", "hello", "3").await.is(200)["version"], 3);

    let versions = api.all_pages("/apps/default/scripts/hello/versions", 2).await;
    let listed: Vec<_> =
        versions.iter().map(|v| (v["version"].as_u64().unwrap(), v["is_live"].as_bool().unwrap())).collect();
    assert_eq!(listed, [(3, true), (2, false), (1, false)]);
    assert_eq!(versions[0]["created_by"], "ada");
    for missing in [0, 4, u32::MAX] {
        let reply = api.post("/apps/default/scripts/hello/rollback", json!({ "version": missing })).await;
        reply.is_problem("not_found");
    }
}

#[tokio::test]
async fn source_that_does_not_compile_is_refused_with_its_place_and_nothing_is_kept() {
    let api = TestApi::start().await;
    let refused = api.deploy("default", "broken", "let a = 1;\nlet @syntax;\n").await;
    let problem = refused.is_problem("compile_error");
    assert_eq!((&problem["line"], &problem["column"]), (&2.into(), &5.into()));
    assert_eq!(problem["message"], "unexpected @");
    assert_eq!((&problem["script"], &problem["source_line"]), (&"hello".into(), &"let @syntax;".into()));
    api.get("/apps/default/scripts/broken").await.is_problem("not_found");

    let endless = api.deploy("default", "broken", "@endless").await;
    let detail = endless.is_problem("compile_error")["detail"].as_str().unwrap();
    assert_eq!(detail, "compiling exceeded its CPU limit");
    let lost = api.deploy("default", "broken", "@lost").await;
    assert_eq!(lost.is_problem("worker_lost")["retry"], "safe", "nothing is written before it compiles");
    let busy = api.deploy("default", "broken", "@busy").await;
    busy.is_problem("overloaded");
    assert_eq!(busy.headers["retry-after"], "1");
}

#[tokio::test]
async fn limits_out_of_range_name_field_value_and_ceiling() {
    let api = TestApi::start().await;
    let body = json!({ "source": "1", "limits": { "memory_mb": 257 } });
    let reply = api.call("PUT", "/apps/default/scripts/big", Some(body)).await;
    let problem = reply.is_problem("limit_out_of_range");
    assert_eq!(
        (&problem["field"], &problem["value"], &problem["floor"], &problem["ceiling"]),
        (&"memory_mb".into(), &257.into(), &2.into(), &256.into())
    );
}

async fn put(api: &TestApi, content_type: &str, body: impl Into<Body>) -> Reply {
    let request = Request::put("/api/v1/admin/apps/default/scripts/odd")
        .header("authorization", format!("Bearer {}", api.token))
        .header("content-type", content_type)
        .body(body.into())
        .unwrap();
    api.send(request).await
}

#[tokio::test]
async fn bodies_that_are_no_deploy_are_refused_each_in_its_way() {
    let api = TestApi::start().await;
    put(&api, "application/json", "{\"source\": ").await.is_problem("bad_request");
    put(&api, "application/json", &b"{\"source\": \"\xff\"}"[..]).await.is_problem("bad_request");
    put(&api, "application/json", "[]").await.is_problem("invalid_input");
    put(&api, "application/json", "{}").await.is_problem("invalid_input");
    put(&api, "text/plain", "{}").await.is_problem("unsupported_media_type");
    put(&api, "application/json", "{\"source\": \"a\\u0000b\"}").await.is_problem("invalid_input");
    put(&api, "application/json", vec![b' '; 10 << 20]).await.is_problem("body_too_large");
    let long = json!({ "source": "x".repeat((1 << 20) + 1) });
    put(&api, "application/json", long.to_string()).await.is_problem("body_too_large");

    let unknown = put(&api, "application/json", "{\"source\": \"1\", \"sauce\": \"2\"}").await;
    assert!(unknown.is_problem("invalid_input")["detail"].as_str().unwrap().contains("`sauce`"));
    let deep = put(&api, "application/json", "{\"source\": \"1\", \"limits\": {\"fuel\": \"x\"}}").await;
    assert_eq!(deep.is_problem("invalid_input")["field"], "limits.fuel");

    let list = put(&api, "application/json", "{\"source\": \"1\", \"limits\": [1000000]}").await;
    assert_eq!(list.is_problem("invalid_input")["field"], "limits");

    let bad_name = api.deploy("default", "%2e%2e", "1").await;
    assert_eq!(bad_name.is_problem("invalid_input")["field"], "name");
    api.deploy("nowhere", "x", "1").await.is_problem("not_found");
}

#[tokio::test]
async fn a_script_with_routes_is_removed_only_by_force_and_its_code_goes_with_it() {
    let api = TestApi::start().await;
    let refused = api.call("DELETE", "/apps/default/scripts/hello", None).await;
    assert_eq!(refused.is_problem("conflict")["routes"], json!(["/", "/hello/:name"]));
    let done = api.call("DELETE", "/apps/default/scripts/hello?force=true", None).await;
    assert_eq!(done.status, 204);
    assert!(api.manager.routes().current().apps[0].routes.is_empty());
    assert_eq!(api.database.scalar::<i64>("select count(*) from bundles").await, 0);
    api.get("/apps/default/scripts/hello").await.is_problem("not_found");
}

#[tokio::test]
async fn deploys_at_once_give_each_its_number() {
    let api = TestApi::start().await;
    let sources = ["a", "b", "c", "d"];
    let deploys = sources.map(|source| api.deploy("default", "racy", source));
    let mut numbers: Vec<_> = futures_util::future::join_all(deploys)
        .await
        .iter()
        .map(|reply| reply.json["version"].as_u64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert_eq!(api.all_pages("/apps/default/scripts", 1).await.len(), 2);
}

#[tokio::test]
async fn a_bundle_that_is_not_stored_or_not_as_it_was_is_unavailable() {
    let api = TestApi::start().await;
    let deployed = api.manager.routes().current().apps[0].routes[0].target.bundle;
    api.manager.bundles().bundle(deployed).await.unwrap();
    api.database.execute("update bundles set source = 'evil()'").await;
    assert_eq!(api.manager.bundles().bundle(deployed).await.unwrap_err().0, deployed);

    let hash = shared::script::BundleHash([9; 32]);
    let error = api.manager.bundles().bundle(hash).await.unwrap_err();
    assert_eq!(error.0, hash);
}

#[tokio::test]
async fn a_script_is_switched_off_and_on_and_keeps_its_routes() {
    let api = TestApi::start().await;
    let id = api.get("/apps/default/scripts/hello").await.is(200)["id"].as_str().unwrap().to_owned();
    let is_disabled = || api.manager.routes().current().apps[0].routes.iter().all(|route| route.is_disabled);
    for _ in 0..2 {
        let off = api.post("/apps/default/scripts/hello:disable", json!(null)).await;
        assert_eq!(off.is(200)["is_enabled"], false);
        assert!(is_disabled());
    }
    let mut request = api.request("GET", "/", None);
    *request.uri_mut() = format!("/api/v1/execute/{id}").parse().unwrap();
    api.send(request).await.is_problem("script_disabled");
    // Who mends it tries it out.
    api.post("/apps/default/scripts/hello/invoke", json!({})).await.is(200);
    // A deploy does not switch it on.
    api.deploy("default", "hello", "2").await.is(200);
    assert!(is_disabled());
    let on = api.post("/apps/default/scripts/hello:enable", json!(null)).await;
    assert_eq!((&on.is(200)["is_enabled"], &on.json["quarantined_at"]), (&json!(true), &json!(null)));
    let seen = api.get("/apps/default/scripts/hello").await;
    assert_eq!(on.headers["etag"], seen.headers["etag"]);
    assert!(!is_disabled());
    let log = api.get("/apps/default/audit?limit=10").await.is(200).to_string();
    assert_eq!((log.matches("script.disable").count(), log.matches("script.enable").count()), (1, 1));
}

/// Scripts of the app `default`, each of so many bytes.
fn fillers(count: usize, bytes: usize) -> String {
    format!(
        "insert into bundles (app_id, hash, kind, name, source, modules)
         select id, decode(repeat('07', 32), 'hex'), 'endpoint', 'filler', repeat('x', {bytes}), '[]'
         from apps
         where slug = 'default';
         insert into scripts (app_id, id, name, kind, live_version)
         select id, gen_random_uuid(), 'filler-' || n, 'endpoint', 1
         from apps, generate_series(1, {count}) n
         where slug = 'default';
         insert into script_versions (app_id, script_id, number, bundle_hash, limits)
         select s.app_id, s.id, 1, decode(repeat('07', 32), 'hex'), v.limits
         from scripts s, script_versions v
         where s.name like 'filler-%' and v.script_id = (select id from scripts where name = 'hello')"
    )
}

#[tokio::test]
async fn an_app_has_no_more_scripts_than_a_manifest_of_it() {
    let api = TestApi::start().await;
    // With the one that is there, one is missing.
    api.database.execute(&fillers(SCRIPTS_MAX - 2, 1)).await;
    api.deploy("default", "last", "1").await.is(201);
    let refused = api.deploy("default", "beyond", "1").await;
    let detail = refused.is_problem("conflict")["detail"].as_str().unwrap();
    assert!(detail.contains("1000 scripts") && detail.contains("remove one first"), "{detail}");
    api.get("/apps/default/scripts/beyond").await.is_problem("not_found");
    api.deploy("default", "last", "2").await.is(200);
    assert_eq!(api.call("DELETE", "/apps/default/scripts/filler-1", None).await.status, 204);
    api.deploy("default", "beyond", "1").await.is(201);
}

#[tokio::test]
async fn attack_an_app_whose_sources_are_too_long_together_is_not_read_whole_and_only_gets_smaller() {
    let api = TestApi::start().await;
    let megabytes = SOURCES_BYTES_MAX >> 20;
    api.database.execute(&fillers(megabytes, 1 << 20)).await;
    // As it was made before there was a limit: the script that was there comes on top.
    for refused in [
        api.get("/apps/default/manifest").await,
        api.post("/apps/default:plan", json!({ "scripts": {} })).await,
        api.post("/apps/default:apply", json!({ "scripts": {} })).await,
    ] {
        let detail = refused.is_problem("conflict")["detail"].as_str().unwrap();
        assert!(detail.contains("one by one") && detail.contains("/apps/default/scripts/"), "{detail}");
    }
    for (name, source) in [("new", "1"), ("hello", &*"1 ".repeat(10_000))] {
        let refused = api.deploy("default", name, source).await;
        let problem = refused.is_problem("conflict");
        assert_eq!(problem["field"], "source", "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("at most 16777216"), "{problem}");
    }
    api.deploy("default", "hello", "1").await.is(200);
    let one = api.get("/apps/default/scripts/filler-1").await;
    assert_eq!(one.is(200)["source"].as_str().unwrap().len(), 1 << 20);
    assert_eq!(api.call("DELETE", "/apps/default/scripts/filler-1", None).await.status, 204);
    api.deploy("default", "new", "1").await.is(201);
    let exported = api.get("/apps/default/manifest").await;
    assert_eq!(exported.is(200)["scripts"].as_object().unwrap().len(), megabytes + 1);
}

#[tokio::test]
async fn old_versions_go_but_those_that_somebody_needs_and_no_number_comes_again() {
    let api = TestApi::start().await;
    api.database
        .execute(
            "insert into script_versions (app_id, script_id, number, bundle_hash, limits)
             select app_id, script_id, n, bundle_hash, limits
             from script_versions, generate_series(2, 150) n",
        )
        .await;
    let kept = async || {
        let versions = api.all_pages("/apps/default/scripts/hello/versions", 200).await;
        let ends = [&versions[0], &versions[versions.len() - 2], &versions[versions.len() - 1]];
        (versions.len(), ends.map(|version| version["version"].as_u64().unwrap()))
    };
    assert_eq!(api.deploy("default", "other", "1").await.is(201)["version"], 1);
    assert_eq!(kept().await, (101, [150, 51, 1]), "the first one is live");
    let back = json!({ "version": 51 });
    api.post("/apps/default/scripts/hello/rollback", back.clone()).await.is(200);
    let shard = api.app_id("default").await.to_bytes()[15] % 16;
    api.database
        .execute(&format!(
            "insert into outbox (shard, app_id, delivery_id, kind, script_id, version, due_at, max_attempts, base_ms, cap_ms,
                                 root_id, depth, payload)
             select {shard}, app_id, gen_random_uuid(), 'function', id, 60, 'infinity', 5, 1, 1, gen_random_uuid(), 1, 'x'
             from scripts where name = 'hello'"
        ))
        .await;
    assert_eq!(api.deploy("default", "hello", "2").await.is(200)["version"], 151);
    assert_eq!(kept().await, (100, [151, 53, 52]));
    api.post("/apps/default/scripts/hello/rollback", back).await.is_problem("not_found");
    api.database
        .execute(
            "insert into script_versions (app_id, script_id, number, bundle_hash, limits)
             select app_id, script_id, n, bundle_hash, limits
             from script_versions, generate_series(152, 300) n
             where number = 151",
        )
        .await;
    assert_eq!(api.deploy("default", "hello", "3").await.is(200)["version"], 301);
    assert_eq!(kept().await, (101, [301, 202, 60]), "an event waits for one");
}

/// A thousand scripts of a thousand versions each would fill everybody's disk.
#[tokio::test]
async fn attack_code_of_old_versions_takes_no_more_room_than_an_app_has() {
    let api = TestApi::start().await;
    let most = VERSIONS_BYTES_MAX / VERSION_BYTES_MIN;
    let scripts = most / 100 + 3;
    // Each version has code of its own, and the higher its number, the younger it is.
    api.database
        .execute(&format!(
            "create temporary table code as
             select a.id as app_id, i, n, sha256(convert_to(i || '-' || n, 'UTF8')) as hash
             from apps a, generate_series(1, {scripts}) i, generate_series(1, 100) n
             where a.slug = 'default';
             insert into bundles (app_id, hash, kind, name, source, modules)
             select app_id, hash, 'endpoint', 'filler', '1', '[]' from code;
             insert into scripts (app_id, id, name, kind, live_version)
             select distinct app_id, md5(i::text)::uuid, 'filler-' || i, 'endpoint', 2 from code;
             insert into script_versions (app_id, script_id, number, bundle_hash, limits, created_at)
             select c.app_id, md5(c.i::text)::uuid, c.n, c.hash, v.limits, now() - interval '1 day' + c.n * interval '1 s'
             from code c, (select limits from script_versions limit 1) v"
        ))
        .await;
    api.deploy("default", "new", "1").await.is(201);
    assert_eq!(api.database.scalar::<i64>("select count(*) from bundles").await, most);
    let kept = async |which: &str| {
        let sql = format!(
            "select count(*) from script_versions v join scripts s on s.id = v.script_id
             where s.name like 'filler-%' and {which}"
        );
        api.database.scalar::<i64>(&sql).await
    };
    assert_eq!(kept("v.number in (2, 100)").await, 2 * scripts, "they are live, and the newest");
    assert!(kept("v.number = 1").await < scripts, "the oldest went");
    assert_eq!(kept("v.number > 3").await, 97 * scripts, "younger ones did not");
}
