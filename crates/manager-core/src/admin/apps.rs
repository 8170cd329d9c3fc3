//! Apps.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as JsonBody;
use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::fault::Code;
use shared::host::of_url;
use shared::id::AppId;
use shared::name::AppSlug;
use tokio::sync::watch;
use tokio::time::timeout;

use super::page::{Items, PageParams};
use super::precondition::{Preconditions, Resource, Tagged};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, access};
use crate::audit::{self, Entry};
use crate::auth::{Capability, Place, Principal, Standing, can};
use crate::manager::ManagerConfig;
use crate::store::apps::removal::{self, COUNTED_MAX, Contents};
use crate::store::apps::{App, Change};
use crate::store::members::AppRole;
use crate::store::{self, Tx};

const NAME_CHARS_MAX: usize = 200;
const DESCRIPTION_CHARS_MAX: usize = 2_000;
/// How long whoever removes an app waits until all of it is gone: of most apps it is by then.
const REMOVAL_WAIT: Duration = Duration::from_secs(5);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewApp {
    #[schemars(with = "AppSlug")]
    slug: String,
    /// The slug unless given.
    #[schemars(length(min = 1, max = NAME_CHARS_MAX))]
    name: Option<String>,
    #[schemars(length(max = DESCRIPTION_CHARS_MAX))]
    description: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AppPatch {
    #[schemars(with = "Option<AppSlug>")]
    slug: Option<String>,
    #[schemars(length(min = 1, max = NAME_CHARS_MAX))]
    name: Option<String>,
    #[schemars(length(max = DESCRIPTION_CHARS_MAX))]
    description: Option<String>,
    /// Whether a version that asks for more than the live one waits until somebody approves it.
    requires_approval: Option<bool>,
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
    /// What the app was called before, as long as that still leads to it.
    former_slugs: Vec<String>,
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

/// The host on which an app answers by its slug.
pub(super) fn slug_host(config: &ManagerConfig, slug: &AppSlug) -> String {
    format!("{slug}.{}", config.base_domain.to_ascii_lowercase())
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
    let slug = slug(&body.slug, &admin.config)?;
    let name = name(body.name.unwrap_or_else(|| slug.to_string()))?;
    let description = body.description.map(description).transpose()?;
    let mut tx = admin.database.begin().await?;
    let mut app = store::apps::create(&mut tx, &slug, &name, principal.user.id, false)
        .await
        .map_err(|e| taken(e, &slug))?;
    if description.is_some() {
        let change = Change { description: description.as_deref(), ..Change::default() };
        app = store::apps::update(&mut tx, app.id, change).await?.unwrap_or(app);
    }
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
) -> Result<Tagged<AppForCaller>, ApiError> {
    let former_slugs = {
        let mut conn = admin.database.acquire().await?;
        store::former_slugs::of_app(&mut conn, app.id).await?
    };
    let may = |capability: &Capability| can(&principal, *capability, Place::App(standing)).is_ok();
    Ok(Tagged(AppForCaller {
        my_role: standing.role_of(principal.user.role),
        my_capabilities: Capability::ON_APPS.into_iter().filter(may).collect(),
        app: AppView::new(&admin, app),
        former_slugs,
    }))
}

pub(super) async fn update(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    preconditions: Preconditions,
    Json(body): Json<AppPatch>,
) -> Result<Tagged<AppView>, ApiError> {
    let slug = body.slug.as_deref().map(|text| slug(text, &admin.config)).transpose()?;
    let name = body.name.map(name).transpose()?;
    let description = body.description.map(description).transpose()?;
    let mut tx = admin.database.begin().await?;
    // Read again: before the lock it may have got another name.
    let before = access::lock_app(&mut tx, &app).await?;
    preconditions.check(Some(&before))?;
    let change = Change {
        slug: slug.as_ref(),
        name: name.as_deref(),
        description: description.as_deref(),
        requires_approval: body.requires_approval,
    };
    let updated = store::apps::update(&mut tx, app.id, change).await;
    let updated = updated.map_err(|error| taken(error, slug.as_ref().unwrap_or(&before.slug)))?;
    let updated = updated.ok_or_else(access::no_app)?;
    if updated.slug != before.slug {
        store::former_slugs::forget(&mut tx, &updated.slug).await?;
        store::former_slugs::keep(&mut tx, app.id, &before.slug).await?;
        // Routes for the host that the app has by its slug go with it.
        let [from, to] = [&before.slug, &updated.slug].map(|slug| slug_host(&admin.config, slug));
        store::routes::move_host(&mut tx, app.id, &from, &to).await?;
    }
    let entry = Entry::new(&principal, "app.update", &before.slug).on(app.id).before(&before).after(&updated);
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
    // Not with the app locked: there may be much to count.
    let mut contents = {
        let mut conn = admin.database.acquire().await?;
        removal::contents(&mut conn, app.id).await?
    };
    let mut tx = admin.database.begin().await?;
    let app = access::lock_app(&mut tx, &app).await?;
    preconditions.check(Some(&app))?;
    if contents.is_nothing() {
        // Somebody may have put something there meanwhile, and cannot have put much.
        contents = removal::contents(&mut tx, app.id).await?;
    }
    if !contents.is_nothing() && !params.force {
        return Err(not_empty(&app, &contents));
    }
    removal::hide(&mut tx, app.id).await?;
    let entry = Entry::new(&principal, "app.delete", &app.slug).on(app.id).before(&(&app, &contents));
    audit::append(&mut tx, entry).await?;
    let mut removing = publish_removal(admin, tx, app.id).await?;
    // Nothing is ever sent: an error says that it has ended. Where that takes long, it goes on without the caller.
    let _ = timeout(REMOVAL_WAIT, removing.changed()).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Commits that an app is hidden and begins to remove it, in a task of its own: a caller that goes away between the two
/// would leave what nobody finds any more. The sender of what it answers goes when all of it is gone.
async fn publish_removal(admin: Arc<Admin>, hidden: Tx, app: AppId) -> sqlx::Result<watch::Receiver<()>> {
    let publishing = tokio::spawn(async move {
        let published = admin.snapshot.publish(hidden).await;
        // A commit that failed may have happened all the same: an app that is not hidden stays.
        let removing = admin.recorder.remove(app);
        published.map(|()| removing)
    });
    publishing.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}

/// Names what would be lost, so that it is lost knowingly.
fn not_empty(app: &App, contents: &Contents) -> ApiError {
    let counts = serde_json::to_value(contents).unwrap_or_default();
    let named = counts.as_object().into_iter().flatten().filter(|(_, count)| **count != 0);
    let named = named.map(|(what, count)| {
        let bound = if *count == COUNTED_MAX { "at least " } else { "" };
        format!("{bound}{count} {}", what.replace('_', " "))
    });
    let named: Vec<_> = named.collect();
    let detail = format!(
        "the app {} has {}; repeat with ?force=true to remove all of it for good",
        app.slug,
        named.join(", ")
    );
    ApiError::new(Code::Conflict, detail).with("scripts", contents.scripts).with("contents", counts)
}

fn slug(text: &str, config: &ManagerConfig) -> Result<AppSlug, ApiError> {
    let slug: AppSlug = text.parse().map_err(|e| ApiError::invalid(format!("{e}")).with("field", "slug"))?;
    if text.parse::<AppId>().is_ok() {
        let detail = "an app's slug may not look like an id, because addresses take either";
        return Err(ApiError::invalid(detail).with("field", "slug"));
    }
    // Its pages would be of one site with the admin API.
    let host = slug_host(config, &slug);
    if host == of_url(&config.public_url) {
        let detail = format!("the app would answer on {host}, which is the host of the server itself");
        return Err(ApiError::invalid(detail).with("field", "slug"));
    }
    Ok(slug)
}

pub(super) fn name(text: String) -> Result<String, ApiError> {
    let text = text.trim();
    if !(1..=NAME_CHARS_MAX).contains(&text.chars().count()) || text.chars().any(char::is_control) {
        let detail = format!("an app's name has 1 to {NAME_CHARS_MAX} characters and no control characters");
        return Err(ApiError::invalid(detail).with("field", "name"));
    }
    Ok(text.to_owned())
}

pub(super) fn description(text: String) -> Result<String, ApiError> {
    if text.chars().count() > DESCRIPTION_CHARS_MAX || text.contains('\0') {
        let detail = format!("a description has at most {DESCRIPTION_CHARS_MAX} characters and no U+0000");
        return Err(ApiError::invalid(detail).with("field", "description"));
    }
    Ok(text)
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
