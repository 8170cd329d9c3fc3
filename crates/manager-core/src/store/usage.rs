//! What apps used, by day.

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::Serialize;
use shared::id::AppId;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;

/// One day of an app, in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow, JsonSchema)]
pub(crate) struct Day {
    pub(crate) day: NaiveDate,
    pub(crate) executions: i64,
    pub(crate) fuel: i64,
}

/// What is to be added to a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) app: AppId,
    pub(crate) day: NaiveDate,
    pub(crate) executions: i64,
    pub(crate) fuel: i64,
}

/// Days of an app from `since` on, the newest first.
pub(crate) async fn days(conn: &mut PgConnection, app: AppId, since: NaiveDate) -> sqlx::Result<Vec<Day>> {
    sqlx::query_as(
        "select day, executions, fuel
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
    let rows: Vec<(AppId, i64, i64)> =
        sqlx::query_as("select app_id, executions, fuel from app_usage where day = $1")
            .bind(day)
            .fetch_all(conn)
            .await?;
    Ok(rows.into_iter().map(|(app, executions, fuel)| Added { app, day, executions, fuel }).collect())
}

/// Adds to days, in one statement. Apps that are gone are passed over. Each app and day may be there
/// only once.
pub(crate) async fn add(conn: &mut PgConnection, added: &[Added]) -> sqlx::Result<()> {
    sqlx::query(
        "insert into app_usage (app_id, day, executions, fuel)
         select r.app_id, r.day, r.executions, r.fuel
         from unnest($1::uuid[], $2::date[], $3::bigint[], $4::bigint[]) as r (app_id, day, executions, fuel)
         join apps a on a.id = r.app_id
         on conflict (app_id, day) do update
         set executions = app_usage.executions + excluded.executions,
             fuel = app_usage.fuel + excluded.fuel",
    )
    .bind(added.iter().map(|row| row.app.as_uuid()).collect::<Vec<_>>())
    .bind(added.iter().map(|row| row.day).collect::<Vec<_>>())
    .bind(added.iter().map(|row| row.executions).collect::<Vec<_>>())
    .bind(added.iter().map(|row| row.fuel).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}
