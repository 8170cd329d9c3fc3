//! Scripts: deploy, read, remove.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::capabilities::Capabilities;
use shared::fault::Code;
use shared::id::ScriptId;
use shared::limits::{
    self, DEPENDENTS_MAX, LimitOutOfRange, LimitsPatch, SCRIPTS_MAX, SOURCES_BYTES_MAX, ScriptLimits,
};
use shared::name::ScriptName;
use shared::script::{Bundle, ScriptKind};
use sqlx::postgres::PgConnection;

use super::apps::DeleteParams;
use super::compile::{ATTEMPTS, Verified, keeps_changing, unresolved};
use super::page::{Items, PageParams};
use super::precondition::{Preconditions, Resource, Tagged};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, access, read, triggers};
use crate::audit::{self, Entry};
use crate::auth::{Capability, Principal, Standing};
use crate::deploy::{Awaiting, Deploy, Deployed, KeepError, deploy as deploy_version, make_room};
use crate::modules;
use crate::store::apps::App;
use crate::store::modules::Source;
use crate::store::scripts::Script;
use crate::store::{self, Tx};

const DESCRIPTION_CHARS_MAX: usize = 2_000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeployBody {
    #[schemars(length(max = limits::SOURCE_BYTES_MAX))]
    source: String,
    /// That of the script as it is when absent, else endpoint.
    kind: Option<ScriptKind>,
    #[serde(default, deserialize_with = "read::object")]
    #[schemars(with = "LimitsPatch")]
    limits: LimitsPatch,
    #[schemars(length(max = DESCRIPTION_CHARS_MAX))]
    description: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct DeployAnswer {
    #[serde(flatten)]
    script: Script,
    #[serde(flatten)]
    modules: ModuleUse,
    /// Scripts that contain this module and got a new version with it.
    rebundled: Vec<Rebundled>,
    /// What it asks for, as far as its source says.
    capabilities: Capabilities,
    /// What it asks for and the version before did not.
    wants_more: Vec<String>,
    /// The version, when it is not live because somebody has to approve what it asks for.
    awaiting: Option<Awaiting>,
    warnings: Vec<String>,
}

/// What a script imports itself, and which scripts contain it, directly or through other modules.
#[derive(Serialize, JsonSchema)]
pub(super) struct ModuleUse {
    imports: Vec<String>,
    used_by: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Rebundled {
    name: ScriptName,
    version: u32,
}

pub(super) fn named(rebundled: Vec<(ScriptName, u32)>) -> Vec<Rebundled> {
    rebundled.into_iter().map(|(name, version)| Rebundled { name, version }).collect()
}

impl Resource for Script {
    fn state(&self) -> &impl Serialize {
        self
    }
}

impl Resource for DeployAnswer {
    fn state(&self) -> &impl Serialize {
        &self.script
    }
}

impl Resource for ScriptWithSource {
    fn state(&self) -> &impl Serialize {
        &self.script
    }
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ScriptWithSource {
    #[serde(flatten)]
    script: Script,
    #[serde(flatten)]
    modules: ModuleUse,
    source: String,
}

pub(super) async fn deploy(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Path((app, name)): Path<(String, String)>,
    preconditions: Preconditions,
    Json(body): Json<DeployBody>,
) -> Result<(StatusCode, Tagged<DeployAnswer>), ApiError> {
    let app = {
        let mut conn = admin.database.acquire().await?;
        access::app(&mut conn, &principal, &app, Capability::WriteApp).await?
    };
    let name: ScriptName =
        name.parse().map_err(|error| ApiError::invalid(format!("{error}")).with("field", "name"))?;
    let limits = check(&body.source, body.description.as_deref(), body.limits)?;
    let kind = {
        let mut conn = admin.database.acquire().await?;
        kind(body.kind, store::scripts::by_name(&mut conn, app.id, &name).await?.as_ref())?
    };
    // Compiled in a worker before anything is written, and before a connection is held.
    let single = Arc::new(Bundle::single(kind, name.as_str(), body.source));
    let mut verified = Verified::default();
    let imports = verified.compile(&admin, &app, &single, limits, None).await?;
    let source = Source {
        kind,
        text: single.source.clone(),
        imports: imports.iter().map(|import| import.name.clone()).collect(),
    };
    for _ in 0..ATTEMPTS {
        let mut tx = admin.database.begin().await?;
        access::lock(&mut tx, &app).await?;
        let existing = store::scripts::by_name(&mut tx, app.id, &name).await?;
        preconditions.check(existing.as_ref())?;
        self::kind(Some(kind), existing.as_ref())?;
        refuse_too_much(&mut tx, &app, existing.as_ref(), &source.text).await?;
        let planned = modules::plan(&mut tx, app.id, &name, source.clone()).await;
        let plan = planned.map_err(|error| unresolved(error, &name, &source.text, &imports))?;
        if verified.knows(&plan.bundle, limits) && verified.knows_dependents(&plan) {
            let deploy = Deploy {
                app: app.id,
                name: &name,
                bundle: &plan.bundle,
                imports: &source.imports,
                limits,
                description: body.description.as_deref(),
                by: principal.user.id,
            };
            let deployed = deploy_version(&mut tx, deploy).await?;
            let Deployed { script, is_first, capabilities, wants_more, awaiting } = deployed;
            let (action, dependents) = match &awaiting {
                None => ("script.deploy", plan.dependents),
                // What contains the module goes on with the live version.
                Some(_) => ("script.propose", Vec::new()),
            };
            let rebundled = modules::rebundle(&mut tx, app.id, &dependents, principal.user.id).await?;
            make_room(&mut tx, app.id).await?;
            let entry = Entry::new(&principal, action, &script.name).on(app.id).after(&(&script, &awaiting));
            audit::append(&mut tx, entry).await?;
            admin.snapshot.publish(tx).await?;
            let status = if is_first { StatusCode::CREATED } else { StatusCode::OK };
            let modules = ModuleUse { imports: source.imports, used_by: plan.used_by };
            let (rebundled, warnings) = (named(rebundled), Vec::new());
            let answer =
                DeployAnswer { script, modules, rebundled, capabilities, wants_more, awaiting, warnings };
            return Ok((status, Tagged(answer)));
        }
        // No connection is held, and nobody waits, while workers compile.
        tx.rollback().await?;
        verified.compile(&admin, &app, &Arc::new(plan.bundle), limits, None).await?;
        verified.compile_dependents(&admin, &app, &name, plan.dependents).await?;
    }
    Err(keeps_changing())
}

/// The kind that is asked for, else the one the script has. A script keeps its kind: routes lead to
/// endpoints only, and imports to modules.
fn kind(asked: Option<ScriptKind>, existing: Option<&Script>) -> Result<ScriptKind, ApiError> {
    let Some(script) = existing else { return Ok(asked.unwrap_or_default()) };
    if asked.is_none_or(|asked| asked == script.kind) {
        return Ok(script.kind);
    }
    let detail = format!("{} is of kind {}, and a script keeps its kind", script.name, script.kind.as_str());
    Err(ApiError::new(Code::Conflict, detail).with("field", "kind"))
}

/// An app has as much as a manifest of it has room for. The app must be locked. One that has more already takes what
/// makes it smaller.
pub(super) async fn refuse_too_much(
    conn: &mut PgConnection,
    app: &App,
    existing: Option<&Script>,
    source: &str,
) -> Result<(), ApiError> {
    if existing.is_none() && store::scripts::count(conn, app.id).await? >= SCRIPTS_MAX as i64 {
        let detail = format!(
            "the app has {SCRIPTS_MAX} scripts, which is the most; remove one first, or give some of them an app of their own"
        );
        return Err(ApiError::new(Code::Conflict, detail));
    }
    let all = store::modules::live_bytes(conn, app.id, None).await?;
    let others = match existing {
        Some(script) => store::modules::live_bytes(conn, app.id, Some(script.id)).await?,
        None => all,
    };
    let with_it = others.saturating_add_unsigned(source.len() as u64);
    if with_it <= SOURCES_BYTES_MAX as i64 || with_it <= all {
        return Ok(());
    }
    let detail = format!(
        "the sources of the app's scripts would be {with_it} bytes together, and at most {SOURCES_BYTES_MAX} are allowed; \
         remove or shorten some first, or give some of them an app of their own"
    );
    Err(ApiError::new(Code::Conflict, detail).with("field", "source"))
}

/// Checks what is to be deployed before it costs anything.
pub(super) fn check(
    source: &str,
    description: Option<&str>,
    limits: LimitsPatch,
) -> Result<ScriptLimits, ApiError> {
    if source.len() > limits::SOURCE_BYTES_MAX {
        let detail = format!(
            "the source is {} bytes long; at most {} are allowed",
            source.len(),
            limits::SOURCE_BYTES_MAX
        );
        return Err(ApiError::new(Code::BodyTooLarge, detail).with("field", "source"));
    }
    if source.contains('\0') {
        return Err(ApiError::invalid("the source contains the character U+0000").with("field", "source"));
    }
    if description.is_some_and(|text| text.chars().count() > DESCRIPTION_CHARS_MAX || text.contains('\0')) {
        let detail = format!("a description has at most {DESCRIPTION_CHARS_MAX} characters and no U+0000");
        return Err(ApiError::invalid(detail).with("field", "description"));
    }
    Ok(limits.resolve()?)
}

impl From<KeepError> for ApiError {
    fn from(error: KeepError) -> Self {
        match error {
            KeepError::Full { .. } => Self::new(Code::Conflict, error.to_string()),
            KeepError::Database(error) => error.into(),
        }
    }
}

impl From<LimitOutOfRange> for ApiError {
    fn from(error: LimitOutOfRange) -> Self {
        Self::new(Code::LimitOutOfRange, error.to_string())
            .with("field", error.field)
            .with("value", error.value)
            .with("floor", error.floor)
            .with("ceiling", error.ceiling)
    }
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Path(app): Path<String>,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<Script>>, ApiError> {
    let page = params.page::<String>()?;
    let mut conn = admin.database.acquire().await?;
    let app = access::app(&mut conn, &principal, &app, Capability::ReadApp).await?;
    let rows = store::scripts::page(&mut conn, app.id, page.after.as_deref(), page.rows()).await?;
    Ok(JsonBody(page.items(rows, |script| script.name.to_string())))
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Path((app, name)): Path<(String, String)>,
) -> Result<Tagged<ScriptWithSource>, ApiError> {
    let mut conn = admin.database.acquire().await?;
    let app = access::app(&mut conn, &principal, &app, Capability::ReadApp).await?;
    let script = access::script(&mut conn, &app, &name).await?;
    let source = store::modules::of_version(&mut conn, app.id, script.id, script.version).await?;
    let Source { text, imports, .. } = source.ok_or_else(|| {
        tracing::error!(bundle.hash = %script.bundle_hash, "a bundle that a script refers to is not stored");
        ApiError::new(Code::Internal, "the script's source is not stored")
    })?;
    let used_by = users(&mut conn, &app, &script).await?;
    Ok(Tagged(ScriptWithSource { script, modules: ModuleUse { imports, used_by }, source: text }))
}

async fn users(conn: &mut PgConnection, app: &App, script: &Script) -> sqlx::Result<Vec<String>> {
    match script.kind {
        ScriptKind::Endpoint => Ok(Vec::new()),
        ScriptKind::Module => {
            store::modules::user_names(conn, app.id, &script.name, DEPENDENTS_MAX as i64).await
        }
    }
}

pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    standing: Standing,
    Path((app, name)): Path<(String, String)>,
    preconditions: Preconditions,
    Params(params): Params<DeleteParams>,
) -> Result<StatusCode, ApiError> {
    let mut tx = admin.database.begin().await?;
    let app = access::app(&mut tx, &principal, &app, Capability::WriteApp).await?;
    access::lock(&mut tx, &app).await?;
    let script = access::script(&mut tx, &app, &name).await?;
    preconditions.check(Some(&script))?;
    refuse_escape(&principal, standing, [&script])?;
    let used_by = users(&mut tx, &app, &script).await?;
    if !used_by.is_empty() {
        // Force does not help: the next deploy of each of them would fail.
        let detail = format!("scripts import the module: {}; change them first", used_by.join(", "));
        return Err(ApiError::new(Code::Conflict, detail).with("used_by", used_by));
    }
    let routes = store::routes::of_script(&mut tx, app.id, script.id).await?;
    if !routes.is_empty() && !params.force {
        let paths: Vec<_> = routes.iter().map(|route| route.path.as_str()).collect();
        let detail = format!(
            "routes lead to the script: {}; remove them first or repeat with ?force=true",
            paths.join(", ")
        );
        return Err(ApiError::new(Code::Conflict, detail).with("routes", paths));
    }
    let runs = store::triggers::of_script(&mut tx, app.id, script.id).await?;
    if !runs.is_empty() && !params.force {
        let names: Vec<_> = runs.iter().map(triggers::label).collect();
        let detail = format!(
            "triggers run the script: {}; remove them first or repeat with ?force=true",
            names.join(", ")
        );
        return Err(ApiError::new(Code::Conflict, detail).with("triggers", names));
    }
    store::scripts::delete(&mut tx, app.id, script.id).await?;
    store::bundles::forget_unused(&mut tx, app.id).await?;
    let entry = Entry::new(&principal, "script.delete", &script.name).on(app.id).before(&script);
    audit::append(&mut tx, entry).await?;
    publish_removal(&admin, tx, vec![script.id]).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A quarantine ends with its script, so only who may release a script may remove it while it is quarantined.
pub(super) fn refuse_escape<'a>(
    principal: &Principal,
    standing: Standing,
    removed: impl IntoIterator<Item = &'a Script>,
) -> Result<(), ApiError> {
    let quarantined = removed.into_iter().filter(|script| script.quarantined_at.is_some());
    let names: Vec<_> = quarantined.map(|script| script.name.as_str()).collect();
    if names.is_empty() || access::decide(principal, Capability::ReleaseScripts, standing).is_ok() {
        return Ok(());
    }
    let detail = format!(
        "quarantined, so that only an admin of the instance may remove it: {}; keep it, deploy it mended, and ask one \
         to release it",
        names.join(", ")
    );
    Err(ApiError::new(Code::Conflict, detail).with("quarantined", names))
}

/// Commits a change that removes these scripts, with the quarantines they may have, and shows it.
pub(super) async fn publish_removal(admin: &Admin, change: Tx, removed: Vec<ScriptId>) -> sqlx::Result<()> {
    let snapshot = Arc::clone(&admin.snapshot);
    admin.incidents.publish_removal(async move { snapshot.publish(change).await }, removed).await
}
