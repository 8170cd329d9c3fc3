//! A whole app as one document: what `pic` sends and what the server makes the app be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::limits::LimitsPatch;
use crate::name::{ScriptName, SecretName, TopicName, TriggerName};
use crate::route::{Cors, RateLimit, RouteAuth};
use crate::script::ScriptKind;
use crate::topic::TopicAuth;

/// Everything an app is to have. What is not in it, the app will not have either; only its settings,
/// domains, members and budgets are no part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Manifest {
    /// For people. Left as it is unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Left as it is unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default)]
    pub scripts: BTreeMap<ScriptName, ManifestScript>,
    #[serde(default)]
    pub routes: Vec<ManifestRoute>,
    #[serde(default)]
    pub triggers: Vec<ManifestTrigger>,
    #[serde(default)]
    pub topics: Vec<ManifestTopic>,
    /// Secrets that the app must have, by name: their values are no part of a manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretName>,
}

/// A script as it is to be live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ManifestScript {
    pub source: String,
    #[serde(default)]
    pub kind: ScriptKind,
    #[serde(default)]
    pub limits: LimitsPatch,
    #[serde(default)]
    pub description: String,
}

/// A route as it is to be. What is absent has its default, not what it had before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ManifestRoute {
    /// `ANY` or absent for any method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// `any` or absent for all hosts of the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    pub path: String,
    pub script: ScriptName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatch_mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_limit_bytes: Option<u32>,
    #[serde(default)]
    pub auth: RouteAuth,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
}

/// A trigger as it is to be. What is absent has its default, not what it had before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ManifestTrigger {
    /// By which it is known again when what it does changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<TriggerName>,
    /// `cron`, `kv`, `docs`, `files`, `pubsub`, `queue`, `dead_letter` or `webhook`.
    pub kind: String,
    pub script: ScriptName,
    /// What there is depends on the kind, and is checked where the kinds are known.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// `max_attempts`, `backoff`, `base_ms` and `cap_ms`.
    #[serde(default)]
    pub retry: Map<String, Value>,
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// A topic as it is to be registered. What is absent has its default, not what it had before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ManifestTopic {
    pub name: TopicName,
    /// Whether somebody outside may listen.
    #[serde(default)]
    pub external: bool,
    /// What they need for it.
    #[serde(default)]
    pub auth_mode: TopicAuth,
    #[serde(default)]
    pub description: String,
}

const fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_there_yet_is_refused_by_name() {
        for key in ["indexes", "queues", "script"] {
            let error = serde_json::from_str::<Manifest>(&format!("{{\"{key}\": []}}")).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&format!("unknown field `{key}`")) && text.contains("`routes`"), "{text}");
        }
        assert_eq!(serde_json::from_str::<Manifest>("{}").unwrap(), Manifest::default());
    }

    proptest! {
        #[test]
        fn a_manifest_is_read_as_it_was_written(
            scripts in proptest::collection::btree_map("[a-z]{1,3}", ".{0,9}", 0..4),
            routes in proptest::collection::vec(("(/[a-z:]{1,3}){1,2}", "[a-z]{1,3}", any::<bool>()), 0..4),
            topics in proptest::collection::vec(("[a-z]{1,3}(\\.[a-z]{1,3}){0,2}", any::<[bool; 2]>()), 0..4),
            triggers in proptest::collection::vec((".{0,5}", "[a-z]{1,3}", any::<u16>()), 0..4),
            secrets in proptest::collection::vec("[a-z][a-z.-]{0,5}", 0..4),
        ) {
            let script = |(name, source): (String, String)| {
                let kind = ScriptKind::default();
                let script =
                    ManifestScript { description: source.clone(), source, kind, limits: LimitsPatch::default() };
                (name.parse().unwrap(), script)
            };
            let route = |(path, script, has_method): (String, String, bool)| ManifestRoute {
                method: has_method.then(|| "GET".to_owned()),
                host: None,
                path,
                script: script.parse().unwrap(),
                dispatch_mode: None,
                body_limit_bytes: None,
                auth: RouteAuth::None,
                cors: None,
                rate_limit: None,
                cache_control: None,
            };
            let topic = |(name, [external, is_public]): (String, [bool; 2])| ManifestTopic {
                name: name.parse().unwrap(),
                external,
                auth_mode: if is_public { TopicAuth::Public } else { TopicAuth::Token },
                description: String::new(),
            };
            let trigger = |(kind, script, attempts): (String, String, u16)| ManifestTrigger {
                name: None,
                kind: kind.clone(),
                script: script.parse().unwrap(),
                config: Map::from_iter([(kind, attempts.into())]),
                retry: Map::from_iter([("max_attempts".to_owned(), attempts.into())]),
                enabled: attempts % 2 == 0,
            };
            let manifest = Manifest {
                name: None,
                description: Some("x".to_owned()),
                scripts: scripts.into_iter().map(script).collect(),
                routes: routes.into_iter().map(route).collect(),
                triggers: triggers.into_iter().map(trigger).collect(),
                topics: topics.into_iter().map(topic).collect(),
                secrets: secrets.into_iter().map(|name| name.parse().unwrap()).collect(),
            };
            let text = serde_json::to_string(&manifest).unwrap();
            prop_assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), manifest);
        }

        #[test]
        fn arbitrary_json_never_panics(text in r#"[{}\[\]":,a-z0-9 ]{0,60}"#) {
            let _ = serde_json::from_str::<Manifest>(&text);
        }
    }
}
