//! Where scripts may send requests, and where they have been.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::host::HostPattern;
use shared::id::AppId;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use crate::outbound::Rules;

/// Destinations noted of one app: who has more makes them up. What comes after them is counted.
const DESTINATIONS_MAX: i64 = 10_000;

/// Somewhere an app's scripts have been.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Destination {
    /// Host and port.
    pub(crate) destination: String,
    /// The script that went there first.
    pub(crate) script: String,
    pub(crate) first_seen_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for Destination {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            destination: row.try_get("destination")?,
            script: row.try_get("script")?,
            first_seen_at: row.try_get("first_seen_at")?,
        })
    }
}

/// What is not among an app's destinations, because the list is full.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct PassedOver {
    /// How often a destination was passed over: each once, and again after a while or a start of the server.
    pub(crate) count: i64,
    /// Since when the list is full.
    pub(crate) first_at: DateTime<Utc>,
    pub(crate) last_at: DateTime<Utc>,
    /// Host and port of the last.
    pub(crate) last_destination: String,
    /// The script that went there.
    pub(crate) last_script: String,
}

impl FromRow<'_, PgRow> for PassedOver {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            count: row.try_get("count")?,
            first_at: row.try_get("first_at")?,
            last_at: row.try_get("last_at")?,
            last_destination: row.try_get("last_destination")?,
            last_script: row.try_get("last_script")?,
        })
    }
}

pub(crate) async fn rules(conn: &mut PgConnection, app: AppId) -> sqlx::Result<Rules> {
    let row = sqlx::query("select allow, deny, ports from egress_rules where app_id = $1")
        .bind(app)
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(Rules::default()) };
    let allow: Option<Vec<String>> = row.try_get("allow")?;
    let deny: Vec<String> = row.try_get("deny")?;
    let ports: Vec<i32> = row.try_get("ports")?;
    Ok(Rules {
        allow: allow.map(patterns).transpose()?,
        deny: patterns(deny)?,
        ports: ports.into_iter().filter_map(|port| u16::try_from(port).ok()).collect(),
    })
}

fn patterns(texts: Vec<String>) -> sqlx::Result<Vec<HostPattern>> {
    texts
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>()
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

pub(crate) async fn set_rules(conn: &mut PgConnection, app: AppId, rules: &Rules) -> sqlx::Result<()> {
    let texts = |patterns: &[HostPattern]| patterns.iter().map(ToString::to_string).collect::<Vec<_>>();
    sqlx::query(
        "insert into egress_rules (app_id, allow, deny, ports) values ($1, $2, $3, $4)
         on conflict (app_id) do update
         set allow = excluded.allow, deny = excluded.deny, ports = excluded.ports",
    )
    .bind(app)
    .bind(rules.allow.as_deref().map(texts))
    .bind(texts(&rules.deny))
    .bind(rules.ports.iter().map(|port| i32::from(*port)).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes destinations that are new, and counts those for which there is no room. Says whether these are the first of
/// the app that there is none for.
pub(crate) async fn see(
    conn: &mut PgConnection,
    app: AppId,
    script: &str,
    destinations: &[String],
) -> sqlx::Result<bool> {
    let is_first: Option<bool> = sqlx::query_scalar(
        "with unseen as (
             select visited.destination, row_number() over (order by min(visited.place)) as place
             from unnest($3::text[]) with ordinality as visited (destination, place)
             where not exists (
                 select from egress_destinations as seen
                 where seen.app_id = $1 and seen.destination = visited.destination)
             group by visited.destination
         ),
         room as (
             select $4 - count(*) as places from egress_destinations where app_id = $1
         ),
         kept as (
             insert into egress_destinations (app_id, destination, script)
             select $1, unseen.destination, $2
             from unseen, room
             where unseen.place <= room.places
             on conflict (app_id, destination) do nothing
         )
         insert into egress_passed_over as total (app_id, count, last_destination, last_script)
         select $1, count(*), (array_agg(unseen.destination order by unseen.place desc))[1], $2
         from unseen, room
         where unseen.place > room.places
         having count(*) > 0
         on conflict (app_id) do update
         set count = total.count + excluded.count,
             last_at = excluded.last_at,
             last_destination = excluded.last_destination,
             last_script = excluded.last_script
         returning first_at = last_at",
    )
    .bind(app)
    .bind(script)
    .bind(destinations)
    .bind(DESTINATIONS_MAX)
    .fetch_optional(conn)
    .await?;
    Ok(is_first.unwrap_or(false))
}

/// What the list of destinations does not have; nothing as long as it has all.
pub(crate) async fn passed_over(conn: &mut PgConnection, app: AppId) -> sqlx::Result<Option<PassedOver>> {
    sqlx::query_as(
        "select count, first_at, last_at, last_destination, last_script
         from egress_passed_over
         where app_id = $1",
    )
    .bind(app)
    .fetch_optional(conn)
    .await
}

/// Destinations behind `after`, in order.
pub(crate) async fn page(
    conn: &mut PgConnection,
    app: AppId,
    after: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<Destination>> {
    sqlx::query_as(
        "select destination, script, first_seen_at
         from egress_destinations
         where app_id = $1 and ($2::text is null or destination collate \"C\" > $2)
         order by destination collate \"C\"
         limit $3",
    )
    .bind(app)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}
