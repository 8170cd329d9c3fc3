//! `dead_letter`: an event that was given up on. Its handler is never retried, and what it fails at
//! becomes no dead letter of its own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::id::TriggerId;
use shared::name::ScriptName;

use super::Kind;

/// Which dead letters are meant; all of the app's unless it says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetterConfig {
    /// Those of triggers of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<Kind>,
    /// Those of this trigger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trigger_id: Option<TriggerId>,
    /// Those that this script failed at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) script: Option<ScriptName>,
}

/// What is known of a dead letter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'a> {
    /// Absent for an event of no trigger, such as an asynchronous request.
    pub(crate) kind: Option<Kind>,
    pub(crate) trigger: Option<TriggerId>,
    pub(crate) script: &'a ScriptName,
}

impl DeadLetterConfig {
    pub(super) fn wants(&self, given: Given<'_>) -> bool {
        (self.kind.is_none() || self.kind == given.kind)
            && (self.trigger_id.is_none() || self.trigger_id == given.trigger)
            && self.script.as_ref().is_none_or(|script| script == given.script)
    }
}
