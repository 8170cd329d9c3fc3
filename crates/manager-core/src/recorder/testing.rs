//! Records for this folder's tests.

use std::sync::Arc;

use shared::cause::Cause;
use shared::guest_abi::InvocationType;
use shared::id::{AppId, ExecutionId, ScriptId, UserId};
use shared::invocation::{ExecutionRecord, ExecutionStatus, ScriptTarget, Usage};
use shared::limits::ScriptLimits;
use shared::script::BundleHash;

pub(super) fn record(status: ExecutionStatus) -> ExecutionRecord {
    let target = ScriptTarget {
        app: AppId::new(),
        app_slug: "blog".parse().unwrap(),
        owner: UserId::new(),
        script: ScriptId::new(),
        name: "hello".parse().unwrap(),
        version: 1,
        bundle: BundleHash([7; 32]),
        limits: ScriptLimits::default(),
        may_invoke: true,
    };
    let id = ExecutionId::new();
    ExecutionRecord {
        id,
        request_id: "r1".into(),
        target: Arc::new(target),
        invocation_type: InvocationType::Http,
        cause: Cause::root(id),
        delivery: None,
        status,
        http_status: Some(200),
        started_at_us: 1_700_000_000_000_000,
        usage: Usage::default(),
        failure: None,
        logs: Arc::default(),
    }
}
