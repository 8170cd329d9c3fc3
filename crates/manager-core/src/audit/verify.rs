//! Whether the log is as it was written.

use schemars::JsonSchema;
use serde::Serialize;
use sqlx::postgres::PgConnection;

use super::chain::{GENESIS, Link, hex};
use crate::store;

/// Rows read at a time: a megabyte at most.
const BATCH: i64 = 1_000;

/// What a reading of the whole log found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Verdict {
    pub(crate) is_intact: bool,
    /// Entries read; the last one that fits when the log is broken.
    pub(crate) entries: i64,
    /// Number of the first entry that is missing or not as it was written.
    pub(crate) broken_at: Option<i64>,
    /// Hash of the last entry that fits. Noted down elsewhere, it proves later that nothing up to
    /// here was rewritten.
    #[serde(serialize_with = "hex")]
    #[schemars(with = "String")]
    pub(crate) head: [u8; 32],
}

/// Reads the log from its first entry. The connection must be in a transaction in which every
/// statement sees the same commit.
pub(crate) async fn verify(conn: &mut PgConnection) -> sqlx::Result<Verdict> {
    let (mut entries, mut head) = (0, GENESIS);
    loop {
        let batch = store::audit::following(conn, entries, BATCH).await?;
        if batch.is_empty() {
            return Ok(Verdict { is_intact: true, entries, broken_at: None, head });
        }
        for link in &batch {
            if !fits(link, entries, head) {
                return Ok(Verdict { is_intact: false, entries, broken_at: Some(entries + 1), head });
            }
            (entries, head) = (link.number, link.hash);
        }
    }
}

fn fits(link: &Link, entries: i64, head: [u8; 32]) -> bool {
    link.number == entries + 1 && link.previous_hash == head && link.hash == link.computed_hash()
}
