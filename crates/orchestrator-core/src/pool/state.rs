//! The pool's shared state: one lock, short sections, no I/O inside.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use shared::call::Reply;
use shared::id::AppId;
use shared::ports::Permits;
use shared::wire::codec::{HEADER_BYTES, Header};
use shared::wire::frame::FromWorker;
use tokio::sync::Notify;

use super::Ports;
use super::admission::{Admission, Cost, Queued};
use super::calls::Place;
use super::connection::{Connection, Start};
use super::job::{Job, LoadableImage, Task};
use super::locked::Locked;
use super::memory::{PoolMemory, WorkerMemory};
use super::nested;
use super::news::{Ended, News};
use super::outbound::Outbound;
use super::pace::Pace;
use super::recruit::PoolConfig;
use super::recycle::Recycling;
use super::seeds::Seeds;
use super::spawner::Line;
use super::staff::Staff;
use super::verify::Isolation;
use super::violation::{Unruly, Violation};
use super::watch::{Circle, Watch};

pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) ports: Ports,
    recycling: Recycling,
    /// Notified when an execution ends or a worker leaves while the pool drains.
    pub(super) changed: Notify,
    /// Notified when a worker is to be hired, and when none ever will be again.
    pub(super) vacancy: Notify,
}

pub(super) struct State {
    pub(super) connections: Vec<Connection>,
    pub(super) admission: Admission<Job>,
    pub(super) staff: Staff,
    pub(super) pace: Pace,
    pub(super) running: usize,
    pub(super) next_ticket: u64,
    next_connection: u64,
    pub(super) draining: bool,
    pub(super) workers_lost: u64,
    seeds: Seeds,
    pub(super) watch: Watch,
    /// Asked under the lock, so nobody may use the pool under theirs.
    pub(super) permits: Arc<dyn Permits>,
    /// What jobs brought that were refused when it was their turn: see [`Locked`].
    pub(super) refused: Vec<(Task, LoadableImage)>,
}

impl Shared {
    pub(super) fn new(config: &PoolConfig, ports: Ports) -> Self {
        let slots_per_worker = config.slots_per_worker;
        let app_slots = config.app_slots();
        let memory = WorkerMemory::of(config);
        let state = State {
            connections: Vec::new(),
            admission: Admission::new(config.queue_max, app_slots)
                .within(memory.share(slots_per_worker, app_slots))
                .nesting(nested::beyond_share(slots_per_worker).max(1))
                .reserving(config.workers_max()),
            staff: Staff::new(config.workers, config.workers_max())
                .keeping(slots_per_worker, config.mode)
                .within(memory, PoolMemory::of(config)),
            pace: Pace::new(config.workers.max(1)),
            running: 0,
            next_ticket: 0,
            next_connection: 0,
            draining: false,
            workers_lost: 0,
            seeds: Seeds::default(),
            watch: Watch::default(),
            permits: Arc::clone(&ports.permits),
            refused: Vec::new(),
        };
        Self {
            state: Mutex::new(state),
            ports,
            recycling: Recycling::of(config),
            changed: Notify::new(),
            vacancy: Notify::new(),
        }
    }

    /// Waits until a worker is to be hired; false when the pool drains.
    pub(super) async fn vacancy(&self) -> bool {
        loop {
            let changed = self.vacancy.notified();
            {
                let mut state = self.lock();
                if state.draining {
                    return false;
                }
                if state.staff.hire() {
                    return true;
                }
            }
            changed.await;
        }
    }

    /// Makes a worker available: its process, its slots and the walls around it, and whether it is in a control group of
    /// its own; and whose layout it has. Answers its id and what wakes its conversation; nothing while the pool drains.
    pub(super) fn attach(
        &self,
        worker: (u32, u16, Isolation),
        is_grouped: bool,
        line: Option<Line>,
    ) -> Option<(u64, Arc<Notify>)> {
        let mut state = self.lock();
        if state.draining {
            return None;
        }
        state.next_connection += 1;
        let id = state.next_connection;
        let wake = Arc::new(Notify::new());
        let mut connection = Connection::new(id, worker, wake.clone());
        (connection.is_grouped, connection.line) = (is_grouped, line);
        state.connections.push(connection);
        if state.refill() {
            self.vacancy.notify_one();
        }
        Some((id, wake))
    }

    /// Moves what is to be sent to worker `id` to `outbound` if all has left that was there: else it goes on gathering, as
    /// it would have to be copied. Answers when its conversation must look at the clock again, or what the worker was
    /// found out to have done.
    pub(super) fn collect(&self, id: u64, outbound: &mut Outbound) -> Result<Option<Instant>, Violation> {
        let mut state = self.lock();
        let Some(at) = state.position(id) else {
            return Ok(None);
        };
        let State { connections, pace, .. } = &mut *state;
        let connection = &mut connections[at];
        if let Some(violation) = connection.violation {
            return Err(violation);
        }
        let deadline = connection.next_deadline();
        if connection.outbound.is_empty() || !outbound.is_empty() {
            return Ok(deadline);
        }
        if let Err(turn) = pace.ask(id, connection.outbound.count(), Instant::now()) {
            return Ok(Some(deadline.map_or(turn, |deadline| deadline.min(turn))));
        }
        std::mem::swap(outbound, &mut connection.outbound);
        Ok(deadline)
    }

    /// Tells overdue executions of worker `id` to end; an error when the worker must be killed.
    pub(super) fn enforce_deadlines(&self, id: u64, now: Instant) -> Result<(), Unruly> {
        let mut state = self.lock();
        state.position(id).map_or(Ok(()), |at| state.connections[at].enforce_deadlines(now))
    }

    /// Takes in the whole frames at the beginning of `bytes`; answers how many bytes they were, and
    /// what they come to. Free slots are filled by [`Self::charge`], when it is known what was burnt.
    pub(super) fn accept(&self, id: u64, bytes: &[u8], news: &mut News) -> Result<usize, Violation> {
        let mut state = self.lock();
        let Some(at) = state.position(id) else {
            return Ok(bytes.len());
        };
        let accepted = state.accept(at, bytes, news);
        state.heard(id);
        // What waits must not be started in it, to be lost and suspected a moment later.
        if let Err(violation) = &accepted {
            state.connections[at].violation = Some(*violation);
        }
        accepted
    }

    /// Hands an answer to the execution that waits for it.
    pub(super) fn answer(&self, place: Place, reply: Reply) {
        let ungiven = self.lock().answer(place, reply);
        // It may be large: not before the pool is locked no more.
        drop(ungiven);
    }

    /// Charges ended executions to their apps and starts what waits.
    pub(super) fn charge(&self, id: u64, costs: impl Iterator<Item = Cost>) {
        let mut state = self.lock();
        for cost in costs {
            state.admission.finished(cost);
        }
        let is_replaced = state.position(id).is_some_and(|at| state.recycle(self.recycling, at));
        if state.refill() || is_replaced {
            self.vacancy.notify_one();
        }
        if state.draining {
            self.changed.notify_waiters();
        }
    }

    pub(super) fn lock(&self) -> Locked<'_> {
        Locked::new(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// Hands an answer to the execution that waits for it; one that is not given comes back.
    fn answer(&mut self, place: Place, reply: Reply) -> Option<Reply> {
        let Some(at) = self.position(place.connection) else {
            return Some(reply);
        };
        self.connections[at].answer(place, reply)
    }

    /// A worker has answered: others may have their turn.
    fn heard(&mut self, worker: u64) {
        let Self { pace, connections, .. } = self;
        pace.heard(worker).for_each(|next| wake(connections, next));
    }

    /// A worker is gone, or will be: others may have their turn.
    pub(super) fn forget(&mut self, worker: u64) {
        let Self { pace, connections, .. } = self;
        pace.forget(worker).for_each(|next| wake(connections, next));
    }

    pub(super) fn position(&self, id: u64) -> Option<usize> {
        position(&self.connections, id)
    }

    /// Jobs of the app's makers that run, or wait in front of its load.
    pub(super) fn jobs_for_makers(&self, app: AppId) -> usize {
        let running = self.connections.iter().map(|connection| connection.running_for_makers(app));
        running.sum::<usize>() + self.admission.ahead(app)
    }

    /// Whether a job for which there is no place may wait for one. `may_start` says whether its app may have one more.
    pub(super) fn may_wait(&self, job: &Job, may_start: bool) -> bool {
        let has_worker = |tenant| self.connections.iter().any(|c| c.tenant == Some(tenant) && !c.retiring);
        job.may_wait(has_worker)
            || may_start && self.staff.may_send_for(&self.admission, &self.connections, job)
    }

    fn accept(&mut self, at: usize, bytes: &[u8], news: &mut News) -> Result<usize, Violation> {
        let mut consumed = 0;
        while let Some(header) = Header::peek(&bytes[consumed..]).transpose()? {
            let connection = &mut self.connections[at];
            if header.body_bytes as usize > connection.body_bytes_max(&header)? {
                return Err(Violation::TooLong(header.body_bytes));
            }
            let body = consumed + HEADER_BYTES..consumed + HEADER_BYTES + header.body_bytes as usize;
            let Some(frame) = bytes.get(body.clone()) else {
                break;
            };
            if header.kind == FromWorker::HostCall as u8 {
                let call = connection.call(&header, frame)?;
                news.calls.extend(call.map(|call| call.ending_at(body.end)));
            } else if header.kind == FromWorker::Done as u8 {
                let execution = connection.end(&header, Instant::now())?;
                self.running -= 1;
                self.staff.taken.remove(&execution.job);
                // The fuel stands in the body, which is decoded outside the lock; the admission is
                // told by `charge`.
                news.ended.push(Ended { execution, body: body.clone() });
            } else {
                connection.notice(&header, frame)?;
            }
            consumed = body.end;
        }
        Ok(consumed)
    }

    /// Keeps a worker for who only lacks memory. True when one that was kept for another is kept no more: there may be room
    /// for others then.
    pub(super) fn save(&mut self) -> bool {
        self.staff.save(&self.admission, &self.connections)
    }

    /// Sees to it that those who wait get workers; true when one is to be hired.
    pub(super) fn serve_waiting(&mut self) -> bool {
        self.staff.serve_waiting(&self.admission, &mut self.connections)
    }

    /// True when a worker is to be hired.
    pub(super) fn start(&mut self, at: usize, job: Job) -> bool {
        self.running += 1;
        self.admission.started(job.app, job.memory_mb());
        self.staff.taken.add(&job);
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start = Start {
            now: Instant::now(),
            at_us: i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX),
            seed: self.seeds.next(),
        };
        let is_kept = self.staff.is_kept(&self.connections, &self.connections[at], &job);
        self.staff.begin(&self.connections, &self.connections[at], &job);
        let connection = &mut self.connections[at];
        let (whose, was_idle) = ((job.tenant, Circle::of(&job)), connection.is_idle());
        // It leaves when it has done this job, or load would have it next.
        connection.is_kept = is_kept;
        connection.retiring |= connection.is_kept;
        connection.start(job, start);
        // One that waits for its turn is woken when it has it.
        if !self.pace.is_waiting(connection.id) {
            connection.wake.notify_one();
        }
        !was_idle
            && self.staff.max > self.staff.share
            && self.staff.balance(&mut self.connections, whose, start.now)
    }

    /// Starts queued jobs while there is room; true when a worker is to be hired for the rest.
    pub(super) fn refill(&mut self) -> bool {
        // Before smaller jobs take what has become free.
        self.save();
        self.start_waiting()
    }

    pub(super) fn start_waiting(&mut self) -> bool {
        let mut hires = false;
        loop {
            while let Some((at, job)) = self.next() {
                if let Some(job) = self.still_permitted(job) {
                    hires |= self.start(at, job);
                }
            }
            // What has started may have the memory for which a worker was kept. Unless something more starts, the one
            // that is kept next stays so.
            if !self.save() {
                break;
            }
        }
        hires |= self.admission.queued() > 0 && self.serve_waiting();
        let Self { staff, admission, connections, .. } = self;
        hires | staff.let_go(admission, connections)
    }

    fn next(&mut self) -> Option<(usize, Job)> {
        let (connections, staff) = (&self.connections, &self.staff);
        let job = self.admission.pop(|job| staff.place(connections, job).is_some())?;
        // A job that has no place goes to the front of nothing: `pop` saw one a moment ago.
        let at = staff.place(connections, &job);
        self.staff.release(job.ticket);
        at.map(|at| (at, job))
    }
}

fn wake(connections: &[Connection], id: u64) {
    if let Some(at) = position(connections, id) {
        connections[at].wake.notify_one();
    }
}

fn position(connections: &[Connection], id: u64) -> Option<usize> {
    // Whoever comes has the highest id and stands last.
    connections.binary_search_by_key(&id, |connection| connection.id).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, TryRecvError, channel};

    use shared::call::Companion;
    use shared::id::UserId;
    use shared::invocation::{Refusal, ScriptTarget};

    use super::*;
    use crate::pool::job::Submitted;
    use crate::pool::mode::Mode;
    use crate::pool::sample;
    use crate::pool::tenancy::Tenant;

    /// A pool in strict isolation, where each worker has one slot, whose first worker is there.
    fn strict(workers_max: usize) -> Shared {
        let config = PoolConfig::new("/".into(), 1, 2).isolated(Mode::Strict);
        let shared = sample::shared(&PoolConfig { tenant_workers: workers_max, ..config });
        assert_eq!(hire(&shared).len(), 1);
        shared
    }

    /// Hires as many as are wanted, as the supervisor does; answers their ids.
    fn hire(shared: &Shared) -> Vec<u64> {
        let mut hired = Vec::new();
        while shared.lock().staff.hire() {
            hired.push(attach(shared));
        }
        hired
    }

    fn attach(shared: &Shared) -> u64 {
        shared.attach((1, 1, Isolation::NONE), true, None).unwrap().0
    }

    /// What an app's script calls.
    fn called(caller: &(AppId, UserId)) -> Job {
        let (app, owner) = *caller;
        let tenant = Tenant::App(app);
        Job { app, tenant, usual: tenant, is_nested: true, ..sample::run(Mode::Strict, owner) }
    }

    /// Starts a request to an app; answers which.
    fn start(shared: &Shared) -> (AppId, UserId) {
        let job = sample::run(Mode::Strict, UserId::new());
        let who = (job.app, job.owner().unwrap());
        let (submitted, _) = shared.submit(job).unwrap();
        hire(shared);
        assert!(submitted == Submitted::Started || shared.lock().admission.queued() == 0);
        who
    }

    #[test]
    fn a_chain_of_calls_gets_workers_where_each_has_one_slot_and_no_call_is_more_than_a_chain() {
        let shared = strict(64);
        let caller = start(&shared);
        for depth in 1..=8 {
            let (submitted, _) = shared.submit(called(&caller)).unwrap();
            assert_eq!((submitted, hire(&shared).len()), (Submitted::Queued, 1), "{depth}");
            assert_eq!(shared.lock().running, 1 + depth);
        }
        assert_eq!(shared.submit(called(&caller)).unwrap_err(), Refusal::Overloaded);
    }

    #[test]
    fn attack_calls_of_one_app_leave_a_worker_to_others() {
        let shared = strict(4);
        let caller = start(&shared);
        for _ in 0..2 {
            shared.submit(called(&caller)).unwrap();
            hire(&shared);
        }
        assert_eq!(shared.submit(called(&caller)).unwrap_err(), Refusal::Overloaded);
        start(&shared);
        assert_eq!(shared.lock().running, 4);
    }

    #[test]
    fn who_is_called_does_not_wait_when_all_workers_have_callers() {
        let shared = strict(2);
        let callers = [start(&shared), start(&shared)];
        for caller in callers {
            assert_eq!(shared.submit(called(&caller)).unwrap_err(), Refusal::Overloaded);
        }
        assert_eq!(shared.lock().admission.queued(), 0);
    }

    #[test]
    fn who_is_called_has_the_place_of_a_worker_that_has_nothing_to_do() {
        let shared = strict(2);
        let (_, caller) = (start(&shared), start(&shared));
        let first = {
            let mut state = shared.lock();
            let header = Header { body_bytes: 0, kind: FromWorker::Done as u8, slot: 0, generation: 1 };
            let execution = state.connections[0].end(&header, Instant::now()).unwrap();
            state.running -= 1;
            state.admission.finished(execution.job.cost(0));
            state.connections[0].id
        };
        assert_eq!(shared.submit(called(&caller)).unwrap().0, Submitted::Queued);
        assert_eq!((hire(&shared).len(), shared.lock().running), (1, 2));
        let state = shared.lock();
        assert!(state.connections[state.position(first).unwrap()].retiring);
    }

    /// Both workers have load, and a maker waits for the one that is kept.
    fn with_waiting_maker() -> (Shared, u64) {
        let shared = strict(2);
        start(&shared);
        start(&shared);
        let maker = sample::compilation(Mode::Strict, UserId::new());
        let (submitted, ticket) = shared.submit(maker).unwrap();
        assert_eq!(submitted, Submitted::Queued);
        (shared, ticket)
    }

    #[test]
    fn the_kept_worker_leaves_when_the_maker_who_waited_has_left() {
        let (shared, ticket) = with_waiting_maker();
        assert!(shared.lock().staff.hire(), "it is on its way");
        assert!(shared.withdraw(ticket));
        let late = attach(&shared);
        {
            let state = shared.lock();
            assert!(state.connections[state.position(late).unwrap()].retiring);
        }
        shared.detach(late, Vec::new(), |_| false);
        assert!(!shared.lock().staff.hire(), "nobody takes its place");
        let state = shared.lock();
        assert_eq!((state.connections.len(), state.running), (2, 2));
    }

    #[test]
    fn nobody_is_hired_for_a_maker_who_has_left_and_somebody_for_the_next() {
        let (shared, ticket) = with_waiting_maker();
        assert!(shared.withdraw(ticket));
        assert!(hire(&shared).is_empty());
        shared.submit(sample::compilation(Mode::Strict, UserId::new())).unwrap();
        assert_eq!((hire(&shared).len(), shared.lock().running), (1, 3));
    }

    /// Lets nothing run.
    struct Frozen;

    impl Permits for Frozen {
        fn permit(&self, _: &ScriptTarget) -> Result<(), Refusal> {
            Err(Refusal::Frozen)
        }
    }

    /// Goes along with a job; tells whether the pool is locked when it is dropped.
    struct Brought {
        shared: Arc<Shared>,
        was_locked: Sender<bool>,
    }

    impl Drop for Brought {
        fn drop(&mut self) {
            self.was_locked.send(self.shared.state.try_lock().is_err()).unwrap();
        }
    }

    #[test]
    fn attack_jobs_that_were_frozen_while_they_waited_hold_the_pool_up_with_nothing_that_they_brought() {
        let config = PoolConfig::new("/".into(), 1, 2).isolated(Mode::Shared);
        let shared = Arc::new(sample::shared(&config));
        let (was_locked, dropped) = channel();
        for _ in 0..2 {
            let mut job = sample::run(Mode::Shared, UserId::new());
            let Task::Run(invocation) = &mut job.task else { unreachable!("it runs") };
            invocation.input = vec![0; 1 << 20];
            let brought = Brought { shared: Arc::clone(&shared), was_locked: was_locked.clone() };
            invocation.companion = Some(Companion::new(Arc::new(brought)));
            assert_eq!(shared.submit(job).unwrap().0, Submitted::Queued);
        }
        let mut state = shared.lock();
        state.permits = Arc::new(Frozen);
        let worker = Connection::new(1, (1, 2, Isolation::NONE), Arc::new(Notify::new()));
        state.connections.push(worker);
        state.refill();
        assert_eq!((state.admission.queued(), state.running), (0, 0));
        let input = |(task, _): &(Task, LoadableImage)| match task {
            Task::Run(invocation) => invocation.input.len(),
            Task::Compile => 0,
        };
        assert_eq!(state.refused.iter().map(input).collect::<Vec<_>>(), [1 << 20; 2]);
        assert_eq!(dropped.try_recv(), Err(TryRecvError::Empty));
        drop(state);
        assert_eq!(dropped.try_iter().collect::<Vec<_>>(), [false; 2]);
    }
}
