//! Changes of configuration: the node that makes one tells the others.

use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// Where nodes tell each other that something is not any more as they have it in memory: routes, triggers,
/// schemas.
pub(crate) const CHANNEL: &str = "picloud_config";

/// Tells the others as soon as the transaction is committed. Such commits take turns, and there are few.
pub(crate) async fn tell(conn: &mut PgConnection, by: Uuid) -> sqlx::Result<()> {
    sqlx::query("select pg_notify($1, $2)").bind(CHANNEL).bind(by.to_string()).execute(conn).await?;
    Ok(())
}
