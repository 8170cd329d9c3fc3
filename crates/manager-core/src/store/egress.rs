//! Where scripts may send requests, and where they have been.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::host::HostPattern;
use shared::id::AppId;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use crate::outbound::Rules;

/// Destinations noted of one app: who has more makes them up.
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

/// Notes destinations that are new.
pub(crate) async fn see(
    conn: &mut PgConnection,
    app: AppId,
    script: &str,
    destinations: &[String],
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into egress_destinations (app_id, destination, script)
         select $1, destination, $2
         from unnest($3::text[]) as destination
         where (select count(*) from egress_destinations where app_id = $1) < $4
         on conflict (app_id, destination) do nothing",
    )
    .bind(app)
    .bind(script)
    .bind(destinations)
    .bind(DESTINATIONS_MAX)
    .execute(conn)
    .await?;
    Ok(())
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
