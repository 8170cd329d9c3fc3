//! Switching scripts off and on.

use std::sync::Arc;

use axum::extract::{Path, State};

use super::precondition::{Preconditions, Tagged};
use super::problem::ApiError;
use super::{Admin, access};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::store;
use crate::store::apps::App;
use crate::store::scripts::Script;

pub(super) async fn enable(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, name)): Path<(String, String)>,
    preconditions: Preconditions,
) -> Result<Tagged<Script>, ApiError> {
    turn(&admin, (&principal, &app), &name, &preconditions, true).await
}

/// Routes to the script stay and answer 503; test runs go on working.
pub(super) async fn disable(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, name)): Path<(String, String)>,
    preconditions: Preconditions,
) -> Result<Tagged<Script>, ApiError> {
    turn(&admin, (&principal, &app), &name, &preconditions, false).await
}

async fn turn(
    admin: &Arc<Admin>,
    (principal, app): (&Principal, &App),
    name: &str,
    preconditions: &Preconditions,
    on: bool,
) -> Result<Tagged<Script>, ApiError> {
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, app).await?;
    let before = access::script(&mut tx, app, name).await?;
    preconditions.check(Some(&before))?;
    if !store::scripts::switch(&mut tx, app.id, before.id, on).await? {
        // It is as it should be already.
        return Ok(Tagged(before));
    }
    let after = access::script(&mut tx, app, name).await?;
    let action = if on { "script.enable" } else { "script.disable" };
    let entry = Entry::new(principal, action, &after.name).on(app.id).before(&before).after(&after);
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    Ok(Tagged(after))
}
