//! What is to change of an app's topics.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use shared::manifest::ManifestTopic;
use shared::name::TopicName;

use super::fields::changed;
use super::{Action, Change, Kind, Step};
use crate::store::topics::Topic;

pub(super) fn changes(current: &[Topic], wanted: &[ManifestTopic]) -> Vec<Change> {
    let existing: BTreeMap<&TopicName, &Topic> = current.iter().map(|topic| (&topic.name, topic)).collect();
    let mut changes = Vec::new();
    for (at, topic) in wanted.iter().enumerate() {
        let Some(old) = existing.get(&topic.name) else {
            changes.push(Change::new(Kind::Topic, &topic.name, Action::Create, Step::MakeTopic(at)));
            continue;
        };
        let fields = changed(&[
            ("external", old.external.into(), topic.external.into()),
            ("auth_mode", json!(old.auth_mode), json!(topic.auth_mode)),
            ("description", old.description.as_str().into(), topic.description.as_str().into()),
        ]);
        if !fields.is_empty() {
            let change = Change::new(Kind::Topic, &topic.name, Action::Update, Step::ChangeTopic(at));
            changes.push(Change { fields, ..change });
        }
    }
    let kept: BTreeSet<&TopicName> = wanted.iter().map(|topic| &topic.name).collect();
    for topic in current.iter().filter(|topic| !kept.contains(&topic.name)) {
        let step = Step::RemoveTopic(topic.name.clone());
        changes.push(Change::new(Kind::Topic, &topic.name, Action::Delete, step));
    }
    changes
}

/// Two topics of a manifest that have one name, by their places.
pub(crate) fn twins(topics: &[ManifestTopic]) -> Option<(usize, usize)> {
    let mut seen = BTreeMap::new();
    topics.iter().enumerate().find_map(|(at, topic)| seen.insert(&topic.name, at).map(|first| (first, at)))
}
