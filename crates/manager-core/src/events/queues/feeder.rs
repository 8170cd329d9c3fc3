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
use crate::store::queues::{Load, Message};
use crate::store::{self, Database};

/// When to ask again what a database that did not answer was asked.
const RETRY: Duration = Duration::from_secs(1);

/// When to look again at a queue whose messages are due and could not be taken.
const HELD: Duration = Duration::from_secs(60);

/// How often the messages of all apps are counted, however often one of them has too much.
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
    agenda: Agenda,
    /// The shards whose messages are ours to move.
    shards: BTreeSet<u8>,
    /// What other nodes are to be told, and after how many milliseconds they are to look.
    errands: BTreeMap<Key, u64>,
    /// When what waits was counted.
    counted: Option<Instant>,
    /// The consumers that the agenda goes by.
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
            agenda: Agenda::default(),
            shards: BTreeSet::new(),
            errands: BTreeMap::new(),
            counted: None,
            table: Arc::default(),
        }
    }

    /// Runs until the sender of `stop` sends or goes.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut changed = self.snapshot.changes();
        self.go_by(self.snapshot.triggers());
        loop {
            let errands = (!self.errands.is_empty()).then(|| Instant::now() + RETRY);
            let next = self.agenda.first().into_iter().chain(errands).min();
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
            self.agenda.note(Instant::now() + Duration::from_millis(in_ms), (app, queue));
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
        let mut waiting: HashMap<AppId, Load> = HashMap::new();
        let now = Instant::now();
        for backlog in backlogs {
            let load = waiting.entry(backlog.app_id).or_default();
            *load = load.plus(backlog.load);
            if let Ok(queue) = backlog.queue.parse()
                && self.owns(backlog.app_id)
            {
                self.agenda.note(now + seconds(backlog.due_in_s), (backlog.app_id, queue));
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

    /// Has these consumers from now on.
    fn go_by(&mut self, table: Arc<TriggerTable>) {
        let consumers = table.of_kind(Kind::Queue).filter(|trigger| trigger.may_run());
        self.agenda.keep_to(consumers.filter_map(|trigger| match &trigger.config {
            TriggerConfig::Queue(config) => Some((trigger.app, config.queue.clone())),
            _ => None,
        }));
        self.table = table;
    }

    /// Looks at the queues whose consumers are others than before.
    fn compare(&mut self) {
        let (old, new) = (Arc::clone(&self.table), self.snapshot.triggers());
        self.go_by(Arc::clone(&new));
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
        for (app, queue) in self.agenda.take_due(Instant::now()) {
            if !self.owns(app) {
                // Ours no more since it was noted.
                self.look_in(app, queue, 0);
                continue;
            }
            match self.feed(app, &queue).await {
                Ok(Some(again)) => self.agenda.note(Instant::now() + again, (app, queue)),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, %queue, "a queue waits for the database");
                    self.agenda.note(Instant::now() + RETRY, (app, queue));
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
            let bytes = messages.iter().map(|message| u64::from(message.bytes)).sum();
            let load = Load { messages: count.into(), bytes };
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
            self.queues.lanes.left(app, load);
            pending.hand_over();
        }
        if count == room {
            return Ok(None);
        }
        let mut conn = self.database.acquire().await?;
        let next = store::queues::next_due_s(&mut conn, app, queue).await?;
        // What is due and was not taken is held by a pause, whose end is told, or was locked for a moment or
        // has become due since, which nobody tells.
        Ok(next.map(|next| if next > 0.0 { seconds(next) } else { HELD }))
    }
}

/// When to look at which queue: at each at most once, because a look finds out when the next one is due.
/// There are no entries for queues without a consumer, of which an app can name as many as it likes.
#[derive(Debug, Default)]
struct Agenda {
    /// Every queue that has a consumer.
    queues: HashMap<Key, Option<Instant>>,
    /// Those to look at, the soonest first.
    looks: BTreeSet<(Instant, Key)>,
}

impl Agenda {
    /// Has entries only for these queues from now on.
    fn keep_to(&mut self, queues: impl Iterator<Item = Key>) {
        let noted = std::mem::take(&mut self.queues);
        let with_time = |key: Key| {
            let at = noted.get(&key).copied().flatten();
            (key, at)
        };
        self.queues = queues.map(with_time).collect();
        self.looks = self.queues.iter().filter_map(|(key, at)| Some(((*at)?, key.clone()))).collect();
    }

    /// Notes to look at a queue, unless it is looked at sooner.
    fn note(&mut self, at: Instant, key: Key) {
        let Some(noted) = self.queues.get_mut(&key) else { return };
        if noted.is_some_and(|noted| noted <= at) {
            return;
        }
        if let Some(later) = noted.replace(at) {
            self.looks.remove(&(later, key.clone()));
        }
        self.looks.insert((at, key));
    }

    fn first(&self) -> Option<Instant> {
        self.looks.first().map(|(at, _)| *at)
    }

    /// Takes the queues out whose time has come.
    fn take_due(&mut self, now: Instant) -> Vec<Key> {
        let mut due = Vec::new();
        while self.first().is_some_and(|at| at <= now)
            && let Some((_, key)) = self.looks.pop_first()
        {
            if let Some(at) = self.queues.get_mut(&key) {
                *at = None;
            }
            due.push(key);
        }
        due
    }
}

fn event(consumer: &Trigger, config: &QueueConfig, message: Message) -> Option<NewEvent> {
    let Message { delivery, message, key, enqueued_at, cause, .. } = message;
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

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn three_queues(app: AppId) -> [Key; 3] {
        ["a", "b", "c"].map(|name| (app, name.parse().unwrap()))
    }

    /// An agenda that keeps to these queues, with nothing noted.
    fn agenda(queues: &[Key]) -> Agenda {
        let mut agenda = Agenda::default();
        agenda.keep_to(queues.iter().cloned());
        agenda
    }

    #[test]
    fn the_sooner_of_two_times_is_kept() {
        let [a, b, _] = three_queues(AppId::new());
        let mut agenda = agenda(&[a.clone(), b.clone()]);
        assert_eq!(agenda.first(), None);
        let now = Instant::now();
        agenda.note(now + 2 * DAY, a.clone());
        agenda.note(now + DAY, a.clone());
        agenda.note(now + 3 * DAY, a.clone());
        agenda.note(now + 2 * DAY, b.clone());
        assert_eq!(agenda.first(), Some(now + DAY));
        assert_eq!(agenda.looks.iter().cloned().collect::<Vec<_>>(), [(now + DAY, a), (now + 2 * DAY, b)]);
    }

    #[test]
    fn what_is_due_is_taken_once_the_soonest_first_and_can_be_noted_later() {
        let [a, b, c] = three_queues(AppId::new());
        let mut agenda = agenda(&[a.clone(), b.clone(), c.clone()]);
        let now = Instant::now();
        agenda.note(now + 2 * DAY, a.clone());
        agenda.note(now + DAY, b.clone());
        agenda.note(now + 3 * DAY, c);
        assert!(agenda.take_due(now).is_empty());
        assert_eq!(agenda.take_due(now + 2 * DAY), [b, a.clone()]);
        assert!(agenda.take_due(now + 2 * DAY).is_empty());
        agenda.note(now + 9 * DAY, a.clone());
        assert!(agenda.looks.contains(&(now + 9 * DAY, a)), "the time that was taken is no sooner one");
    }

    #[test]
    fn a_queue_without_a_consumer_has_no_entry_and_another_keeps_its_own() {
        let [a, b, c] = three_queues(AppId::new());
        let mut agenda = agenda(&[a.clone(), b.clone()]);
        let now = Instant::now();
        for key in [&a, &b, &c] {
            agenda.note(now, key.clone());
        }
        agenda.keep_to([b.clone(), c.clone()].into_iter());
        assert_eq!(agenda.looks.iter().cloned().collect::<Vec<_>>(), [(now, b)]);
        agenda.note(now + DAY, c.clone());
        assert!(agenda.looks.contains(&(now + DAY, c)));
    }

    #[test]
    fn attack_counting_the_same_queues_again_and_again_leaves_one_entry_for_each() {
        let queues = three_queues(AppId::new());
        let mut agenda = agenda(&queues);
        let now = Instant::now();
        for counting in 0..10 {
            for key in &queues {
                // As seen at each counting, the same time comes out a little later.
                agenda.note(now + 14 * DAY + Duration::from_micros(counting), key.clone());
            }
        }
        assert_eq!((agenda.looks.len(), agenda.queues.len()), (3, 3));
    }

    #[test]
    fn attack_delayed_messages_to_ever_new_queues_that_are_purged_leave_nothing() {
        let app = AppId::new();
        let mut agenda = agenda(&three_queues(app));
        for number in 0..1_000 {
            agenda.note(Instant::now() + 14 * DAY, (app, format!("q{number}").parse().unwrap()));
        }
        assert_eq!((agenda.looks.len(), agenda.queues.len()), (0, 3));
    }
}
