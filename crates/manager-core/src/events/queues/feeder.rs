//! Moves messages from queues to the outbox when there is room. One task for all queues, which sleeps
//! unless there is something to move.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::SecondsFormat;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use shared::id::{AppId, TriggerId};
use shared::name::QueueName;
use tokio::sync::watch;

use super::{About, Inbox, News, Queues};
use crate::events::triggers::{Kind, Trigger, TriggerConfig, TriggerTable};
use crate::events::{EmitError, EventKind, NewEvent, Outbox, Payload};
use crate::snapshot::Snapshot;
use crate::store::queues::Message;
use crate::store::{self, Database};

/// When to ask again what a database that did not answer was asked.
const RETRY: Duration = Duration::from_secs(1);

/// As late as a timer can be set; delays are shorter.
const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

type Key = (AppId, QueueName);

/// Moves messages.
pub(crate) struct Feeder {
    database: Database,
    snapshot: Arc<Snapshot>,
    outbox: Outbox,
    queues: Queues,
    inbox: Inbox,
    /// When to look at which queue.
    agenda: BTreeSet<(Instant, Key)>,
    /// The consumers as they were when the agenda was made.
    table: Arc<TriggerTable>,
}

impl Feeder {
    pub(crate) fn new(
        database: Database,
        snapshot: Arc<Snapshot>,
        outbox: Outbox,
        queues: Queues,
        inbox: Inbox,
    ) -> Self {
        Self { database, snapshot, outbox, queues, inbox, agenda: BTreeSet::new(), table: Arc::default() }
    }

    /// Runs until the sender of `stop` sends or goes.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut changed = self.snapshot.changes();
        self.table = self.snapshot.triggers();
        while let Err(error) = self.begin().await {
            tracing::warn!(%error, "queues wait for the database");
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                _ = stop.changed() => return,
            }
        }
        loop {
            let next = self.agenda.first().map(|(at, _)| *at);
            tokio::select! {
                Some(news) = self.inbox.0.recv() => self.take(news),
                changes = changed.changed() => {
                    if changes.is_err() {
                        return;
                    }
                    self.compare();
                }
                () = sleep_until(next) => {}
                _ = stop.changed() => return,
            }
            while let Ok(news) = self.inbox.0.try_recv() {
                self.take(news);
            }
            self.work().await;
        }
    }

    /// Learns what waits, and what is on its way.
    async fn begin(&mut self) -> sqlx::Result<()> {
        let mut conn = self.database.acquire().await?;
        let on_their_way = store::queues::unattempted(&mut conn).await?;
        let backlogs = store::queues::backlogs(&mut conn).await?;
        let mut waiting: HashMap<AppId, u64> = HashMap::new();
        let now = Instant::now();
        for backlog in backlogs {
            *waiting.entry(backlog.app_id).or_default() +=
                u64::try_from(backlog.messages).unwrap_or_default();
            if let Ok(queue) = backlog.queue.parse() {
                self.agenda.insert((now + seconds(backlog.due_in_s), (backlog.app_id, queue)));
            }
        }
        let on_their_way = on_their_way
            .into_iter()
            .map(|(trigger, count)| (trigger, u32::try_from(count).unwrap_or_default()));
        self.queues.lanes.set(waiting, on_their_way.collect());
        Ok(())
    }

    fn take(&mut self, news: News) {
        match news {
            News::Look { app, queue, in_ms } => {
                self.agenda.insert((Instant::now() + Duration::from_millis(in_ms), (app, queue)));
            }
            News::Room(consumer) => {
                self.queues.lanes.arrived(consumer);
                self.look_at(consumer);
            }
        }
    }

    fn look_at(&mut self, consumer: TriggerId) {
        let table = Arc::clone(&self.table);
        let Some(trigger) = table.get(consumer) else { return };
        if let TriggerConfig::Queue(config) = &trigger.config {
            self.agenda.insert((Instant::now(), (trigger.app, config.queue.clone())));
        }
    }

    /// Looks at the queues whose consumers are others than before.
    fn compare(&mut self) {
        let (old, new) = (Arc::clone(&self.table), self.snapshot.triggers());
        self.table = Arc::clone(&new);
        for trigger in new.of_kind(Kind::Queue).filter(|trigger| trigger.may_run()) {
            let before = old.get(trigger.id);
            let is_same = before.is_some_and(|before| before.may_run() && before.config == trigger.config);
            if !is_same {
                self.look_at(trigger.id);
            }
        }
    }

    /// Feeds every queue whose time has come.
    async fn work(&mut self) {
        let now = Instant::now();
        let mut due = BTreeSet::new();
        while self.agenda.first().is_some_and(|(at, _)| *at <= now) {
            due.extend(self.agenda.pop_first().map(|(_, key)| key));
        }
        for (app, queue) in due {
            match self.feed(app, &queue).await {
                Ok(Some(again)) => drop(self.agenda.insert((Instant::now() + again, (app, queue)))),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, %queue, "a queue waits for the database");
                    self.agenda.insert((Instant::now() + RETRY, (app, queue)));
                }
            }
        }
    }

    /// Moves as many messages as the consumer has room for. Answers when to look again, unless
    /// something else will tell.
    async fn feed(&self, app: AppId, queue: &QueueName) -> sqlx::Result<Option<Duration>> {
        let consumer = self.table.consumer(app, queue).filter(|consumer| consumer.may_run());
        // Its coming is a change of the table.
        let Some(consumer) = consumer else { return Ok(None) };
        let TriggerConfig::Queue(config) = &consumer.config else { return Ok(None) };
        let room = u32::from(config.concurrency).saturating_sub(self.queues.lanes.on_their_way(consumer.id));
        if room == 0 {
            return Ok(None);
        }
        let mut tx = self.database.begin().await?;
        let messages = store::queues::take(&mut tx, app, queue, room).await?;
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        if count > 0 {
            let in_turn = config.concurrency == 1;
            let events = messages.into_iter().filter_map(|message| event(consumer, queue, message, in_turn));
            let pending = match self.outbox.insert(&mut tx, events.collect()).await {
                Ok(pending) => pending,
                Err(EmitError::Database(error)) => return Err(error),
                // They stay where they are.
                Err(EmitError::Full) => return Ok(Some(RETRY)),
            };
            // Before the commit: from then on attempts at them may end.
            self.queues.lanes.set_out(consumer.id, count);
            if let Err(error) = tx.commit().await {
                self.queues.lanes.returned(consumer.id, count);
                return Err(error);
            }
            self.queues.lanes.left(app, count.into());
            pending.hand_over();
        }
        if count == room {
            return Ok(None);
        }
        let mut conn = self.database.acquire().await?;
        let next = store::queues::next_due_s(&mut conn, app, queue).await?;
        // What is due and was not taken is held by a pause, whose end is told.
        Ok(next.filter(|next| *next > 0.0).map(seconds))
    }
}

fn event(consumer: &Trigger, queue: &QueueName, message: Message, in_turn: bool) -> Option<NewEvent> {
    let Message { delivery, message, key, enqueued_at, cause } = message;
    // It was JSON when it was sent.
    let message = RawValue::from_string(message).ok()?;
    let enqueued_at = enqueued_at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let about = About { name: queue.as_str(), message: &message, enqueued_at };
    let payload = Payload::new(EventKind::Queue, &about).ok()?;
    let order_key = match key {
        _ if in_turn => Some(consumer.id.to_bytes()),
        Some(key) => Some(order_key(consumer.id, &key)),
        None => None,
    };
    Some(NewEvent {
        delivery,
        trigger: Some(consumer.id),
        retry: consumer.retry.into(),
        order_key,
        ..NewEvent::new(consumer.app, consumer.target.script, EventKind::Queue, cause, payload)
    })
}

/// What the messages of one key have in common.
fn order_key(consumer: TriggerId, key: &str) -> [u8; 16] {
    let hash = Sha256::new().chain_update(consumer.to_bytes()).chain_update(key).finalize();
    let mut short = [0; 16];
    short.copy_from_slice(&hash[..16]);
    short
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(FAR)
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
