//! A whole app as one manifest: what `:apply` would make of an empty app.

use std::sync::Arc;

use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use shared::limits::{LimitsPatch, ScriptLimits};
use shared::manifest::{Manifest, ManifestRoute, ManifestScript, ManifestTopic, ManifestTrigger};
use shared::name::SecretName;
use shared::route::RoutePolicy;

use super::Admin;
use super::apply::{AppTag, read};
use super::precondition::{Resource, Tagged};
use super::problem::ApiError;
use crate::plan::{Current, CurrentScript};
use crate::store;
use crate::store::apps::App;
use crate::store::routes::StoredRoute;
use crate::store::topics::Topic;
use crate::store::triggers::StoredTrigger;

#[derive(Serialize, JsonSchema)]
pub(super) struct Exported {
    #[serde(flatten)]
    manifest: Manifest,
    /// The one that a plan has.
    #[serde(skip)]
    tag: AppTag,
}

impl Resource for Exported {
    fn state(&self) -> &impl Serialize {
        self.tag.state()
    }

    fn etag(&self) -> String {
        self.tag.etag()
    }
}

/// Everything is said, also what has its default: a later release may have another.
pub(super) async fn show(State(admin): State<Arc<Admin>>, app: App) -> Result<Tagged<Exported>, ApiError> {
    let current = read(&admin, &app).await?;
    let secrets = {
        let mut conn = admin.database.acquire().await?;
        store::secrets::names(&mut conn, app.id).await?
    };
    let tag = AppTag::of(&current);
    Ok(Tagged(Exported { manifest: manifest(current, &secrets), tag }))
}

fn manifest(current: Current, secrets: &[String]) -> Manifest {
    let Current { app, scripts, routes, triggers, topics } = current;
    Manifest {
        name: Some(app.name),
        description: Some(app.description),
        scripts: scripts.into_iter().map(|(name, current)| (name, script(current))).collect(),
        routes: routes.into_iter().map(route).collect(),
        triggers: triggers.into_iter().map(trigger).collect(),
        topics: topics.into_iter().map(topic).collect(),
        secrets: secrets.iter().filter_map(|name| name.parse::<SecretName>().ok()).collect(),
    }
}

fn script(CurrentScript { script, source }: CurrentScript) -> ManifestScript {
    let ScriptLimits {
        fuel,
        memory_mb,
        timeout_ms,
        max_operations,
        max_call_levels,
        max_expr_depth,
        response_bytes,
    } = script.limits;
    ManifestScript {
        source: source.text,
        kind: script.kind,
        limits: LimitsPatch {
            fuel: Some(fuel),
            memory_mb: Some(memory_mb),
            timeout_ms: Some(timeout_ms),
            max_operations: Some(max_operations),
            max_call_levels: Some(max_call_levels),
            max_expr_depth: Some(max_expr_depth),
            response_bytes: Some(response_bytes),
        },
        description: script.description,
    }
}

fn route(route: StoredRoute) -> ManifestRoute {
    let RoutePolicy { auth, cors, rate_limit, cache_control } = route.policy;
    ManifestRoute {
        method: route.method,
        host: route.hosts.map(|host| host.to_string()),
        path: route.path,
        script: route.script,
        dispatch_mode: Some(route.dispatch_mode.as_str().to_owned()),
        body_limit_bytes: Some(route.body_limit_bytes),
        auth,
        cors,
        rate_limit,
        cache_control,
    }
}

fn trigger(trigger: StoredTrigger) -> ManifestTrigger {
    ManifestTrigger {
        name: trigger.name,
        kind: trigger.kind.as_str().to_owned(),
        script: trigger.script,
        config: object(&trigger.config),
        retry: object(&trigger.retry),
        enabled: trigger.enabled,
    }
}

fn topic(topic: Topic) -> ManifestTopic {
    let Topic { name, external, auth_mode, description, .. } = topic;
    ManifestTopic { name, external, auth_mode, description }
}

fn object(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}
