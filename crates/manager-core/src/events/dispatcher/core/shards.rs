//! Which shards are ours.

use super::{Row, SHARDS};

#[derive(Debug, Default)]
pub(super) struct Shards {
    /// With the last row that may have been running when an owner died.
    owned: [Option<i64>; SHARDS as usize],
}

impl Shards {
    pub(super) fn acquire(&mut self, shard: u8, suspect_max_id: i64) {
        self.owned[usize::from(shard)] = Some(suspect_max_id);
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
        self.owned[usize::from(row.shard())].is_some_and(|last| row.id <= last)
    }

    pub(super) fn list(&self) -> Vec<u8> {
        (0..SHARDS).filter(|shard| self.owns(*shard)).collect()
    }
}
