//! What an app may use over time, and what it used.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use chrono::{Days, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::limits::FILES_BYTES_MAX;

use super::precondition::{Preconditions, Resource, Tagged};
use super::problem::ApiError;
use super::read::Json;
use super::{Admin, access};
use crate::audit::{self, Entry};
use crate::auth::{Capability, Principal};
use crate::budgets::{Level, level_of_kept};
use crate::store;
use crate::store::budgets::Budget;
use crate::store::usage::{Day, Used};

/// Days that the answer on usage goes back, today included.
const DAYS: u64 = 30;

#[derive(Serialize, JsonSchema)]
pub(super) struct Usage {
    level: Level,
    budget: Budget,
    this_minute: Used,
    today: Used,
    /// Values and documents, as the database stores them, rather too much than too little.
    data_bytes: Kept,
    /// The contents of files.
    files_bytes: Kept,
    /// The last days on which something ran, the newest first; today's number may be seconds old.
    days: Vec<Day>,
}

/// What is kept of something, and how much may be.
#[derive(Serialize, JsonSchema)]
struct Kept {
    used: i64,
    limit: i64,
}

impl Kept {
    fn level(&self) -> Level {
        level_of_kept(self.used, self.limit)
    }
}

impl Resource for Budget {
    fn state(&self) -> &impl Serialize {
        self
    }
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Path(app): Path<String>,
) -> Result<Tagged<Budget>, ApiError> {
    let mut conn = admin.database.acquire().await?;
    let app = access::app(&mut conn, &principal, &app, Capability::ReadApp).await?;
    Ok(Tagged(admin.budgets.meter(app.id).budget))
}

/// Replaces all of it: what is left out has no limit from then on, or the one that all apps have.
pub(super) async fn set(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Path(app): Path<String>,
    preconditions: Preconditions,
    Json(budget): Json<Budget>,
) -> Result<Tagged<Budget>, ApiError> {
    check(&budget)?;
    let mut tx = admin.database.begin().await?;
    let app = access::app(&mut tx, &principal, &app, Capability::SetBudgets).await?;
    access::lock(&mut tx, &app).await?;
    let mut now = store::budgets::of(&mut tx, app.id).await?.map(|set| set.budget).unwrap_or_default();
    // The database is told some seconds after an app froze; `show` says it at once.
    now.frozen |= admin.budgets.meter(app.id).budget.frozen;
    preconditions.check(Some(&now))?;
    store::budgets::set(&mut tx, app.id, &budget).await?;
    let entry = Entry::new(&principal, "budgets.set", &app.slug).on(app.id).after(&budget);
    audit::append(&mut tx, entry).await?;
    admin.budgets.publish(tx, app.id).await?;
    Ok(Tagged(budget))
}

fn check(budget: &Budget) -> Result<(), ApiError> {
    let fields = [
        ("fuel_per_minute", budget.fuel_per_minute),
        ("fuel_per_day", budget.fuel_per_day),
        ("executions_per_day", budget.executions_per_day),
        ("requests_per_day", budget.requests_per_day),
        ("mails_per_day", budget.mails_per_day),
        ("data_bytes", budget.data_bytes),
    ];
    match fields.into_iter().find(|(_, value)| value.is_some_and(|value| value <= 0)) {
        Some((field, _)) => {
            let detail = format!("{field} is above 0, or null to set none; \"frozen\": true stops the app");
            Err(ApiError::invalid(detail).with("field", field))
        }
        None => Ok(()),
    }
}

pub(super) async fn usage(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Path(app): Path<String>,
) -> Result<JsonBody<Usage>, ApiError> {
    let mut conn = admin.database.acquire().await?;
    let app = access::app(&mut conn, &principal, &app, Capability::ReadApp).await?;
    let today = Utc::now().date_naive();
    let since = today.checked_sub_days(Days::new(DAYS - 1)).unwrap_or(today);
    let days = store::usage::days(&mut conn, app.id, since).await?;
    let files_bytes = Kept { used: store::files::usage(&mut conn, app.id).await?, limit: FILES_BYTES_MAX };
    // To measure may take a while, on another connection.
    drop(conn);
    let (used, limit) = admin.data.kept(app.id).await;
    let data_bytes = Kept { used, limit };
    let meter = admin.budgets.meter(app.id);
    Ok(JsonBody(Usage {
        level: meter.level().max(data_bytes.level()).max(files_bytes.level()),
        budget: meter.budget,
        this_minute: meter.minute.used,
        today: meter.day.used,
        data_bytes,
        files_bytes,
        days,
    }))
}
