//! What apps may use over time.

use serde_json::{Value, json};
use shared::id::AppId;
use shared::invocation::{ExecutionStatus, Refusal};

use crate::harness::{TestApi, record};
use crate::outbox::eventually;

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
    assert_eq!(seen["today"], json!({ "executions": 4, "fuel": 20, "requests": 0, "mails": 0 }));
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
async fn an_app_that_is_let_go_on_before_its_freezing_is_written_stays_so() {
    let mut api = TestApi::start().await;
    let app = api.app_id("default").await;
    set(&api, json!({ "fuel_per_day": 5, "on_exhausted": "freeze" })).await;
    run(&api, app, 1);
    let frozen = api.get("/apps/default/budgets").await;
    assert_eq!((&frozen.is(200)["frozen"], permit(&api, app)), (&json!(true), Err(Refusal::Frozen)));
    let raised = json!({ "fuel_per_day": 500, "on_exhausted": "freeze" });
    let mut request = api.request("PUT", "/apps/default/budgets", Some(raised));
    request.headers_mut().insert("if-match", frozen.headers["etag"].clone());
    assert_eq!(api.send(request).await.is(200)["frozen"], false, "the tag that was shown is the right one");
    api.restart().await;
    assert_eq!(permit(&api, app), Ok(()));
    assert_eq!(api.get("/apps/default/budgets").await.is(200)["frozen"], false);
}

#[tokio::test]
async fn what_was_sent_survives_a_restart_and_warns_and_stops_no_execution() {
    let mut api = TestApi::start().await;
    let app = api.app_id("default").await;
    set(&api, json!({ "requests_per_day": 10, "mails_per_day": 5 })).await;
    assert_eq!(usage(&api).await["level"], "ok");
    let today = "(now() at time zone 'utc')::date";
    api.database
        .execute(&format!(
            "insert into app_usage (app_id, day, executions, fuel, requests, mails)
             values ('{app}', {today}, 0, 0, 10, 3)"
        ))
        .await;
    api.restart().await;
    let seen = usage(&api).await;
    assert_eq!(seen["today"], json!({ "executions": 0, "fuel": 0, "requests": 10, "mails": 3 }));
    assert_eq!((&seen["days"][0]["requests"], &seen["days"][0]["mails"]), (&json!(10), &json!(3)));
    assert_eq!((&seen["level"], permit(&api, app)), (&json!("warn"), Ok(())));
    run(&api, app, 1);
    api.restart().await;
    let seen = usage(&api).await;
    assert_eq!(seen["today"], json!({ "executions": 1, "fuel": 5, "requests": 10, "mails": 3 }));
}

/// A worker that lies about fuel can say the most that an execution may burn, again and again.
#[tokio::test]
async fn attack_an_app_whose_counts_are_at_their_end_keeps_no_other_apps_from_being_written() {
    let mut api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    let (liar, other) = (api.app_id("default").await, api.app_id("other").await);
    let nearly = i64::MAX - 1;
    api.database
        .execute(&format!(
            "insert into app_usage (app_id, day, executions, fuel, requests, mails)
             values ('{liar}', (now() at time zone 'utc')::date, {nearly}, {nearly}, {nearly}, {nearly})"
        ))
        .await;
    run(&api, liar, 2);
    run(&api, other, 2);
    api.restart().await;
    let seen = api.get("/apps/other/usage").await.is(200)["today"].clone();
    assert_eq!(seen, json!({ "executions": 2, "fuel": 10, "requests": 0, "mails": 0 }));
    let most = json!({ "executions": i64::MAX, "fuel": i64::MAX, "requests": nearly, "mails": nearly });
    assert_eq!(usage(&api).await["today"], most);
}

#[tokio::test]
async fn a_compilation_is_charged_and_a_frozen_app_is_mended_by_a_deploy() {
    let mut api = TestApi::start().await;
    let app = api.app_id("default").await;
    set(&api, json!({ "fuel_per_day": 10, "executions_per_day": 1, "on_exhausted": "freeze" })).await;
    api.manager.recorder().compiled(app, 9);
    assert_eq!((&usage(&api).await["level"], permit(&api, app)), (&json!("warn"), Ok(())));
    api.manager.recorder().compiled(app, 1);
    assert_eq!(permit(&api, app), Err(Refusal::Frozen));
    api.deploy("default", "mended", "1").await.is(201);
    api.restart().await;
    let seen = usage(&api).await;
    assert_eq!(seen["today"], json!({ "executions": 0, "fuel": 10, "requests": 0, "mails": 0 }));
    assert_eq!(seen["level"], "freeze");
}

#[tokio::test]
async fn a_budget_of_nothing_or_of_unknown_fields_is_refused() {
    let api = TestApi::start().await;
    for (budget, field) in [
        (json!({ "fuel_per_minute": 0 }), "fuel_per_minute"),
        (json!({ "executions_per_day": -1 }), "executions_per_day"),
        (json!({ "requests_per_day": 0 }), "requests_per_day"),
        (json!({ "mails_per_day": 0 }), "mails_per_day"),
        (json!({ "data_bytes": 0 }), "data_bytes"),
    ] {
        let reply = api.call("PUT", "/apps/default/budgets", Some(budget)).await;
        assert_eq!(reply.is_problem("invalid_input")["field"], field);
    }
    let reply = api.call("PUT", "/apps/default/budgets", Some(json!({ "fuel": 1 }))).await;
    reply.is_problem("invalid_input");
}

/// What is set from here on is committed, and cannot be read.
async fn spoil(api: &TestApi) {
    api.database
        .execute(
            "alter table app_budgets drop constraint app_budgets_on_exhausted_check;
             create function spoil() returns trigger language plpgsql as $$
             begin new.on_exhausted := 'unreadable'; return new; end $$;
             create trigger spoil before update on app_budgets for each row execute function spoil()",
        )
        .await;
}

#[tokio::test]
async fn a_budget_that_could_not_be_read_after_its_commit_is_read_again_until_it_can_be() {
    let api = TestApi::start().await;
    let app = api.app_id("default").await;
    set(&api, json!({ "executions_per_day": 10 })).await;
    run(&api, app, 2);
    spoil(&api).await;
    let unread = api.call("PUT", "/apps/default/budgets", Some(json!({ "executions_per_day": 1 }))).await;
    assert!(unread.status.is_server_error(), "{unread:?}");
    assert_eq!(permit(&api, app), Ok(()));
    api.database
        .execute("drop trigger spoil on app_budgets; update app_budgets set on_exhausted = 'throttle'")
        .await;
    let refusal = eventually("it is read again", || async { permit(&api, app).err() }).await;
    assert!(matches!(refusal, Refusal::OverBudget { .. }), "{refusal:?}");
}

#[tokio::test]
async fn a_budget_that_cannot_be_read_keeps_no_other_from_being_read_again() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    let mut apps = [("default", api.app_id("default").await), ("other", api.app_id("other").await)];
    // They are read in this order.
    apps.sort_by_key(|(_, app)| *app);
    let set_all = async |budget: Value| {
        let mut are_read = Vec::new();
        for (slug, _) in apps {
            let reply = api.call("PUT", &format!("/apps/{slug}/budgets"), Some(budget.clone())).await;
            are_read.push(!reply.status.is_server_error());
        }
        are_read
    };
    assert_eq!(set_all(json!({ "executions_per_day": 10 })).await, [true, true]);
    apps.iter().for_each(|(_, app)| run(&api, *app, 2));
    spoil(&api).await;
    assert_eq!(set_all(json!({ "executions_per_day": 1 })).await, [false, false]);
    let [(_, first), (_, second)] = apps;
    api.database
        .execute(&format!(
            "drop trigger spoil on app_budgets;
             update app_budgets set on_exhausted = 'throttle' where app_id = '{second}'"
        ))
        .await;
    eventually("the second is read", || async { permit(&api, second).err() }).await;
    assert_eq!(permit(&api, first), Ok(()), "it still cannot be read");
    api.database.execute("update app_budgets set on_exhausted = 'throttle'").await;
    eventually("the first is read", || async { permit(&api, first).err() }).await;
}
