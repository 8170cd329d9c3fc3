//! What is to be written, in batches, one at a time. What could not be written is written again:
//! every settlement says what a row is to be, so twice is as good as once.

use std::collections::VecDeque;
use std::time::Duration;

use shared::id::AppId;

use super::super::super::row::shard_of;
use super::bugs::{Bug, has};
use super::shards::Shards;
use super::{Settlement, Time};

/// Rows of one batch: it holds its locks, and keeps a processor of the database busy, for half a millisecond.
const BATCH_MAX: usize = 128;
/// How long the first of a batch waits for company. A batch costs several round trips whatever its size: at 10,000
/// events a second there are 100 batches a second, and what a crash repeats is 10 ms of what was done.
const GATHER: Duration = Duration::from_millis(10);
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(2);

/// A row's id, its app, and what is to be done with it.
pub(super) type Item = (i64, AppId, Settlement);

#[derive(Debug, Default)]
pub(super) struct Settling {
    waiting: VecDeque<Item>,
    /// When the waiting are enough, however few.
    flush_at: Option<Time>,
    in_flight: Option<(u64, Vec<Item>)>,
    next_batch: u64,
    retry_at: Option<Time>,
    retry_pause: Duration,
    /// Nothing that waits can be written before a shard comes back.
    is_blocked: bool,
    /// What is being written was sent by the owner of before.
    is_in_doubt: bool,
}

impl Settling {
    pub(super) fn push(&mut self, id: i64, app: AppId, settlement: Settlement) {
        self.is_blocked = false;
        self.waiting.push_back((id, app, settlement));
        // What a start waits for is not kept waiting.
        self.flush_at = Some(Time::ZERO);
    }

    pub(super) fn push_from(&mut self, now: Time, id: i64, app: AppId, settlement: Settlement) {
        self.is_blocked = false;
        self.waiting.push_back((id, app, settlement));
        self.flush_at.get_or_insert(now + GATHER);
    }

    /// The next batch of rows that are ours.
    pub(super) fn next(&mut self, now: Time, shards: &Shards, is_urgent: bool) -> Option<(u64, Vec<Item>)> {
        let is_time =
            is_urgent || self.flush_at.is_some_and(|at| at <= now) || self.waiting.len() >= BATCH_MAX;
        if !is_time
            || self.waiting.is_empty()
            || self.in_flight.is_some()
            || self.retry_at.is_some_and(|at| now < at)
        {
            return None;
        }
        let (mut batch, mut rest) = (Vec::new(), VecDeque::new());
        for item in self.waiting.drain(..) {
            let is_ours = batch.len() < BATCH_MAX && shards.owns(shard_of(item.1));
            if is_ours { batch.push(item) } else { rest.push_back(item) }
        }
        self.waiting = rest;
        self.is_blocked = batch.is_empty();
        self.flush_at = (!self.waiting.is_empty()).then_some(now + GATHER);
        if batch.is_empty() {
            return None;
        }
        self.next_batch += 1;
        self.in_flight = Some((self.next_batch, batch.clone()));
        Some((self.next_batch, batch))
    }

    pub(super) fn done(&mut self, batch: u64) -> Option<Vec<Item>> {
        let (_, items) = self.in_flight.take_if(|(number, _)| *number == batch)?;
        self.is_in_doubt = false;
        self.retry_at = None;
        self.retry_pause = Duration::ZERO;
        Some(items)
    }

    pub(super) fn failed(&mut self, now: Time, batch: u64) {
        let Some((_, items)) = self.in_flight.take_if(|(number, _)| *number == batch) else { return };
        self.is_in_doubt = false;
        let items = if has(Bug::DropsFailedBatches) { Vec::new() } else { items };
        for item in items.into_iter().rev() {
            self.waiting.push_front(item);
        }
        self.retry_pause = (self.retry_pause * 2).clamp(RETRY_FIRST, RETRY_LONGEST);
        self.retry_at = Some(now + self.retry_pause);
        self.flush_at = Some(now);
    }

    /// Forgets what was to be written for a shard that another has had since.
    pub(super) fn drop_shard(&mut self, shard: u8) {
        self.waiting.retain(|(_, app, _)| shard_of(*app) != shard);
        if let Some((_, items)) = &mut self.in_flight {
            items.retain(|(_, app, _)| shard_of(*app) != shard);
        }
    }

    /// A shard is another's from now on, so what is being written may be refused, or be undone by the
    /// restart of the database that took the shard away.
    pub(super) fn doubt(&mut self) {
        self.is_in_doubt = self.in_flight.is_some();
    }

    /// A shard is ours again, under another name: what was being written before is written again.
    pub(super) fn resume(&mut self) {
        self.is_blocked = false;
        if !std::mem::take(&mut self.is_in_doubt) {
            return;
        }
        let Some((_, items)) = self.in_flight.take() else { return };
        for item in items.into_iter().rev() {
            self.waiting.push_front(item);
        }
        self.flush_at = Some(Time::ZERO);
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        if self.in_flight.is_some() || self.waiting.is_empty() || self.is_blocked {
            return None;
        }
        self.flush_at.max(self.retry_at)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.in_flight.is_none() && self.waiting.is_empty()
    }
}
