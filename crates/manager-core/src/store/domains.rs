//! Hosts that apps have claimed.

use chrono::{DateTime, Utc};
use shared::host::HostPattern;
use shared::id::{AppId, DomainId};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use super::columns;

/// Name of the constraint that keeps a claim from being made twice by one app.
pub(crate) const SHAPE_KEY: &str = "app_domains_shape_key";
/// Name of the index that keeps a host to one app.
pub(crate) const VERIFIED_KEY: &str = "app_domains_verified_key";

/// The columns of a [`Domain`].
macro_rules! columns {
    () => {
        "id, pattern, token, verified_at, verified_by, created_at"
    };
}

/// A claim.
#[derive(Debug, Clone)]
pub(crate) struct Domain {
    pub(crate) id: DomainId,
    pub(crate) pattern: HostPattern,
    pub(crate) token: String,
    pub(crate) verified_at: Option<DateTime<Utc>>,
    pub(crate) verified_by: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
}

/// How a claim came to be believed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Proof {
    /// The record was there.
    Dns,
    /// An owner of the instance said so.
    Waiver,
}

impl Proof {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Waiver => "waiver",
        }
    }
}

impl FromRow<'_, PgRow> for Domain {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            pattern: columns::parsed(row, "pattern")?,
            token: row.try_get("token")?,
            verified_at: row.try_get("verified_at")?,
            verified_by: row.try_get("verified_by")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

pub(crate) async fn by_id(conn: &mut PgConnection, app: AppId, id: DomainId) -> sqlx::Result<Option<Domain>> {
    sqlx::query_as(concat!("select ", columns!(), " from app_domains where app_id = $1 and id = $2"))
        .bind(app)
        .bind(id)
        .fetch_optional(conn)
        .await
}

/// Claims of an app in the order in which they were made, those after `after`.
pub(crate) async fn page(
    conn: &mut PgConnection,
    app: AppId,
    after: Option<DomainId>,
    limit: i64,
) -> sqlx::Result<Vec<Domain>> {
    sqlx::query_as(concat!(
        "select ",
        columns!(),
        " from app_domains
         where app_id = $1 and ($2::uuid is null or id > $2)
         order by id
         limit $3"
    ))
    .bind(app)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// The hosts that an app has claimed, proven or not.
pub(crate) async fn patterns(conn: &mut PgConnection, app: AppId) -> sqlx::Result<Vec<HostPattern>> {
    let rows =
        sqlx::query("select pattern from app_domains where app_id = $1").bind(app).fetch_all(conn).await?;
    rows.iter().map(|row| columns::parsed(row, "pattern")).collect()
}

pub(crate) async fn count(conn: &mut PgConnection, app: AppId) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from app_domains where app_id = $1").bind(app).fetch_one(conn).await
}

/// The app for which hosts of this shape are proven.
pub(crate) async fn holder(conn: &mut PgConnection, shape: &str) -> sqlx::Result<Option<AppId>> {
    sqlx::query_scalar("select app_id from app_domains where shape = $1 and verified_at is not null")
        .bind(shape)
        .fetch_optional(conn)
        .await
}

pub(crate) async fn create(
    conn: &mut PgConnection,
    app: AppId,
    pattern: &HostPattern,
    token: &str,
) -> sqlx::Result<Domain> {
    sqlx::query_as(concat!(
        "insert into app_domains (app_id, id, pattern, shape, token)
         values ($1, $2, $3, $4, $5)
         returning ",
        columns!()
    ))
    .bind(app)
    .bind(DomainId::new())
    .bind(pattern.to_string())
    .bind(pattern.shape())
    .bind(token)
    .fetch_one(conn)
    .await
}

/// Makes a claim take effect; nothing when there is no such claim.
pub(crate) async fn verify(
    conn: &mut PgConnection,
    app: AppId,
    id: DomainId,
    proof: Proof,
) -> sqlx::Result<Option<Domain>> {
    sqlx::query_as(concat!(
        "update app_domains
         set verified_at = now(), verified_by = $3
         where app_id = $1 and id = $2
         returning ",
        columns!()
    ))
    .bind(app)
    .bind(id)
    .bind(proof.as_str())
    .fetch_optional(conn)
    .await
}

/// False when there was no such claim.
pub(crate) async fn delete(conn: &mut PgConnection, app: AppId, id: DomainId) -> sqlx::Result<bool> {
    let done = sqlx::query("delete from app_domains where app_id = $1 and id = $2")
        .bind(app)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Every claim that is proven.
pub(crate) async fn verified(conn: &mut PgConnection) -> sqlx::Result<Vec<(AppId, HostPattern)>> {
    let rows = sqlx::query("select app_id, pattern from app_domains where verified_at is not null")
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| Ok((row.try_get("app_id")?, columns::parsed(row, "pattern")?))).collect()
}
