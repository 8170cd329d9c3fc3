use std::time::Duration;

use manager_core::{Manager, ManagerConfig};
use serde_json::json;
use shared::id::AppId;
use shared::invocation::{ExecutionStatus, Refusal};
use tower::ServiceExt;

use crate::harness::{TestApi, config, record};
use crate::outbox::eventually;

#[tokio::test]
async fn an_app_is_made_shown_renamed_and_removed() {
    let api = TestApi::start().await;
    let made = api.post("/apps", json!({ "slug": "blog", "name": "My blog" })).await;
    let id = made.is(201)["id"].as_str().unwrap().to_owned();
    assert_eq!(made.json["url"], "http://blog.localhost:8080/");
    assert_eq!(api.manager.routes().current().apps.len(), 2, "the router knows before the answer");

    for key in ["blog", &id] {
        assert_eq!(api.get(&format!("/apps/{key}")).await.is(200)["name"], "My blog");
    }
    let renamed = api.call("PATCH", "/apps/blog", Some(json!({ "slug": "journal" }))).await;
    assert_eq!((&renamed.is(200)["slug"], &renamed.json["name"]), (&"journal".into(), &"My blog".into()));
    assert!(api.manager.routes().current().apps.iter().any(|app| app.slug.as_str() == "journal"));
    assert_eq!(api.get("/apps/blog").await.status, 308);

    assert_eq!(api.call("DELETE", "/apps/journal", None).await.status, 204);
    api.get("/apps/blog").await.is_problem("not_found");
    api.get("/apps/journal").await.is_problem("not_found");
    assert_eq!(api.manager.routes().current().apps.len(), 1);
}

#[tokio::test]
async fn who_makes_an_app_owns_it_and_the_router_knows() {
    let api = TestApi::start().await;
    let me = api.get("/auth/me").await.is(200)["id"].clone();
    assert_eq!(api.post("/apps", json!({ "slug": "blog" })).await.is(201)["owner_id"], me);
    api.deploy("blog", "hello", "1").await.is(201);
    api.post("/apps/blog/routes", json!({ "path": "/", "script": "hello" })).await.is(201);
    let table = api.manager.routes().current();
    let targets: Vec<_> = table.apps.iter().flat_map(|app| &app.routes).map(|route| &route.target).collect();
    assert_eq!(targets.len(), 3);
    assert!(targets.iter().all(|target| me == target.owner.to_string()));
}

#[tokio::test]
async fn an_app_with_scripts_is_removed_only_by_force() {
    let api = TestApi::start().await;
    let refused = api.call("DELETE", "/apps/default", None).await;
    let problem = refused.is_problem("conflict");
    assert_eq!(problem["scripts"], 1);
    let contents = json!({ "scripts": 1, "versions": 1, "routes": 2, "triggers": 0, "topics": 0, "domains": 0, "assets": 0,
                           "secrets": 0, "values": 0, "documents": 0, "files": 0, "users": 0, "messages": 0, "events": 0, "dead_letters": 0,
                           "executions": 0, "members": 1, "api_keys": 0, "former_slugs": 0 });
    assert_eq!(problem["contents"], contents);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("1 scripts") && detail.contains("2 routes") && !detail.contains('0'), "{detail}");
    assert_eq!(api.call("DELETE", "/apps/default?force=true", None).await.status, 204);
    are_empty(&api, &["apps", "scripts", "script_versions", "bundles", "routes"]).await;
}

#[tokio::test]
async fn an_app_with_anything_that_somebody_put_there_is_removed_only_by_force() {
    let api = TestApi::start().await;
    let value = json!({ "value": 1 });
    for (what, method, path, body) in [
        ("secrets", "PUT", "/secrets/key", json!({ "value": "s" })),
        ("values", "PUT", "/kv/things/one", value.clone()),
        ("documents", "POST", "/docs/things", json!({ "data": {} })),
        ("messages", "POST", "/queues/later/messages", json!({ "message": 1 })),
        ("topics", "POST", "/topics", json!({ "name": "news" })),
        ("domains", "POST", "/domains", json!({ "domain": "shop.example.org" })),
    ] {
        api.post("/apps", json!({ "slug": "shop" })).await.is(201);
        let put = api.call(method, &format!("/apps/shop{path}"), Some(body)).await;
        assert!(put.status.is_success(), "{what}: {put:?}");
        let refused = api.call("DELETE", "/apps/shop", None).await;
        let problem = refused.is_problem("conflict");
        assert_eq!(problem["contents"][what], 1, "{problem}");
        let named = format!("1 {what}");
        assert!(problem["detail"].as_str().unwrap().contains(&named), "{problem}");
        assert_eq!(api.call("DELETE", "/apps/shop?force=true", None).await.status, 204);
    }
    are_empty(&api, &["secrets", "kv", "docs", "queue_messages", "topics", "app_domains"]).await;
}

/// Waits until tables have no rows.
async fn are_empty(api: &TestApi, tables: &[&str]) {
    for table in tables {
        let sql = format!("select count(*) from {table}");
        eventually(&format!("{table} is empty"), || async {
            (api.database.scalar::<i64>(&sql).await == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_much_is_counted_only_so_far_and_all_of_it_goes() {
    let api = TestApi::start().await;
    api.database
        .execute(
            "insert into kv (app_id, collection, key, value, version)
             select id, 'things', n::text, '1', n
             from apps, generate_series(1, 10001) n",
        )
        .await;
    let refused = api.call("DELETE", "/apps/default", None).await;
    let problem = refused.is_problem("conflict");
    assert_eq!(problem["contents"]["values"], 10_000);
    assert!(problem["detail"].as_str().unwrap().contains("at least 10000 values"), "{problem}");
    assert_eq!(api.call("DELETE", "/apps/default?force=true", None).await.status, 204);
    are_empty(&api, &["kv", "apps"]).await;
}

#[tokio::test]
async fn an_app_whose_removal_was_cut_off_is_found_by_nobody_and_goes_after_the_next_start() {
    let mut api = TestApi::start().await;
    let id = api.app_id("default").await;
    api.call("PUT", "/apps/default/kv/things/one", Some(json!({ "value": 1 }))).await.is(200);
    // As a process leaves it that ended right after the first commit.
    api.database.execute("update apps set removing_at = now(), slug = id::text, is_default = false").await;
    for key in ["default", &id.to_string()] {
        api.get(&format!("/apps/{key}")).await.is_problem("not_found");
        api.call("DELETE", &format!("/apps/{key}?force=true"), None).await.is_problem("not_found");
    }
    assert_eq!(api.get("/apps").await.is(200)["items"], json!([]));
    api.post("/apps", json!({ "slug": "default" })).await.is(201);
    assert_eq!(api.manager.routes().current().apps.len(), 1);
    api.restart().await;
    are_empty(&api, &["kv", "routes", &format!("apps where id = '{id}'")]).await;
    api.get("/apps/default").await.is(200);
}

#[tokio::test]
async fn an_app_goes_whose_removers_client_leaves_before_the_answer() {
    let api = TestApi::start().await;
    api.call("PUT", "/apps/default/kv/things/one", Some(json!({ "value": 1 }))).await.is(200);
    // What the router knows is read from this table, and hiding an app does not touch it: the removal stops exactly
    // between the two.
    let mut holder = api.database.connect().await;
    let lock = "begin; lock table doc_schemas in access exclusive mode";
    sqlx::raw_sql(lock).execute(&mut holder).await.unwrap();
    let request = api.request("DELETE", "/apps/default?force=true", None);
    let removing = tokio::spawn(api.router.clone().oneshot(request));
    let hidden = "select count(*) from apps where removing_at is not null";
    eventually("it is hidden", || async { (api.database.scalar::<i64>(hidden).await == 1).then_some(()) })
        .await;
    assert!(!removing.is_finished(), "the answer comes after the router knows");
    removing.abort();
    assert!(removing.await.unwrap_err().is_cancelled());
    sqlx::raw_sql("rollback").execute(&mut holder).await.unwrap();
    are_empty(&api, &["kv", "apps"]).await;
}

#[tokio::test]
async fn an_app_goes_whose_removal_was_committed_and_could_not_be_shown() {
    let api = TestApi::start().await;
    let app = api.app_id("default").await;
    api.call("PUT", "/apps/default/kv/things/one", Some(json!({ "value": 1 }))).await.is(200);
    api.database.execute("alter table doc_schemas rename to out_of_reach").await;
    let unsure = api.call("DELETE", "/apps/default?force=true", None).await;
    assert!(unsure.status.is_server_error(), "{unsure:?}");
    are_empty(&api, &["kv", "apps"]).await;
    // As soon as it can be read that the app is gone, nothing of it starts that waited meanwhile.
    api.database.execute("alter table out_of_reach rename to doc_schemas").await;
    starts_nothing(&api.manager, app).await;
}

#[tokio::test]
async fn an_app_whose_removal_could_not_be_committed_keeps_everything_and_runs() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    let app = api.app_id("default").await;
    for slug in ["default", "other"] {
        api.call("PUT", &format!("/apps/{slug}/kv/things/one"), Some(json!({ "value": 1 }))).await.is(200);
    }
    api.database
        .execute(
            "create function refuse() returns trigger language plpgsql as $$
             begin raise exception 'refused'; return null; end $$;
             create constraint trigger refuse after update on apps deferrable initially deferred
             for each row execute function refuse()",
        )
        .await;
    let failed = api.call("DELETE", "/apps/default?force=true", None).await;
    assert!(failed.status.is_server_error(), "{failed:?}");
    api.database.execute("drop trigger refuse on apps; drop function refuse").await;
    // What was begun for the first one has looked at it by the time the second one is gone.
    assert_eq!(api.call("DELETE", "/apps/other?force=true", None).await.status, 204);
    let others = format!("apps where id <> '{app}'");
    are_empty(&api, &[others.as_str()]).await;
    assert_eq!(api.get("/apps/default/kv/things/one").await.is(200)["value"], 1);
    assert_eq!(permit(&api.manager, app), Ok(()));
}

#[tokio::test]
async fn an_app_whose_removal_was_left_goes_without_a_restart_though_nothing_runs() {
    let mut config = config();
    config.retention.every = Duration::from_millis(5);
    let api = TestApi::start_with(config).await;
    // The first look after a start is at everything, so the first app alone would prove little.
    for slug in ["first", "second"] {
        api.post("/apps", json!({ "slug": slug })).await.is(201);
        let hide = format!("update apps set removing_at = now(), slug = id::text where slug = '{slug}'");
        api.database.execute(&hide).await;
        are_empty(&api, &["apps where removing_at is not null"]).await;
    }
}

fn permit(manager: &Manager, app: AppId) -> Result<(), Refusal> {
    manager.permits().permit(&record(app, ExecutionStatus::Ok).target)
}

/// Waits until nothing of an app may start any more.
async fn starts_nothing(manager: &Manager, app: AppId) {
    eventually("nothing of the app may start", || async {
        (permit(manager, app) == Err(Refusal::BundleUnavailable)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn attack_a_removal_that_somebody_holds_up_holds_up_no_other_that_was_left() {
    let mut config = config();
    config.retention.every = Duration::from_millis(5);
    let api = TestApi::start_with(config).await;
    for slug in ["first", "second"] {
        api.post("/apps", json!({ "slug": slug })).await.is(201);
    }
    let [first, second] = [api.app_id("first").await, api.app_id("second").await];
    api.call("PUT", "/apps/first/kv/things/one", Some(json!({ "value": 1 }))).await.is(200);
    let mut holder = api.database.connect().await;
    sqlx::raw_sql("begin; select from kv for update").execute(&mut holder).await.unwrap();
    // They are gone through in the order in which they were hidden.
    let hide = format!(
        "update apps
         set removing_at = now() - case id when '{first}' then interval '1 hour' else interval '0' end, slug = id::text
         where id in ('{first}', '{second}')"
    );
    api.database.execute(&hide).await;
    let of_second = format!("apps where id = '{second}'");
    are_empty(&api, &[of_second.as_str()]).await;
    let of_first = format!("select count(*) from apps where id = '{first}'");
    assert_eq!(api.database.scalar::<i64>(&of_first).await, 1, "its value is held");
    // What could not be removed is found when it is looked again.
    sqlx::raw_sql("rollback").execute(&mut holder).await.unwrap();
    are_empty(&api, &["kv", "apps where removing_at is not null"]).await;
}

#[tokio::test]
async fn nothing_of_a_removed_app_may_start_on_another_node_once_it_has_heard_of_that() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "shop" })).await.is(201);
    let app = api.app_id("shop").await;
    let other = Manager::open(api.database.options(), config()).await.unwrap();
    other.start_events(api.pool.clone(), 1);
    assert_eq!(permit(&other, app), Ok(()));
    assert_eq!(api.call("DELETE", "/apps/shop", None).await.status, 204);
    starts_nothing(&other, app).await;
    let kept = api.app_id("default").await;
    assert_eq!(permit(&other, kept), Ok(()));
    other.stop_events().await;
    other.close().await;
}

#[tokio::test]
async fn nothing_of_a_removed_app_may_start_whatever_of_it_ends_afterwards() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "shop" })).await.is(201);
    let app = api.app_id("shop").await;
    assert_eq!(permit(&api.manager, app), Ok(()));
    assert_eq!(api.call("DELETE", "/apps/shop", None).await.status, 204);
    assert_eq!(permit(&api.manager, app), Err(Refusal::BundleUnavailable));
    // One that ran, and one that was being deployed.
    api.manager.recorder().record(record(app, ExecutionStatus::Ok));
    api.manager.recorder().compiled(app, 5);
    assert_eq!(permit(&api.manager, app), Err(Refusal::BundleUnavailable));
    assert_eq!(permit(&api.manager, AppId::new()), Ok(()), "another node may have made it a moment ago");
}

#[tokio::test]
async fn attack_a_removal_that_somebody_holds_up_holds_up_nobody_else() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "big" })).await.is(201);
    api.call("PUT", "/apps/big/kv/things/one", Some(json!({ "value": 1 }))).await.is(200);
    let mut holder = api.database.connect().await;
    sqlx::raw_sql("begin; select from kv for update").execute(&mut holder).await.unwrap();
    let removing = api.call("DELETE", "/apps/big?force=true", None);
    let others = async {
        eventually("it is found by nobody", || async {
            (api.get("/apps/big").await.status == 404).then_some(())
        })
        .await;
        // Its slug is free, and whatever else is written about apps is written.
        api.post("/apps", json!({ "slug": "big" })).await.is(201);
        api.call("PUT", "/apps/big/kv/things/two", Some(json!({ "value": 2 }))).await.is(200);
        sqlx::raw_sql("rollback").execute(&mut holder).await.unwrap();
    };
    let (removed, ()) = tokio::join!(removing, others);
    assert_eq!(removed.status, 204);
    are_empty(&api, &["kv where key = 'one'", "apps where removing_at is not null"]).await;
    let kept = api.database.scalar::<i64>("select count(*) from kv where key = 'two'").await;
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn a_taken_or_malformed_slug_is_refused() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "blog" })).await.is(201);
    let taken = api.post("/apps", json!({ "slug": "blog" })).await;
    assert!(taken.is_problem("conflict")["detail"].as_str().unwrap().contains("blog"));
    let taken = api.call("PATCH", "/apps/blog", Some(json!({ "slug": "default" }))).await;
    taken.is_problem("conflict");
    for slug in ["", "-a", "A", "a b", "0195a3a0-0000-7000-8000-000000000000"] {
        let reply = api.post("/apps", json!({ "slug": slug })).await;
        assert_eq!(reply.is_problem("invalid_input")["field"], "slug", "{slug}");
    }
    api.post("/apps", json!({ "slug": "x", "name": "a\0b" })).await.is_problem("invalid_input");
}

#[tokio::test]
async fn attack_an_app_with_the_slug_of_the_servers_own_host() {
    let config = ManagerConfig { public_url: "https://pi.localhost:8443".into(), ..config() };
    let api = TestApi::start_with(config).await;
    let refused = api.post("/apps", json!({ "slug": "pi" })).await;
    assert_eq!(refused.is_problem("invalid_input")["field"], "slug");
    let refused = api.call("PATCH", "/apps/default", Some(json!({ "slug": "pi" }))).await;
    assert_eq!(refused.is_problem("invalid_input")["field"], "slug");
    api.post("/apps", json!({ "slug": "pie" })).await.is(201);
}

#[tokio::test]
async fn pages_of_apps_skip_and_repeat_nothing() {
    let api = TestApi::start().await;
    let mut slugs = vec!["default".to_owned()];
    for n in 0..6 {
        let slug = format!("app-{n}");
        api.post("/apps", json!({ "slug": slug })).await.is(201);
        slugs.push(slug);
    }
    slugs.sort();
    for limit in [1, 2, 7, 50] {
        let listed: Vec<_> = api
            .all_pages("/apps", limit)
            .await
            .iter()
            .map(|app| app["slug"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(listed, slugs, "limit {limit}");
    }
    api.get("/apps?limit=0").await.is_problem("invalid_input");
    api.get("/apps?cursor=%00").await.is_problem("invalid_input");
    api.get("/apps?colour=red").await.is_problem("invalid_input");
}

fn location(reply: &crate::harness::Reply) -> &str {
    assert_eq!(reply.status, 308, "{reply:?}");
    reply.headers["location"].to_str().unwrap()
}

#[tokio::test]
async fn a_former_slug_leads_on_until_another_app_takes_it() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "blog" })).await.is(201);
    for (from, to) in [("blog", "journal"), ("journal", "diary")] {
        api.call("PATCH", &format!("/apps/{from}"), Some(json!({ "slug": to }))).await.is(200);
    }
    // Both lead straight to the name of today, whatever is behind the slug.
    for (path, now) in [
        ("/apps/blog", "/apps/diary"),
        ("/apps/journal/scripts?limit=5", "/apps/diary/scripts?limit=5"),
        ("/apps/blog/logs:tail", "/apps/diary/logs:tail"),
    ] {
        assert_eq!(location(&api.get(path).await), format!("/api/v1/admin{now}"));
    }
    let deploy = api.deploy("blog", "hello", "1").await;
    assert_eq!(location(&deploy), "/api/v1/admin/apps/diary/scripts/hello");
    assert_eq!(api.get("/apps/diary").await.is(200)["former_slugs"], json!(["journal", "blog"]));

    // Taken by another app, and taken back by the app itself.
    let other = api.post("/apps", json!({ "slug": "blog" })).await.is(201)["id"].clone();
    assert_eq!(api.get("/apps/blog").await.is(200)["id"], other);
    api.call("PATCH", "/apps/diary", Some(json!({ "slug": "journal" }))).await.is(200);
    assert_eq!(api.get("/apps/journal").await.is(200)["former_slugs"], json!(["diary"]));
    let table = api.manager.routes().current();
    let journal = table.apps.iter().find(|app| app.slug.as_str() == "journal").unwrap();
    assert_eq!(journal.former_slugs, ["diary".parse().unwrap()]);
}

#[tokio::test]
async fn a_former_slug_tells_strangers_nothing() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "secret" })).await.is(201);
    api.call("PATCH", "/apps/secret", Some(json!({ "slug": "hidden" }))).await.is(200);
    let stranger = api.person("eve", "member").await;
    stranger.get("/apps/secret").await.is_problem("not_found");
    stranger.get("/apps/secret/scripts").await.is_problem("not_found");
}

#[tokio::test]
async fn an_app_says_what_it_is_for() {
    let api = TestApi::start().await;
    let made = api.post("/apps", json!({ "slug": "blog", "description": "Club news" })).await;
    assert_eq!(made.is(201)["description"], "Club news");
    let changed = api.call("PATCH", "/apps/blog", Some(json!({ "description": "" }))).await;
    assert_eq!((&changed.is(200)["description"], &changed.json["name"]), (&"".into(), &"blog".into()));
    let long = json!({ "description": "x".repeat(2_001) });
    let refused = api.call("PATCH", "/apps/blog", Some(long)).await;
    assert_eq!(refused.is_problem("invalid_input")["field"], "description");
}
