//! From a manifest to the state it asks for: every field checked, every script compiled with what it
//! imports. The scripts of a manifest import each other and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shared::fault::Code;
use shared::limits::{
    BODY_BYTES_DEFAULT, MANIFEST_ROUTES_MAX, MANIFEST_SCRIPTS_MAX, REBUNDLE_BYTES_MAX, ScriptLimits,
    TOPICS_MAX, TRIGGERS_MAX,
};
use shared::manifest::{Manifest, ManifestRoute, ManifestScript, ManifestTopic, ManifestTrigger};
use shared::name::ScriptName;
use shared::route::RoutePolicy;
use shared::script::{Bundle, Import, ScriptKind};

use super::compile::{Verified, unresolved};
use super::problem::ApiError;
use super::{Admin, apps, routes, scripts, topics, triggers};
use crate::events::triggers::{Kind, RetryPatch, RetryPolicy};
use crate::modules::{PlanError, graph};
use crate::plan::topics::twins as topic_twins;
use crate::plan::triggers::{WantedTrigger, twins as trigger_twins};
use crate::plan::{Current, CurrentScript, Wanted, WantedRoute, WantedScript, twins};
use crate::store::modules::Source;

/// A script of the manifest on its way to a bundle.
struct Draft {
    source: Source,
    /// Where its imports are, for messages; empty for a script that is live as it is.
    places: Vec<Import>,
    limits: ScriptLimits,
    description: String,
}

/// For compiling all scripts: a thousand ordinary ones take a sixth of it. One that is made to take
/// long must not keep the workers busy a thousand times over.
const COMPILE_PATIENCE: Duration = Duration::from_secs(60);

/// The state that the manifest asks for. What is live already is not compiled again.
pub(super) async fn resolve(
    admin: &Admin,
    current: &Current,
    manifest: Manifest,
) -> Result<Wanted, ApiError> {
    match tokio::time::timeout(COMPILE_PATIENCE, resolve_all(admin, current, manifest)).await {
        Ok(resolved) => resolved,
        Err(_) => {
            let message = format!("compiling all scripts took over {} s", COMPILE_PATIENCE.as_secs());
            Err(ApiError::new(Code::CompileError, message.clone()).with("message", message))
        }
    }
}

async fn resolve_all(admin: &Admin, current: &Current, manifest: Manifest) -> Result<Wanted, ApiError> {
    let Manifest { name, description, scripts, routes, triggers, topics, .. } = manifest;
    let name = name.map(apps::name).transpose()?;
    let description = description.map(apps::description).transpose()?;
    for (field, count, most) in [
        ("scripts", scripts.len(), MANIFEST_SCRIPTS_MAX),
        ("routes", routes.len(), MANIFEST_ROUTES_MAX),
        ("triggers", triggers.len(), TRIGGERS_MAX),
        ("topics", topics.len(), TOPICS_MAX),
    ] {
        check_count(field, count, most)?;
    }
    let routes = wanted_routes(&scripts, routes)?;
    let triggers = wanted_triggers(&scripts, triggers)?;
    let topics = wanted_topics(topics)?;
    let mut verified = Verified::default();
    let mut drafts = BTreeMap::new();
    for (name, script) in scripts {
        let draft = draft(admin, current, &mut verified, &name, script).await?;
        drafts.insert(name, draft);
    }
    let scripts = bundles(admin, current, &mut verified, drafts).await?;
    Ok(Wanted { name, description, scripts, routes, triggers, topics })
}

fn check_count(field: &str, count: usize, most: usize) -> Result<(), ApiError> {
    if count > most {
        let detail = format!("the manifest has {count} {field}; at most {most} are allowed");
        return Err(ApiError::invalid(detail).with("field", field));
    }
    Ok(())
}

/// Names the part of the manifest that an error is about.
fn within(part: &str, mut error: ApiError) -> ApiError {
    let field = error.extra.get("field").and_then(|field| field.as_str()).map(ToOwned::to_owned);
    let place = field.map_or_else(|| part.to_owned(), |field| format!("{part}.{field}"));
    error.detail = format!("{part}: {}", error.detail).into();
    error.with("field", place)
}

fn wanted_routes(
    scripts: &BTreeMap<ScriptName, ManifestScript>,
    routes: Vec<ManifestRoute>,
) -> Result<Vec<WantedRoute>, ApiError> {
    let mut wanted = Vec::with_capacity(routes.len());
    for (at, route) in routes.into_iter().enumerate() {
        let route = wanted_route(scripts, route).map_err(|error| within(&format!("routes[{at}]"), error))?;
        wanted.push(route);
    }
    if let Some((first, second)) = twins(&wanted) {
        let detail = format!("routes[{first}] and routes[{second}] answer the same requests");
        return Err(ApiError::invalid(detail).with("field", format!("routes[{second}].path")));
    }
    Ok(wanted)
}

fn wanted_route(
    scripts: &BTreeMap<ScriptName, ManifestScript>,
    route: ManifestRoute,
) -> Result<WantedRoute, ApiError> {
    let dispatch = route.dispatch_mode.as_deref().map(routes::mode).transpose()?.unwrap_or_default();
    refuse_module(scripts, &route.script)?;
    let ManifestRoute { auth, cors, rate_limit, cache_control, .. } = route;
    let policy = RoutePolicy { auth, cors, rate_limit, cache_control };
    policy.check()?;
    Ok(WantedRoute {
        method: route.method.as_deref().map(routes::method).transpose()?.flatten(),
        host: route.host.as_deref().map(routes::host).transpose()?.flatten(),
        pattern: routes::pattern(&route.path)?,
        dispatch,
        script: route.script,
        body_bytes_max: routes::body_limit(route.body_limit_bytes.unwrap_or(BODY_BYTES_DEFAULT))?,
        policy,
    })
}

fn wanted_triggers(
    scripts: &BTreeMap<ScriptName, ManifestScript>,
    triggers: Vec<ManifestTrigger>,
) -> Result<Vec<WantedTrigger>, ApiError> {
    let mut wanted = Vec::with_capacity(triggers.len());
    for (at, trigger) in triggers.into_iter().enumerate() {
        let trigger = wanted_trigger(scripts, trigger);
        wanted.push(trigger.map_err(|error| within(&format!("triggers[{at}]"), error))?);
    }
    if let Some((first, second)) = trigger_twins(&wanted) {
        let detail = format!("triggers[{first}] and triggers[{second}] are the same; give each a name");
        return Err(ApiError::invalid(detail).with("field", format!("triggers[{second}]")));
    }
    Ok(wanted)
}

fn wanted_trigger(
    scripts: &BTreeMap<ScriptName, ManifestScript>,
    trigger: ManifestTrigger,
) -> Result<WantedTrigger, ApiError> {
    let ManifestTrigger { name, kind, script, config, retry, enabled } = trigger;
    refuse_module(scripts, &script)?;
    let kind: Kind =
        kind.parse().map_err(|error| ApiError::invalid(format!("{error}")).with("field", "kind"))?;
    let retry: RetryPatch = serde_json::from_value(retry.into())
        .map_err(|error| ApiError::invalid(format!("retry: {error}")).with("field", "retry"))?;
    let config = triggers::config(kind, &config.into())?;
    let retry = triggers::retry(retry, RetryPolicy::default())?;
    Ok(WantedTrigger { name, script, config, retry, enabled })
}

fn wanted_topics(topics: Vec<ManifestTopic>) -> Result<Vec<ManifestTopic>, ApiError> {
    let mut wanted = Vec::with_capacity(topics.len());
    for (at, topic) in topics.into_iter().enumerate() {
        let topic = topics::checked(topic);
        wanted.push(topic.map_err(|error| within(&format!("topics[{at}]"), error))?);
    }
    if let Some((first, second)) = topic_twins(&wanted) {
        let detail = format!("topics[{first}] and topics[{second}] have the same name");
        return Err(ApiError::invalid(detail).with("field", format!("topics[{second}].name")));
    }
    Ok(wanted)
}

/// Only an endpoint of the manifest can run by itself.
fn refuse_module(
    scripts: &BTreeMap<ScriptName, ManifestScript>,
    script: &ScriptName,
) -> Result<(), ApiError> {
    let detail = match scripts.get(script).map(|script| script.kind) {
        Some(ScriptKind::Endpoint) => return Ok(()),
        Some(ScriptKind::Module) => {
            format!("{script} is a module, and only an endpoint can run by itself")
        }
        None => format!("the manifest has no script {script:?}"),
    };
    Err(ApiError::invalid(detail).with("field", "script"))
}

/// Checks a script and finds out what it imports.
async fn draft(
    admin: &Admin,
    current: &Current,
    verified: &mut Verified,
    name: &ScriptName,
    script: ManifestScript,
) -> Result<Draft, ApiError> {
    let ManifestScript { source, kind, limits, description } = script;
    let part = format!("scripts.{name}");
    let limits = scripts::check(&source, Some(&description), limits).map_err(|error| within(&part, error))?;
    let live = current.scripts.get(name).map(|script| &script.source);
    if let Some(live) = live.filter(|live| live.text == source && live.kind == kind) {
        return Ok(Draft { source: live.clone(), places: Vec::new(), limits, description });
    }
    let single = Arc::new(Bundle::single(kind, name.as_str(), source));
    let places = verified.compile(admin, &current.app, &single, limits, None).await?;
    let imports = places.iter().map(|import| import.name.clone()).collect();
    let source = Source { kind, text: single.source.clone(), imports };
    Ok(Draft { source, places, limits, description })
}

async fn bundles(
    admin: &Admin,
    current: &Current,
    verified: &mut Verified,
    drafts: BTreeMap<ScriptName, Draft>,
) -> Result<BTreeMap<ScriptName, WantedScript>, ApiError> {
    let sources: graph::Sources =
        drafts.iter().map(|(name, draft)| (name.to_string(), draft.source.clone())).collect();
    let mut bytes = 0;
    let mut wanted = BTreeMap::new();
    for (name, Draft { source, places, limits, description }) in drafts {
        let bundle = graph::bundle(name.as_str(), &source, &sources).map_err(|error| {
            let error = PlanError::Import { script: name.to_string(), error };
            unresolved(error, &name, &source.text, &places)
        })?;
        bytes += bundle.source.len() + bundle.modules.iter().map(|module| module.source.len()).sum::<usize>();
        if bytes > REBUNDLE_BYTES_MAX {
            let detail = format!("the scripts with their modules are over {REBUNDLE_BYTES_MAX} bytes");
            return Err(ApiError::new(Code::BodyTooLarge, detail).with("field", "scripts"));
        }
        let bundle = Arc::new(bundle);
        let live = current.scripts.get(&name).map(|CurrentScript { script, .. }| script);
        if live.is_none_or(|live| (live.bundle_hash, live.limits) != (bundle.hash(), limits)) {
            verified.compile(admin, &current.app, &bundle, limits, None).await?;
        }
        let bundle = Arc::unwrap_or_clone(bundle);
        wanted.insert(name, WantedScript { bundle, imports: source.imports, limits, description });
    }
    Ok(wanted)
}
