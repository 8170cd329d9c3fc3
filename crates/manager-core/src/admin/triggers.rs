//! Triggers of an app.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::fault::Code;
use shared::id::TriggerId;
use shared::limits::TRIGGERS_MAX;
use shared::name::{ScriptName, SecretName, TriggerName};
use sqlx::postgres::PgConnection;

use super::page::{Items, Page};
use super::precondition::{Preconditions, Resource, Tagged};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, access, hooks, read, routes};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::events::triggers::cron::CronConfig;
use crate::events::triggers::{InvalidConfig, Kind, RetryPatch, RetryPolicy, TriggerConfig};
use crate::store::apps::App;
use crate::store::triggers::{CONSUMER_KEY, NAME_KEY, StoredTrigger, TriggerSpec};
use crate::{secrets, store};

/// Coming times that are shown: three weeks of a daily run, with the days on which clocks change.
const UPCOMING: usize = 20;

/// The fields of a trigger. A new one needs `kind`, `script` and `config`; a change needs only what
/// changes, and a trigger keeps its kind.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TriggerBody {
    /// For people, and for manifests to know it again by; `null` takes it away.
    #[serde(default, deserialize_with = "routes::given")]
    #[schemars(with = "Option<TriggerName>")]
    name: Option<Option<TriggerName>>,
    kind: Option<Kind>,
    #[schemars(with = "Option<ScriptName>")]
    script: Option<String>,
    /// What there is depends on the kind; it is replaced as a whole.
    #[schemars(with = "Option<TriggerConfig>")]
    config: Option<Value>,
    #[serde(default, deserialize_with = "read::object")]
    #[schemars(with = "RetryPatch")]
    retry: RetryPatch,
    enabled: Option<bool>,
}

/// A trigger, and what its kind has besides.
#[derive(Serialize, JsonSchema)]
pub(super) struct TriggerView {
    #[serde(flatten)]
    trigger: StoredTrigger,
    /// The next 20 times of a cron trigger.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    upcoming: Vec<DateTime<Utc>>,
    /// Where the sender of a webhook is to send its requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// Secrets that a webhook names and the app does not have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing_secrets: Vec<SecretName>,
}

impl TriggerView {
    async fn of(
        admin: &Admin,
        conn: &mut PgConnection,
        app: &App,
        trigger: StoredTrigger,
    ) -> sqlx::Result<Self> {
        let mut view = Self { trigger, upcoming: Vec::new(), url: None, missing_secrets: Vec::new() };
        match &view.trigger.config {
            TriggerConfig::Cron(config) => view.upcoming = upcoming(config).unwrap_or_default(),
            TriggerConfig::Webhook(config) => {
                view.url = Some(hooks::address(&admin.config.public_url, view.trigger.id));
                view.missing_secrets = secrets::missing(conn, app.id, &config.secrets).await?;
            }
            _ => {}
        }
        Ok(view)
    }
}

fn upcoming(config: &CronConfig) -> Result<Vec<DateTime<Utc>>, InvalidConfig> {
    Ok(config.schedule()?.times(Utc::now()).take(UPCOMING).collect())
}

impl Resource for StoredTrigger {
    fn state(&self) -> &impl Serialize {
        self
    }
}

impl Resource for TriggerView {
    fn state(&self) -> &impl Serialize {
        &self.trigger
    }
}

/// The query of the list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// Only triggers of this kind.
    kind: Option<Kind>,
    /// Most items of the page.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<ListParams>,
) -> Result<JsonBody<Items<StoredTrigger>>, ApiError> {
    let page = Page::<TriggerId>::new(params.limit, params.cursor.as_deref())?;
    let mut conn = admin.database.acquire().await?;
    let rows = store::triggers::page(&mut conn, app.id, params.kind, page.after, page.rows()).await?;
    Ok(JsonBody(page.items(rows, |trigger| trigger.id.to_string())))
}

pub(super) async fn create(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Json(body): Json<TriggerBody>,
) -> Result<(StatusCode, Tagged<TriggerView>), ApiError> {
    let kind = body.kind.ok_or_else(|| routes::missing("kind"))?;
    let script = body.script.as_deref().ok_or_else(|| routes::missing("script"))?;
    let config = config(kind, body.config.as_ref().ok_or_else(|| routes::missing("config"))?)?;
    let retry = retry(body.retry, RetryPolicy::default())?;

    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    if store::triggers::count(&mut tx, app.id).await? >= TRIGGERS_MAX as i64 {
        return Err(ApiError::invalid(format!("an app has at most {TRIGGERS_MAX} triggers")));
    }
    let script = routes::script_id(&mut tx, &app, script).await?;
    let enabled = body.enabled.unwrap_or(true);
    let spec = TriggerSpec { name: body.name.flatten(), script, config, retry, enabled };
    let id = store::triggers::create(&mut tx, app.id, &spec, principal.user.id)
        .await
        .map_err(|error| refused(error, &spec))?;
    begin_times(&mut tx, &app, id, &spec, None).await?;
    let trigger = find(&mut tx, &app, id).await?;
    let entry = Entry::new(&principal, "trigger.create", label(&trigger)).on(app.id).after(&trigger);
    audit::append(&mut tx, entry).await?;
    let view = TriggerView::of(&admin, &mut tx, &app, trigger).await?;
    admin.snapshot.publish(tx).await?;
    Ok((StatusCode::CREATED, Tagged(view)))
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    app: App,
    Path((_, id)): Path<(String, String)>,
) -> Result<Tagged<TriggerView>, ApiError> {
    let mut conn = admin.database.acquire().await?;
    let trigger = find(&mut conn, &app, parse_id(&id)?).await?;
    Ok(Tagged(TriggerView::of(&admin, &mut conn, &app, trigger).await?))
}

/// Who changes what runs, or when, stands behind it from then on: nobody makes others' rights do
/// something new.
pub(super) async fn update(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, id)): Path<(String, String)>,
    preconditions: Preconditions,
    Json(body): Json<TriggerBody>,
) -> Result<Tagged<TriggerView>, ApiError> {
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let old = find(&mut tx, &app, parse_id(&id)?).await?;
    preconditions.check(Some(&old))?;
    if body.kind.is_some_and(|kind| kind != old.kind) {
        let detail = format!("the trigger is of kind {}, and a trigger keeps its kind", old.kind.as_str());
        return Err(ApiError::new(Code::Conflict, detail).with("field", "kind"));
    }
    let config = body.config.as_ref().map(|value| config(old.kind, value)).transpose()?;
    let script = match &body.script {
        Some(name) => routes::script_id(&mut tx, &app, name).await?,
        None => old.script_id,
    };
    let spec = TriggerSpec {
        name: body.name.clone().unwrap_or_else(|| old.name.clone()),
        script,
        config: config.unwrap_or_else(|| old.config.clone()),
        retry: retry(body.retry, old.retry)?,
        enabled: body.enabled.unwrap_or(old.enabled),
    };
    store::triggers::update(&mut tx, app.id, old.id, &spec).await.map_err(|error| refused(error, &spec))?;
    begin_times(&mut tx, &app, old.id, &spec, Some(&old)).await?;
    if (spec.script, &spec.config) != (old.script_id, &old.config) {
        store::triggers::register(&mut tx, app.id, old.id, principal.user.id).await?;
    }
    let trigger = find(&mut tx, &app, old.id).await?;
    let entry = Entry::new(&principal, "trigger.update", label(&trigger)).on(app.id);
    audit::append(&mut tx, entry.before(&old).after(&trigger)).await?;
    let view = TriggerView::of(&admin, &mut tx, &app, trigger).await?;
    admin.snapshot.publish(tx).await?;
    Ok(Tagged(view))
}

pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, id)): Path<(String, String)>,
    preconditions: Preconditions,
) -> Result<StatusCode, ApiError> {
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let old = find(&mut tx, &app, parse_id(&id)?).await?;
    preconditions.check(Some(&old))?;
    store::triggers::delete(&mut tx, app.id, old.id).await?;
    let entry = Entry::new(&principal, "trigger.delete", label(&old)).on(app.id).before(&old);
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Puts the caller's rights behind a trigger.
pub(super) async fn take_over(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, id)): Path<(String, String)>,
    preconditions: Preconditions,
) -> Result<Tagged<TriggerView>, ApiError> {
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let old = find(&mut tx, &app, parse_id(&id)?).await?;
    preconditions.check(Some(&old))?;
    store::triggers::register(&mut tx, app.id, old.id, principal.user.id).await?;
    let trigger = find(&mut tx, &app, old.id).await?;
    let entry = Entry::new(&principal, "trigger.take_over", label(&trigger)).on(app.id);
    audit::append(&mut tx, entry.before(&old).after(&trigger)).await?;
    let view = TriggerView::of(&admin, &mut tx, &app, trigger).await?;
    admin.snapshot.publish(tx).await?;
    Ok(Tagged(view))
}

/// The times that a schedule would come.
#[derive(Serialize, JsonSchema)]
pub(super) struct Preview {
    upcoming: Vec<DateTime<Utc>>,
}

/// What a cron trigger would do, before there is one.
pub(super) async fn preview(_: App, Json(body): Json<Value>) -> Result<JsonBody<Preview>, ApiError> {
    match config(Kind::Cron, &body)? {
        TriggerConfig::Cron(config) => Ok(JsonBody(Preview { upcoming: upcoming(&config)? })),
        _ => Err(ApiError::invalid("only a schedule has times")),
    }
}

/// The times of a cron trigger count from when it was made, changed or switched on.
pub(super) async fn begin_times(
    conn: &mut PgConnection,
    app: &App,
    id: TriggerId,
    spec: &TriggerSpec,
    old: Option<&StoredTrigger>,
) -> sqlx::Result<()> {
    let is_cron = matches!(spec.config, TriggerConfig::Cron(_));
    let is_same = old.is_some_and(|old| old.enabled == spec.enabled && old.config == spec.config);
    if is_cron && !is_same {
        store::cron::begin(conn, app.id, id).await?;
    }
    Ok(())
}

/// As people know it.
pub(super) fn label(trigger: &StoredTrigger) -> String {
    match &trigger.name {
        Some(name) => name.to_string(),
        None => format!("{} {}", trigger.kind.as_str(), trigger.id),
    }
}

pub(super) fn config(kind: Kind, value: &Value) -> Result<TriggerConfig, ApiError> {
    TriggerConfig::parse(kind, value).map_err(|error| within("config", &error))
}

pub(super) fn retry(patch: RetryPatch, old: RetryPolicy) -> Result<RetryPolicy, ApiError> {
    patch.over(old).map_err(|error| within("retry", &error))
}

fn within(part: &str, error: &InvalidConfig) -> ApiError {
    let field = if error.field.is_empty() { part.to_owned() } else { format!("{part}.{}", error.field) };
    ApiError::invalid(format!("{field}: {}", error.detail)).with("field", field)
}

impl From<InvalidConfig> for ApiError {
    fn from(error: InvalidConfig) -> Self {
        within("config", &error)
    }
}

/// What the database knows better than a look before would.
pub(super) fn refused(error: sqlx::Error, spec: &TriggerSpec) -> ApiError {
    if store::violates(&error, NAME_KEY) {
        let name = spec.name.as_ref().map(ToString::to_string).unwrap_or_default();
        let detail = format!("the app has another trigger that is called {name}");
        return ApiError::new(Code::Conflict, detail).with("field", "name");
    }
    if store::violates(&error, CONSUMER_KEY) {
        let detail = "the queue has a consumer already; for more messages at once raise its concurrency";
        return ApiError::new(Code::Conflict, detail).with("field", "config.queue");
    }
    error.into()
}

fn no_trigger() -> ApiError {
    ApiError::not_found("the app has no such trigger")
}

pub(super) fn parse_id(text: &str) -> Result<TriggerId, ApiError> {
    text.parse().map_err(|_| no_trigger())
}

pub(super) async fn find(
    conn: &mut PgConnection,
    app: &App,
    id: TriggerId,
) -> Result<StoredTrigger, ApiError> {
    store::triggers::by_id(conn, app.id, id).await?.ok_or_else(no_trigger)
}
