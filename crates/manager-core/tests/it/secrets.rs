//! Secrets and egress rules through the admin API; what scripts do with them is tested where there are
//! workers.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use manager_core::{KeyKeeper, Manager, ManagerConfig, MasterKey, MasterKeys, OpenError};
use serde_json::{Value, json};
use shared::host_call::HostOp;
use shared::host_call::secrets::{SecretName, SecretValue, SetSecret};
use shared::id::UserId;

use crate::calls::Script;
use crate::connections::are_stuck;
use crate::harness::{Reply, TestApi, config};

const VALUE: &str = "a-value-that-is-nowhere-else";

#[tokio::test]
async fn only_names_are_listed_in_pages() {
    let api = TestApi::start().await;
    for name in ["b", "a", "C"] {
        let reply =
            api.call("PUT", &format!("/apps/default/secrets/{name}"), Some(json!({ "value": VALUE }))).await;
        assert!(reply.is(201)["updated_at"].is_string() && !reply.text.contains(VALUE));
    }
    let first = api.get("/apps/default/secrets?limit=2").await;
    let names = |page: &Value| {
        page["items"].as_array().unwrap().iter().map(|s| s["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(first.is(200)), ["C", "a"]);
    let cursor = first.json["next_cursor"].as_str().unwrap();
    let rest = api.get(&format!("/apps/default/secrets?limit=2&cursor={cursor}")).await;
    assert_eq!(names(rest.is(200)), ["b"]);
    let audit = api.get("/apps/default/audit").await;
    assert!(audit.text.contains("secret.set") && !audit.text.contains(VALUE));
}

#[tokio::test]
async fn both_keys_can_be_changed_and_a_given_master_key_is_asked_for() {
    let mut api = TestApi::start().await;
    api.call("PUT", "/apps/default/secrets/a", Some(json!({ "value": VALUE }))).await.is(201);
    assert_eq!(api.post("/apps/default/secrets:rotate-key", json!({})).await.is(200)["count"], 1);
    assert_eq!(api.post("/apps/default/secrets:rotate-key", json!({})).await.is(200)["count"], 1);
    // The test's key comes from elsewhere, so the new one has to be given.
    api.post("/system/secrets:rotate-master", json!({ "key": null })).await.is(422);
    api.post("/system/secrets:rotate-master", json!({ "key": "AAAA" })).await.is(422);
    let key = MasterKey::generate().unwrap();
    let body = json!({ "key": key.to_base64().as_str() });
    assert_eq!(api.post("/system/secrets:rotate-master", body).await.is(200)["count"], 1);
    api.call("PUT", "/apps/default/secrets/b", Some(json!({ "value": VALUE }))).await.is(201);
    let open = async |key: MasterKey| {
        let keys = MasterKeys { current: key, staged: None, keeper: None };
        manager_core::Manager::open(
            api.database.options(),
            manager_core::ManagerConfig { secret_keys: keys, ..config() },
        )
        .await
    };
    assert!(matches!(open(MasterKey::generate().unwrap()).await, Err(OpenError::WrongMasterKey(_))));
    api.manager.close().await;
    api.manager = open(key).await.unwrap();
}

#[tokio::test]
async fn secrets_go_with_their_app() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "gone" })).await.is(201);
    api.call("PUT", "/apps/gone/secrets/a", Some(json!({ "value": VALUE }))).await.is(201);
    api.call("PUT", "/apps/gone/egress", Some(json!({ "allow": [], "deny": [], "ports": [] }))).await.is(200);
    api.call("DELETE", "/apps/gone?force=true", None).await.is(204);
}

#[tokio::test]
async fn egress_rules_are_kept_as_they_are_set() {
    let api = TestApi::start().await;
    let none = json!({ "allow": null, "deny": [], "ports": [] });
    assert_eq!(api.get("/apps/default/egress").await.is(200), &none);
    let rules =
        json!({ "allow": ["api.example.com", "*.example.org"], "deny": ["b.example.org"], "ports": [8000] });
    assert_eq!(api.call("PUT", "/apps/default/egress", Some(rules.clone())).await.is(200), &rules);
    assert_eq!(api.get("/apps/default/egress").await.is(200), &rules);
    for bad in [
        json!({ "allow": ["127.0.0.1"] }),
        json!({ "allow": null, "ports": [0] }),
        json!({ "deny": ["x y"] }),
    ] {
        api.call("PUT", "/apps/default/egress", Some(bad)).await.is(422);
    }
}

/// How often each key is changed under load.
const CHANGES: usize = 20;
/// Times that each writer sets a secret at least: more than it has names, so that each is set again.
const WRITES_MIN: usize = 20;

/// A server that is started with these keys on what is there.
async fn open(api: &TestApi, secret_keys: MasterKeys) -> Result<Manager, OpenError> {
    Manager::open(api.database.options(), ManagerConfig { secret_keys, ..config() }).await
}

fn only(key: &MasterKey) -> MasterKeys {
    MasterKeys { current: key.clone(), staged: None, keeper: None }
}

async fn read(script: &Script, name: &str) -> Option<String> {
    let answer = script.call(HostOp::SecretsGet, &SecretName { name }).await.unwrap();
    answer.read::<SecretValue<'_>>().value.map(str::to_owned)
}

/// Reads the secret that [`put`] has set, by a script.
async fn read_of(api: &TestApi, slug: &str) -> Option<String> {
    read(&Script::of(api, slug).await, "a").await
}

async fn put(api: &TestApi, slug: &str) -> Reply {
    api.call("PUT", &format!("/apps/{slug}/secrets/a"), Some(json!({ "value": VALUE }))).await
}

/// Changes the master key to this one, or one that the server makes.
async fn rotate_master(api: &TestApi, key: Option<&MasterKey>) -> Reply {
    let key = key.map(|key| key.to_base64().as_str().to_owned());
    api.post("/system/secrets:rotate-master", json!({ "key": key })).await
}

async fn owner(api: &TestApi) -> UserId {
    api.get("/auth/me").await.is(200)["id"].as_str().unwrap().parse().unwrap()
}

/// Sets secrets of its own, new ones and others again, and reads each back, until told to stop. Answers what it set
/// last.
async fn write(api: &TestApi, owner: UserId, writer: usize, is_over: &AtomicBool) -> HashMap<String, String> {
    let app = api.app_id("default").await;
    let mut values = HashMap::new();
    for round in 0.. {
        let (name, value) = (format!("w{writer}.{}", round % 16), format!("value {writer} {round}"));
        let script = Script::of_app(api, app, "default").on_behalf_of(owner);
        script.call(HostOp::SecretsSet, &SetSecret { name: &name, value: &value }).await.unwrap();
        let answer = script.call(HostOp::SecretsGet, &SecretName { name: &name }).await.unwrap();
        assert_eq!(answer.read::<SecretValue<'_>>().value, Some(value.as_str()));
        values.insert(name, value);
        if round >= WRITES_MIN && is_over.load(Ordering::Relaxed) {
            break;
        }
    }
    values
}

#[tokio::test]
async fn both_keys_are_changed_while_secrets_are_set_and_read_and_none_is_lost() {
    let mut api = TestApi::start().await;
    let (owner, app) = (owner(&api).await, api.app_id("default").await);
    let keys: Vec<_> = (0..CHANGES).map(|_| MasterKey::generate().unwrap()).collect();
    let is_over = AtomicBool::new(false);
    let data_keys = async {
        for _ in 0..CHANGES {
            api.post("/apps/default/secrets:rotate-key", json!({})).await.is(200);
        }
    };
    let master_keys = async {
        for (change, key) in keys.iter().enumerate() {
            let body = json!({ "key": key.to_base64().as_str() });
            let slug = format!("app-{change}");
            api.post("/apps", json!({ "slug": slug })).await.is(201);
            // The app's first data key is made just now.
            let path = format!("/apps/{slug}/secrets/first");
            let first = api.call("PUT", &path, Some(json!({ "value": VALUE })));
            let (changed, first) = tokio::join!(api.post("/system/secrets:rotate-master", body), first);
            changed.is(200);
            first.is(201);
        }
    };
    let changes = async {
        tokio::join!(data_keys, master_keys);
        is_over.store(true, Ordering::Relaxed);
    };
    let writer = |number| write(&api, owner, number, &is_over);
    let ((), first, second, third) = tokio::join!(changes, writer(0), writer(1), writer(2));
    // Everything is under the newest keys, and no other is left.
    assert_eq!(api.database.scalar::<i64>("select count(distinct master_id) from app_keys").await, 1);
    let version = "select string_agg(app_keys.version::text, ',')
                   from app_keys join apps on apps.id = app_id and slug = 'default'";
    let newest = api.database.scalar::<String>(version).await.parse::<usize>().unwrap();
    assert!(newest > CHANGES, "{newest}");
    api.manager.close().await;
    api.manager = open(&api, only(&keys[CHANGES - 1])).await.unwrap();
    let values: HashMap<_, _> = first.into_iter().chain(second).chain(third).collect();
    for (name, value) in values {
        // The API is still that of the manager that is closed; scripts are those of the one that is open.
        let script = Script::of_app(&api, app, "default");
        assert_eq!(read(&script, &name).await.as_ref(), Some(&value), "{name}");
    }
}

/// Keeps keys in memory. The disk, to which it stands, may be full between its two steps.
#[derive(Debug, Default)]
struct Keeper {
    kept: Mutex<Option<MasterKey>>,
    staged: Mutex<Option<MasterKey>>,
    is_full: AtomicBool,
}

impl KeyKeeper for Keeper {
    fn stage(&self, key: &MasterKey) -> io::Result<()> {
        *self.staged.lock().unwrap() = Some(key.clone());
        Ok(())
    }

    fn settle(&self, key: &MasterKey) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let staged = self.staged.lock().unwrap().take();
        assert!(staged.is_none_or(|staged| staged == *key), "another key is staged than the database has");
        *self.kept.lock().unwrap() = Some(key.clone());
        Ok(())
    }
}

/// An API whose master key, which is given, is one that a keeper has.
async fn keeping() -> (TestApi, MasterKey, Arc<Keeper>) {
    let (old, keeper) = (MasterKey::generate().unwrap(), Arc::new(Keeper::default()));
    let secret_keys = MasterKeys {
        current: old.clone(),
        staged: None,
        keeper: Some(Arc::clone(&keeper) as Arc<dyn KeyKeeper>),
    };
    (TestApi::start_with(ManagerConfig { secret_keys, ..config() }).await, old, keeper)
}

#[tokio::test]
async fn a_new_key_that_did_not_take_the_old_ones_place_is_finished_and_not_replaced_by_a_third() {
    let (api, old, keeper) = keeping().await;
    put(&api, "default").await.is(201);
    keeper.is_full.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        rotate_master(&api, None).await.is(500);
    }
    let staged = keeper.staged.lock().unwrap().clone().unwrap();
    assert_eq!(read_of(&api, "default").await.as_deref(), Some(VALUE));
    // Whatever is kept at this moment is enough for another start.
    assert!(matches!(open(&api, only(&old)).await, Err(OpenError::WrongMasterKey(_))));
    let both = MasterKeys { current: old, staged: Some(staged.clone()), keeper: None };
    open(&api, both).await.unwrap().close().await;
    keeper.is_full.store(false, Ordering::Relaxed);
    rotate_master(&api, None).await.is(200);
    assert!(keeper.kept.lock().unwrap().as_ref() == Some(&staged) && keeper.staged.lock().unwrap().is_none());
    open(&api, only(&staged)).await.unwrap().close().await;
    // The next change is one to a new key again.
    rotate_master(&api, None).await.is(200);
    assert!(keeper.kept.lock().unwrap().as_ref() != Some(&staged));
    assert_eq!(read_of(&api, "default").await.as_deref(), Some(VALUE));
}

/// Ends every commit that has changed a data key like this.
async fn end_commits(api: &TestApi, how: &str) {
    api.database
        .execute(&format!(
            "create function refuse() returns trigger language plpgsql as $$ begin {how} return null; end $$;
             create constraint trigger refuse after update on app_keys deferrable initially deferred
             for each row execute function refuse()"
        ))
        .await;
}

async fn let_commits_be(api: &TestApi) {
    api.database.execute("drop trigger refuse on app_keys; drop function refuse").await;
}

#[tokio::test]
async fn a_commit_that_is_lost_while_an_apps_first_secret_waits_for_it_loses_no_key() {
    let (api, old, keeper) = keeping().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    put(&api, "default").await.is(201);
    let how = "perform pg_advisory_xact_lock(42);
               perform pg_terminate_backend(pg_backend_pid());
               perform pg_sleep(10);";
    end_commits(&api, how).await;
    let mut lock = api.database.connect().await;
    sqlx::raw_sql("begin; select pg_advisory_xact_lock(42)").execute(&mut lock).await.unwrap();
    let in_its_commit = async {
        are_stuck(&api, 1).await;
        let free = async {
            are_stuck(&api, 2).await;
            sqlx::raw_sql("rollback").execute(&mut lock).await.unwrap();
        };
        tokio::join!(put(&api, "other"), free).0
    };
    let (changed, first) = tokio::join!(rotate_master(&api, None), in_its_commit);
    changed.is_problem("unavailable");
    // It would have been the only one under the new key.
    first.is_problem("unavailable");
    assert!(keeper.kept.lock().unwrap().is_none(), "the old key is needed");
    let staged = keeper.staged.lock().unwrap().clone().unwrap();
    assert_eq!(read_of(&api, "default").await.as_deref(), Some(VALUE));
    open(&api, only(&old)).await.unwrap().close().await;
    let_commits_be(&api).await;
    put(&api, "other").await.is(201);
    rotate_master(&api, None).await.is(200);
    assert!(keeper.kept.lock().unwrap().as_ref() == Some(&staged));
    for slug in ["default", "other"] {
        assert_eq!(read_of(&api, slug).await.as_deref(), Some(VALUE), "{slug}");
    }
}

#[tokio::test]
async fn a_change_whose_commit_fails_where_some_keys_are_under_the_new_one_keeps_both_until_it_is_finished() {
    let (api, old, keeper) = keeping().await;
    for slug in ["other", "late"] {
        api.post("/apps", json!({ "slug": slug })).await.is(201);
    }
    for slug in ["default", "other"] {
        put(&api, slug).await.is(201);
    }
    api.database.execute("create table before_change as select * from app_keys").await;
    keeper.is_full.store(true, Ordering::Relaxed);
    rotate_master(&api, None).await.is(500);
    keeper.is_full.store(false, Ordering::Relaxed);
    api.database
        .execute(
            "update app_keys set master_id = before.master_id, wrapped = before.wrapped
             from before_change before join apps on apps.id = before.app_id
             where app_keys.app_id = before.app_id and slug = 'other'",
        )
        .await;
    end_commits(&api, "raise exception 'refused';").await;
    rotate_master(&api, None).await.is(500);
    assert!(keeper.kept.lock().unwrap().is_none(), "the old key is needed");
    let staged = keeper.staged.lock().unwrap().clone().unwrap();
    for slug in ["default", "other"] {
        assert_eq!(read_of(&api, slug).await.as_deref(), Some(VALUE), "{slug}");
    }
    let both = MasterKeys { current: old, staged: Some(staged.clone()), keeper: None };
    open(&api, both).await.unwrap().close().await;
    // What an app's first key would be wrapped with may be gone tomorrow.
    put(&api, "late").await.is_problem("unavailable");
    let_commits_be(&api).await;
    rotate_master(&api, None).await.is(200);
    assert!(keeper.kept.lock().unwrap().as_ref() == Some(&staged));
    put(&api, "late").await.is(201);
    for slug in ["default", "other", "late"] {
        assert_eq!(read_of(&api, slug).await.as_deref(), Some(VALUE), "{slug}");
    }
    open(&api, only(&staged)).await.unwrap().close().await;
}

#[tokio::test]
async fn a_node_that_still_has_the_old_master_key_makes_no_apps_first_key_with_it() {
    let [old, new] = [(); 2].map(|()| MasterKey::generate().unwrap());
    let api = TestApi::start_with(ManagerConfig { secret_keys: only(&old), ..config() }).await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    let (owner, app) = (owner(&api).await, api.app_id("other").await);
    put(&api, "default").await.is(201);
    let mut node = api.with_token(api.token.clone());
    node.manager = open(&api, only(&old)).await.unwrap();
    rotate_master(&api, Some(&new)).await.is(200);
    let set = async |node: &TestApi| {
        let script = Script::of_app(node, app, "other").on_behalf_of(owner);
        script.call(HostOp::SecretsSet, &SetSecret { name: "a", value: VALUE }).await.map(drop)
    };
    assert_eq!(set(&node).await, Err("unavailable".into()));
    assert_eq!(api.database.scalar::<i64>("select count(*) from app_keys").await, 1);
    node.manager.close().await;
    node.manager = open(&api, only(&new)).await.unwrap();
    set(&node).await.unwrap();
    node.manager.close().await;
    assert_eq!(read_of(&api, "other").await.as_deref(), Some(VALUE));
}

#[tokio::test]
async fn a_change_that_waits_too_long_for_an_apps_keys_lets_go_and_can_be_sent_again() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    let mut lock = api.database.connect().await;
    let take = "begin; select pg_advisory_xact_lock(hashtextextended('app_keys ' || id, 0)) from apps";
    sqlx::raw_sql(take).execute(&mut lock).await.unwrap();
    let change =
        async || tokio::join!(api.post("/apps/default/secrets:rotate-key", json!({})), put(&api, "other"));
    let (rotated, first) = change().await;
    for reply in [rotated, first] {
        assert_eq!(reply.is_problem("unavailable")["retry"], "safe");
        assert!(reply.headers.contains_key("retry-after"), "{reply:?}");
    }
    sqlx::raw_sql("rollback").execute(&mut lock).await.unwrap();
    let (rotated, first) = change().await;
    rotated.is(200);
    first.is(201);
}

#[tokio::test]
async fn a_change_of_the_master_key_waits_for_the_disk_where_the_database_itself_does_not() {
    let mut api = TestApi::start().await;
    api.database
        .execute(
            "do $$ begin
                execute format('alter database %I set synchronous_commit = off', current_database());
             end $$;
             create function is_durable() returns trigger language plpgsql as $$
             begin
                if current_setting('synchronous_commit') <> 'on' then
                    raise exception 'a crash may take this back';
                end if;
                return new;
             end $$;
             create trigger is_durable before update on app_keys for each row execute function is_durable()",
        )
        .await;
    api.restart().await;
    let setting = "select current_setting('synchronous_commit')";
    assert_eq!(api.database.scalar::<String>(setting).await, "off");
    put(&api, "default").await.is(201);
    rotate_master(&api, Some(&MasterKey::generate().unwrap())).await.is(200);
}
