//! Topics that apps have registered.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::id::AppId;
use shared::manifest::ManifestTopic;
use shared::name::TopicName;
use shared::topic::TopicAuth;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use super::columns;

/// Name of the constraint that keeps names of topics unique.
pub(crate) const NAME_KEY: &str = "topics_pkey";

/// The query of a [`Topic`], with what is to follow it.
macro_rules! select_topics {
    ($rest:literal) => {
        concat!(
            "select name, is_external, auth_mode, description, created_at, updated_at from topics ",
            $rest
        )
    };
}

/// A topic as the admin API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Topic {
    pub(crate) name: TopicName,
    /// Whether somebody outside may listen.
    pub(crate) external: bool,
    /// What they need for it.
    pub(crate) auth_mode: TopicAuth,
    pub(crate) description: String,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for Topic {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            name: columns::parsed(row, "name")?,
            external: row.try_get("is_external")?,
            auth_mode: columns::parsed(row, "auth_mode")?,
            description: row.try_get("description")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

pub(crate) async fn by_name(
    conn: &mut PgConnection,
    app: AppId,
    name: &TopicName,
) -> sqlx::Result<Option<Topic>> {
    sqlx::query_as(select_topics!("where app_id = $1 and name = $2"))
        .bind(app)
        .bind(name.as_str())
        .fetch_optional(conn)
        .await
}

/// Topics of an app by name, those after `after`.
pub(crate) async fn page(
    conn: &mut PgConnection,
    app: AppId,
    after: Option<&TopicName>,
    limit: i64,
) -> sqlx::Result<Vec<Topic>> {
    sqlx::query_as(select_topics!(
        "where app_id = $1 and ($2::text is null or name collate \"C\" > $2)
         order by name collate \"C\"
         limit $3"
    ))
    .bind(app)
    .bind(after.map(TopicName::as_str))
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// Every topic of an app, by name.
pub(crate) async fn of_app(conn: &mut PgConnection, app: AppId) -> sqlx::Result<Vec<Topic>> {
    page(conn, app, None, i64::MAX).await
}

/// The topics to which somebody outside may listen, of all apps, and what they need for it.
pub(crate) async fn external(conn: &mut PgConnection) -> sqlx::Result<Vec<(AppId, TopicName, TopicAuth)>> {
    let rows =
        sqlx::query("select app_id, name, auth_mode from topics where is_external").fetch_all(conn).await?;
    let read = |row: &PgRow| -> sqlx::Result<_> {
        Ok((row.try_get("app_id")?, columns::parsed(row, "name")?, columns::parsed(row, "auth_mode")?))
    };
    let read_all = rows.iter().map(read).filter_map(|topic| {
        // A newer release may have written it. Everything else is to go on.
        topic.inspect_err(|error| tracing::error!(%error, "a topic is passed over")).ok()
    });
    Ok(read_all.collect())
}

pub(crate) async fn count(conn: &mut PgConnection, app: AppId) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from topics where app_id = $1").bind(app).fetch_one(conn).await
}

/// Fails on [`NAME_KEY`] when there is such a topic.
pub(crate) async fn create(conn: &mut PgConnection, app: AppId, topic: &ManifestTopic) -> sqlx::Result<()> {
    sqlx::query(
        "insert into topics (app_id, name, is_external, auth_mode, description)
         values ($1, $2, $3, $4, $5)",
    )
    .bind(app)
    .bind(topic.name.as_str())
    .bind(topic.external)
    .bind(topic.auth_mode.as_str())
    .bind(&topic.description)
    .execute(conn)
    .await?;
    Ok(())
}

/// Changes all but the name, which a topic keeps.
pub(crate) async fn update(conn: &mut PgConnection, app: AppId, topic: &ManifestTopic) -> sqlx::Result<()> {
    sqlx::query(
        "update topics
         set is_external = $3, auth_mode = $4, description = $5, updated_at = now()
         where app_id = $1 and name = $2",
    )
    .bind(app)
    .bind(topic.name.as_str())
    .bind(topic.external)
    .bind(topic.auth_mode.as_str())
    .bind(&topic.description)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn delete(conn: &mut PgConnection, app: AppId, name: &TopicName) -> sqlx::Result<()> {
    sqlx::query("delete from topics where app_id = $1 and name = $2")
        .bind(app)
        .bind(name.as_str())
        .execute(conn)
        .await?;
    Ok(())
}
