//! Moves messages from queues to the outbox when there is room. One task for all queues, which sleeps
//! unless there is something to move. It moves those of apps whose shards are ours, and tells the owner of
//! any other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::SecondsFormat;
use serde_json::value::RawValue;
use shared::id::{AppId, TriggerId};
use shared::name::QueueName;
use tokio::sync::watch;

use super::message::{About, order_key};
use super::{Errand, Inbox, News, Queues};
use crate::events::row::shard_of;
use crate::events::triggers::queue::QueueConfig;
use crate::events::triggers::{Kind, Trigger, TriggerConfig, TriggerTable};
use crate::events::{EmitError, EventKind, NewEvent, Outbox, Payload};
use crate::snapshot::Snapshot;
use crate::store::queues::Message;
use crate::store::{self, Database};

/// When to ask again what a database that did not answer was asked.
const RETRY: Duration = Duration::from_secs(1);

/// How often the messages of all apps are counted, however often one of them has too many.
const COUNT_EVERY: Duration = Duration::from_secs(1);

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
    /// The shards whose messages are ours to move.
    shards: BTreeSet<u8>,
    /// What other nodes are to be told, and after how many milliseconds they are to look.
    errands: BTreeMap<Key, u64>,
    /// When what waits was counted.
    counted: Option<Instant>,
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
        Self {
            database,
            snapshot,
            outbox,
            queues,
            inbox,
            agenda: BTreeSet::new(),
            shards: BTreeSet::new(),
            errands: BTreeMap::new(),
            counted: None,
            table: Arc::default(),
        }
    }

    /// Runs until the sender of `stop` sends or goes.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut changed = self.snapshot.changes();
        self.table = self.snapshot.triggers();
        loop {
            let errands = (!self.errands.is_empty()).then(|| Instant::now() + RETRY);
            let next = self.agenda.first().map(|(at, _)| *at).into_iter().chain(errands).min();
            let news = tokio::select! {
                Some(news) = self.inbox.0.recv() => Some(news),
                changes = changed.changed() => {
                    if changes.is_err() {
                        return;
                    }
                    self.compare();
                    None
                }
                () = sleep_until(next) => None,
                _ = stop.changed() => return,
            };
            let mut news = news.or_else(|| self.inbox.0.try_recv().ok());
            while let Some(one) = news {
                // Nothing else is taken in meanwhile: an attempt that ends later is one that was counted.
                tokio::select! {
                    () = self.take(one) => {}
                    _ = stop.changed() => return,
                }
                news = self.inbox.0.try_recv().ok();
            }
            self.work().await;
        }
    }

    async fn take(&mut self, news: News) {
        match news {
            News::Look { app, queue, in_ms } => self.look_in(app, queue, in_ms),
            News::Told { app, queue, in_ms } if self.owns(app) => self.look_in(app, queue, in_ms),
            // Whoever it is for has heard it too.
            News::Told { .. } => {}
            News::Room(consumer) => {
                self.queues.lanes.arrived(consumer);
                self.look_at(consumer);
            }
            News::Acquired(shards) => {
                self.shards.extend(shards.iter().map(|(shard, _)| *shard));
                let others: Vec<_> = shards
                    .iter()
                    .filter(|(_, is_continued)| !is_continued)
                    .map(|(shard, _)| *shard)
                    .collect();
                while let Err(error) = self.take_over(&others).await {
                    tracing::warn!(%error, "queues wait for the database");
                    tokio::time::sleep(RETRY).await;
                }
            }
            News::Lost(shards) => self.shards.retain(|shard| !shards.contains(shard)),
            News::Full => {
                if self.counted.is_none_or(|at| at.elapsed() >= COUNT_EVERY)
                    && let Err(error) = self.count_waiting().await
                {
                    tracing::warn!(%error, "messages could not be counted");
                }
            }
        }
    }

    fn owns(&self, app: AppId) -> bool {
        self.shards.contains(&shard_of(app))
    }

    /// Looks at a queue, or lets its owner look.
    fn look_in(&mut self, app: AppId, queue: QueueName, in_ms: u64) {
        if self.owns(app) {
            self.agenda.insert((Instant::now() + Duration::from_millis(in_ms), (app, queue)));
        } else {
            let soonest = self.errands.entry((app, queue)).or_insert(in_ms);
            *soonest = in_ms.min(*soonest);
        }
    }

    /// Learns what waits in the shards that are ours, and of these, which were others', what is on its way.
    async fn take_over(&mut self, others: &[u8]) -> sqlx::Result<()> {
        let mut conn = self.database.acquire().await?;
        let on_their_way = store::queues::unattempted(&mut conn, others).await?;
        drop(conn);
        self.count_waiting().await?;
        self.queues.lanes.forget(others);
        for (app, consumer, count) in on_their_way {
            self.queues.lanes.set_out(app, consumer, u32::try_from(count).unwrap_or_default());
        }
        Ok(())
    }

    /// Counts what waits, and looks at every queue of ours that has something.
    async fn count_waiting(&mut self) -> sqlx::Result<()> {
        let mut conn = self.database.acquire().await?;
        let backlogs = store::queues::backlogs(&mut conn).await?;
        let mut waiting: HashMap<AppId, u64> = HashMap::new();
        let now = Instant::now();
        for backlog in backlogs {
            *waiting.entry(backlog.app_id).or_default() +=
                u64::try_from(backlog.messages).unwrap_or_default();
            if let Ok(queue) = backlog.queue.parse()
                && self.owns(backlog.app_id)
            {
                self.agenda.insert((now + seconds(backlog.due_in_s), (backlog.app_id, queue)));
            }
        }
        self.queues.lanes.set_waiting(waiting);
        self.counted = Some(now);
        Ok(())
    }

    /// Tells other nodes what they are to look at. As many queues at once as there were since the last time.
    async fn tell(&mut self) {
        let errands = std::mem::take(&mut self.errands);
        let words: Vec<_> = errands
            .iter()
            .map(|((app, queue), in_ms)| {
                Errand { app: *app, queue: queue.clone(), in_ms: *in_ms }.to_string()
            })
            .collect();
        let told = async {
            let mut conn = self.database.acquire().await?;
            store::channels::tell(&mut conn, store::queues::CHANNEL, &words).await
        };
        if let Err(error) = told.await {
            tracing::warn!(%error, "other nodes could not be told of messages");
            self.errands = errands;
        }
    }

    fn look_at(&mut self, consumer: TriggerId) {
        let table = Arc::clone(&self.table);
        let Some(trigger) = table.get(consumer) else { return };
        if let TriggerConfig::Queue(config) = &trigger.config {
            self.look_in(trigger.app, config.queue.clone(), 0);
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
            if !self.owns(app) {
                // Ours no more since it was noted.
                self.look_in(app, queue, 0);
                continue;
            }
            match self.feed(app, &queue).await {
                Ok(Some(again)) => drop(self.agenda.insert((Instant::now() + again, (app, queue)))),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, %queue, "a queue waits for the database");
                    self.agenda.insert((Instant::now() + RETRY, (app, queue)));
                }
            }
        }
        if !self.errands.is_empty() {
            self.tell().await;
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
            let events = messages.into_iter().filter_map(|message| event(consumer, config, message));
            let pending = match self.outbox.insert(&mut tx, events.collect()).await {
                Ok(pending) => pending,
                Err(EmitError::Database(error)) => return Err(error),
                // They stay where they are.
                Err(EmitError::Full) => return Ok(Some(RETRY)),
            };
            // Before the commit: from then on attempts at them may end.
            self.queues.lanes.set_out(app, consumer.id, count);
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

fn event(consumer: &Trigger, config: &QueueConfig, message: Message) -> Option<NewEvent> {
    let Message { delivery, message, key, enqueued_at, cause } = message;
    // It was JSON when it was sent.
    let message = RawValue::from_string(message).ok()?;
    let enqueued_at = enqueued_at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let about = About { name: config.queue.as_str(), message: &message, enqueued_at };
    let payload = Payload::new(EventKind::Queue, &about).ok()?;
    Some(NewEvent {
        delivery,
        trigger: Some(consumer.id),
        retry: consumer.retry.into(),
        order_key: order_key(config, key.as_deref()),
        ..NewEvent::new(consumer.app, consumer.target.script, EventKind::Queue, cause, payload)
    })
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
