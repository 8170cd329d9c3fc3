//! What apps may use over time.

use serde_json::{Value, json};
use shared::id::AppId;
use shared::invocation::{ExecutionStatus, Refusal};

use crate::harness::{TestApi, record};

/// Ends as many executions of the app, each of 5 fuel.
fn run(api: &TestApi, app: AppId, count: usize) {
    let ledger = api.manager.recorder();
    (0..count).for_each(|_| ledger.record(record(app, ExecutionStatus::Ok)));
}

fn permit(api: &TestApi, app: AppId) -> Result<(), Refusal> {
    api.manager.permits().permit(&record(app, ExecutionStatus::Ok).target)
}

async fn set(api: &TestApi, budget: Value) {
    api.call("PUT", "/apps/default/budgets", Some(budget)).await.is(200);
}

async fn usage(api: &TestApi) -> Value {
    api.get("/apps/default/usage").await.is(200).clone()
}

#[tokio::test]
async fn an_app_is_refused_when_its_budget_is_used_up_and_let_go_when_it_is_raised() {
    let api = TestApi::start().await;
    let app = api.app_id("default").await;
    set(&api, json!({ "executions_per_day": 10 })).await;
    run(&api, app, 8);
    assert_eq!((permit(&api, app), &usage(&api).await["level"]), (Ok(()), &json!("warn")));
    run(&api, app, 2);
    assert!(matches!(permit(&api, app), Err(Refusal::OverBudget { retry_after_s: 1..=86_400 })));
    assert_eq!(permit(&api, AppId::new()), Ok(()), "another app has its own");
    let seen = usage(&api).await;
    assert_eq!((&seen["level"], &seen["today"]["executions"]), (&json!("throttle"), &json!(10)));
    set(&api, json!({ "executions_per_day": 100 })).await;
    assert_eq!(permit(&api, app), Ok(()));
}

#[tokio::test]
async fn what_was_used_survives_a_restart() {
    let mut api = TestApi::start().await;
    let app = api.app_id("default").await;
    set(&api, json!({ "fuel_per_day": 16 })).await;
    run(&api, app, 2);
    api.restart().await;
    assert_eq!(permit(&api, app), Ok(()));
    run(&api, app, 2);
    api.restart().await;
    assert!(matches!(permit(&api, app), Err(Refusal::OverBudget { .. })));
    let seen = usage(&api).await;
    assert_eq!(seen["today"], json!({ "executions": 4, "fuel": 20 }));
    assert_eq!((&seen["days"][0]["executions"], &seen["days"][0]["fuel"]), (&json!(4), &json!(20)));
    assert_eq!(seen["budget"]["fuel_per_day"], 16);
}

#[tokio::test]
async fn an_app_that_froze_stays_frozen_until_somebody_lets_it_go_on() {
    let mut api = TestApi::start().await;
    let app = api.app_id("default").await;
    set(&api, json!({ "fuel_per_day": 5, "on_exhausted": "freeze" })).await;
    run(&api, app, 1);
    assert_eq!(permit(&api, app), Err(Refusal::Frozen));
    api.restart().await;
    assert_eq!(permit(&api, app), Err(Refusal::Frozen));
    assert_eq!(api.get("/apps/default/budgets").await.is(200)["frozen"], true);
    set(&api, json!({ "fuel_per_day": 500, "on_exhausted": "freeze", "frozen": false })).await;
    assert_eq!(permit(&api, app), Ok(()));
}

#[tokio::test]
async fn a_budget_of_nothing_or_of_unknown_fields_is_refused() {
    let api = TestApi::start().await;
    for (budget, field) in [
        (json!({ "fuel_per_minute": 0 }), "fuel_per_minute"),
        (json!({ "executions_per_day": -1 }), "executions_per_day"),
    ] {
        let reply = api.call("PUT", "/apps/default/budgets", Some(budget)).await;
        assert_eq!(reply.is_problem("invalid_input")["field"], field);
    }
    let reply = api.call("PUT", "/apps/default/budgets", Some(json!({ "fuel": 1 }))).await;
    reply.is_problem("invalid_input");
}
