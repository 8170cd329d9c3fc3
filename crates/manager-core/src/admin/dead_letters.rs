//! Deliveries that were given up: looking at them, trying them again, and being done with them.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::fault::Code;
use shared::id::{DeadLetterId, DeliveryId, ExecutionId, ScriptId, TriggerId};
use sqlx::postgres::PgConnection;

use super::later::Later;
use super::page::{Items, Page};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, access};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::events::{self, Payload};
use crate::store;
use crate::store::apps::App;
use crate::store::dead_letters::{Filter, Listed, Resolution};

/// Dead letters that one call resolves at most.
const RESOLVE_MAX: i64 = 1_000;
const NOTE_BYTES_MAX: usize = 2_000;

/// A delivery that was given up. Only an answer about one carries its event.
#[derive(Serialize, JsonSchema)]
pub(super) struct View {
    id: DeadLetterId,
    delivery_id: DeliveryId,
    kind: String,
    trigger_id: Option<TriggerId>,
    script_id: ScriptId,
    /// The script's name; null when it is gone.
    script: Option<String>,
    /// The version that was asked for; null for the live one.
    version: Option<i32>,
    /// `exhausted`, `fatal`, `poison`, `script_missing`, `script_disabled` or `trigger_missing`.
    reason: String,
    attempts: i16,
    /// The last errors, each with the attempt's number and its time.
    errors: Value,
    root_id: ExecutionId,
    parent_id: Option<ExecutionId>,
    depth: i32,
    enqueued_at: DateTime<Utc>,
    failed_at: DateTime<Utc>,
    /// `replayed`, `ignored`, `handled_by_script` or `handler_failed`; null while nobody did anything.
    resolution: Option<String>,
    resolved_at: Option<DateTime<Utc>>,
    note: Option<String>,
    /// The delivery that tries it again.
    replayed_as: Option<DeliveryId>,
    /// What the script gets as `ctx.event`; null for a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Value>,
}

impl View {
    fn with_event(letter: Listed, payload: &Payload) -> Self {
        Self { event: Some(payload.to_json()), ..Self::without_event(letter) }
    }

    fn without_event(letter: Listed) -> Self {
        Self {
            id: letter.id,
            delivery_id: letter.delivery_id,
            kind: letter.kind,
            trigger_id: letter.trigger_id,
            script_id: letter.script_id,
            script: letter.script,
            version: letter.version,
            reason: letter.reason,
            attempts: letter.attempts,
            errors: letter.errors,
            root_id: letter.root_id,
            parent_id: letter.parent_id,
            depth: letter.depth,
            enqueued_at: letter.enqueued_at,
            failed_at: letter.failed_at,
            resolution: letter.resolution,
            resolved_at: letter.resolved_at,
            note: letter.note,
            replayed_as: letter.replayed_as,
            event: None,
        }
    }
}

/// Which dead letters are meant; what is absent does not matter.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FilterBody {
    kind: Option<String>,
    /// A script's name.
    script: Option<String>,
    trigger_id: Option<TriggerId>,
    reason: Option<String>,
    failed_before: Option<DateTime<Utc>>,
    failed_after: Option<DateTime<Utc>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// Only those nobody did anything about.
    #[serde(default)]
    unresolved: bool,
    kind: Option<String>,
    /// A script's name.
    script: Option<String>,
    reason: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<ListParams>,
) -> Result<JsonBody<Items<View>>, ApiError> {
    let page = Page::<DeadLetterId>::new(params.limit, params.cursor.as_deref())?;
    let mut conn = admin.database.acquire().await?;
    let ListParams { kind, script, reason, .. } = params;
    let wanted = FilterBody { kind, script, reason, ..FilterBody::default() };
    let filter = Filter { is_unresolved: params.unresolved, ..filter(&mut conn, &app, wanted).await? };
    let rows = store::dead_letters::list(&mut conn, app.id, &filter, page.after, page.rows()).await?;
    Ok(JsonBody(page.items(rows, |letter| letter.id.to_string()).map(View::without_event)))
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    app: App,
    Path((_, id)): Path<(String, String)>,
) -> Result<JsonBody<View>, ApiError> {
    let id = parse_id(&id)?;
    let mut conn = admin.database.acquire().await?;
    let filter = Filter { id: Some(id), ..Filter::default() };
    let found = store::dead_letters::list(&mut conn, app.id, &filter, None, 1).await?;
    let letter = found.into_iter().next().ok_or_else(missing)?;
    // It may go meanwhile.
    let payload = store::dead_letters::payload(&mut conn, app.id, id).await?.ok_or_else(missing)?;
    Ok(JsonBody(View::with_event(letter, &Payload::from_stored(payload))))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayBody {
    /// The version of the script that is to try; the live one unless given.
    #[serde(default)]
    #[schemars(range(min = 1))]
    version: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayManyBody {
    /// Which ones; all that are open when it is empty.
    filter: FilterBody,
    /// As for one.
    #[serde(default)]
    #[schemars(range(min = 1))]
    version: Option<u32>,
}

/// What is tried again.
#[derive(Serialize, JsonSchema)]
pub(super) struct Replayed {
    /// At most 1,000 at once, with 32 MiB of events, and one at least; ask again for more.
    count: usize,
    deliveries: Vec<DeliveryId>,
}

pub(super) async fn replay(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, id)): Path<(String, String)>,
    Json(body): Json<ReplayBody>,
) -> Result<Later<Replayed>, ApiError> {
    let filter = Filter { id: Some(parse_id(&id)?), ..Filter::default() };
    let replayed = again(&admin, &principal, &app, Wanted::Open(filter), body.version).await?;
    if replayed.count == 0 {
        return Err(not_open(&admin, &app, &id).await?);
    }
    Ok(Later(replayed))
}

pub(super) async fn replay_many(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Json(body): Json<ReplayManyBody>,
) -> Result<Later<Replayed>, ApiError> {
    let replayed = again(&admin, &principal, &app, Wanted::Filter(body.filter), body.version).await?;
    Ok(Later(replayed))
}

/// One, or those of a filter that is still to be looked up.
enum Wanted {
    Open(Filter),
    Filter(FilterBody),
}

async fn again(
    admin: &Admin,
    principal: &Principal,
    app: &App,
    wanted: Wanted,
    version: Option<u32>,
) -> Result<Replayed, ApiError> {
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, app).await?;
    let filter = match wanted {
        Wanted::Open(filter) => filter,
        Wanted::Filter(body) => filter(&mut tx, app, body).await?,
    };
    let replay = events::replay(&mut tx, &admin.outbox, app.id, &filter, version, 0).await?;
    let count = replay.deliveries.len();
    if count > 0 {
        let target = format!("{count} dead letters");
        audit::append(&mut tx, Entry::new(principal, "dead_letter.replay", target).on(app.id)).await?;
    }
    tx.commit().await?;
    replay.pending.hand_over();
    Ok(Replayed { count, deliveries: replay.deliveries })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResolveBody {
    /// Why nothing is to be done about it, for the next who looks.
    #[serde(default)]
    #[schemars(length(max = NOTE_BYTES_MAX))]
    reason: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResolveManyBody {
    /// Which ones; all that are open when it is empty.
    filter: FilterBody,
    /// As for one.
    #[serde(default)]
    #[schemars(length(max = NOTE_BYTES_MAX))]
    reason: Option<String>,
}

/// How many were resolved.
#[derive(Serialize, JsonSchema)]
pub(super) struct Resolved {
    /// At most 1,000 at once; ask again for more.
    count: u64,
}

pub(super) async fn resolve(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, id)): Path<(String, String)>,
    Json(body): Json<ResolveBody>,
) -> Result<JsonBody<Resolved>, ApiError> {
    let filter = Filter { id: Some(parse_id(&id)?), ..Filter::default() };
    let resolved = ignore(&admin, &principal, &app, Wanted::Open(filter), body.reason).await?;
    if resolved.count == 0 {
        return Err(not_open(&admin, &app, &id).await?);
    }
    Ok(JsonBody(resolved))
}

pub(super) async fn resolve_many(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Json(body): Json<ResolveManyBody>,
) -> Result<JsonBody<Resolved>, ApiError> {
    ignore(&admin, &principal, &app, Wanted::Filter(body.filter), body.reason).await.map(JsonBody)
}

async fn ignore(
    admin: &Admin,
    principal: &Principal,
    app: &App,
    wanted: Wanted,
    note: Option<String>,
) -> Result<Resolved, ApiError> {
    if note.as_deref().is_some_and(|note| note.len() > NOTE_BYTES_MAX || note.contains('\0')) {
        let detail = format!("reason is a text of at most {NOTE_BYTES_MAX} bytes without U+0000");
        return Err(ApiError::invalid(detail).with("field", "reason"));
    }
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, app).await?;
    let filter = match wanted {
        Wanted::Open(filter) => filter,
        Wanted::Filter(body) => filter(&mut tx, app, body).await?,
    };
    let open = store::dead_letters::lock_unresolved(&mut tx, app.id, &filter, None, RESOLVE_MAX).await?;
    let ids: Vec<_> = open.iter().map(|letter| letter.id).collect();
    let count =
        store::dead_letters::resolve(&mut tx, app.id, &ids, Resolution::Ignored, note.as_deref()).await?;
    if count > 0 {
        let target = format!("{count} dead letters");
        audit::append(&mut tx, Entry::new(principal, "dead_letter.resolve", target).on(app.id)).await?;
    }
    tx.commit().await?;
    Ok(Resolved { count })
}

async fn filter(conn: &mut PgConnection, app: &App, body: FilterBody) -> Result<Filter, ApiError> {
    let script = match &body.script {
        Some(name) => Some(access::script(conn, app, name).await?.id),
        None => None,
    };
    for (field, text) in [("kind", &body.kind), ("reason", &body.reason)] {
        if text.as_deref().is_some_and(|text| text.contains('\0')) {
            return Err(
                ApiError::invalid(format!("{field} contains the character U+0000")).with("field", field)
            );
        }
    }
    Ok(Filter {
        kind: body.kind,
        script,
        trigger: body.trigger_id,
        reason: body.reason,
        failed_before: body.failed_before,
        failed_after: body.failed_after,
        ..Filter::default()
    })
}

/// Why nothing was done about one: it is resolved, or is not there.
async fn not_open(admin: &Admin, app: &App, id: &str) -> Result<ApiError, ApiError> {
    let filter = Filter { id: Some(parse_id(id)?), ..Filter::default() };
    let mut conn = admin.database.acquire().await?;
    let found = store::dead_letters::list(&mut conn, app.id, &filter, None, 1).await?;
    Ok(match found.first() {
        None => missing(),
        Some(letter) => {
            let how = letter.resolution.as_deref().unwrap_or("being resolved");
            ApiError::new(Code::Conflict, format!("the dead letter is {how} already"))
        }
    })
}

fn parse_id(text: &str) -> Result<DeadLetterId, ApiError> {
    text.parse().map_err(|_| missing())
}

fn missing() -> ApiError {
    ApiError::not_found("the app has no such dead letter")
}
