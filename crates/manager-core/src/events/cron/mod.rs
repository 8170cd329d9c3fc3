//! Waits for the times of cron triggers: one timer, set to the next of them all.
//!
//! Whether a time has come is for the database's clock to say, and each time is written down in the
//! transaction that makes its event. So a clock that is set back, another node, or a crash at any
//! point makes no time come twice, and what passed while nothing ran is found at the next start.

mod agenda;
mod due;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::id::{AppId, TriggerId};
use sqlx::postgres::PgConnection;
use tokio::sync::watch;

use self::agenda::Agenda;
pub(crate) use self::due::About;
use self::due::{Due, events_of};
use super::outbox::Load;
use super::triggers::cron::{CronConfig, Overlap, Schedule};
use super::triggers::{Kind, Trigger, TriggerConfig};
use super::{NewEvent, Outbox};
use crate::snapshot::Snapshot;
use crate::store::{self, Database};

/// Triggers that one transaction deals with. At midnight there are many.
const BATCH: usize = 100;
/// When to ask a database again that did not answer, and for a mark that somebody else had locked.
const RETRY: Duration = Duration::from_secs(1);

/// A cron trigger and its times.
#[derive(Debug)]
struct Entry {
    trigger: Arc<Trigger>,
    config: CronConfig,
    schedule: Schedule,
}

/// Makes events when times come.
pub(crate) struct Timekeeper {
    database: Database,
    snapshot: Arc<Snapshot>,
    outbox: Outbox,
    entries: BTreeMap<TriggerId, Entry>,
    agenda: Agenda,
}

impl Timekeeper {
    pub(crate) fn new(database: Database, snapshot: Arc<Snapshot>, outbox: Outbox) -> Self {
        Self { database, snapshot, outbox, entries: BTreeMap::new(), agenda: Agenda::default() }
    }

    /// Runs until the sender of `stop` sends or goes.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut changed = self.snapshot.changes();
        let mut is_behind = self.reload().await.is_err();
        loop {
            let wait = if is_behind { Some(RETRY) } else { self.agenda.wait() };
            tokio::select! {
                changes = changed.changed() => {
                    if changes.is_err() {
                        return;
                    }
                    is_behind |= self.is_outdated() && self.reload().await.is_err();
                }
                () = sleep(wait) => {
                    let worked = if is_behind { self.reload().await } else { self.fire().await };
                    if let Err(error) = &worked {
                        tracing::warn!(%error, "times of cron triggers wait for the database");
                    }
                    is_behind = worked.is_err();
                }
                _ = stop.changed() => return,
            }
        }
    }

    /// Whether there are other cron triggers than those waited for.
    fn is_outdated(&self) -> bool {
        let table = self.snapshot.triggers();
        let mut count = 0;
        let are_known = table.of_kind(Kind::Cron).all(|trigger| {
            count += 1;
            self.entries.get(&trigger.id).is_some_and(|entry| *entry.trigger == **trigger)
        });
        !are_known || count != self.entries.len()
    }

    async fn reload(&mut self) -> sqlx::Result<()> {
        let table = self.snapshot.triggers();
        let entries = table.of_kind(Kind::Cron).filter_map(|trigger| {
            let TriggerConfig::Cron(config) = &trigger.config else { return None };
            // It was checked when it was written.
            let schedule = config.schedule().ok()?;
            Some((trigger.id, Entry { trigger: Arc::clone(trigger), config: config.clone(), schedule }))
        });
        let entries: BTreeMap<_, _> = entries.collect();
        if entries.is_empty() {
            (self.entries, self.agenda) = (entries, Agenda::default());
            return Ok(());
        }
        let ids: Vec<_> = entries.keys().copied().collect();
        let mut conn = self.database.acquire().await?;
        let marks = store::cron::marks(&mut conn, &ids).await?;
        let now = store::cron::now(&mut conn).await?;
        let mut agenda = Agenda::at(now);
        for mark in marks {
            let next =
                entries.get(&mark.trigger_id).and_then(|entry| entry.schedule.after(mark.handled_until));
            if let Some(next) = next {
                agenda.add(next, mark.trigger_id);
            }
        }
        (self.entries, self.agenda) = (entries, agenda);
        Ok(())
    }

    /// Makes the events of all times that have come.
    async fn fire(&mut self) -> sqlx::Result<()> {
        loop {
            let due = self.agenda.due(BATCH);
            if due.is_empty() {
                return Ok(());
            }
            self.fire_batch(&due).await?;
        }
    }

    async fn fire_batch(&mut self, rung: &[(DateTime<Utc>, TriggerId)]) -> sqlx::Result<()> {
        let ids: Vec<_> = rung.iter().map(|(_, id)| *id).collect();
        let mut tx = self.database.begin().await?;
        let marks = store::cron::lock(&mut tx, &ids).await?;
        let now = store::cron::now(&mut tx).await?;
        let due = marks.iter().filter_map(|mark| {
            let entry = self.entries.get(&mark.trigger_id)?;
            Due::find(entry, mark.handled_until, now)
        });
        let due: Vec<_> = due.collect();
        let events = events(&mut tx, &due, now).await?;
        let advanced: BTreeMap<_, _> =
            due.iter().map(|due| (due.entry.trigger.id, due.handled_until)).collect();
        store::cron::advance(&mut tx, &advanced).await?;
        let events = self.those_with_room(&mut tx, events).await?;
        let pending = self.outbox.insert_beyond(&mut tx, events).await?;
        tx.commit().await?;
        pending.hand_over();
        self.agenda.set_clock(now);
        for entry in rung {
            self.agenda.remove(*entry);
        }
        let marks: BTreeMap<_, _> =
            marks.into_iter().map(|mark| (mark.trigger_id, mark.handled_until)).collect();
        for (_, id) in rung {
            // A trigger that is gone comes with a snapshot that says so.
            let Some(entry) = self.entries.get(id) else { continue };
            let next = match marks.get(id) {
                Some(mark) => entry.schedule.after(advanced.get(id).copied().unwrap_or(*mark)),
                None => Some(now + RETRY),
            };
            if let Some(next) = next {
                self.agenda.add(next, *id);
            }
        }
        Ok(())
    }

    /// The times of an app that has filled its outbox are left out, and nobody else's.
    async fn those_with_room(
        &self,
        conn: &mut PgConnection,
        events: Vec<NewEvent>,
    ) -> sqlx::Result<Vec<NewEvent>> {
        let mut kept = Vec::with_capacity(events.len());
        let mut taken: HashMap<AppId, Load> = HashMap::new();
        let mut left_out: BTreeMap<AppId, usize> = BTreeMap::new();
        for event in events {
            let load = taken.get(&event.app).copied().unwrap_or_default().plus(Load::of(&event));
            if self.outbox.has_room(conn, &HashMap::from([(event.app, load)])).await? {
                taken.insert(event.app, load);
                kept.push(event);
            } else {
                *left_out.entry(event.app).or_default() += 1;
            }
        }
        for (app, times) in left_out {
            tracing::warn!(app.id = %app, times, "an app with too many events waiting has no room for its times");
        }
        Ok(kept)
    }
}

/// The events of those triggers that may run beside what they run already.
async fn events(conn: &mut PgConnection, due: &[Due<'_>], now: DateTime<Utc>) -> sqlx::Result<Vec<NewEvent>> {
    let alone = due.iter().filter(|due| due.entry.config.overlap == Overlap::Skip);
    let alone: Vec<_> = alone.map(|due| (due.entry.trigger.app, due.entry.trigger.id)).collect();
    let busy = match alone.as_slice() {
        [] => Vec::new(),
        alone => store::cron::busy(conn, alone).await?,
    };
    let run = due.iter().filter(|due| !busy.contains(&due.entry.trigger.id));
    Ok(run.flat_map(|due| events_of(due, now)).collect())
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
