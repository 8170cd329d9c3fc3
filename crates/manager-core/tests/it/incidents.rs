//! Workers that misbehave, and quarantine.

use std::sync::Arc;

use serde_json::json;
use shared::id::ExecutionId;
use shared::incident::{Incident, Misconduct, Suspect};
use shared::invocation::{ExecutionStatus, Refusal, ScriptTarget};

use crate::harness::{TestApi, record};

async fn target(api: &TestApi, script: &str) -> Arc<ScriptTarget> {
    let app = api.app_id("default").await;
    let id = api.get(&format!("/apps/default/scripts/{script}")).await.is(200)["id"].clone();
    let any = ScriptTarget::clone(&record(app, ExecutionStatus::Ok).target);
    let (script, name) = (id.as_str().unwrap().parse().unwrap(), script.parse().unwrap());
    Arc::new(ScriptTarget { script, name, ..any })
}

/// In workers that ran this script alone.
fn report(api: &TestApi, target: &Arc<ScriptTarget>, count: usize) {
    report_as(api, target, true, count);
}

fn report_as(api: &TestApi, target: &Arc<ScriptTarget>, is_alone: bool, count: usize) {
    let sink = api.manager.incidents();
    for _ in 0..count {
        sink.report(Incident {
            suspect: Some(Suspect { execution: ExecutionId::new(), target: Arc::clone(target) }),
            misconduct: Misconduct::ForbiddenCall,
            is_alone,
            detail: "the worker was killed by SIGSYS".into(),
        });
    }
}

#[tokio::test]
async fn a_script_with_three_incidents_in_an_hour_is_quarantined_until_it_is_released() {
    let mut api = TestApi::start().await;
    api.deploy("default", "evil", "1").await.is(201);
    api.deploy("default", "good", "2").await.is(201);
    let (evil, good) = (target(&api, "evil").await, target(&api, "good").await);
    report(&api, &evil, 2);
    api.restart().await;
    assert_eq!(api.manager.permits().permit(&evil), Ok(()), "two are not enough");
    let permits = api.manager.permits();
    report(&api, &evil, 1);
    api.restart().await;
    assert_eq!(permits.permit(&evil), Err(Refusal::Quarantined), "it was told at once");
    let permits = api.manager.permits();
    assert_eq!(permits.permit(&evil), Err(Refusal::Quarantined), "and it is kept");
    assert_eq!(permits.permit(&good), Ok(()));

    api.post("/apps/default/scripts/evil:release", json!({})).await.is(204);
    assert_eq!(permits.permit(&evil), Ok(()));
    report(&api, &evil, 2);
    api.restart().await;
    assert_eq!(api.manager.permits().permit(&evil), Ok(()), "what was before the release is forgiven");

    let incidents = api.all_pages("/apps/default/incidents", 2).await;
    assert_eq!(incidents.len(), 5);
    assert_eq!(
        (&incidents[0]["script"], &incidents[0]["misconduct"]),
        (&json!("evil"), &json!("forbidden_call"))
    );
}

#[tokio::test]
async fn a_script_is_not_quarantined_for_what_may_be_its_neighbours_doing() {
    let mut api = TestApi::start().await;
    api.deploy("default", "popular", "1").await.is(201);
    let popular = target(&api, "popular").await;
    report_as(&api, &popular, false, 30);
    report(&api, &popular, 2);
    api.restart().await;
    assert_eq!(api.manager.permits().permit(&popular), Ok(()));
    let incidents = api.all_pages("/apps/default/incidents", 50).await;
    assert_eq!((&incidents[0]["is_alone"], &incidents[31]["is_alone"]), (&json!(true), &json!(false)));
}

#[tokio::test]
async fn only_a_quarantined_script_can_be_released() {
    let api = TestApi::start().await;
    api.deploy("default", "calm", "1").await.is(201);
    api.post("/apps/default/scripts/calm:release", json!({})).await.is_problem("conflict");
    api.post("/apps/default/scripts/none:release", json!({})).await.is_problem("not_found");
    let reply = api.post("/apps/default/scripts/calm", json!({})).await;
    reply.is_problem("method_not_allowed");
}

#[tokio::test]
async fn what_nobody_is_suspected_of_is_in_the_audit_log() {
    let mut api = TestApi::start().await;
    let nobody =
        |misconduct| Incident { suspect: None, misconduct, is_alone: false, detail: "exit code 0".into() };
    api.manager.incidents().report(nobody(Misconduct::Crash));
    api.restart().await;
    let entries = api.get("/audit?action=worker.violation").await.is(200)["items"].clone();
    assert_eq!(entries.as_array().unwrap().len(), 1, "{entries}");
    assert_eq!((&entries[0]["target"], &entries[0]["app_id"]), (&json!("worker"), &json!(null)));
}
