use manager_core::{Manager, OpenError};
use shared::route::RoutingTable;

use crate::database::TestDatabase;
use crate::harness::{PASSWORD, TestApi, config, owner};

fn paths(table: &RoutingTable) -> Vec<String> {
    table.apps[0].routes.iter().map(|route| route.pattern.to_string()).collect()
}

#[tokio::test]
async fn a_first_start_makes_owner_app_script_and_routes_and_a_second_nothing() {
    let database = TestDatabase::create().await;
    let manager = Manager::open(database.options(), config()).await.unwrap();
    assert!(!manager.has_owner().await.unwrap());
    assert_eq!(manager.bootstrap(owner()).await.unwrap().as_deref(), Some("ada"));
    assert!(manager.has_owner().await.unwrap() && manager.is_ready().await);

    let table = manager.routes().current();
    assert_eq!(table.base_domain, "localhost");
    assert_eq!((table.apps[0].slug.as_str(), table.apps[0].is_default), ("default", true));
    assert_eq!(paths(&table), ["/", "/hello/:name"]);
    let target = &table.apps[0].routes[0].target;
    let bundle = manager.bundles().bundle(target.bundle).await.unwrap();
    assert!(bundle.source.contains("Hello, ${name}"));
    manager.close().await;

    let manager = Manager::open(database.options(), config()).await.unwrap();
    assert_eq!(paths(&manager.routes().current()), ["/", "/hello/:name"], "loaded before anyone asks");
    assert_eq!(manager.bootstrap(owner()).await.unwrap(), None);
    assert_eq!(database.scalar::<i64>("select count(*) from scripts").await, 1);
    manager.close().await;
}

#[tokio::test]
async fn two_first_starts_at_once_make_one_owner() {
    let database = TestDatabase::create().await;
    let open = async || Manager::open(database.options(), config()).await.unwrap();
    let (a, b) = tokio::join!(open(), open());
    let (first, second) = tokio::join!(a.bootstrap(owner()), b.bootstrap(owner()));
    let made = [first.unwrap(), second.unwrap()];
    assert_eq!(made.iter().flatten().count(), 1, "{made:?}");
    assert_eq!(database.scalar::<i64>("select count(*) from apps").await, 1);
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn a_newer_schema_is_refused_by_name() {
    let api = TestApi::start().await;
    let sql = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
               values (29991231000000, 'from the future', true, '\\x00', 0)";
    api.database.execute(sql).await;
    let error = Manager::open(api.database.options(), config()).await.unwrap_err();
    assert!(matches!(error, OpenError::NewerSchema { found: 29_991_231_000_000, .. }), "{error}");
    assert!(error.to_string().contains("made by a newer PiCloud"), "{error}");
}

#[tokio::test]
async fn a_closed_manager_is_not_ready() {
    let api = TestApi::start().await;
    api.manager.close().await;
    assert!(!api.manager.is_ready().await);
    api.login("ada", PASSWORD, None).await.is_problem("unavailable");
}
