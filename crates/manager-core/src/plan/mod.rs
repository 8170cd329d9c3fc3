//! What is to change for an app to be what a manifest says: two states in, a list of changes out. No
//! database here, and no compiler.

pub(crate) mod fields;
pub(crate) mod topics;
pub(crate) mod triggers;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use shared::host::HostPattern;
use shared::id::{RouteId, ScriptId, TriggerId};
use shared::limits::ScriptLimits;
use shared::manifest::ManifestTopic;
use shared::name::{ScriptName, TopicName};
use shared::route::{DispatchMode, PathPattern, RoutePolicy};
use shared::script::{Bundle, ScriptKind};

use self::fields::changed;
use self::triggers::WantedTrigger;
use crate::store::apps::App;
use crate::store::modules::Source;
use crate::store::routes::{RouteSpec, StoredRoute};
use crate::store::scripts::Script;
use crate::store::topics::Topic;
use crate::store::triggers::StoredTrigger;

/// An app as it is.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) app: App,
    pub(crate) scripts: BTreeMap<ScriptName, CurrentScript>,
    pub(crate) routes: Vec<StoredRoute>,
    pub(crate) triggers: Vec<StoredTrigger>,
    pub(crate) topics: Vec<Topic>,
}

#[derive(Debug)]
pub(crate) struct CurrentScript {
    pub(crate) script: Script,
    pub(crate) source: Source,
}

/// All of an app that a manifest can change: who plans with it and applies later wants it to be the same.
#[derive(Debug, Serialize)]
pub(crate) struct State<'a> {
    app: &'a App,
    scripts: Vec<&'a Script>,
    routes: &'a [StoredRoute],
    triggers: &'a [StoredTrigger],
    topics: &'a [Topic],
}

impl Current {
    pub(crate) fn state(&self) -> State<'_> {
        let scripts = self.scripts.values().map(|current| &current.script).collect();
        let Self { app, routes, triggers, topics, .. } = self;
        State { app, scripts, routes, triggers, topics }
    }
}

/// An app as it is to be: checked, and its scripts resolved to bundles that compile.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) scripts: BTreeMap<ScriptName, WantedScript>,
    pub(crate) routes: Vec<WantedRoute>,
    pub(crate) triggers: Vec<WantedTrigger>,
    pub(crate) topics: Vec<ManifestTopic>,
}

#[derive(Debug)]
pub(crate) struct WantedScript {
    pub(crate) bundle: Bundle,
    pub(crate) imports: Vec<String>,
    pub(crate) limits: ScriptLimits,
    pub(crate) description: String,
}

#[derive(Debug, Clone)]
pub(crate) struct WantedRoute {
    pub(crate) method: Option<String>,
    pub(crate) host: Option<HostPattern>,
    pub(crate) pattern: PathPattern,
    pub(crate) dispatch: DispatchMode,
    pub(crate) script: ScriptName,
    pub(crate) body_bytes_max: u32,
    pub(crate) policy: RoutePolicy,
}

impl WantedRoute {
    pub(crate) fn spec(&self, script: ScriptId) -> RouteSpec {
        let Self { method, host, pattern, dispatch, body_bytes_max, policy, .. } = self.clone();
        RouteSpec { method, host, pattern, dispatch, script, body_bytes_max, policy }
    }
}

/// One thing that is to change.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Change {
    pub(crate) kind: Kind,
    /// The app's slug, the name of the script or topic, the route as `GET host/path`, or the trigger as
    /// `cron nightly`.
    pub(crate) name: String,
    pub(crate) action: Action,
    /// `{field: {from, to}}` of what changes of something that is there; a source is not among them.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) fields: Map<String, Value>,
    /// What changes of a script's source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) diff: Option<String>,
    /// Only what the script imports changes.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) is_rebundled: bool,
    /// What a script that is there asks for and its live version does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) wants_more: Vec<String>,
    /// What a script asks for that somebody has to approve before it is live; nothing where the app does not
    /// require that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) unapproved: Vec<String>,
    #[serde(skip)]
    pub(crate) step: Step,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    App,
    Script,
    Route,
    Trigger,
    Topic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    Create,
    Update,
    Delete,
}

/// How a change is made.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    SetApp,
    Deploy(ScriptName),
    RemoveScript(ScriptName, ScriptId),
    /// By its place in the manifest.
    MakeRoute(usize),
    ChangeRoute(RouteId, usize),
    RemoveRoute(RouteId),
    /// By its place in the manifest.
    MakeTrigger(usize),
    ChangeTrigger(TriggerId, usize),
    RemoveTrigger(TriggerId),
    /// By its place in the manifest.
    MakeTopic(usize),
    ChangeTopic(usize),
    RemoveTopic(TopicName),
}

/// A script is to become of another kind, which none can.
#[derive(Debug, thiserror::Error)]
#[error("{name} is of kind {}, and a script keeps its kind; give the new one another name", is.as_str())]
pub(crate) struct KindChanges {
    pub(crate) name: ScriptName,
    pub(crate) is: ScriptKind,
}

/// Everything that is to change; nothing when the app is what it is to be.
pub(crate) fn changes(current: &Current, wanted: &Wanted) -> Result<Vec<Change>, KindChanges> {
    let mut changes = app_change(&current.app, wanted);
    for (name, script) in &wanted.scripts {
        changes.extend(script_change(name, current.scripts.get(name), script)?);
    }
    for (name, CurrentScript { script, .. }) in &current.scripts {
        if !wanted.scripts.contains_key(name) {
            let step = Step::RemoveScript(name.clone(), script.id);
            changes.push(Change::new(Kind::Script, name, Action::Delete, step));
        }
    }
    changes.extend(route_changes(&current.routes, &wanted.routes));
    changes.extend(triggers::changes(&current.triggers, &wanted.triggers));
    changes.extend(topics::changes(&current.topics, &wanted.topics));
    Ok(changes)
}

impl Change {
    fn new(kind: Kind, name: impl ToString, action: Action, step: Step) -> Self {
        let (name, fields, diff, is_rebundled) = (name.to_string(), Map::new(), None, false);
        let (wants_more, unapproved) = (Vec::new(), Vec::new());
        Self { kind, name, action, fields, diff, is_rebundled, wants_more, unapproved, step }
    }
}

fn app_change(app: &App, wanted: &Wanted) -> Vec<Change> {
    let name = wanted.name.as_ref().unwrap_or(&app.name);
    let description = wanted.description.as_ref().unwrap_or(&app.description);
    let fields = changed(&[
        ("name", app.name.as_str().into(), name.as_str().into()),
        ("description", app.description.as_str().into(), description.as_str().into()),
    ]);
    if fields.is_empty() {
        return Vec::new();
    }
    vec![Change { fields, ..Change::new(Kind::App, &app.slug, Action::Update, Step::SetApp) }]
}

fn script_change(
    name: &ScriptName,
    current: Option<&CurrentScript>,
    wanted: &WantedScript,
) -> Result<Option<Change>, KindChanges> {
    let step = Step::Deploy(name.clone());
    let Some(CurrentScript { script, source }) = current else {
        return Ok(Some(Change::new(Kind::Script, name, Action::Create, step)));
    };
    if script.kind != wanted.bundle.kind {
        return Err(KindChanges { name: name.clone(), is: script.kind });
    }
    let mut fields = fields::limits(&script.limits, &wanted.limits);
    let description = (script.description.as_str().into(), wanted.description.as_str().into());
    fields.extend(changed(&[("description", description.0, description.1)]));
    let is_other_bundle = script.bundle_hash != wanted.bundle.hash();
    if fields.is_empty() && !is_other_bundle {
        return Ok(None);
    }
    let is_rebundled = is_other_bundle && source.text == wanted.bundle.source;
    Ok(Some(Change { fields, is_rebundled, ..Change::new(Kind::Script, name, Action::Update, step) }))
}

/// Routes are the same when they answer the same requests.
type RouteKey = (String, String, String);

fn route_changes(current: &[StoredRoute], wanted: &[WantedRoute]) -> Vec<Change> {
    let existing: BTreeMap<RouteKey, &StoredRoute> =
        current.iter().map(|route| (key_of(route), route)).collect();
    let mut kept = BTreeSet::new();
    let mut changes = Vec::new();
    for (at, route) in wanted.iter().enumerate() {
        let key = key(route.method.as_deref(), route.host.as_ref(), &route.pattern.shape());
        let label = label(route.method.as_deref(), route.host.as_ref(), &route.pattern.to_string());
        match existing.get(&key) {
            None => changes.push(Change::new(Kind::Route, label, Action::Create, Step::MakeRoute(at))),
            Some(old) => {
                kept.insert(old.id);
                let fields = fields::route(old, route);
                if !fields.is_empty() {
                    let step = Step::ChangeRoute(old.id, at);
                    changes.push(Change { fields, ..Change::new(Kind::Route, label, Action::Update, step) });
                }
            }
        }
    }
    for route in current.iter().filter(|route| !kept.contains(&route.id)) {
        let label = label(route.method.as_deref(), route.hosts.as_ref(), &route.path);
        changes.push(Change::new(Kind::Route, label, Action::Delete, Step::RemoveRoute(route.id)));
    }
    changes
}

fn key_of(route: &StoredRoute) -> RouteKey {
    let shape =
        route.path.parse().map_or_else(|_| route.path.clone(), |pattern: PathPattern| pattern.shape());
    key(route.method.as_deref(), route.hosts.as_ref(), &shape)
}

fn key(method: Option<&str>, host: Option<&HostPattern>, shape: &str) -> RouteKey {
    let host = host.map(HostPattern::shape).unwrap_or_default();
    (method.unwrap_or_default().to_owned(), host, shape.to_owned())
}

fn label(method: Option<&str>, host: Option<&HostPattern>, path: &str) -> String {
    let host = host.map(ToString::to_string).unwrap_or_default();
    format!("{} {host}{path}", method.unwrap_or("ANY"))
}

/// Two routes of a manifest that answer the same requests, by their places.
pub(crate) fn twins(routes: &[WantedRoute]) -> Option<(usize, usize)> {
    let mut seen = BTreeMap::new();
    routes.iter().enumerate().find_map(|(at, route)| {
        let key = key(route.method.as_deref(), route.host.as_ref(), &route.pattern.shape());
        seen.insert(key, at).map(|first| (first, at))
    })
}
