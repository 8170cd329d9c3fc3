//! What is to change of an app's triggers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use shared::id::ScriptId;
use shared::name::{ScriptName, TriggerName};

use super::fields::changed;
use super::{Action, Change, Kind, Step};
use crate::events::triggers::{RetryPolicy, TriggerConfig};
use crate::store::triggers::{StoredTrigger, TriggerSpec};

#[derive(Debug, Clone)]
pub(crate) struct WantedTrigger {
    pub(crate) name: Option<TriggerName>,
    pub(crate) script: ScriptName,
    pub(crate) config: TriggerConfig,
    pub(crate) retry: RetryPolicy,
    pub(crate) enabled: bool,
}

impl WantedTrigger {
    pub(crate) fn spec(&self, script: ScriptId) -> TriggerSpec {
        let Self { name, config, retry, enabled, .. } = self.clone();
        TriggerSpec { name, script, config, retry, enabled }
    }
}

/// Triggers are the same when kind and name are; those without a name when they do the same.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key(&'static str, String);

pub(super) fn changes(current: &[StoredTrigger], wanted: &[WantedTrigger]) -> Vec<Change> {
    let existing: BTreeMap<Key, &StoredTrigger> =
        current.iter().map(|trigger| (key_of(trigger), trigger)).collect();
    let mut kept = BTreeSet::new();
    let mut changes = Vec::new();
    for (at, trigger) in wanted.iter().enumerate() {
        let label = label(trigger.name.as_ref(), &trigger.config, &trigger.script);
        match existing.get(&key(trigger.name.as_ref(), &trigger.config, &trigger.script)) {
            None => changes.push(Change::new(Kind::Trigger, label, Action::Create, Step::MakeTrigger(at))),
            Some(old) => {
                kept.insert(old.id);
                let fields = changed(&[
                    ("script", old.script.as_str().into(), trigger.script.as_str().into()),
                    ("config", json!(old.config), json!(trigger.config)),
                    ("retry", json!(old.retry), json!(trigger.retry)),
                    ("enabled", old.enabled.into(), trigger.enabled.into()),
                ]);
                if !fields.is_empty() {
                    let step = Step::ChangeTrigger(old.id, at);
                    changes
                        .push(Change { fields, ..Change::new(Kind::Trigger, label, Action::Update, step) });
                }
            }
        }
    }
    // Also twins without a name, of which the manifest can mean only one.
    for trigger in current.iter().filter(|trigger| !kept.contains(&trigger.id)) {
        let label = label(trigger.name.as_ref(), &trigger.config, &trigger.script);
        changes.push(Change::new(Kind::Trigger, label, Action::Delete, Step::RemoveTrigger(trigger.id)));
    }
    changes
}

/// Two triggers of a manifest that are the same, by their places.
pub(crate) fn twins(triggers: &[WantedTrigger]) -> Option<(usize, usize)> {
    let mut seen = BTreeMap::new();
    triggers.iter().enumerate().find_map(|(at, trigger)| {
        let key = key(trigger.name.as_ref(), &trigger.config, &trigger.script);
        seen.insert(key, at).map(|first| (first, at))
    })
}

fn key_of(trigger: &StoredTrigger) -> Key {
    key(trigger.name.as_ref(), &trigger.config, &trigger.script)
}

fn key(name: Option<&TriggerName>, config: &TriggerConfig, script: &ScriptName) -> Key {
    let kind = config.kind().as_str();
    match name {
        Some(name) => Key(kind, name.to_string()),
        // No name has a brace.
        None => Key(kind, format!("{}{script}", json!(config))),
    }
}

/// `cron nightly`, or `cron → report` of one without a name.
fn label(name: Option<&TriggerName>, config: &TriggerConfig, script: &ScriptName) -> String {
    let kind = config.kind().as_str();
    match name {
        Some(name) => format!("{kind} {name}"),
        None => format!("{kind} → {script}"),
    }
}
