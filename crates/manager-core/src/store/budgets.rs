//! What apps may use over time.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::id::AppId;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use super::columns;

/// What happens when a day's budget is used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnExhausted {
    /// Requests are refused until the next day.
    #[default]
    Throttle,
    /// Requests are refused until the app is let go on.
    Freeze,
}

/// What an app may use and keep; what is not set has no limit, or the one that all apps have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Budget {
    #[schemars(range(min = 1))]
    pub(crate) fuel_per_minute: Option<i64>,
    #[schemars(range(min = 1))]
    pub(crate) fuel_per_day: Option<i64>,
    #[schemars(range(min = 1))]
    pub(crate) executions_per_day: Option<i64>,
    /// Requests of scripts to the world; redirects that are followed are none of their own.
    #[schemars(range(min = 1))]
    pub(crate) requests_per_day: Option<i64>,
    /// Mails of scripts, to however many people each.
    #[schemars(range(min = 1))]
    pub(crate) mails_per_day: Option<i64>,
    /// Bytes of values and documents together; 4 GiB unless set.
    #[schemars(range(min = 1))]
    pub(crate) data_bytes: Option<i64>,
    pub(crate) on_exhausted: OnExhausted,
    pub(crate) frozen: bool,
}

/// A budget as it is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SetBudget {
    pub(crate) budget: Budget,
    /// By the database's clock. It names what is kept until somebody sets another one.
    pub(crate) set_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for SetBudget {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { budget: Budget::from_row(row)?, set_at: row.try_get("updated_at")? })
    }
}

impl FromRow<'_, PgRow> for Budget {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let on_exhausted: &str = row.try_get("on_exhausted")?;
        Ok(Self {
            fuel_per_minute: row.try_get("fuel_per_minute")?,
            fuel_per_day: row.try_get("fuel_per_day")?,
            executions_per_day: row.try_get("executions_per_day")?,
            requests_per_day: row.try_get("requests_per_day")?,
            mails_per_day: row.try_get("mails_per_day")?,
            data_bytes: row.try_get("data_bytes")?,
            on_exhausted: match on_exhausted {
                "throttle" => OnExhausted::Throttle,
                "freeze" => OnExhausted::Freeze,
                other => return Err(columns::malformed("on_exhausted", format!("{other:?} is unknown"))),
            },
            frozen: row.try_get("frozen")?,
        })
    }
}

/// Every budget that is set.
pub(crate) async fn all(conn: &mut PgConnection) -> sqlx::Result<Vec<(AppId, SetBudget)>> {
    let rows = sqlx::query(
        "select app_id, fuel_per_minute, fuel_per_day, executions_per_day, requests_per_day, mails_per_day,
                data_bytes, on_exhausted, frozen, updated_at
         from app_budgets",
    )
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("app_id")?, SetBudget::from_row(row)?))).collect()
}

/// The budget of one app, if one is set.
pub(crate) async fn of(conn: &mut PgConnection, app: AppId) -> sqlx::Result<Option<SetBudget>> {
    sqlx::query_as(
        "select fuel_per_minute, fuel_per_day, executions_per_day, requests_per_day, mails_per_day, data_bytes,
                on_exhausted, frozen, updated_at
         from app_budgets
         where app_id = $1",
    )
    .bind(app)
    .fetch_optional(conn)
    .await
}

pub(crate) async fn set(conn: &mut PgConnection, app: AppId, budget: &Budget) -> sqlx::Result<()> {
    let on_exhausted = match budget.on_exhausted {
        OnExhausted::Throttle => "throttle",
        OnExhausted::Freeze => "freeze",
    };
    sqlx::query(
        "insert into app_budgets (app_id, fuel_per_minute, fuel_per_day, executions_per_day, requests_per_day,
                                  mails_per_day, data_bytes, on_exhausted, frozen)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict (app_id) do update
         set fuel_per_minute = excluded.fuel_per_minute, fuel_per_day = excluded.fuel_per_day,
             executions_per_day = excluded.executions_per_day, requests_per_day = excluded.requests_per_day,
             mails_per_day = excluded.mails_per_day, data_bytes = excluded.data_bytes,
             on_exhausted = excluded.on_exhausted, frozen = excluded.frozen, updated_at = now()",
    )
    .bind(app)
    .bind(budget.fuel_per_minute)
    .bind(budget.fuel_per_day)
    .bind(budget.executions_per_day)
    .bind(budget.requests_per_day)
    .bind(budget.mails_per_day)
    .bind(budget.data_bytes)
    .bind(on_exhausted)
    .bind(budget.frozen)
    .execute(conn)
    .await?;
    Ok(())
}

/// Freezes apps whose budgets are still those of these times: whoever set another one meanwhile, and perhaps let the
/// app go on, has said the last word.
pub(crate) async fn freeze(conn: &mut PgConnection, used_up: &[(AppId, DateTime<Utc>)]) -> sqlx::Result<()> {
    sqlx::query(
        "update app_budgets b
         set frozen = true, updated_at = now()
         from unnest($1::uuid[], $2::timestamptz[]) as u (app_id, set_at)
         where b.app_id = u.app_id and b.updated_at = u.set_at and not b.frozen",
    )
    .bind(used_up.iter().map(|(app, _)| app.as_uuid()).collect::<Vec<_>>())
    .bind(used_up.iter().map(|(_, set_at)| *set_at).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}
