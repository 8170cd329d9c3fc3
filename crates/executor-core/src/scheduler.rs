//! Runs many executions on one thread: each slot is a fiber that yields when its time slice is
//! used up or when it waits for its parent.

use std::any::Any;
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use shared::limits::FUEL_PER_US;
use shared::wire::codec;
use shared::wire::frame::{Done, Ending, FromWorker};

use crate::sandbox::{Finished, Images, Job, Link, Machine, Reply, Sandbox, TIME_SLICE_FUEL, Task, execute};

/// A frame that makes no sense in the state its slot is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misuse {
    #[error("no such slot")]
    NoSuchSlot,
    #[error("the slot is busy")]
    SlotBusy,
    #[error("no such bundle")]
    NoSuchBundle,
    #[error("the bundle's handle is taken")]
    HandleTaken,
}

struct Running {
    future: Pin<Box<dyn Future<Output = Finished>>>,
    started: Instant,
    deadline: Instant,
    generation: u32,
    /// A guest that ends within its first slice needs no look at the clock.
    has_yielded: bool,
    fuel_max: u64,
    /// What its slices so far amount to. The exact count is the guest's and is lost with it when it
    /// is dropped where it stands, so this is what it is charged then.
    fuel: u64,
}

impl Running {
    /// Counts a slice that was used up. One operation may copy megabytes, so time counts too.
    fn used_slice(&mut self, time: Duration) {
        let by_time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).saturating_mul(FUEL_PER_US);
        self.fuel = self.fuel.saturating_add(by_time.max(TIME_SLICE_FUEL)).min(self.fuel_max);
    }
}

struct Slot {
    link: Arc<Link>,
    waker: Waker,
    running: Option<Running>,
}

impl Slot {
    fn is_runnable(&self) -> bool {
        self.running.is_some() && self.link.is_runnable()
    }
}

/// A slice that took this long was one operation on megabytes; whoever sent a frame meanwhile, to end
/// an execution for example, has waited long enough.
const LONG_SLICE: Duration = Duration::from_millis(5);

/// A larger memory is not kept for the next execution: memory never shrinks, so hardly any script's
/// image fits it, and one burst would hold gigabytes until the worker ends.
const IDLE_BYTES_MAX: usize = 16 << 20;

pub(crate) struct Scheduler {
    sandbox: Rc<Sandbox>,
    images: Rc<RefCell<Images>>,
    slots: Vec<Slot>,
    /// Whose turn it is.
    turn: usize,
    /// Guests that were ended where they stood, and what is too large to be kept. Giving back memory
    /// takes milliseconds, and the parent must not wait for that to hear that something ended.
    dead: Vec<Box<dyn Any>>,
    /// What ended executions left, for later ones to reuse; the one left last is taken first.
    idle: Rc<RefCell<Vec<Machine>>>,
}

impl Scheduler {
    pub(crate) fn new(sandbox: Sandbox, image_cache_bytes: usize) -> Self {
        let slots = (0..sandbox.slots)
            .map(|_| {
                let link = Arc::new(Link::default());
                Slot { waker: Waker::from(link.clone()), link, running: None }
            })
            .collect();
        Self {
            sandbox: Rc::new(sandbox),
            images: Rc::new(RefCell::new(Images::new(image_cache_bytes))),
            slots,
            turn: 0,
            dead: Vec::new(),
            idle: Rc::default(),
        }
    }

    pub(crate) fn add_bundle(&mut self, handle: u32, load: &[u8]) -> Result<(), Misuse> {
        if self.images.borrow_mut().add(handle, load) { Ok(()) } else { Err(Misuse::HandleTaken) }
    }

    pub(crate) fn drop_bundle(&mut self, handle: u32) -> Result<(), Misuse> {
        if self.images.borrow_mut().remove(handle) { Ok(()) } else { Err(Misuse::NoSuchBundle) }
    }

    pub(crate) fn start(&mut self, job: Job, timeout: Duration) -> Result<(), Misuse> {
        if !self.images.borrow().contains(job.handle) {
            return Err(Misuse::NoSuchBundle);
        }
        let slot = self.slots.get_mut(usize::from(job.slot)).ok_or(Misuse::NoSuchSlot)?;
        if slot.running.is_some() {
            return Err(Misuse::SlotBusy);
        }
        slot.link.reset();
        slot.link.set_runnable();
        let generation = job.generation;
        let fuel_max = match job.task {
            Task::Run { fuel, .. } => fuel,
            Task::Compile => 0,
        };
        let idle = self.idle.clone();
        let idle_machine = move || idle.borrow_mut().pop();
        let future = execute(self.sandbox.clone(), self.images.clone(), slot.link.clone(), idle_machine, job);
        let started = Instant::now();
        slot.running = Some(Running {
            future: Box::pin(future),
            started,
            deadline: started + timeout,
            generation,
            has_yielded: false,
            fuel_max,
            fuel: 0,
        });
        Ok(())
    }

    /// Hands over an answer. One for an execution that has ended meanwhile is dropped.
    pub(crate) fn answer(&mut self, slot: u16, generation: u32, reply: Reply) -> Result<(), Misuse> {
        let slot = self.slots.get_mut(usize::from(slot)).ok_or(Misuse::NoSuchSlot)?;
        if slot.running.as_ref().is_some_and(|running| running.generation == generation) {
            slot.link.answer(reply);
        }
        Ok(())
    }

    /// Ends an execution. One that has ended meanwhile is left alone.
    pub(crate) fn cancel(
        &mut self,
        slot: u16,
        generation: u32,
        outbound: &mut Vec<u8>,
    ) -> Result<(), Misuse> {
        let index = usize::from(slot);
        let state = self.slots.get(index).ok_or(Misuse::NoSuchSlot)?;
        if state.running.as_ref().is_some_and(|running| running.generation == generation) {
            self.abandon(index, Ending::Cancelled, outbound);
        }
        Ok(())
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.slots.iter().all(|slot| slot.running.is_none())
    }

    pub(crate) fn has_runnable(&self) -> bool {
        self.slots.iter().any(Slot::is_runnable)
    }

    /// How many guests have something to do.
    pub(crate) fn runnable(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_runnable()).count()
    }

    /// Gives the guest whose turn it is one time slice if it has something to do. True when that took
    /// so long that the socket should be looked at before the next one's turn.
    pub(crate) fn poll_next(&mut self, outbound: &mut Vec<u8>) -> bool {
        let index = self.turn;
        self.turn = (index + 1) % self.slots.len();
        self.poll(index, outbound) >= LONG_SLICE
    }

    fn poll(&mut self, index: usize, outbound: &mut Vec<u8>) -> Duration {
        let slot = &mut self.slots[index];
        let Some(running) = &mut slot.running else {
            return Duration::ZERO;
        };
        if !slot.link.take_runnable() {
            return Duration::ZERO;
        }
        let begun = running.has_yielded.then(Instant::now);
        if begun.is_some_and(|now| now >= running.deadline) {
            self.abandon(index, Ending::Timeout, outbound);
            return LONG_SLICE;
        }
        running.has_yielded = true;
        let polled = running.future.as_mut().poll(&mut Context::from_waker(&slot.waker));
        slot.link.drain(outbound);
        match polled {
            Poll::Pending => {
                let took = begun.unwrap_or(running.started).elapsed();
                running.used_slice(took);
                took
            }
            Poll::Ready(finished) => {
                let generation = running.generation;
                slot.running = None;
                write_done(outbound, index, generation, &finished);
                match finished.machine {
                    Some(machine) if finished.peak_memory_bytes > IDLE_BYTES_MAX => {
                        self.dead.push(Box::new(machine));
                    }
                    machine => self.idle.borrow_mut().extend(machine),
                }
                begun.map_or(Duration::ZERO, |begun| begun.elapsed())
            }
        }
    }

    pub(crate) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is something to bury.
    pub(crate) const fn has_dead(&self) -> bool {
        !self.dead.is_empty()
    }

    /// Gives back the memory of guests that were ended. To be done when the parent has been told, and
    /// before it can know that their slots are free.
    pub(crate) fn bury(&mut self) {
        self.dead.clear();
    }

    /// Ends a running guest where it stands.
    fn abandon(&mut self, index: usize, ending: Ending, outbound: &mut Vec<u8>) {
        let slot = &mut self.slots[index];
        slot.link.drain(outbound);
        if let Some(running) = slot.running.take() {
            let finished = Finished {
                ending,
                fuel: running.fuel,
                peak_memory_bytes: 0,
                output: Vec::new(),
                machine: None,
            };
            write_done(outbound, index, running.generation, &finished);
            self.dead.push(Box::new(running.future));
        }
        slot.link.reset();
    }
}

fn write_done(outbound: &mut Vec<u8>, index: usize, generation: u32, finished: &Finished) {
    let slot = u16::try_from(index).expect("there are at most 65,536 slots");
    let done = Done {
        ending: finished.ending,
        fuel: finished.fuel,
        peak_memory_bytes: finished.peak_memory_bytes as u64,
        output: &finished.output,
    };
    codec::encode(outbound, FromWorker::Done as u8, slot, generation, &done);
}
