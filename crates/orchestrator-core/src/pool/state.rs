//! The pool's shared state: one lock, short sections, no I/O inside.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use shared::call::Reply;
use shared::id::AppId;
use shared::invocation::Refusal;
use shared::ports::Permits;
use shared::wire::codec::{HEADER_BYTES, Header};
use shared::wire::frame::FromWorker;
use tokio::sync::Notify;

use super::Ports;
use super::admission::{Admission, Cost, Queued};
use super::calls::Place;
use super::connection::{Connection, Start};
use super::execution::Cancelled;
use super::job::{Job, Submitted};
use super::memory::WorkerMemory;
use super::news::{Ended, News};
use super::pace::Pace;
use super::recruit::PoolConfig;
use super::recycle::Recycling;
use super::seeds::Seeds;
use super::staff::Staff;
use super::verify::Isolation;
use super::violation::Violation;
use super::watch::{Circle, Watch};

/// What an app may have running for its makers beside its load: somebody who tests while somebody
/// else deploys. More of it is load, or test runs would be a way around every share.
const MAKERS_PER_APP_MAX: usize = 2;

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
    next_ticket: u64,
    next_connection: u64,
    pub(super) draining: bool,
    pub(super) workers_lost: u64,
    seeds: Seeds,
    pub(super) watch: Watch,
    /// Asked under the lock, so nobody may use the pool under theirs.
    pub(super) permits: Arc<dyn Permits>,
}

impl Shared {
    pub(super) fn new(config: &PoolConfig, ports: Ports) -> Self {
        let slots_per_worker = config.slots_per_worker;
        let slots = config.workers * usize::from(slots_per_worker);
        let app_slots = config.app_slots_max.unwrap_or(slots / 2).clamp(1, slots);
        let memory = WorkerMemory::of(config);
        let state = State {
            connections: Vec::new(),
            admission: Admission::new(config.queue_max, app_slots)
                .within(memory.share(slots_per_worker, app_slots))
                .reserving(config.workers_max()),
            staff: Staff::new(config.workers, config.workers_max())
                .keeping(slots_per_worker, config.mode)
                .within(memory),
            pace: Pace::new(config.workers.max(1)),
            running: 0,
            next_ticket: 0,
            next_connection: 0,
            draining: false,
            workers_lost: 0,
            seeds: Seeds::default(),
            watch: Watch::default(),
            permits: Arc::clone(&ports.permits),
        };
        Self {
            state: Mutex::new(state),
            ports,
            recycling: Recycling::of(config),
            changed: Notify::new(),
            vacancy: Notify::new(),
        }
    }

    pub(super) fn submit(&self, mut job: Job) -> Result<(Submitted, u64), Refusal> {
        let mut state = self.lock();
        if state.draining {
            return Err(Refusal::ShuttingDown);
        }
        state.next_ticket += 1;
        let ticket = state.next_ticket;
        job.ticket = ticket;
        job.tenant = state.watch.tenant(&job, job.submitted).unwrap_or(job.tenant);
        // Whoever is none is not counted for: that looks at all slots of all workers.
        job.is_for_maker = job.is_for_maker && state.jobs_for_makers(job.app) < MAKERS_PER_APP_MAX;
        if state.admission.may_start(&job)
            && let Some(at) = state.staff.place(&state.connections, &job)
        {
            if state.start(at, job) {
                self.vacancy.notify_one();
            }
            return Ok((Submitted::Started, ticket));
        }
        let has_worker = |tenant| state.connections.iter().any(|c| c.tenant == Some(tenant) && !c.retiring);
        if !job.may_wait(has_worker) || state.admission.push(job.owner(), job).is_err() {
            return Err(Refusal::Overloaded);
        }
        let State { staff, admission, connections, .. } = &mut *state;
        let hires =
            if staff.save(admission, connections) { state.start_waiting() } else { state.serve_waiting() };
        if hires {
            self.vacancy.notify_one();
        }
        Ok((Submitted::Queued, ticket))
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

    /// Takes a job out of the queue; false when it has started meanwhile.
    pub(super) fn withdraw(&self, ticket: u64) -> bool {
        self.take_back(&mut self.lock(), ticket)
    }

    /// Those whom it held up are started at once, and those for whom there is room in what was kept for it.
    fn take_back(&self, state: &mut State, ticket: u64) -> bool {
        let waited = state.admission.withdraw(ticket).is_some();
        state.staff.release(ticket);
        if waited && state.start_waiting() {
            self.vacancy.notify_one();
        }
        waited
    }

    /// Ends a job whose caller is gone, wherever it is.
    pub(super) fn cancel(&self, ticket: u64) {
        let mut state = self.lock();
        if self.take_back(&mut state, ticket) {
            return;
        }
        let now = Instant::now();
        for connection in &mut state.connections {
            if connection.cancel(ticket, Cancelled::CallerLeft, now) {
                connection.wake.notify_one();
                return;
            }
        }
    }

    /// Makes a worker available: its process, its slots and the walls around it. Answers its id and what wakes its
    /// conversation; nothing while the pool drains.
    pub(super) fn attach(&self, worker: (u32, u16, Isolation)) -> Option<(u64, Arc<Notify>)> {
        let mut state = self.lock();
        if state.draining {
            return None;
        }
        state.next_connection += 1;
        let id = state.next_connection;
        let wake = Arc::new(Notify::new());
        state.connections.push(Connection::new(id, worker, wake.clone()));
        if state.refill() {
            self.vacancy.notify_one();
        }
        Some((id, wake))
    }

    /// Moves what is to be sent to worker `id` onto the end of `outbound`; answers when its
    /// conversation must look at the clock again, or what the worker was found out to have done.
    pub(super) fn collect(&self, id: u64, outbound: &mut Vec<u8>) -> Result<Option<Instant>, Violation> {
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
        if connection.outbound.is_empty() {
            return Ok(deadline);
        }
        if let Err(turn) = pace.ask(id, Instant::now()) {
            return Ok(Some(deadline.map_or(turn, |deadline| deadline.min(turn))));
        }
        if outbound.is_empty() {
            std::mem::swap(outbound, &mut connection.outbound);
        } else {
            outbound.append(&mut connection.outbound);
        }
        Ok(deadline)
    }

    /// True when a deadline has been ignored for so long that the worker must be killed.
    pub(super) fn enforce_deadlines(&self, id: u64, now: Instant) -> bool {
        let mut state = self.lock();
        state.position(id).is_some_and(|at| state.connections[at].enforce_deadlines(now))
    }

    /// Takes in the whole frames at the beginning of `bytes`; answers how many bytes they were, and
    /// what they come to. Free slots are filled at once, before anyone looks at results.
    pub(super) fn accept(&self, id: u64, bytes: &[u8], news: &mut News) -> Result<usize, Violation> {
        let mut state = self.lock();
        let Some(at) = state.position(id) else {
            return Ok(bytes.len());
        };
        let accepted = state.accept(at, bytes, news);
        let next = state.pace.heard(id);
        state.wake(next);
        // What waits must not be started in it, to be lost and suspected a moment later.
        if let Err(violation) = &accepted {
            state.connections[at].violation = Some(*violation);
        }
        accepted
    }

    /// Hands an answer to the execution that waits for it.
    pub(super) fn answer(&self, place: Place, reply: Reply) {
        let mut state = self.lock();
        if let Some(at) = state.position(place.connection) {
            state.connections[at].answer(place, reply);
        }
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

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn wake(&self, worker: Option<u64>) {
        if let Some(at) = worker.and_then(|id| self.position(id)) {
            self.connections[at].wake.notify_one();
        }
    }

    pub(super) fn position(&self, id: u64) -> Option<usize> {
        // Whoever comes has the highest id and stands last.
        self.connections.binary_search_by_key(&id, |connection| connection.id).ok()
    }

    /// Jobs of the app's makers that run, or wait in front of its load.
    fn jobs_for_makers(&self, app: AppId) -> usize {
        let running = self.connections.iter().map(|connection| connection.running_for_makers(app));
        running.sum::<usize>() + self.admission.ahead(app)
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
                news.calls.extend(connection.call(&header, frame)?);
            } else if header.kind == FromWorker::Done as u8 {
                let execution = connection.end(&header)?;
                self.running -= 1;
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

    /// Sees to it that those who wait get workers; true when one is to be hired.
    fn serve_waiting(&mut self) -> bool {
        self.staff.save(&self.admission, &self.connections);
        self.staff.serve_waiting(&self.admission, &mut self.connections)
    }

    /// True when a worker is to be hired.
    fn start(&mut self, at: usize, job: Job) -> bool {
        self.running += 1;
        self.admission.started(job.app, job.memory_mb());
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
        self.staff.save(&self.admission, &self.connections);
        self.start_waiting()
    }

    fn start_waiting(&mut self) -> bool {
        let mut hires = false;
        while let Some((at, job)) = self.next() {
            if let Some(job) = self.still_permitted(job) {
                hires |= self.start(at, job);
            }
        }
        hires | (self.admission.queued() > 0 && self.serve_waiting())
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
