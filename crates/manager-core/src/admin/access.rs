//! From the names in an address to what they name, for those who may know of it.

use shared::fault::Code;
use shared::id::AppId;
use shared::name::ScriptName;
use sqlx::postgres::PgConnection;

use super::problem::ApiError;
use crate::auth::{Capability, Principal, can};
use crate::store;
use crate::store::apps::App;
use crate::store::scripts::Script;

/// Requires a right on the instance as a whole.
pub(super) fn require(principal: &Principal, capability: Capability) -> Result<(), ApiError> {
    if can(principal, capability) {
        return Ok(());
    }
    let detail = format!("the role {} does not include this", principal.user.role.as_str());
    Err(ApiError::new(Code::Forbidden, detail))
}

/// The app of this slug or id, when the caller may do this to it. An app that they may not even
/// see is answered as one that does not exist.
pub(super) async fn app(
    conn: &mut PgConnection,
    principal: &Principal,
    key: &str,
    capability: Capability,
) -> Result<App, ApiError> {
    let missing = || ApiError::not_found("there is no such app");
    if !can(principal, Capability::ReadApp) {
        return Err(missing());
    }
    let app = match key.parse::<AppId>() {
        Ok(id) => store::apps::by_id(conn, id).await?,
        Err(_) if key.contains('\0') => None,
        Err(_) => store::apps::by_slug(conn, key).await?,
    };
    let app = app.ok_or_else(missing)?;
    require(principal, capability)?;
    Ok(app)
}

/// A script of an app.
pub(super) async fn script(conn: &mut PgConnection, app: &App, name: &str) -> Result<Script, ApiError> {
    let missing = || ApiError::not_found("the app has no such script");
    // What cannot be a name is no script's name.
    let name = name.parse::<ScriptName>().map_err(|_| missing())?;
    store::scripts::by_name(conn, app.id, &name).await?.ok_or_else(missing)
}

/// Locks the app for a change of its scripts or routes.
pub(super) async fn lock(conn: &mut PgConnection, app: &App) -> Result<(), ApiError> {
    if store::apps::lock(conn, app.id).await? {
        return Ok(());
    }
    Err(ApiError::not_found("there is no such app"))
}
