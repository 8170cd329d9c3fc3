//! Giving an app to somebody else, who pays for it from then on. Workers serve one owner, so an app
//! that could be given away unasked could be pushed into a victim's workers: it is offered, and
//! becomes the other's when they accept.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use shared::fault::Code;
use shared::id::UserId;
use sqlx::postgres::PgConnection;

use super::apps::AppView;
use super::page::{Items, PageParams};
use super::precondition::{Preconditions, Tagged};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, access, members};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::store;
use crate::store::apps::App;
use crate::store::members::AppRole;
use crate::store::transfers::Offer;

/// As for an invitation: long enough for a holiday.
const DAYS: i32 = 7;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Transfer {
    /// The new owner's name or id.
    user: String,
}

/// Offers an app to somebody, and to nobody else any more.
pub(super) async fn transfer(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    preconditions: Preconditions,
    Json(body): Json<Transfer>,
) -> Result<(StatusCode, JsonBody<Offer>), ApiError> {
    let mut tx = admin.database.begin().await?;
    let app = access::lock_app(&mut tx, &app).await?;
    preconditions.check(Some(&app))?;
    let user = members::user(&mut tx, &body.user).await?;
    if user.id == app.owner_id {
        let detail = format!("{} owns the app already", user.username);
        return Err(ApiError::new(Code::Conflict, detail).with("field", "user"));
    }
    store::transfers::offer(&mut tx, app.id, user.id, principal.user.id, DAYS).await?;
    let offer = store::transfers::of_app(&mut tx, app.id).await?.ok_or_else(no_offer)?;
    let entry = Entry::new(&principal, "app.offer", &user.username).on(app.id).after(&offer);
    audit::append(&mut tx, entry).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, JsonBody(offer)))
}

/// Whom an app is offered to.
pub(super) async fn show(State(admin): State<Arc<Admin>>, app: App) -> Result<JsonBody<Offer>, ApiError> {
    let mut conn = admin.database.acquire().await?;
    store::transfers::of_app(&mut conn, app.id).await?.map(JsonBody).ok_or_else(no_offer)
}

/// Takes an offer back.
pub(super) async fn withdraw(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
) -> Result<StatusCode, ApiError> {
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let offer = store::transfers::of_app(&mut tx, app.id).await?.ok_or_else(no_offer)?;
    store::transfers::remove(&mut tx, app.id).await?;
    let entry = Entry::new(&principal, "app.withdraw", &offer.user).on(app.id).before(&offer);
    audit::append(&mut tx, entry).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What is offered to the caller.
pub(super) async fn offers(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<Offer>>, ApiError> {
    let page = params.page::<String>()?;
    let mut conn = admin.database.acquire().await?;
    let (user, after) = (principal.user.id, page.after.as_deref());
    let rows = store::transfers::page(&mut conn, user, after, page.rows()).await?;
    Ok(JsonBody(page.items(rows, |offer| offer.slug.to_string())))
}

/// The caller becomes the owner, and an admin, of an app that was offered to them; the old owner stays
/// what they are.
pub(super) async fn accept(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Path(key): Path<String>,
) -> Result<Tagged<AppView>, ApiError> {
    let mut tx = admin.database.begin().await?;
    let (app, offer) = lock_offered(&mut tx, &principal, &key).await?;
    let given = set_owner(&mut tx, &app, principal.user.id, offer.offered_by_id).await?;
    let entry = Entry::new(&principal, "app.transfer", &offer.user).on(app.id).before(&app).after(&given);
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    Ok(Tagged(AppView::new(&admin, given)))
}

/// The caller does not want an app that was offered to them.
pub(super) async fn decline(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Path(key): Path<String>,
) -> Result<StatusCode, ApiError> {
    let mut tx = admin.database.begin().await?;
    let (app, offer) = lock_offered(&mut tx, &principal, &key).await?;
    store::transfers::remove(&mut tx, app.id).await?;
    let entry = Entry::new(&principal, "app.decline", &offer.user).on(app.id).before(&offer);
    audit::append(&mut tx, entry).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes somebody the owner without asking them: for those who answer for the whole instance, when an
/// owner is gone.
pub(super) async fn assign(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    preconditions: Preconditions,
    Json(body): Json<Transfer>,
) -> Result<Tagged<AppView>, ApiError> {
    let mut tx = admin.database.begin().await?;
    let app = access::lock_app(&mut tx, &app).await?;
    preconditions.check(Some(&app))?;
    let user = members::user(&mut tx, &body.user).await?;
    let given = set_owner(&mut tx, &app, user.id, principal.user.id).await?;
    let entry = Entry::new(&principal, "app.assign", &user.username).on(app.id).before(&app).after(&given);
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    Ok(Tagged(AppView::new(&admin, given)))
}

/// The app that is offered to the caller, locked, and the offer as it is then.
async fn lock_offered(
    conn: &mut PgConnection,
    principal: &Principal,
    key: &str,
) -> Result<(App, Offer), ApiError> {
    // What cannot be a slug or an id is nobody's.
    if key.contains('\0') {
        return Err(no_offer());
    }
    let user = principal.user.id;
    let offer = store::transfers::to_user(conn, user, key).await?.ok_or_else(no_offer)?;
    if !store::apps::lock(conn, offer.app_id).await? {
        return Err(no_offer());
    }
    // It may have been withdrawn, or the app given to somebody else, before the lock.
    let offer = store::transfers::to_user(conn, user, key).await?.ok_or_else(no_offer)?;
    let app = store::apps::by_id(conn, offer.app_id).await?.ok_or_else(no_offer)?;
    Ok((app, offer))
}

async fn set_owner(conn: &mut PgConnection, app: &App, user: UserId, by: UserId) -> Result<App, ApiError> {
    match store::members::role(conn, app.id, user).await? {
        Some(AppRole::AppAdmin) => {}
        Some(_) => store::members::set_role(conn, app.id, user, AppRole::AppAdmin).await?,
        None => store::members::add(conn, app.id, user, AppRole::AppAdmin, by).await?,
    }
    // An offer of the old owner's is not the new one's.
    store::transfers::remove(conn, app.id).await?;
    store::apps::set_owner(conn, app.id, user).await?.ok_or_else(access::no_app)
}

fn no_offer() -> ApiError {
    ApiError::not_found("there is no such offer")
}
