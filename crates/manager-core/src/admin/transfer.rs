//! Giving an app to somebody else, who pays for it from then on.

use std::sync::Arc;

use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;

use super::apps::AppView;
use super::precondition::{Preconditions, Tagged};
use super::problem::ApiError;
use super::read::Json;
use super::{Admin, access, members};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::store;
use crate::store::apps::App;
use crate::store::members::AppRole;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Transfer {
    /// The new owner's name or id.
    user: String,
}

/// The new owner becomes an admin of the app; the old one stays what they are.
pub(super) async fn transfer(
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
    match store::members::role(&mut tx, app.id, user.id).await? {
        Some(AppRole::AppAdmin) => {}
        Some(_) => store::members::set_role(&mut tx, app.id, user.id, AppRole::AppAdmin).await?,
        None => {
            store::members::add(&mut tx, app.id, user.id, AppRole::AppAdmin, principal.user.id).await?;
        }
    }
    let given = store::apps::set_owner(&mut tx, app.id, user.id).await?.ok_or_else(access::no_app)?;
    let entry = Entry::new(&principal, "app.transfer", &user.username).on(app.id).before(&app).after(&given);
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    Ok(Tagged(AppView::new(&admin, given)))
}
