//! What an app may use over time, and what it used.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use chrono::{Days, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::precondition::{Preconditions, Resource, Tagged};
use super::problem::ApiError;
use super::read::Json;
use super::{Admin, access};
use crate::audit::{self, Entry};
use crate::auth::{Capability, Principal};
use crate::budgets::Level;
use crate::store;
use crate::store::budgets::Budget;
use crate::store::usage::Day;

/// Days that the answer on usage goes back, today included.
const DAYS: u64 = 30;

#[derive(Serialize, JsonSchema)]
pub(super) struct Usage {
    level: Level,
    budget: Budget,
    this_minute: Used,
    today: Used,
    /// The last days on which something ran, the newest first; today's number may be seconds old.
    days: Vec<Day>,
}

#[derive(Serialize, JsonSchema)]
struct Used {
    executions: i64,
    fuel: i64,
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

/// Replaces all of it: what is left out has no limit from then on.
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
    let now = store::budgets::of(&mut tx, app.id).await?.unwrap_or_default();
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
    ];
    match fields.into_iter().find(|(_, value)| value.is_some_and(|value| value <= 0)) {
        Some((field, _)) => {
            let detail = format!("{field} is above 0, or null for no limit; \"frozen\": true stops the app");
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
    let meter = admin.budgets.meter(app.id);
    Ok(JsonBody(Usage {
        level: meter.level(),
        budget: meter.budget,
        this_minute: Used { executions: meter.minute.executions, fuel: meter.minute.fuel },
        today: Used { executions: meter.day.executions, fuel: meter.day.fuel },
        days,
    }))
}
