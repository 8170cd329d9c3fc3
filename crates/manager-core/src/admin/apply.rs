//! A whole app at once: what a manifest would change, and changing it in one transaction.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;
use shared::fault::Code;
use shared::id::{TriggerId, UserId};
use shared::limits::{MANIFEST_BYTES_MAX, SOURCES_BYTES_MAX};
use shared::manifest::Manifest;
use shared::name::{ScriptName, SecretName};
use sqlx::postgres::PgConnection;

use super::denials::Denied;
use super::foreseen::note_wants;
use super::precondition::{Preconditions, Resource, Tagged, etag_of};
use super::problem::ApiError;
use super::read::Json;
use super::version_diff::compared;
use super::{Admin, access, manifest, routes, scripts, triggers};
use crate::audit::{self, Entry};
use crate::auth::{Capability, Principal, Standing};
use crate::deploy::{Awaiting, Deploy, deploy, make_room};
use crate::diff;
use crate::plan::triggers::WantedTrigger;
use crate::plan::{Action, Change, Current, CurrentScript, KindChanges, Step, Wanted, changes};
use crate::store::apps::App;
use crate::store::scripts::Script;
use crate::{secrets, store};

type ManifestBody = Json<Manifest, MANIFEST_BYTES_MAX>;

#[derive(Serialize, JsonSchema)]
pub(super) struct PlanAnswer {
    /// Nothing when the app is as the manifest says.
    changes: Vec<Change>,
    create: usize,
    update: usize,
    delete: usize,
    is_applied: bool,
    /// Secrets that the manifest asks for and the app does not have: it cannot be applied before.
    missing_secrets: Vec<SecretName>,
    /// Versions that an apply kept and that are not live, because they ask for more and the app requires that
    /// somebody approves that. In a plan, `unapproved` of a change says that it would be one of them.
    awaiting: Vec<AwaitingScript>,
    /// The tag of the app as it was for a plan, and as it is after an apply.
    #[serde(skip)]
    tag: AppTag,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct AwaitingScript {
    name: ScriptName,
    #[serde(flatten)]
    awaiting: Awaiting,
}

/// The tag of all of the app that a manifest can change.
pub(super) struct AppTag(String);

impl AppTag {
    pub(super) fn of(current: &Current) -> Self {
        Self(etag_of(&current.state()))
    }
}

impl Resource for AppTag {
    fn state(&self) -> &impl Serialize {
        &self.0
    }

    fn etag(&self) -> String {
        self.0.clone()
    }
}

impl Resource for PlanAnswer {
    fn state(&self) -> &impl Serialize {
        self.tag.state()
    }

    fn etag(&self) -> String {
        self.tag.etag()
    }
}

pub(super) async fn plan(
    State(admin): State<Arc<Admin>>,
    app: App,
    preconditions: Preconditions,
    Json(manifest): ManifestBody,
) -> Result<Tagged<PlanAnswer>, ApiError> {
    let current = read(&admin, &app).await?;
    let tag = AppTag::of(&current);
    preconditions.check(Some(&tag))?;
    let needed = manifest.secrets.clone();
    let wanted = manifest::resolve(&admin, &current, manifest).await?;
    let mut changes = changes(&current, &wanted)?;
    let missing = {
        let mut conn = admin.database.acquire().await?;
        refuse_strange_hosts(&mut conn, &admin, &app, &wanted).await?;
        note_wants(&mut conn, &current, &wanted, &mut changes).await?;
        secrets::missing(&mut conn, app.id, &needed).await?
    };
    let changes = with_diffs(current, wanted, changes).await?;
    Ok(Tagged(PlanAnswer { missing_secrets: missing, ..PlanAnswer::new(changes, false, tag) }))
}

pub(super) async fn apply(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    standing: Standing,
    app: App,
    preconditions: Preconditions,
    Json(manifest): ManifestBody,
) -> Result<Tagged<PlanAnswer>, ApiError> {
    let needed = manifest.secrets.clone();
    let wanted = {
        // Compiled before anything is locked; what is live by then is looked at again under the lock.
        let before = read(&admin, &app).await?;
        manifest::resolve(&admin, &before, manifest).await?
    };
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let current = current(&mut tx, &app).await?;
    let tag = AppTag::of(&current);
    preconditions.check(Some(&tag))?;
    refuse_strange_hosts(&mut tx, &admin, &app, &wanted).await?;
    refuse_missing_secrets(secrets::missing(&mut tx, app.id, &needed).await?)?;
    let mut changes = changes(&current, &wanted)?;
    // Whoever may deploy may not rename.
    if changes.iter().any(|change| matches!(change.step, Step::SetApp)) {
        refuse_renaming(&admin, &principal, standing, &app)?;
    }
    let removed: Vec<_> = changes.iter().filter_map(|change| removed(&current, &change.step)).collect();
    scripts::refuse_escape(&principal, standing, removed.iter().copied())?;
    if changes.is_empty() {
        return Ok(Tagged(PlanAnswer::new(changes, true, tag)));
    }
    note_wants(&mut tx, &current, &wanted, &mut changes).await?;
    let mut awaiting = Vec::new();
    for change in ordered(&changes) {
        let waits = make(&mut tx, &current.app, &wanted, &change.step, principal.user.id).await?;
        awaiting.extend(waits);
    }
    store::bundles::forget_unused(&mut tx, app.id).await?;
    make_room(&mut tx, app.id).await?;
    let tag = AppTag::of(&self::current(&mut tx, &app).await?);
    let entries = changes.iter().map(|change| {
        let waits =
            matches!(&change.step, Step::Deploy(name) if awaiting.iter().any(|one| one.name == *name));
        let action = if waits { "script.propose" } else { action_name(change) };
        Entry::new(&principal, action, &change.name).on(app.id).after(change)
    });
    audit::append_all(&mut tx, entries.collect()).await?;
    scripts::publish_removal(&admin, tx, removed.iter().map(|script| script.id).collect()).await?;
    Ok(Tagged(PlanAnswer { awaiting, ..PlanAnswer::new(changes, true, tag) }))
}

impl PlanAnswer {
    fn new(changes: Vec<Change>, is_applied: bool, tag: AppTag) -> Self {
        let count = |action| changes.iter().filter(|change| change.action == action).count();
        let [create, update, delete] = [Action::Create, Action::Update, Action::Delete].map(count);
        let (missing_secrets, awaiting) = (Vec::new(), Vec::new());
        Self { changes, create, update, delete, is_applied, missing_secrets, awaiting, tag }
    }
}

impl From<KindChanges> for ApiError {
    fn from(error: KindChanges) -> Self {
        Self::new(Code::Conflict, error.to_string()).with("field", format!("scripts.{}.kind", error.name))
    }
}

/// The app as of one commit.
pub(super) async fn read(admin: &Admin, app: &App) -> Result<Current, ApiError> {
    let mut tx = admin.database.begin_snapshot().await?;
    let current = current(&mut tx, app).await?;
    tx.commit().await?;
    Ok(current)
}

async fn current(conn: &mut PgConnection, app: &App) -> Result<Current, ApiError> {
    let app = store::apps::by_id(conn, app.id).await?.ok_or_else(access::no_app)?;
    refuse_too_large(store::modules::live_bytes(conn, app.id, None).await?, &app)?;
    let scripts = store::scripts::of_app(conn, app.id).await?;
    let names: Vec<String> = scripts.iter().map(|script| script.name.to_string()).collect();
    let mut sources: HashMap<_, _> =
        store::modules::sources(conn, app.id, &names).await?.into_iter().collect();
    let scripts = scripts.into_iter().filter_map(|script| {
        let source = sources.remove(script.name.as_str())?;
        Some((script.name.clone(), CurrentScript { script, source }))
    });
    let scripts = scripts.collect();
    let routes = store::routes::of_app(conn, app.id).await?;
    let triggers = store::triggers::of_app(conn, app.id).await?;
    let topics = store::topics::of_app(conn, app.id).await?;
    Ok(Current { app, scripts, routes, triggers, topics })
}

/// They would be in memory together. An app can have more from before there was a limit, and by going back to longer
/// versions.
fn refuse_too_large(bytes: i64, app: &App) -> Result<(), ApiError> {
    if bytes <= SOURCES_BYTES_MAX as i64 {
        return Ok(());
    }
    let detail = format!(
        "the sources of the app's scripts are {bytes} bytes together, and a whole app is read only up to \
         {SOURCES_BYTES_MAX}; read the scripts one by one, at /apps/{}/scripts/{{name}}, and remove or shorten some there",
        app.slug
    );
    Err(ApiError::new(Code::Conflict, detail))
}

async fn refuse_strange_hosts(
    conn: &mut PgConnection,
    admin: &Admin,
    app: &App,
    wanted: &Wanted,
) -> Result<(), ApiError> {
    for host in wanted.routes.iter().filter_map(|route| route.host.as_ref()) {
        routes::refuse_strange_host(conn, admin, app, host).await?;
    }
    Ok(())
}

/// The script that this change removes.
fn removed<'a>(current: &'a Current, step: &Step) -> Option<&'a Script> {
    let Step::RemoveScript(name, _) = step else { return None };
    current.scripts.get(name).map(|current| &current.script)
}

fn refuse_renaming(
    admin: &Admin,
    principal: &Principal,
    standing: Standing,
    app: &App,
) -> Result<(), ApiError> {
    let needed = Capability::AdministerApp;
    access::decide(principal, needed, standing).map_err(|denial| {
        admin.denials.record(Denied::of_a_body(app, principal, needed, "apply", denial.clone()));
        access::refusal(denial)
    })
}

/// A script without a key it needs would fail at its first request, and not here.
fn refuse_missing_secrets(missing: Vec<SecretName>) -> Result<(), ApiError> {
    let Some(first) = missing.first() else { return Ok(()) };
    let detail =
        format!("the manifest asks for secrets that the app does not have, such as {first}; set them first");
    let names: Vec<String> = missing.into_iter().map(String::from).collect();
    Err(ApiError::new(Code::Conflict, detail).with("missing_secrets", names))
}

/// Routes and triggers that go make room first; scripts that go, go when nothing leads to them any more.
fn ordered(changes: &[Change]) -> Vec<&Change> {
    let rank = |change: &&Change| match change.step {
        Step::RemoveRoute(_) | Step::RemoveTrigger(_) | Step::RemoveTopic(_) => 0,
        Step::Deploy(_) => 1,
        Step::MakeRoute(_) | Step::ChangeRoute(..) => 2,
        Step::MakeTrigger(_) | Step::ChangeTrigger(..) => 2,
        Step::MakeTopic(_) | Step::ChangeTopic(_) => 2,
        Step::RemoveScript(..) => 3,
        Step::SetApp => 4,
    };
    let mut ordered: Vec<_> = changes.iter().collect();
    ordered.sort_by_key(rank);
    ordered
}

/// Makes one change; answers the version that a deploy let wait.
async fn make(
    conn: &mut PgConnection,
    app: &App,
    wanted: &Wanted,
    step: &Step,
    by: UserId,
) -> Result<Option<AwaitingScript>, ApiError> {
    match step {
        Step::RemoveRoute(id) => {
            store::routes::delete(conn, app.id, *id).await?;
        }
        Step::RemoveScript(_, id) => store::scripts::delete(conn, app.id, *id).await?,
        Step::Deploy(name) => {
            let script = &wanted.scripts[name];
            let description = Some(script.description.as_str());
            let (bundle, imports, limits) = (&script.bundle, script.imports.as_slice(), script.limits);
            let deployed = Deploy { app: app.id, name, bundle, imports, limits, description, by };
            let deployed = deploy(conn, deployed).await?;
            let named = |awaiting| AwaitingScript { name: name.clone(), awaiting };
            return Ok(deployed.awaiting.map(named));
        }
        Step::MakeRoute(at) | Step::ChangeRoute(_, at) => {
            let route = &wanted.routes[*at];
            let script = store::scripts::by_name(conn, app.id, &route.script).await?;
            let spec = route.spec(script.ok_or(sqlx::Error::RowNotFound)?.id);
            match step {
                Step::ChangeRoute(id, _) => store::routes::update(conn, app.id, *id, &spec).await?,
                _ => drop(store::routes::create(conn, app.id, &spec).await?),
            }
        }
        Step::RemoveTrigger(id) => {
            store::triggers::delete(conn, app.id, *id).await?;
        }
        Step::MakeTrigger(at) => make_trigger(conn, app, &wanted.triggers[*at], None, by).await?,
        Step::ChangeTrigger(id, at) => make_trigger(conn, app, &wanted.triggers[*at], Some(*id), by).await?,
        Step::MakeTopic(at) => store::topics::create(conn, app.id, &wanted.topics[*at]).await?,
        Step::ChangeTopic(at) => store::topics::update(conn, app.id, &wanted.topics[*at]).await?,
        Step::RemoveTopic(name) => store::topics::delete(conn, app.id, name).await?,
        Step::SetApp => {
            let (name, description) = (wanted.name.as_deref(), wanted.description.as_deref());
            let change = store::apps::Change { name, description, ..store::apps::Change::default() };
            store::apps::update(conn, app.id, change).await?;
        }
    }
    Ok(None)
}

/// Makes a trigger, or makes one that is there what is wanted. Who applies stands behind what is new.
async fn make_trigger(
    conn: &mut PgConnection,
    app: &App,
    wanted: &WantedTrigger,
    is: Option<TriggerId>,
    by: UserId,
) -> Result<(), ApiError> {
    let script = store::scripts::by_name(conn, app.id, &wanted.script).await?;
    let spec = wanted.spec(script.ok_or(sqlx::Error::RowNotFound)?.id);
    let refused = |error| triggers::refused(error, &spec);
    let Some(id) = is else {
        let id = store::triggers::create(conn, app.id, &spec, by).await.map_err(refused)?;
        triggers::begin_times(conn, app, id, &spec, None).await?;
        return Ok(());
    };
    let old = triggers::find(conn, app, id).await?;
    store::triggers::update(conn, app.id, id, &spec).await.map_err(refused)?;
    triggers::begin_times(conn, app, id, &spec, Some(&old)).await?;
    if (spec.script, &spec.config) != (old.script_id, &old.config) {
        store::triggers::register(conn, app.id, id, by).await?;
    }
    Ok(())
}

/// As the audit log calls it when it is done by itself.
const fn action_name(change: &Change) -> &'static str {
    match change.step {
        Step::SetApp => "app.update",
        Step::Deploy(_) => "script.deploy",
        Step::RemoveScript(..) => "script.delete",
        Step::MakeRoute(_) => "route.create",
        Step::ChangeRoute(..) => "route.update",
        Step::RemoveRoute(_) => "route.delete",
        Step::MakeTrigger(_) => "trigger.create",
        Step::ChangeTrigger(..) => "trigger.update",
        Step::RemoveTrigger(_) => "trigger.delete",
        Step::MakeTopic(_) => "topic.create",
        Step::ChangeTopic(_) => "topic.update",
        Step::RemoveTopic(_) => "topic.delete",
    }
}

/// Shows what changes of each source.
async fn with_diffs(current: Current, wanted: Wanted, changes: Vec<Change>) -> Result<Vec<Change>, ApiError> {
    compared(move || {
        let mut changes = changes;
        let until = diff::deadline();
        for change in &mut changes {
            let name = match &change.step {
                Step::Deploy(name) | Step::RemoveScript(name, _) => name,
                _ => continue,
            };
            let old = current.scripts.get(name).map(|script| script.source.text.as_str());
            let new = wanted.scripts.get(name).map(|script| script.bundle.source.as_str());
            let diff = diff::of_file(&diff::file_name(name.as_str()), old, new, until);
            change.diff = Some(diff).filter(|diff| !diff.is_empty());
        }
        changes
    })
    .await
}
