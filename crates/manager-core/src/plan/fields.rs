//! Fields that differ, as `{field: {from, to}}`.

use serde_json::{Map, Value, json};
use shared::limits::ScriptLimits;
use shared::route::RoutePolicy;

use super::WantedRoute;
use crate::store::routes::StoredRoute;

/// Those of the fields whose two values differ.
pub(super) fn changed(fields: &[(&str, Value, Value)]) -> Map<String, Value> {
    let differ = fields.iter().filter(|(_, from, to)| from != to);
    differ.map(|(name, from, to)| ((*name).to_owned(), json!({ "from": from, "to": to }))).collect()
}

pub(crate) fn limits(old: &ScriptLimits, new: &ScriptLimits) -> Map<String, Value> {
    let (old, mut new) = (object(old), object(new));
    let both = old.into_iter().map(|(name, from)| {
        let to = new.remove(&name).unwrap_or_default();
        (name, from, to)
    });
    let differ = both.filter(|(_, from, to)| from != to);
    differ.map(|(name, from, to)| (name, json!({ "from": from, "to": to }))).collect()
}

pub(super) fn route(old: &StoredRoute, new: &WantedRoute) -> Map<String, Value> {
    let host = new.host.as_ref().map_or_else(|| "any".to_owned(), ToString::to_string);
    let RoutePolicy { auth, cors, rate_limit, cache_control } = &old.policy;
    changed(&[
        // Names of parameters are no part of what makes two routes the same.
        ("host", old.host.as_str().into(), host.into()),
        ("path", old.path.as_str().into(), new.pattern.to_string().into()),
        ("dispatch_mode", json!(old.dispatch_mode), json!(new.dispatch)),
        ("script", old.script.as_str().into(), new.script.as_str().into()),
        ("body_limit_bytes", old.body_limit_bytes.into(), new.body_bytes_max.into()),
        ("auth", json!(auth), json!(new.policy.auth)),
        ("cors", json!(cors), json!(new.policy.cors)),
        ("rate_limit", json!(rate_limit), json!(new.policy.rate_limit)),
        ("cache_control", json!(cache_control), json!(new.policy.cache_control)),
    ])
}

fn object(limits: &ScriptLimits) -> Map<String, Value> {
    match serde_json::to_value(limits) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}
