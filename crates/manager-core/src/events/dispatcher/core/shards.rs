//! Which shards are ours, and which of their rows were there before.

use super::{Row, SHARDS};

#[derive(Debug, Default)]
pub(super) struct Shards {
    owned: [Option<Tenure>; SHARDS as usize],
}

#[derive(Debug, Clone, Copy)]
struct Tenure {
    /// The last row that may have been running when an owner died.
    suspect_max_id: i64,
    /// The last row that was there when it began.
    last_id: i64,
}

impl Shards {
    pub(super) fn acquire(&mut self, shard: u8, suspect_max_id: i64, last_id: i64) {
        self.owned[usize::from(shard)] = Some(Tenure { suspect_max_id, last_id });
    }

    pub(super) fn lose(&mut self, shard: u8) {
        self.owned[usize::from(shard)] = None;
    }

    pub(super) fn owns(&self, shard: u8) -> bool {
        self.owned[usize::from(shard)].is_some()
    }

    pub(super) fn owns_all(&self) -> bool {
        self.owned.iter().all(Option::is_some)
    }

    pub(super) fn owns_any(&self) -> bool {
        self.owned.iter().any(Option::is_some)
    }

    /// Whether the row may be why an owner died.
    pub(super) fn is_suspect(&self, row: &Row) -> bool {
        self.owned[usize::from(row.shard())].is_some_and(|tenure| row.id <= tenure.suspect_max_id)
    }

    /// Whether the row was there when its shard became ours, so that it may have been tried before.
    pub(super) fn is_inherited(&self, row: &Row) -> bool {
        self.owned[usize::from(row.shard())].is_some_and(|tenure| row.id <= tenure.last_id)
    }

    pub(super) fn list(&self) -> Vec<u8> {
        (0..SHARDS).filter(|shard| self.owns(*shard)).collect()
    }
}
