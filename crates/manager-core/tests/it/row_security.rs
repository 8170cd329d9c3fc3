//! The second wall between apps: what the database itself does not show. How its connections are handed out is
//! tested beside them, in `store/app_database/tests.rs`.

use manager_core::{Manager, ROW_SECURITY_ROLE, RowSecurity, row_security};
use serde_json::json;
use shared::host_call::{HostOp, docs, files, kv, queue};
use shared::id::AppId;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::app_users::Account;
use crate::calls::Script;
use crate::database::TestDatabase;
use crate::harness::{TestApi, config, owner};

/// What an app has a row of here.
const FILLED: [&str; 10] = [
    "kv",
    "docs",
    "files",
    "files_usage",
    "secrets",
    "app_keys",
    "queue_messages",
    "app_users",
    "app_user_sessions",
    "outbox",
];
/// What has rows of apps and no policy, because the role may not use it or because it is one chain of all apps.
const WITHOUT: [&str; 2] = ["api_keys", "audit_log"];

const KEY: kv::Key<'_> = kv::Key { collection: "c", key: "k" };

async fn fill(api: &TestApi) -> Script {
    let script = Script::of(api, "default").await;
    let condition = kv::Condition::None;
    let set = kv::Set { collection: "c", key: "k", value: "1", ttl_ms: 0, condition };
    script.call(HostOp::KvSet, &set).await.unwrap();
    script.call(HostOp::DocsCreate, &docs::Create { collection: "c", data: "{}" }).await.unwrap();
    let content = files::Content { upload: 0, data: b"content" };
    let create = files::Create { collection: "c", name: "n", content_type: "text/plain", content };
    script.call(HostOp::FilesCreate, &create).await.unwrap();
    let send = queue::Send { queue: "q", message: "1", delay_ms: 0, key: None, dedup: None };
    script.call(HostOp::QueueSend, &send).await.unwrap();
    api.call("PUT", "/apps/default/secrets/s", Some(json!({ "value": "v" }))).await.is(201);
    Account::of(&script, "somebody").await;
    let later =
        shared::host_call::invoke::InvokeAsync { script: "hello", args: "1", delay_ms: 0, attempts: 0 };
    script.call(HostOp::InvokeAsync, &later).await.unwrap();
    script
}

async fn run(conn: &mut PgConnection, sql: String) -> sqlx::Result<u64> {
    Ok(sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await?.rows_affected())
}

async fn count(conn: &mut PgConnection, table: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {table}"))).fetch_one(conn).await.unwrap()
}

async fn be(conn: &mut PgConnection, app: AppId) {
    run(conn, format!("set picloud.app = '{app}'")).await.unwrap();
}

#[tokio::test]
async fn attack_statements_without_a_where_on_everything_that_another_app_keeps() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    let (app, other) = (api.app_id("default").await, api.app_id("other").await);
    fill(&api).await;
    let mut conn = api.database.connect().await;
    run(&mut conn, format!("set role {ROW_SECURITY_ROLE}")).await.unwrap();
    for table in FILLED {
        assert_eq!(count(&mut conn, table).await, 0, "{table}, before anybody said whose it is");
    }
    be(&mut conn, other).await;
    for table in FILLED {
        assert_eq!(count(&mut conn, table).await, 0, "{table}, for another app");
        assert_eq!(run(&mut conn, format!("delete from {table}")).await.unwrap(), 0, "{table}");
    }
    be(&mut conn, app).await;
    for table in FILLED {
        assert_eq!(count(&mut conn, table).await, 1, "{table}, for the app itself");
    }
    // The keys to the instance are not there at all, whoever asks.
    for secret in ["password_hash from users", "* from sessions", "* from api_keys", "* from second_factors"]
    {
        let refused = run(&mut conn, format!("select {secret}")).await.unwrap_err();
        assert!(refused.to_string().contains("permission denied"), "{secret}: {refused}");
    }
    for change in ["update audit_log set action = 'a.b'", "update apps set name = 'x'", "delete from users"] {
        let refused = run(&mut conn, change.to_owned()).await.unwrap_err();
        assert!(refused.to_string().contains("permission denied"), "{change}: {refused}");
    }
}

#[tokio::test]
async fn what_scripts_ask_for_is_behind_the_wall() {
    let api = TestApi::start().await;
    let script = fill(&api).await;
    let has = async || script.call(HostOp::KvHas, &KEY).await.unwrap().read::<kv::Existed>().existed;
    assert!(has().await);
    api.database.execute("alter policy of_app on kv using (false)").await;
    assert!(!has().await, "nothing but the policy keeps it from the script");
    api.database.execute("alter policy of_app on kv using (app_id = current_app())").await;
    assert!(has().await);
    assert_eq!(row_security(&api.database.options()).await.unwrap(), RowSecurity::Holds);
}

#[tokio::test]
async fn what_people_write_is_behind_the_wall() {
    let api = TestApi::start().await;
    let writes = [
        ("kv", "PUT", "/apps/default/kv/c/k", json!({ "value": 1 })),
        ("docs", "POST", "/apps/default/docs/c", json!({ "data": {} })),
        ("files", "POST", "/apps/default/files/c?name=n", json!("content")),
    ];
    for (table, method, path, body) in writes {
        let set = async |policy: &str| {
            api.database.execute(&format!("alter policy of_app on {table} using ({policy})")).await;
        };
        set("false").await;
        api.call(method, path, Some(body.clone())).await.is_problem("internal");
        set("app_id = current_app()").await;
        let written = api.call(method, path, Some(body)).await;
        assert!(written.status.is_success(), "nothing but the policy was in the way: {written:?}");
    }
}

#[tokio::test]
async fn every_table_that_has_rows_of_apps_has_the_policy() {
    let api = TestApi::start().await;
    let without: String = api
        .database
        .scalar(
            "select coalesce(string_agg(relname, ', ' order by relname), '')
             from pg_class c
             join pg_attribute a on a.attrelid = c.oid and a.attname = 'app_id'
             where c.relkind = 'r'
               and c.relnamespace = 'public'::regnamespace
               and not exists (
                   select from pg_policy p
                   where p.polrelid = c.oid
                     and c.relrowsecurity
                     and pg_get_expr(p.polqual, p.polrelid) = '(app_id = current_app())')",
        )
        .await;
    assert_eq!(without, WITHOUT.join(", "), "a new table needs a line like those in add_row_security.sql");
}

#[tokio::test]
async fn a_user_who_may_not_put_the_wall_up_works_without_it_and_it_is_seen_that_there_is_none() {
    let database = TestDatabase::create().await;
    let user = format!("plain_{}", uuid::Uuid::now_v7().simple());
    // The role is there, because other tests' instances have made it.
    Manager::open(TestDatabase::create().await.options(), config()).await.unwrap().close().await;
    database.execute(&format!("create role {user} login; grant create on schema public to {user}")).await;
    let options = database.options().username(&user);
    assert_eq!(row_security(&options).await.unwrap(), RowSecurity::NotAllowed);
    let start = async || {
        let manager = Manager::open(options.clone(), config()).await.unwrap();
        manager.bootstrap(owner()).await.unwrap();
        manager
    };
    start().await.close().await;
    assert_eq!(row_security(&options).await.unwrap(), RowSecurity::NotAllowed);
    // What the doctor says to do.
    database.execute(&format!("grant {ROW_SECURITY_ROLE} to {user}")).await;
    start().await.close().await;
    assert_eq!(row_security(&options).await.unwrap(), RowSecurity::Holds);
    database.execute(&format!("drop owned by {user}; drop role {user}")).await;
}
