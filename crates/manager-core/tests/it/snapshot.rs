use std::time::Duration;

use serde_json::json;
use sqlx::Connection;
use tower::ServiceExt;

use crate::harness::TestApi;

fn live_version(api: &TestApi) -> u32 {
    api.manager.routes().current().apps[0].routes[0].target.version
}

/// Looks again until the condition holds. The deadline is only there to end a test that fails.
async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking).await.expect("it never became true");
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_router_behind() {
    let api = TestApi::start().await;
    // A deploy does not touch this table and the routing table is read from it: the deploy stops
    // exactly between its commit and showing it to the router.
    let mut blocker = api.database.connect().await;
    let mut lock = blocker.begin().await.unwrap();
    sqlx::query("lock table routes in access exclusive mode").execute(&mut *lock).await.unwrap();

    let request = api.request("PUT", "/apps/default/scripts/hello", Some(json!({ "source": "2" })));
    let caller = tokio::spawn(api.router.clone().oneshot(request));
    until(async || api.database.scalar::<i64>("select max(number)::bigint from script_versions").await == 2)
        .await;
    assert!(!caller.is_finished(), "the answer comes after the router knows");
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    assert_eq!(live_version(&api), 1);

    lock.rollback().await.unwrap();
    until(async || live_version(&api) == 2).await;
}
