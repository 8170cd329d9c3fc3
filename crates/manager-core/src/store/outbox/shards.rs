//! Who dispatches which part of the outbox.

use sqlx::postgres::PgConnection;
use sqlx::{Executor, Postgres, Row};
use uuid::Uuid;

/// The first half of the keys of our advisory locks.
const LOCKS: i32 = 7001;

/// Where nodes tell each other that they wrote events for somebody else's shards.
pub(crate) const CHANNEL: &str = "picloud_outbox";

/// A shard that is ours now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acquired {
    pub(crate) shard: u8,
    pub(crate) suspect_max_id: i64,
    /// The last row of the outbox when it became ours.
    pub(crate) last_id: i64,
    /// It was ours before, and nobody's in between.
    pub(crate) is_continued: bool,
}

/// Takes every shard that is nobody's. The session behind `executor` holds them until it ends.
pub(crate) async fn acquire<'e>(
    executor: impl Executor<'e, Database = Postgres>,
    owner: Uuid,
    previous: Option<Uuid>,
) -> sqlx::Result<Vec<Acquired>> {
    let rows = sqlx::query(
        "with free as materialized (
             select shard, owner, is_clean
             from outbox_shards
             where owner is distinct from $1 and pg_try_advisory_lock($3, shard)
         )
         update outbox_shards s
         set owner = $1,
             epoch = s.epoch + 1,
             is_clean = false,
             suspect_max_id = case when f.is_clean or f.owner = $2 then s.suspect_max_id
                                   else (select coalesce(max(id), 0) from outbox) end
         from free f
         where s.shard = f.shard
         returning s.shard,
                   s.suspect_max_id,
                   (select coalesce(max(id), 0) from outbox) as last_id,
                   coalesce(f.owner = $2, false) as is_continued",
    )
    .bind(owner)
    .bind(previous)
    .bind(LOCKS)
    .fetch_all(executor)
    .await?;
    rows.iter()
        .map(|row| {
            let shard: i16 = row.try_get("shard")?;
            Ok(Acquired {
                shard: u8::try_from(shard).unwrap_or_default(),
                suspect_max_id: row.try_get("suspect_max_id")?,
                last_id: row.try_get("last_id")?,
                is_continued: row.try_get("is_continued")?,
            })
        })
        .collect()
}

/// Tells the owners of other shards that they have something to read.
pub(crate) async fn notify(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("select pg_notify($1, '')").bind(CHANNEL).execute(conn).await?;
    Ok(())
}

/// Gives up every shard of an owner that has nothing running any more.
pub(crate) async fn release(conn: &mut PgConnection, owner: Uuid) -> sqlx::Result<()> {
    sqlx::query("update outbox_shards set owner = null, is_clean = true where owner = $1")
        .bind(owner)
        .execute(conn)
        .await?;
    Ok(())
}

/// Of these shards, those that are still the owner's, and that stay so until the transaction ends.
pub(crate) async fn lock_owned(
    conn: &mut PgConnection,
    owner: Uuid,
    shards: &[i16],
) -> sqlx::Result<Vec<i16>> {
    sqlx::query_scalar(
        "select shard
         from outbox_shards
         where shard = any($2) and owner = $1
         order by shard
         for share",
    )
    .bind(owner)
    .bind(shards)
    .fetch_all(conn)
    .await
}
