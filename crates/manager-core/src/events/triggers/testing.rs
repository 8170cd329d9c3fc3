//! Triggers for tests of what asks for them.

use std::sync::Arc;

use serde_json::Value;
use shared::id::{AppId, ScriptId, TriggerId, UserId};
use shared::invocation::ScriptTarget;
use shared::limits::ScriptLimits;
use shared::script::BundleHash;

use super::{Kind, RetryPolicy, Trigger, TriggerConfig};

/// One that is switched on.
pub(crate) fn trigger(app: AppId, kind: Kind, config: &Value) -> Trigger {
    let target = ScriptTarget {
        app,
        app_slug: "app".parse().unwrap(),
        owner: UserId::new(),
        script: ScriptId::new(),
        name: "script".parse().unwrap(),
        version: 1,
        bundle: BundleHash([0; 32]),
        limits: ScriptLimits::default(),
        may_invoke: true,
    };
    Trigger {
        id: TriggerId::new(),
        app,
        config: TriggerConfig::parse(kind, config).unwrap(),
        retry: RetryPolicy::default(),
        target: Arc::new(target),
        is_script_disabled: false,
        is_enabled: true,
        paused: None,
        registered_by: None,
    }
}
