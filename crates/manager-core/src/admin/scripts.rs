//! Scripts: deploy, read, remove.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use shared::fault::Code;
use shared::invocation::{Compilation, ExecutionStatus, Refusal, Work, WorkResult};
use shared::limits::{self, LimitOutOfRange, LimitsPatch, ScriptLimits};
use shared::name::ScriptName;
use shared::script::{Bundle, Diagnostic, ScriptKind};
use sqlx::postgres::PgConnection;

use super::apps::DeleteParams;
use super::page::{Items, PageParams};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, access, outcome};
use crate::audit::{self, Entry};
use crate::auth::{Capability, Principal};
use crate::deploy::{Deploy, Deployed, deploy as deploy_version};
use crate::store;
use crate::store::apps::App;
use crate::store::scripts::Script;

const DESCRIPTION_CHARS_MAX: usize = 2_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeployBody {
    source: String,
    #[serde(default)]
    kind: ScriptKind,
    #[serde(default)]
    limits: LimitsPatch,
    description: Option<String>,
}

#[derive(Serialize)]
pub(super) struct DeployAnswer {
    #[serde(flatten)]
    script: Script,
    warnings: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct ScriptWithSource {
    #[serde(flatten)]
    script: Script,
    source: String,
}

pub(super) async fn deploy(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Path((app, name)): Path<(String, String)>,
    Json(body): Json<DeployBody>,
) -> Result<(StatusCode, JsonBody<DeployAnswer>), ApiError> {
    let app = {
        let mut conn = admin.database.acquire().await?;
        access::app(&mut conn, &principal, &app, Capability::WriteApp).await?
    };
    let name: ScriptName =
        name.parse().map_err(|error| ApiError::invalid(format!("{error}")).with("field", "name"))?;
    let limits = check(&body)?;
    let bundle = Arc::new(Bundle::single(body.kind, name.as_str(), body.source));
    // Compiled in a worker before anything is written, and before a connection is held.
    compile(&admin, &app, &bundle, limits).await?;

    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let description = body.description.as_deref();
    let deploy =
        Deploy { app: app.id, name: &name, bundle: &bundle, limits, description, by: principal.user.id };
    let Deployed { script, is_first } = deploy_version(&mut tx, deploy).await?;
    let entry = Entry::new(&principal, "script.deploy", &script.name).on(app.id).after(&script);
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    let status = if is_first { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, JsonBody(DeployAnswer { script, warnings: Vec::new() })))
}

fn check(body: &DeployBody) -> Result<ScriptLimits, ApiError> {
    if body.kind == ScriptKind::Module {
        let detail = "modules come in a later release; only scripts of kind endpoint can be deployed";
        return Err(ApiError::invalid(detail).with("field", "kind"));
    }
    if body.source.len() > limits::SOURCE_BYTES_MAX {
        let detail = format!(
            "the source is {} bytes long; at most {} are allowed",
            body.source.len(),
            limits::SOURCE_BYTES_MAX
        );
        return Err(ApiError::new(Code::BodyTooLarge, detail).with("field", "source"));
    }
    if body.source.contains('\0') {
        return Err(ApiError::invalid("the source contains the character U+0000").with("field", "source"));
    }
    if body
        .description
        .as_ref()
        .is_some_and(|text| text.chars().count() > DESCRIPTION_CHARS_MAX || text.contains('\0'))
    {
        let detail = format!("a description has at most {DESCRIPTION_CHARS_MAX} characters and no U+0000");
        return Err(ApiError::invalid(detail).with("field", "description"));
    }
    Ok(body.limits.resolve()?)
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

async fn compile(
    admin: &Admin,
    app: &App,
    bundle: &Arc<Bundle>,
    limits: ScriptLimits,
) -> Result<(), ApiError> {
    let limits = limits.for_compilation();
    let work =
        Work::Compile(Compilation { app: app.id, owner: app.owner_id, bundle: Arc::clone(bundle), limits });
    match admin.invoke.invoke(work).await {
        WorkResult::Compiled => Ok(()),
        WorkResult::Rejected(diagnostic) => Err(compile_error(bundle, diagnostic)),
        WorkResult::NotCompiled(status) => Err(not_compiled(status)),
        WorkResult::Refused(refusal) => Err(outcome::refused(refusal)),
        WorkResult::Ran(_) => {
            tracing::error!("a compilation was answered as if it had been a run");
            Err(outcome::refused(Refusal::Overloaded))
        }
    }
}

fn compile_error(bundle: &Bundle, diagnostic: Diagnostic) -> ApiError {
    let Diagnostic { script, line, column, message } = diagnostic;
    let script = if script.is_empty() { bundle.name.clone() } else { script };
    let at = (line as usize).checked_sub(1);
    let source_line = at.and_then(|at| bundle.source.lines().nth(at)).unwrap_or_default();
    let detail = match line {
        0 => format!("{script}: {message}"),
        _ => format!("{script}:{line}:{column}: {message}"),
    };
    ApiError::new(Code::CompileError, detail)
        .with("script", script)
        .with("line", line)
        .with("column", column)
        .with("message", message)
        .with("source_line", source_line)
}

/// Compiling came to no verdict. A worker that was lost may not be the source's fault.
fn not_compiled(status: ExecutionStatus) -> ApiError {
    let message = match status {
        ExecutionStatus::FuelExhausted => "compiling exceeded its CPU limit",
        ExecutionStatus::MemoryExceeded => "compiling exceeded its memory limit",
        ExecutionStatus::Timeout | ExecutionStatus::Cancelled => "compiling exceeded its time limit",
        ExecutionStatus::WorkerLost => {
            return ApiError::new(Code::WorkerLost, "the worker that compiled the script was lost");
        }
        _ => "the compiler gave up on the source",
    };
    ApiError::new(Code::CompileError, message).with("message", message)
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
) -> Result<JsonBody<ScriptWithSource>, ApiError> {
    let mut conn = admin.database.acquire().await?;
    let app = access::app(&mut conn, &principal, &app, Capability::ReadApp).await?;
    let script = access::script(&mut conn, &app, &name).await?;
    let source = source(&mut conn, &script).await?;
    Ok(JsonBody(ScriptWithSource { script, source }))
}

async fn source(conn: &mut PgConnection, script: &Script) -> Result<String, ApiError> {
    let bundle = store::bundles::by_hash(conn, script.bundle_hash).await?;
    bundle.map(|bundle| bundle.source).ok_or_else(|| {
        tracing::error!(bundle.hash = %script.bundle_hash, "a bundle that a script refers to is not stored");
        ApiError::new(Code::Internal, "the script's source is not stored")
    })
}

pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Path((app, name)): Path<(String, String)>,
    Params(params): Params<DeleteParams>,
) -> Result<StatusCode, ApiError> {
    let mut tx = admin.database.begin().await?;
    let app = access::app(&mut tx, &principal, &app, Capability::WriteApp).await?;
    access::lock(&mut tx, &app).await?;
    let script = access::script(&mut tx, &app, &name).await?;
    let routes = store::routes::of_script(&mut tx, app.id, script.id).await?;
    if !routes.is_empty() && !params.force {
        let paths: Vec<_> = routes.iter().map(|route| route.path.as_str()).collect();
        let detail = format!(
            "routes lead to the script: {}; remove them first or repeat with ?force=true",
            paths.join(", ")
        );
        return Err(ApiError::new(Code::Conflict, detail).with("routes", paths));
    }
    store::scripts::delete(&mut tx, app.id, script.id).await?;
    store::bundles::forget_unused(&mut tx, app.id).await?;
    let entry = Entry::new(&principal, "script.delete", &script.name).on(app.id).before(&script);
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    Ok(StatusCode::NO_CONTENT)
}
