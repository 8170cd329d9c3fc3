//! What apps used, by day.

use std::ops::AddAssign;

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::Serialize;
use shared::id::AppId;
use sqlx::postgres::PgConnection;
use sqlx::{FromRow, Row};

use super::savepoints;

/// What was used in some time. All of it only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, FromRow, JsonSchema)]
pub(crate) struct Used {
    /// Executions that have ended.
    pub(crate) executions: i64,
    /// Fuel that executions and compilations burnt.
    pub(crate) fuel: i64,
    /// Requests to the world, from when somebody was spoken to.
    pub(crate) requests: i64,
    /// Mails, from when the mail server was spoken to.
    pub(crate) mails: i64,
}

impl AddAssign for Used {
    /// Stays at the greatest number there is.
    fn add_assign(&mut self, more: Self) {
        self.executions = self.executions.saturating_add(more.executions);
        self.fuel = self.fuel.saturating_add(more.fuel);
        self.requests = self.requests.saturating_add(more.requests);
        self.mails = self.mails.saturating_add(more.mails);
    }
}

/// One day of an app, in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow, JsonSchema)]
pub(crate) struct Day {
    pub(crate) day: NaiveDate,
    #[serde(flatten)]
    #[sqlx(flatten)]
    pub(crate) used: Used,
}

/// What is to be added to a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) app: AppId,
    pub(crate) day: NaiveDate,
    pub(crate) used: Used,
}

/// Days of an app from `since` on, the newest first.
pub(crate) async fn days(conn: &mut PgConnection, app: AppId, since: NaiveDate) -> sqlx::Result<Vec<Day>> {
    sqlx::query_as(
        "select day, executions, fuel, requests, mails
         from app_usage
         where app_id = $1 and day >= $2
         order by day desc",
    )
    .bind(app)
    .bind(since)
    .fetch_all(conn)
    .await
}

/// What every app used on a day.
pub(crate) async fn of_day(conn: &mut PgConnection, day: NaiveDate) -> sqlx::Result<Vec<Added>> {
    let rows = sqlx::query("select app_id, executions, fuel, requests, mails from app_usage where day = $1")
        .bind(day)
        .fetch_all(conn)
        .await?;
    rows.iter()
        .map(|row| Ok(Added { app: row.try_get("app_id")?, day, used: Used::from_row(row)? }))
        .collect()
}

/// Adds to days. Apps that are gone or being removed are passed over. Each app and day may be there only once. Apps that
/// somebody has locked against every reference to them come last and are not waited for long: all others' rows wait with
/// them. A change of an app's name, of which an app may make many, is over by then.
pub(crate) async fn add(conn: &mut PgConnection, added: &[Added]) -> sqlx::Result<()> {
    let locked = add_free(conn, added).await?;
    if locked.is_empty() {
        return Ok(());
    }
    let rest: Vec<Added> = added.iter().filter(|row| locked.contains(&row.app)).copied().collect();
    savepoints::set(conn).await?;
    match wait_for(conn, &locked).await {
        Ok(()) => savepoints::keep(conn).await?,
        Err(error) if super::waited_too_long(&error) => savepoints::undo(conn).await?,
        Err(error) => return Err(error),
    }
    let locked = add_free(conn, &rest).await?;
    if !locked.is_empty() {
        tracing::warn!(apps = locked.len(), "what apps used is not written, because they are locked");
    }
    Ok(())
}

/// Waits until nobody has these apps locked.
async fn wait_for(conn: &mut PgConnection, apps: &[AppId]) -> sqlx::Result<()> {
    sqlx::raw_sql("set local lock_timeout = '1s'").execute(&mut *conn).await?;
    sqlx::query("select from apps where id = any($1) order by id for key share")
        .bind(apps.iter().map(|app| app.as_uuid()).collect::<Vec<_>>())
        .execute(&mut *conn)
        .await?;
    sqlx::raw_sql("set local lock_timeout to default").execute(conn).await?;
    Ok(())
}

/// Adds to days, in one statement; answers whose app is locked. As in memory, a count stays at the greatest number there
/// is: what a worker says may be a lie, and one app's sum that does not fit would keep every other app's from being
/// written.
async fn add_free(conn: &mut PgConnection, added: &[Added]) -> sqlx::Result<Vec<AppId>> {
    let column = |of: fn(&Used) -> i64| added.iter().map(|row| of(&row.used)).collect::<Vec<_>>();
    sqlx::query_scalar(
        "with free as (
             select id
             from apps
             where id = any($1::uuid[]) and removing_at is null
             for key share skip locked
         ), written as (
             insert into app_usage (app_id, day, executions, fuel, requests, mails)
             select r.app_id, r.day, r.executions, r.fuel, r.requests, r.mails
             from unnest($1::uuid[], $2::date[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
                  as r (app_id, day, executions, fuel, requests, mails)
             join free on free.id = r.app_id
             on conflict (app_id, day) do update
             set executions = least(app_usage.executions::numeric + excluded.executions, $7::bigint)::bigint,
                 fuel = least(app_usage.fuel::numeric + excluded.fuel, $7::bigint)::bigint,
                 requests = least(app_usage.requests::numeric + excluded.requests, $7::bigint)::bigint,
                 mails = least(app_usage.mails::numeric + excluded.mails, $7::bigint)::bigint
         )
         select id
         from apps
         where id = any($1::uuid[]) and removing_at is null and id not in (select id from free)",
    )
    .bind(added.iter().map(|row| row.app.as_uuid()).collect::<Vec<_>>())
    .bind(added.iter().map(|row| row.day).collect::<Vec<_>>())
    .bind(column(|used| used.executions))
    .bind(column(|used| used.fuel))
    .bind(column(|used| used.requests))
    .bind(column(|used| used.mails))
    .bind(i64::MAX)
    .fetch_all(conn)
    .await
}
