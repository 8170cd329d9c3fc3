//! From the names in an address to what they name, for those who may know of it.

use shared::fault::Code;
use shared::id::AppId;
use shared::name::ScriptName;
use sqlx::postgres::PgConnection;

use super::problem::ApiError;
use crate::auth::{Capability, Credential, Denial, Place, Principal, Standing, can};
use crate::store;
use crate::store::apps::App;
use crate::store::scripts::Script;

/// Requires a right on the instance as a whole.
pub(super) fn require(principal: &Principal, capability: Capability) -> Result<(), ApiError> {
    can(principal, capability, Place::Instance).map_err(|denial| forbidden(&denial))
}

/// The app of this slug or id, when the caller may do this to it. An app that they may not even
/// see is answered as one that does not exist.
pub(super) async fn app(
    conn: &mut PgConnection,
    principal: &Principal,
    key: &str,
    capability: Capability,
) -> Result<App, ApiError> {
    let (app, standing) = find(conn, principal, key).await?;
    decide(principal, capability, standing).map_err(refusal)?;
    Ok(app)
}

/// The app that has this slug, else the one that had it last.
async fn by_any_slug(conn: &mut PgConnection, slug: &str) -> sqlx::Result<Option<App>> {
    if let Some(app) = store::apps::by_slug(conn, slug).await? {
        return Ok(Some(app));
    }
    match store::former_slugs::app_of(conn, slug).await? {
        Some(id) => store::apps::by_id(conn, id).await,
        None => Ok(None),
    }
}

/// The app of this slug or id, and how the caller's person stands to it. A slug that the app had
/// before it was renamed finds it too.
pub(super) async fn find(
    conn: &mut PgConnection,
    principal: &Principal,
    key: &str,
) -> Result<(App, Standing), ApiError> {
    let app = match key.parse::<AppId>() {
        Ok(id) => store::apps::by_id(conn, id).await?,
        Err(_) if key.contains('\0') => None,
        Err(_) => by_any_slug(conn, key).await?,
    };
    let app = app.ok_or_else(no_app)?;
    let role = store::members::role(conn, app.id, principal.user.id).await?;
    let standing = Standing { app: app.id, owner: app.owner_id, role };
    Ok((app, standing))
}

/// A caller who may do something to an app may also see it.
pub(super) fn decide(
    principal: &Principal,
    capability: Capability,
    standing: Standing,
) -> Result<(), Denial> {
    can(principal, capability, Place::App(standing))
}

/// Whether what the gate found holds still, for answers that take long: the person, what they showed,
/// and their right.
pub(super) async fn still(
    conn: &mut PgConnection,
    principal: &Principal,
    app: AppId,
    capability: Capability,
) -> sqlx::Result<bool> {
    let is_live = match &principal.credential {
        Credential::Session(id) => store::sessions::is_live(conn, *id).await?,
        Credential::Key(key) => store::api_keys::is_live(conn, key.id).await?,
    };
    let person = store::users::by_id(conn, principal.user.id).await?;
    let person = person.filter(|person| is_live && person.disabled_at.is_none());
    let (Some(person), Some(app)) = (person, store::apps::by_id(conn, app).await?) else {
        return Ok(false);
    };
    let role = store::members::role(conn, app.id, person.user.id).await?;
    let standing = Standing { app: app.id, owner: app.owner_id, role };
    let now = Principal { user: person.user, ..principal.clone() };
    Ok(decide(&now, capability, standing).is_ok())
}

pub(super) fn refusal(denial: Denial) -> ApiError {
    if denial.hides_the_app() { no_app() } else { forbidden(&denial) }
}

pub(super) fn forbidden(denial: &Denial) -> ApiError {
    let Denial { value, remedy, .. } = denial;
    ApiError::new(Code::Forbidden, format!("{value}; {remedy}"))
        .with("rule", serde_json::to_value(denial.rule).unwrap_or_default())
        .with("value", value.as_str())
        .with("remedy", remedy.as_str())
}

pub(super) fn no_app() -> ApiError {
    ApiError::not_found("there is no such app")
}

/// A script of an app.
pub(super) async fn script(conn: &mut PgConnection, app: &App, name: &str) -> Result<Script, ApiError> {
    let missing = || ApiError::not_found("the app has no such script");
    // What cannot be a name is no script's name.
    let name = name.parse::<ScriptName>().map_err(|_| missing())?;
    store::scripts::by_name(conn, app.id, &name).await?.ok_or_else(missing)
}

/// Locks the app for a change of its scripts, routes or members.
pub(super) async fn lock(conn: &mut PgConnection, app: &App) -> Result<(), ApiError> {
    if store::apps::lock(conn, app.id).await? {
        return Ok(());
    }
    Err(no_app())
}

/// The same, and the app as it is now that nobody else can change it.
pub(super) async fn lock_app(conn: &mut PgConnection, app: &App) -> Result<App, ApiError> {
    lock(conn, app).await?;
    store::apps::by_id(conn, app.id).await?.ok_or_else(no_app)
}
