//! Workers that misbehave, and quarantine.

use std::sync::Arc;

use serde_json::{Value, json};
use shared::id::ExecutionId;
use shared::incident::{Incident, Misconduct, Suspect};
use shared::invocation::{ExecutionStatus, Refusal, ScriptTarget};

use crate::harness::{TestApi, record};
use crate::outbox::eventually;

async fn target(api: &TestApi, script: &str) -> Arc<ScriptTarget> {
    target_in(api, "default", script).await
}

async fn target_in(api: &TestApi, slug: &str, script: &str) -> Arc<ScriptTarget> {
    let app = api.app_id(slug).await;
    let shown = api.get(&format!("/apps/{slug}/scripts/{script}")).await.is(200).clone();
    let any = ScriptTarget::clone(&record(app, ExecutionStatus::Ok).target);
    let (id, bundle) = (shown["id"].as_str().unwrap(), shown["bundle_hash"].as_str().unwrap());
    let (id, bundle, name) = (id.parse().unwrap(), bundle.parse().unwrap(), script.parse().unwrap());
    Arc::new(ScriptTarget { script: id, bundle, name, ..any })
}

/// A script that is quarantined, and an editor of its app who has no other right.
async fn quarantined(api: &mut TestApi, source: &str) -> TestApi {
    api.deploy("default", "evil", source).await.is(201);
    let evil = target(api, "evil").await;
    report(api, &evil, 3);
    api.restart().await;
    let editor = api.person("eve", "member").await;
    api.post("/apps/default/members", json!({ "user": "eve", "role": "editor" })).await.is(201);
    editor
}

/// As the pool asks before each execution.
async fn permit(api: &TestApi, slug: &str, script: &str) -> Result<(), Refusal> {
    api.manager.permits().permit(&*target_in(api, slug, script).await)
}

/// In workers that ran this script alone.
fn report(api: &TestApi, target: &Arc<ScriptTarget>, count: usize) {
    report_as(api, target, true, count);
}

fn report_as(api: &TestApi, target: &Arc<ScriptTarget>, is_alone: bool, count: usize) {
    for _ in 0..count {
        api.manager.incidents().report(incident(target, Misconduct::ForbiddenCall, is_alone));
    }
}

fn incident(target: &Arc<ScriptTarget>, misconduct: Misconduct, is_alone: bool) -> Incident {
    let suspect = Suspect::Execution { execution: ExecutionId::new(), target: Arc::clone(target) };
    Incident { suspect: Some(suspect), misconduct, is_alone, detail: "the worker was killed".into() }
}

/// What the audit log says that workers did.
async fn audited(api: &TestApi, action: &str) -> Vec<Value> {
    let entries = api.get(&format!("/audit?action={action}")).await.is(200)["items"].clone();
    entries.as_array().unwrap().clone()
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
async fn a_quarantine_whose_commit_was_not_answered_holds_from_the_next_incident_on() {
    let mut api = TestApi::start().await;
    api.deploy("default", "evil", "666").await.is(201);
    let (evil, permits) = (target(&api, "evil").await, api.manager.permits());
    // As such a commit leaves it.
    api.database
        .execute(
            "insert into quarantines (app_id, script_id, bundle_hash)
             select v.app_id, v.script_id, v.bundle_hash
             from script_versions v",
        )
        .await;
    report(&api, &evil, 3);
    api.restart().await;
    assert_eq!(permits.permit(&evil), Err(Refusal::Quarantined));
    assert_eq!(audited(&api, "script.quarantine").await.len(), 0, "whoever committed it has said so");
}

#[tokio::test]
async fn what_is_quarantined_is_read_again_after_a_commit_that_failed() {
    let mut api = TestApi::start().await;
    drop(quarantined(&mut api, "666").await);
    api.deploy("default", "calm", "1").await.is(201);
    // A release that was committed and not answered, and one that fails.
    api.database
        .execute(
            "insert into quarantines (app_id, script_id, bundle_hash)
             select v.app_id, v.script_id, v.bundle_hash
             from script_versions v join scripts s on s.app_id = v.app_id and s.id = v.script_id
             where s.name = 'calm';
             delete from quarantines q using scripts s where s.id = q.script_id and s.name = 'evil';
             create function refuse() returns trigger language plpgsql as $$
             begin raise exception 'the disk is full' using errcode = '53100'; end $$;
             create constraint trigger refuse after update on scripts deferrable initially deferred
             for each row execute function refuse()",
        )
        .await;
    assert_eq!(permit(&api, "default", "evil").await, Err(Refusal::Quarantined));
    assert_eq!(permit(&api, "default", "calm").await, Ok(()));
    api.post("/apps/default/scripts/calm:release", json!({})).await.is_problem("unavailable");
    eventually("it is read again", || async { permit(&api, "default", "evil").await.ok() }).await;
    assert_eq!(permit(&api, "default", "calm").await, Err(Refusal::Quarantined));
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
async fn attack_an_editor_does_not_end_a_quarantine_by_removing_the_script() {
    let mut api = TestApi::start().await;
    let editor = quarantined(&mut api, "666").await;
    let path = "/apps/default/scripts/evil?force=true";
    let refused = editor.call("DELETE", path, None).await;
    assert_eq!(refused.is_problem("conflict")["quarantined"], json!(["evil"]));
    let manifest = json!({ "scripts": { "other": { "source": "1" } }, "routes": [] });
    let refused = editor.post("/apps/default:apply", manifest).await;
    assert_eq!(refused.is_problem("conflict")["quarantined"], json!(["evil"]));
    assert_eq!(permit(&api, "default", "evil").await, Err(Refusal::Quarantined));

    api.call("DELETE", path, None).await.is(204);
    api.deploy("default", "evil", "666").await.is(201);
    assert_eq!(permit(&api, "default", "evil").await, Ok(()), "who may release it may remove it");
    api.restart().await;
    assert_eq!(permit(&api, "default", "evil").await, Ok(()));
}

#[tokio::test]
async fn attack_an_editor_does_not_run_what_is_quarantined_under_another_name() {
    let mut api = TestApi::start().await;
    let editor = quarantined(&mut api, "666").await;
    editor.deploy("default", "innocent", "666").await.is(201);
    editor.deploy("default", "good", "1").await.is(201);
    api.post("/apps", json!({ "slug": "blog" })).await.is(201);
    api.deploy("blog", "evil", "666").await.is(201);
    for _ in 0..2 {
        assert_eq!(permit(&api, "default", "innocent").await, Err(Refusal::Quarantined));
        assert_eq!(permit(&api, "default", "good").await, Ok(()));
        assert_eq!(permit(&api, "blog", "evil").await, Ok(()), "another app has nothing to do with it");
        api.restart().await;
    }
    let editor = api.with_token(editor.token.clone());
    let shown = editor.get("/apps/default/scripts/innocent").await;
    assert!(!shown.is(200)["quarantined_at"].is_null(), "its people see why it does not run");
    editor.post("/apps/default/scripts/innocent:release", json!({})).await.is_problem("forbidden");

    api.post("/apps/default/scripts/innocent:release", json!({})).await.is(204);
    for script in ["innocent", "evil"] {
        assert_eq!(permit(&api, "default", script).await, Ok(()), "{script}");
    }
}

#[tokio::test]
async fn what_mends_a_quarantined_script_is_deployed_by_its_people_and_runs_when_it_is_released() {
    let mut api = TestApi::start().await;
    let editor = quarantined(&mut api, "666").await;
    editor.deploy("default", "evil", "7").await.is(200);
    assert_eq!(permit(&api, "default", "evil").await, Err(Refusal::Quarantined));
    editor.deploy("default", "as_it_was", "666").await.is(201);
    assert_eq!(permit(&api, "default", "as_it_was").await, Err(Refusal::Quarantined));
    api.post("/apps/default/scripts/evil:release", json!({})).await.is(204);
    assert_eq!(permit(&api, "default", "evil").await, Ok(()));
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
    let entries = audited(&api, "worker.violation").await;
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!((&entries[0]["target"], &entries[0]["app_id"]), (&json!("worker"), &json!(null)));
}

#[tokio::test]
async fn a_compilation_that_is_suspected_is_in_the_audit_log_of_its_app() {
    let mut api = TestApi::start().await;
    let app = api.app_id("default").await;
    let suspect = Some(Suspect::Compilation(app));
    let detail = "the worker was killed".into();
    let incident = Incident { suspect, misconduct: Misconduct::Crash, is_alone: false, detail };
    api.manager.incidents().report(incident);
    api.restart().await;
    let entries = audited(&api, "worker.violation").await;
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!((&entries[0]["target"], &entries[0]["app_id"]), (&json!("compilation"), &json!(app)));
}

#[tokio::test]
async fn who_uses_up_a_workers_memory_is_in_the_audit_log_and_is_not_quarantined_for_it() {
    let mut api = TestApi::start().await;
    api.deploy("default", "greedy", "1").await.is(201);
    let greedy = target(&api, "greedy").await;
    for _ in 0..4 {
        api.manager.incidents().report(incident(&greedy, Misconduct::OutOfMemory, true));
    }
    api.restart().await;
    assert_eq!(api.manager.permits().permit(&greedy), Ok(()));
    let entries = audited(&api, "worker.out_of_memory").await;
    assert_eq!(entries.len(), 4, "{entries:?}");
    let entry = (&entries[0]["target"], &entries[0]["app_id"]);
    assert_eq!(entry, (&json!("greedy"), &json!(greedy.app)));
    assert!(api.all_pages("/apps/default/incidents", 50).await.is_empty());
}

#[tokio::test]
async fn an_incident_of_an_app_that_was_deleted_meanwhile_is_in_the_audit_log() {
    let mut api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "blog" })).await.is(201);
    api.deploy("blog", "evil", "1").await.is(201);
    let evil = target_in(&api, "blog", "evil").await;
    api.call("DELETE", "/apps/blog?force=true", None).await.is(204);
    report(&api, &evil, 3);
    api.restart().await;
    let entries = audited(&api, "worker.violation").await;
    assert_eq!(entries.len(), 3, "{entries:?}");
    assert_eq!((&entries[0]["target"], &entries[0]["app_id"]), (&json!("evil"), &json!(evil.app)));
    assert_eq!(audited(&api, "script.quarantine").await.len(), 0, "there is nothing left to quarantine");
}
