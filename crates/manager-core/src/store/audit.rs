//! Rows of the audit log. There is no statement here that changes or removes one.

use shared::id::{AppId, UserId};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};
use uuid::Uuid;

use crate::audit::Link;

impl FromRow<'_, PgRow> for Link {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            number: row.try_get("number")?,
            at: row.try_get("at")?,
            actor_id: row.try_get("actor_id")?,
            actor_name: row.try_get("actor_name")?,
            credential: row.try_get("credential")?,
            app_id: row.try_get("app_id")?,
            action: row.try_get("action")?,
            target: row.try_get("target")?,
            remote_address: row.try_get("remote_address")?,
            request_id: row.try_get("request_id")?,
            before_digest: row.try_get("before_digest")?,
            after_digest: row.try_get("after_digest")?,
            previous_hash: row.try_get("previous_hash")?,
            hash: row.try_get("hash")?,
        })
    }
}

/// Makes writers of the log wait for each other until their transactions end.
pub(crate) async fn lock(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('picloud audit log', 0))")
        .execute(conn)
        .await?;
    Ok(())
}

/// Number and hash of the last entry.
pub(crate) async fn last(conn: &mut PgConnection) -> sqlx::Result<Option<(i64, [u8; 32])>> {
    sqlx::query_as("select number, hash from audit_log order by number desc limit 1")
        .fetch_optional(conn)
        .await
}

/// Writes entries in one statement: everybody else waits meanwhile.
pub(crate) async fn insert(conn: &mut PgConnection, links: &[Link]) -> sqlx::Result<()> {
    let texts = |column: fn(&Link) -> &str| links.iter().map(column).collect::<Vec<_>>();
    let uuids = |column: fn(&Link) -> Option<Uuid>| links.iter().map(column).collect::<Vec<_>>();
    let hashes =
        |column: fn(&Link) -> &[u8; 32]| links.iter().map(|link| column(link).as_slice()).collect::<Vec<_>>();
    let digests = |column: fn(&Link) -> Option<[u8; 32]>| {
        links.iter().map(|link| column(link).map(|digest| digest.to_vec())).collect::<Vec<_>>()
    };
    sqlx::query(
        "insert into audit_log (number, at, actor_id, actor_name, credential, app_id, action, target,
                                remote_address, request_id, before_digest, after_digest,
                                previous_hash, hash)
         select number, at, actor_id, actor_name, credential, app_id, action, target,
                remote_address, request_id, before_digest, after_digest, previous_hash, hash
         from unnest($1::bigint[], $2::timestamptz[], $3::uuid[], $4::text[], $5::text[], $6::uuid[], $7::text[],
                     $8::text[], $9::text[], $10::text[], $11::bytea[], $12::bytea[], $13::bytea[], $14::bytea[])
              as l (number, at, actor_id, actor_name, credential, app_id, action, target,
                    remote_address, request_id, before_digest, after_digest, previous_hash, hash)",
    )
    .bind(links.iter().map(|link| link.number).collect::<Vec<_>>())
    .bind(links.iter().map(|link| link.at).collect::<Vec<_>>())
    .bind(uuids(|link| link.actor_id.map(UserId::as_uuid)))
    .bind(texts(|link| &link.actor_name))
    .bind(texts(|link| &link.credential))
    .bind(uuids(|link| link.app_id.map(AppId::as_uuid)))
    .bind(texts(|link| &link.action))
    .bind(texts(|link| &link.target))
    .bind(texts(|link| &link.remote_address))
    .bind(texts(|link| &link.request_id))
    .bind(digests(|link| link.before_digest))
    .bind(digests(|link| link.after_digest))
    .bind(hashes(|link| &link.previous_hash))
    .bind(hashes(|link| &link.hash))
    .execute(conn)
    .await?;
    Ok(())
}

/// Entries behind this number, in the order in which they were written.
pub(crate) async fn following(conn: &mut PgConnection, number: i64, limit: i64) -> sqlx::Result<Vec<Link>> {
    sqlx::query_as(
        "select number, at, actor_id, actor_name, credential, app_id, action, target,
                remote_address, request_id, before_digest, after_digest, previous_hash, hash
         from audit_log
         where number > $1
         order by number
         limit $2",
    )
    .bind(number)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// Which entries a list shows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) app: Option<AppId>,
    pub(crate) action: Option<String>,
    pub(crate) actor: Option<String>,
    /// Only entries before this number.
    pub(crate) before: Option<i64>,
}

/// Entries, newest first.
pub(crate) async fn page(conn: &mut PgConnection, filter: &Filter, limit: i64) -> sqlx::Result<Vec<Link>> {
    sqlx::query_as(
        "select number, at, actor_id, actor_name, credential, app_id, action, target,
                remote_address, request_id, before_digest, after_digest, previous_hash, hash
         from audit_log
         where ($1::uuid is null or app_id = $1)
           and ($2::text is null or action = $2)
           and ($3::text is null or lower(actor_name) = lower($3))
           and ($4::bigint is null or number < $4)
         order by number desc
         limit $5",
    )
    .bind(filter.app)
    .bind(filter.action.as_deref())
    .bind(filter.actor.as_deref())
    .bind(filter.before)
    .bind(limit)
    .fetch_all(conn)
    .await
}
