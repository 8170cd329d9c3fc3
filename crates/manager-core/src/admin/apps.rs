//! Apps.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::fault::Code;
use shared::id::AppId;
use shared::name::AppSlug;

use super::page::{Items, PageParams};
use super::precondition::{Preconditions, Resource, Tagged};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, access};
use crate::audit::{self, Entry};
use crate::auth::{Capability, Place, Principal, Standing, can};
use crate::manager::ManagerConfig;
use crate::store;
use crate::store::apps::App;
use crate::store::members::AppRole;

const NAME_CHARS_MAX: usize = 200;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewApp {
    #[schemars(with = "AppSlug")]
    slug: String,
    /// The slug unless given.
    #[schemars(length(min = 1, max = NAME_CHARS_MAX))]
    name: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AppPatch {
    #[schemars(with = "Option<AppSlug>")]
    slug: Option<String>,
    #[schemars(length(min = 1, max = NAME_CHARS_MAX))]
    name: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteParams {
    #[serde(default)]
    pub(super) force: bool,
}

/// An app with the address under which it always answers.
#[derive(Serialize, JsonSchema)]
pub(super) struct AppView {
    #[serde(flatten)]
    app: App,
    url: String,
}

/// An app with what the caller may do on it.
#[derive(Serialize, JsonSchema)]
pub(super) struct AppForCaller {
    #[serde(flatten)]
    app: AppView,
    my_role: Option<AppRole>,
    my_capabilities: Vec<Capability>,
}

impl Resource for AppView {
    fn state(&self) -> &impl Serialize {
        &self.app
    }
}

impl Resource for AppForCaller {
    fn state(&self) -> &impl Serialize {
        &self.app.app
    }
}

impl Resource for App {
    fn state(&self) -> &impl Serialize {
        self
    }
}

impl AppView {
    pub(super) fn new(admin: &Admin, app: App) -> Self {
        let ManagerConfig { base_domain, public_url, .. } = &*admin.config;
        Self { url: url(base_domain, public_url, app.slug.as_str()), app }
    }
}

/// `http://blog.localhost:8080/` for the app `blog`, scheme and port being those of the server.
fn url(base_domain: &str, public_url: &str, slug: &str) -> String {
    let (scheme, rest) = public_url.split_once("://").unwrap_or(("http", public_url));
    let authority = rest.split('/').next().unwrap_or_default();
    // The colons within the brackets of an IPv6 address are no port's.
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    match port.filter(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())) {
        Some(port) => format!("{scheme}://{slug}.{base_domain}:{port}/"),
        None => format!("{scheme}://{slug}.{base_domain}/"),
    }
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<AppView>>, ApiError> {
    let page = params.page::<String>()?;
    let mut conn = admin.database.acquire().await?;
    let rows = store::apps::page(&mut conn, principal.visible(), page.after.as_deref(), page.rows()).await?;
    let items = page.items(rows, |app| app.slug.to_string());
    Ok(JsonBody(items.map(|app| AppView::new(&admin, app))))
}

pub(super) async fn create(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Json(body): Json<NewApp>,
) -> Result<(StatusCode, Tagged<AppView>), ApiError> {
    let slug = slug(&body.slug)?;
    let name = name(body.name.unwrap_or_else(|| slug.to_string()))?;
    let mut tx = admin.database.begin().await?;
    let app = store::apps::create(&mut tx, &slug, &name, principal.user.id, false)
        .await
        .map_err(|e| taken(e, &slug))?;
    let entry = Entry::new(&principal, "app.create", &app.slug).on(app.id).after(&app);
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    Ok((StatusCode::CREATED, Tagged(AppView::new(&admin, app))))
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    standing: Standing,
    app: App,
) -> Tagged<AppForCaller> {
    let may = |capability: &Capability| can(&principal, *capability, Place::App(standing)).is_ok();
    Tagged(AppForCaller {
        my_role: standing.role_of(principal.user.role),
        my_capabilities: Capability::ON_APPS.into_iter().filter(may).collect(),
        app: AppView::new(&admin, app),
    })
}

pub(super) async fn update(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    preconditions: Preconditions,
    Json(body): Json<AppPatch>,
) -> Result<Tagged<AppView>, ApiError> {
    let slug = body.slug.as_deref().map(slug).transpose()?;
    let name = body.name.map(name).transpose()?;
    let mut tx = admin.database.begin().await?;
    let app = access::lock_app(&mut tx, &app).await?;
    preconditions.check(Some(&app))?;
    let updated = store::apps::update(&mut tx, app.id, slug.as_ref(), name.as_deref());
    let updated = updated.await.map_err(|error| taken(error, slug.as_ref().unwrap_or(&app.slug)))?;
    let updated = updated.ok_or_else(access::no_app)?;
    let entry = Entry::new(&principal, "app.update", &app.slug).on(app.id).before(&app).after(&updated);
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    Ok(Tagged(AppView::new(&admin, updated)))
}

pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    preconditions: Preconditions,
    Params(params): Params<DeleteParams>,
) -> Result<StatusCode, ApiError> {
    let mut tx = admin.database.begin().await?;
    let app = access::lock_app(&mut tx, &app).await?;
    preconditions.check(Some(&app))?;
    let scripts = store::apps::script_count(&mut tx, app.id).await?;
    if scripts > 0 && !params.force {
        let detail = format!("the app has {scripts} scripts; repeat with ?force=true to remove them with it");
        return Err(ApiError::new(Code::Conflict, detail).with("scripts", scripts));
    }
    store::apps::delete(&mut tx, app.id).await?;
    let entry = Entry::new(&principal, "app.delete", &app.slug).on(app.id).before(&app);
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    admin.budgets.forget(app.id);
    Ok(StatusCode::NO_CONTENT)
}

fn slug(text: &str) -> Result<AppSlug, ApiError> {
    let slug: AppSlug = text.parse().map_err(|e| ApiError::invalid(format!("{e}")).with("field", "slug"))?;
    if text.parse::<AppId>().is_ok() {
        let detail = "an app's slug may not look like an id, because addresses take either";
        return Err(ApiError::invalid(detail).with("field", "slug"));
    }
    Ok(slug)
}

fn name(text: String) -> Result<String, ApiError> {
    let text = text.trim();
    if !(1..=NAME_CHARS_MAX).contains(&text.chars().count()) || text.chars().any(char::is_control) {
        let detail = format!("an app's name has 1 to {NAME_CHARS_MAX} characters and no control characters");
        return Err(ApiError::invalid(detail).with("field", "name"));
    }
    Ok(text.to_owned())
}

fn taken(error: sqlx::Error, slug: &AppSlug) -> ApiError {
    if store::violates(&error, store::apps::SLUG_KEY) {
        let detail = format!("another app has the slug {slug:?}");
        return ApiError::new(Code::Conflict, detail).with("field", "slug");
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_apps_address_has_the_servers_scheme_and_port() {
        assert_eq!(url("localhost", "http://127.0.0.1:8080", "blog"), "http://blog.localhost:8080/");
        assert_eq!(url("example.org", "https://example.org", "blog"), "https://blog.example.org/");
        assert_eq!(url("localhost", "http://[::1]/", "a"), "http://a.localhost/");
    }
}
