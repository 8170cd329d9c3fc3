//! Delivers events. `core` decides; here is what it decides about: the clock, the database, the
//! scripts, and the tasks in which they are waited for.

mod core;
mod courtesy;
mod owner;
mod people;
mod runner;
mod settler;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use shared::ports::{BoxFuture, Invoke, RecordSink};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use uuid::Uuid;

use self::core::{Action, Capacity, Core, Event};
pub(crate) use self::core::{Fetch, Page};
use self::courtesy::Courtesy;
use self::owner::Ownership;
use self::runner::Runner;
use super::keepers::Keepers;
use super::outbox::{Handed, Outbox, Outlet};
use super::replies::Replies;
use super::targets::Targets;
use crate::realtime::Hub;
use crate::snapshot::Snapshot;
use crate::store::{self, Database};

/// How long a stopping dispatcher waits for what runs.
const STOP_PATIENCE: Duration = Duration::from_millis(shared::limits::DRAIN_MS);
/// Rows in memory. Somebody's only app may have a quarter of them: at 10,000 events a second a fifth of a second's work.
const ROWS_MAX: usize = 8_192;
/// Commits that are taken in at once.
const HANDED_AT_ONCE: usize = 256;
/// Ends of runs that are taken in at once.
const ENDED_AT_ONCE: usize = 64;

/// What the dispatcher did, and what it has in hand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventCounters {
    /// Attempts that were started.
    pub started: u64,
    /// Deliveries that are done.
    pub done: u64,
    /// Attempts after which another follows.
    pub put_off: u64,
    /// Deliveries that were given up.
    pub buried: u64,
    /// Rows that had another owner, or none, when they were to be settled.
    pub missed: u64,
    /// Reads of the table.
    pub fetches: u64,
    /// Rows in memory.
    pub in_memory: u64,
    /// Attempts that run.
    pub running: u64,
}

#[derive(Debug, Default)]
struct Numbers([AtomicU64; 8]);

impl Numbers {
    fn store(&self, core: &Core) {
        let (in_memory, running) = core.load();
        let counts = core.counts;
        let now = [
            counts.started,
            counts.done,
            counts.put_off,
            counts.buried,
            counts.missed,
            counts.fetches,
            in_memory as u64,
            running as u64,
        ];
        for (number, now) in self.0.iter().zip(now) {
            number.store(now, Relaxed);
        }
    }

    fn read(&self) -> EventCounters {
        let [started, done, put_off, buried, missed, fetches, in_memory, running] =
            std::array::from_fn(|at| self.0[at].load(Relaxed));
        EventCounters { started, done, put_off, buried, missed, fetches, in_memory, running }
    }
}

/// Everything about delivering events, as a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Dispatching {
    pub(crate) outbox: Outbox,
    pub(crate) replies: Replies,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    outlet: Mutex<Option<Outlet>>,
    numbers: Arc<Numbers>,
    stop: Arc<Notify>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Dispatching {
    /// Takes events in; delivers none before it is started.
    pub(crate) fn new() -> Self {
        let (outbox, outlet) = Outbox::new();
        let shared = Shared {
            outlet: Mutex::new(Some(outlet)),
            numbers: Arc::default(),
            stop: Arc::default(),
            task: Mutex::default(),
        };
        Self { outbox, replies: Replies::new(), shared: Arc::new(shared) }
    }

    /// Begins to deliver, with as many executions at once as the pool has slots.
    pub(crate) fn start(
        &self,
        database: Database,
        (snapshot, hub): (Arc<Snapshot>, Hub),
        invoke: Arc<dyn Invoke>,
        records: Arc<dyn RecordSink>,
        keepers: &Keepers,
        slots: usize,
    ) {
        let Some(outlet) = take(&self.shared.outlet) else { return };
        let (events, inbox) = unbounded_channel();
        let queues = keepers.queues.clone();
        let people = people::start(database.clone(), &snapshot, events.clone());
        let owner = owner::start(database.clone(), events.clone(), queues, (Arc::clone(&snapshot), hub));
        let runner = Arc::new(Runner {
            targets: Targets::new(database.clone(), Arc::clone(&snapshot)),
            snapshot,
            queues: keepers.queues.clone(),
            holds: keepers.holds.clone(),
            database: database.clone(),
            invoke,
            records,
            replies: self.replies.clone(),
        });
        // No app has more than half, so that one that is slow does not stop the others.
        let capacity = Capacity { runs: slots.max(1), runs_per_app: (slots / 2).max(1), rows: ROWS_MAX };
        let [a, b, c, d, e, f, g, h, ..] = *Uuid::new_v4().as_bytes();
        let dispatcher = Dispatcher {
            core: Core::new(capacity, u64::from_le_bytes([a, b, c, d, e, f, g, h])),
            started: Instant::now(),
            actions: Vec::new(),
            runs: FuturesUnordered::new(),
            events,
            runner,
            database,
            outbox: self.outbox.clone(),
            owner,
            people,
            numbers: Arc::clone(&self.shared.numbers),
        };
        let stop = Arc::clone(&self.shared.stop);
        let task = tokio::spawn(dispatcher.run(outlet, inbox, stop));
        *self.shared.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    pub(crate) fn counters(&self) -> EventCounters {
        self.shared.numbers.read()
    }

    /// Starts nothing more, lets what runs finish, writes what came of it, and gives the outbox up.
    pub(crate) async fn stop(&self) {
        let Some(task) = take(&self.shared.task) else { return };
        self.shared.stop.notify_one();
        if task.await.is_err() {
            tracing::error!("the dispatcher ended by itself");
        }
    }
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

struct Dispatcher {
    core: Core,
    started: Instant,
    actions: Vec<Action>,
    /// What runs. Not tasks of their own: what ends together is taken in together, what follows is sent to the
    /// workers together, and no thread is woken to start one.
    runs: FuturesUnordered<BoxFuture<'static, Event>>,
    /// What tasks report. Unbounded, because each report ends something whose number is bounded:
    /// a batch, a fetch, a shard.
    events: UnboundedSender<Event>,
    runner: Arc<Runner>,
    database: Database,
    outbox: Outbox,
    owner: Ownership,
    /// Tells whose the apps are.
    people: JoinHandle<()>,
    numbers: Arc<Numbers>,
}

impl Dispatcher {
    async fn run(mut self, outlet: Outlet, mut inbox: UnboundedReceiver<Event>, stop: Arc<Notify>) {
        let Outlet { handed: mut inlet, arrivals, dirty } = outlet;
        let mut courtesy = Courtesy::new(arrivals);
        let mut handed = Vec::new();
        let mut stop_at = None;
        while stop_at.is_none() || !self.core.is_idle() {
            if courtesy.give_way(|app| self.core.yields_to(app)).await {
                // Theirs is the first turn.
                while let Ok(handed) = inlet.try_recv() {
                    self.take_in(handed);
                }
            }
            let deadline = [self.core.deadline().map(|at| self.started + at), stop_at].into_iter().flatten();
            let timer = until(deadline.min());
            tokio::select! {
                Some(event) = inbox.recv() => {
                    self.step(event);
                    while let Ok(event) = inbox.try_recv() {
                        self.step(event);
                    }
                }
                Some(ended) = self.runs.next() => {
                    self.step(ended);
                    for _ in 1..ENDED_AT_ONCE {
                        let Some(Some(ended)) = self.runs.next().now_or_never() else { break };
                        self.step(ended);
                    }
                }
                _ = inlet.recv_many(&mut handed, HANDED_AT_ONCE) => {
                    for handed in handed.drain(..) {
                        self.take_in(handed);
                    }
                }
                () = dirty.wait() => self.step(Event::Dirty),
                () = timer => self.step(Event::Tick),
                () = stop.notified(), if stop_at.is_none() => {
                    stop_at = Some(Instant::now() + STOP_PATIENCE);
                    self.step(Event::Stop);
                }
            }
            self.numbers.store(&self.core);
            if stop_at.is_some_and(|at| at <= Instant::now()) {
                tracing::warn!("deliveries still run at the end of the drain; they will run again");
                self.people.abort();
                self.owner.end(&self.database, false).await;
                return;
            }
        }
        self.people.abort();
        self.owner.end(&self.database, true).await;
    }

    fn take_in(&mut self, handed: Handed) {
        self.step(match handed {
            Handed::Rows(rows) => Event::HandedOver(rows),
            Handed::DueAfter(delay) => Event::DueAfter(delay),
        });
    }

    fn step(&mut self, event: Event) {
        let mut actions = std::mem::take(&mut self.actions);
        self.core.step(self.started.elapsed(), event, &mut actions);
        for action in actions.drain(..) {
            self.perform(action);
        }
        self.actions = actions;
    }

    fn perform(&mut self, action: Action) {
        let events = self.events.clone();
        // A report to a dispatcher that is gone is of no use to anybody.
        match action {
            Action::Run { run, row } => {
                let runner = Arc::clone(&self.runner);
                self.runs.push(Box::pin(async move {
                    let verdict = runner.run(&row).await;
                    Event::Ended { run, verdict }
                }));
            }
            Action::Fetch(wanted) => {
                let (database, outbox) = (self.database.clone(), self.outbox.clone());
                tokio::spawn(async move {
                    let _ = events.send(fetch(&database, &outbox, &wanted).await);
                });
            }
            Action::Settle { batch, rows } => {
                let (database, outbox) = (self.database.clone(), self.outbox.clone());
                let owner = self.owner.current();
                let bytes: Vec<usize> = rows.iter().map(|(id, ..)| self.core.payload_bytes(*id)).collect();
                let follow_up = self.runner.clone();
                tokio::spawn(async move {
                    let settled = settler::settle(&database, &outbox, &follow_up, owner, &rows).await;
                    let _ = events.send(match settled {
                        Ok(missed) => {
                            settler::note_done(&outbox, &rows, &bytes, &missed);
                            Event::Settled { batch, missed }
                        }
                        Err(error) => {
                            tracing::warn!(%error, "what came of deliveries waits for the database");
                            Event::SettleFailed { batch }
                        }
                    });
                });
            }
            Action::TellOthers => self.owner.tell_others(),
        }
    }
}

async fn fetch(database: &Database, outbox: &Outbox, wanted: &Fetch) -> Event {
    let _turn = database.turn().await;
    let found = async {
        let mut tx = database.begin_with(store::outbox::BEGIN_BY_INDEX).await?;
        if wanted.is_first {
            outbox.set_waiting(store::outbox::count_by_app(&mut tx).await?);
        }
        let page = store::outbox::fetch(&mut tx, wanted).await?;
        tx.commit().await?;
        Ok(page)
    };
    let found: sqlx::Result<Page> = found.await;
    match found {
        Ok(page) => Event::Fetched { fetch: wanted.fetch, page },
        Err(error) => {
            tracing::warn!(%error, "events could not be read");
            Event::FetchFailed { fetch: wanted.fetch }
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
