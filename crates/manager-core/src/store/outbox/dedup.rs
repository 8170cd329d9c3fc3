//! What was accepted under a key, remembered for a day.

use shared::id::{AppId, DeliveryId};
use sqlx::Row;
use sqlx::postgres::PgConnection;

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing until now.
    New,
    /// The same was accepted as this delivery.
    Before(DeliveryId),
    /// Something else was accepted under it.
    Otherwise,
}

/// Remembers a key of a scope, such as a queue's name, unless it is known.
pub(crate) async fn remember(
    conn: &mut PgConnection,
    app: AppId,
    scope: &str,
    key: &[u8; 32],
    body_hash: &[u8; 32],
    delivery: DeliveryId,
) -> sqlx::Result<Seen> {
    // The update of a live row changes nothing; it is there so that the row is returned.
    let row = sqlx::query(
        "insert into outbox_dedup as d (app_id, scope, key, body_hash, delivery_id, expires_at)
         values ($1, $2, $3, $4, $5, statement_timestamp() + interval '24 hours')
         on conflict (app_id, scope, key) do update
         set body_hash = case when d.expires_at < statement_timestamp() then excluded.body_hash
                              else d.body_hash end,
             delivery_id = case when d.expires_at < statement_timestamp() then excluded.delivery_id
                                else d.delivery_id end,
             expires_at = case when d.expires_at < statement_timestamp() then excluded.expires_at
                               else d.expires_at end
         returning delivery_id, body_hash = $4 as is_same",
    )
    .bind(app)
    .bind(scope)
    .bind(key.as_slice())
    .bind(body_hash.as_slice())
    .bind(delivery)
    .fetch_one(conn)
    .await?;
    let (known, is_same): (DeliveryId, bool) = (row.try_get("delivery_id")?, row.try_get("is_same")?);
    Ok(match (known == delivery, is_same) {
        (true, _) => Seen::New,
        (false, true) => Seen::Before(known),
        (false, false) => Seen::Otherwise,
    })
}

/// Forgets some keys whose day is over; answers how many.
pub(crate) async fn forget_expired(conn: &mut PgConnection, limit: i64) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "delete from outbox_dedup
         where ctid = any(array(
             select ctid
             from outbox_dedup
             where expires_at < statement_timestamp()
             limit $1
         ))",
    )
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
