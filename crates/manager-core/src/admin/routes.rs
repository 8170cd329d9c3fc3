//! Routes of an app.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use shared::fault::Code;
use shared::host::HostPattern;
use shared::id::{RouteId, ScriptId};
use shared::limits::{BODY_BYTES_DEFAULT, BODY_BYTES_MAX, LimitOutOfRange, ROUTES_MAX};
use shared::name::ScriptName;
use shared::route::{
    Cors, DispatchMode, InvalidPolicy, PathPattern, RateLimit, RouteAuth, RoutePolicy, UnknownMode,
};
use shared::script::ScriptKind;
use sqlx::postgres::PgConnection;

use super::apps::slug_host;
use super::page::{Items, PageParams};
use super::precondition::{Preconditions, Resource, Tagged};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, access};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::store;
use crate::store::apps::App;
use crate::store::routes::{RouteSpec, StoredRoute};

/// The fields of a route. A new one needs `path` and `script`; a change needs only what changes, and
/// `null` takes away what can be absent.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteBody {
    /// `ANY` or absent for any method.
    method: Option<String>,
    #[schemars(regex(pattern = "^/"))]
    path: Option<String>,
    #[schemars(with = "Option<ScriptName>")]
    script: Option<String>,
    #[schemars(with = "Option<DispatchMode>")]
    dispatch_mode: Option<String>,
    /// `any`, or a pattern of hosts that the app has claimed.
    host: Option<String>,
    #[schemars(range(max = BODY_BYTES_MAX))]
    body_limit_bytes: Option<u32>,
    #[schemars(with = "Option<RouteAuth>")]
    auth: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<Cors>")]
    cors: Option<Option<Cors>>,
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<RateLimit>")]
    rate_limit: Option<Option<RateLimit>>,
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<String>")]
    cache_control: Option<Option<String>>,
}

/// Tells `null` from what is absent.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl RouteBody {
    /// The policy `old` with what is to change.
    fn policy(&self, old: RoutePolicy) -> Result<RoutePolicy, ApiError> {
        let policy = RoutePolicy {
            auth: self.auth.as_deref().map(auth).transpose()?.unwrap_or(old.auth),
            cors: self.cors.clone().unwrap_or(old.cors),
            rate_limit: self.rate_limit.unwrap_or(old.rate_limit),
            cache_control: self.cache_control.clone().unwrap_or(old.cache_control),
        };
        policy.check()?;
        Ok(policy)
    }
}

impl Resource for StoredRoute {
    fn state(&self) -> &impl Serialize {
        self
    }
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<StoredRoute>>, ApiError> {
    let page = params.page::<RouteId>()?;
    let mut conn = admin.database.acquire().await?;
    let rows = store::routes::page(&mut conn, app.id, page.after, page.rows()).await?;
    Ok(JsonBody(page.items(rows, |route| route.id.to_string())))
}

pub(super) async fn create(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Json(body): Json<RouteBody>,
) -> Result<(StatusCode, Tagged<StoredRoute>), ApiError> {
    let dispatch = body.dispatch_mode.as_deref().map(mode).transpose()?.unwrap_or_default();
    let pattern = pattern(body.path.as_deref().ok_or_else(|| missing("path"))?)?;
    let method = body.method.as_deref().map(method).transpose()?.flatten();
    let host = body.host.as_deref().map(host).transpose()?.flatten();
    let body_bytes_max = body_limit(body.body_limit_bytes.unwrap_or(BODY_BYTES_DEFAULT))?;
    let policy = body.policy(RoutePolicy::default())?;

    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let script = script_id(&mut tx, &app, body.script.as_deref().ok_or_else(|| missing("script"))?).await?;
    let spec = RouteSpec { method, host, pattern, dispatch, script, body_bytes_max, policy };
    if let Some(host) = &spec.host {
        refuse_strange_host(&mut tx, &admin, &app, host).await?;
    }
    refuse_conflict(&mut tx, &app, &spec, None).await?;
    if store::routes::count(&mut tx, app.id).await? >= ROUTES_MAX as i64 {
        let detail = format!(
            "the app has {ROUTES_MAX} routes, which is the most; remove some first, or let one with a parameter answer \
             for many"
        );
        return Err(ApiError::new(Code::Conflict, detail));
    }
    let id = store::routes::create(&mut tx, app.id, &spec).await?;
    let route = find(&mut tx, &app, id).await?;
    let entry = Entry::new(&principal, "route.create", &route.path).on(app.id).after(&route);
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    Ok((StatusCode::CREATED, Tagged(route)))
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    app: App,
    Path((_, id)): Path<(String, String)>,
) -> Result<Tagged<StoredRoute>, ApiError> {
    let mut conn = admin.database.acquire().await?;
    find(&mut conn, &app, parse_id(&id)?).await.map(Tagged)
}

pub(super) async fn update(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, id)): Path<(String, String)>,
    preconditions: Preconditions,
    Json(body): Json<RouteBody>,
) -> Result<Tagged<StoredRoute>, ApiError> {
    let new_mode = body.dispatch_mode.as_deref().map(mode).transpose()?;
    let new_pattern = body.path.as_deref().map(pattern).transpose()?;
    let new_method = body.method.as_deref().map(method).transpose()?;
    let new_host = body.host.as_deref().map(host).transpose()?;
    let new_limit = body.body_limit_bytes.map(body_limit).transpose()?;

    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let old = find(&mut tx, &app, parse_id(&id)?).await?;
    preconditions.check(Some(&old))?;
    let script = match &body.script {
        Some(name) => script_id(&mut tx, &app, name).await?,
        None => old.script_id,
    };
    let spec = RouteSpec {
        method: new_method.unwrap_or_else(|| old.method.clone()),
        pattern: match new_pattern {
            Some(pattern) => pattern,
            None => pattern(&old.path)?,
        },
        dispatch: new_mode.unwrap_or(old.dispatch_mode),
        script,
        host: new_host.unwrap_or_else(|| old.hosts.clone()),
        body_bytes_max: new_limit.unwrap_or(old.body_limit_bytes),
        policy: body.policy(old.policy.clone())?,
    };
    if let Some(host) = &spec.host {
        refuse_strange_host(&mut tx, &admin, &app, host).await?;
    }
    refuse_conflict(&mut tx, &app, &spec, Some(old.id)).await?;
    store::routes::update(&mut tx, app.id, old.id, &spec).await?;
    let route = find(&mut tx, &app, old.id).await?;
    let entry = Entry::new(&principal, "route.update", &route.path).on(app.id).before(&old).after(&route);
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    Ok(Tagged(route))
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
    if !store::routes::delete(&mut tx, app.id, old.id).await? {
        return Err(no_route());
    }
    let entry = Entry::new(&principal, "route.delete", &old.path).on(app.id).before(&old);
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn no_route() -> ApiError {
    ApiError::not_found("the app has no such route")
}

pub(super) fn missing(field: &'static str) -> ApiError {
    ApiError::invalid(format!("the field {field} is missing")).with("field", field)
}

fn parse_id(text: &str) -> Result<RouteId, ApiError> {
    text.parse().map_err(|_| no_route())
}

async fn find(conn: &mut PgConnection, app: &App, id: RouteId) -> Result<StoredRoute, ApiError> {
    store::routes::by_id(conn, app.id, id).await?.ok_or_else(no_route)
}

/// The script of this name, which must be one that runs by itself.
pub(super) async fn script_id(conn: &mut PgConnection, app: &App, name: &str) -> Result<ScriptId, ApiError> {
    let parsed: Result<ScriptName, _> = name.parse();
    let script = match parsed {
        Ok(name) => store::scripts::by_name(conn, app.id, &name).await?,
        Err(_) => None,
    };
    let script = script.ok_or_else(|| {
        let shown: String = name.chars().take(80).collect();
        ApiError::invalid(format!("the app has no script {shown:?}")).with("field", "script")
    })?;
    if script.kind == ScriptKind::Module {
        let detail = format!("{} is a module, and only an endpoint can run by itself", script.name);
        return Err(ApiError::invalid(detail).with("field", "script"));
    }
    Ok(script.id)
}

/// Requires the app to be locked, so that nothing comes between the look and the write.
async fn refuse_conflict(
    conn: &mut PgConnection,
    app: &App,
    spec: &RouteSpec,
    itself: Option<RouteId>,
) -> Result<(), ApiError> {
    let other = store::routes::same_shape(conn, app.id, spec).await?;
    let Some(other) = other.filter(|other| Some(other.id) != itself) else { return Ok(()) };
    let detail = format!("the route {} to {} answers the same requests", other.path, other.script);
    let other = serde_json::to_value(&other).unwrap_or_default();
    Err(ApiError::new(Code::Conflict, detail).with("route", other))
}

/// A route can only be for hosts that lead to its app; any other would never be asked.
pub(super) async fn refuse_strange_host(
    conn: &mut PgConnection,
    admin: &Admin,
    app: &App,
    host: &HostPattern,
) -> Result<(), ApiError> {
    if host.is_exact() && host.base() == slug_host(&admin.config, &app.slug) {
        return Ok(());
    }
    let claimed = store::domains::patterns(conn, app.id).await?;
    if claimed.iter().any(|claim| claim.covers(host)) {
        return Ok(());
    }
    let detail = format!(
        "the app has not claimed {host}; claim the domain first, with POST /apps/{}/domains",
        app.slug
    );
    Err(ApiError::invalid(detail).with("field", "host"))
}

/// The hosts; nothing for any of the app's.
pub(super) fn host(text: &str) -> Result<Option<HostPattern>, ApiError> {
    if matches!(text, "" | "any" | "*") {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| ApiError::invalid(format!("host: {error}")).with("field", "host"))
}

fn auth(text: &str) -> Result<RouteAuth, ApiError> {
    match text {
        "none" => Ok(RouteAuth::None),
        "api_key" => Ok(RouteAuth::ApiKey),
        "user" => Ok(RouteAuth::User),
        other => {
            let given: String = other.chars().take(40).collect();
            let detail = format!("auth is {given:?}; it may be none, api_key or user");
            Err(ApiError::invalid(detail).with("field", "auth"))
        }
    }
}

impl From<InvalidPolicy> for ApiError {
    fn from(error: InvalidPolicy) -> Self {
        Self::invalid(error.to_string()).with("field", error.field)
    }
}

pub(super) fn pattern(text: &str) -> Result<PathPattern, ApiError> {
    text.parse().map_err(|error| ApiError::invalid(format!("path: {error}")).with("field", "path"))
}

/// The method in capitals; nothing for any.
pub(super) fn method(text: &str) -> Result<Option<String>, ApiError> {
    let method = text.to_ascii_uppercase();
    if matches!(method.as_str(), "" | "*" | "ANY") {
        return Ok(None);
    }
    if method.len() > 32 || !method.bytes().all(|b| b.is_ascii_uppercase()) {
        let detail = "a method is a word such as GET or POST, or ANY for all of them";
        return Err(ApiError::invalid(detail).with("field", "method"));
    }
    Ok(Some(method))
}

pub(super) fn body_limit(value: u32) -> Result<u32, ApiError> {
    if value <= BODY_BYTES_MAX {
        return Ok(value);
    }
    let field = "body_limit_bytes";
    Err(LimitOutOfRange { field, value: value.into(), floor: 0, ceiling: BODY_BYTES_MAX.into() }.into())
}

pub(super) fn mode(text: &str) -> Result<DispatchMode, ApiError> {
    text.parse()
        .map_err(|error: UnknownMode| ApiError::invalid(error.to_string()).with("field", "dispatch_mode"))
}
