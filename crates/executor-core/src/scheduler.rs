//! Runs many executions on one thread: each slot is a fiber that yields when its time slice is
//! used up or when it waits for its parent.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use shared::limits::{COMPILE_FUEL, FUEL_PER_US};
use shared::wire::codec;
use shared::wire::frame::{Done, Ending, FromWorker};

use crate::sandbox::{Finished, Images, Job, Link, Machine, Reply, Sandbox, TIME_SLICE_FUEL, Task, execute};
use crate::turns::{Class, Turns};

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
    deadline: Instant,
    generation: u32,
    /// A guest that ends within its first slice needs no look at the clock.
    has_yielded: bool,
    fuel_max: u64,
    /// Whether it is still at loading its bundle, which has fuel of its own.
    is_loading: Rc<Cell<bool>>,
    /// What its slices so far amount to, without those for loading. The exact count is the guest's and is
    /// lost with it when it is dropped where it stands, so this is what it is charged then.
    fuel: u64,
    load_fuel: u64,
}

impl Running {
    /// Counts a turn. One operation may copy megabytes, so time counts beside slices.
    fn used(&mut self, slices: u64, time: Duration, was_loading: bool) {
        let by_time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).saturating_mul(FUEL_PER_US);
        let by_slice = slices * TIME_SLICE_FUEL;
        let (sum, most) = match was_loading || self.is_loading.get() {
            true => (&mut self.load_fuel, COMPILE_FUEL),
            false => (&mut self.fuel, self.fuel_max),
        };
        *sum = sum.saturating_add(by_time.max(by_slice)).min(most);
    }

    /// Loading takes the processor from others no less than running.
    fn class(&self) -> Class {
        Class::of(self.fuel.saturating_add(self.load_fuel))
    }
}

struct Slot {
    link: Arc<Link>,
    waker: Waker,
    running: Option<Running>,
}

/// What a guest did with its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It ended, or waits for its parent.
    Short,
    /// It used its slice up and waits for the next.
    Slice,
    /// It took so long that whoever sent a frame meanwhile has waited long enough.
    Late,
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
    turns: Turns,
    /// When the clock was last read. It is not read before the first turn of a guest: most have but
    /// one, which is shorter than a look at some machines' clocks.
    seen: Instant,
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
            turns: Turns::default(),
            seen: Instant::now(),
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
        let index = job.slot;
        let slot = self.slots.get_mut(usize::from(index)).ok_or(Misuse::NoSuchSlot)?;
        if slot.running.is_some() {
            return Err(Misuse::SlotBusy);
        }
        slot.link.reset();
        slot.link.set_runnable();
        let generation = job.generation;
        let fuel_max = match job.task {
            Task::Run { fuel, .. } => fuel,
            // Nothing but loading.
            Task::Compile => 0,
        };
        let is_loading = Rc::new(Cell::new(false));
        let idle = self.idle.clone();
        let idle_machine = move || idle.borrow_mut().pop();
        let (sandbox, images, link) = (self.sandbox.clone(), self.images.clone(), slot.link.clone());
        let future = execute(sandbox, images, link, idle_machine, is_loading.clone(), job);
        let started = Instant::now();
        self.seen = started;
        slot.running = Some(Running {
            future: Box::pin(future),
            deadline: started + timeout,
            generation,
            has_yielded: false,
            fuel_max,
            is_loading,
            fuel: 0,
            load_fuel: 0,
        });
        self.turns.push(index, Class::of(0));
        Ok(())
    }

    /// Hands over an answer. One for an execution that has ended meanwhile is dropped.
    pub(crate) fn answer(&mut self, slot: u16, generation: u32, reply: Reply) -> Result<(), Misuse> {
        let state = self.slots.get_mut(usize::from(slot)).ok_or(Misuse::NoSuchSlot)?;
        if let Some(running) = state.running.as_ref().filter(|running| running.generation == generation) {
            let is_queued = state.link.is_runnable();
            state.link.answer(reply);
            if !is_queued {
                self.turns.push(slot, running.class());
            }
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
        let state = self.slots.get(usize::from(slot)).ok_or(Misuse::NoSuchSlot)?;
        if state.running.as_ref().is_some_and(|running| running.generation == generation) {
            self.abandon(slot, Ending::Cancelled, outbound);
        }
        Ok(())
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.slots.iter().all(|slot| slot.running.is_none())
    }

    /// How many guests have something to do.
    pub(crate) fn runnable(&self) -> usize {
        self.turns.len()
    }

    /// Whether somebody who has run for long has something to do.
    pub(crate) fn has_long(&self) -> bool {
        self.turns.has_long()
    }

    /// What kind of guest has the next turn; nothing when none has anything to do.
    pub(crate) fn next_class(&self) -> Option<Class> {
        self.turns.next_class()
    }

    /// Gives the guest whose turn it is one time slice; nothing when none has anything to do.
    pub(crate) fn give_turn(&mut self, outbound: &mut Vec<u8>) -> Option<Turn> {
        let index = self.turns.pop()?;
        Some(self.poll(index, outbound))
    }

    fn poll(&mut self, index: u16, outbound: &mut Vec<u8>) -> Turn {
        let slot = &mut self.slots[usize::from(index)];
        let Some(running) = &mut slot.running else {
            return Turn::Short;
        };
        if !slot.link.take_runnable() {
            return Turn::Short;
        }
        if running.has_yielded {
            self.seen = Instant::now();
            if self.seen >= running.deadline {
                self.abandon(index, Ending::Timeout, outbound);
                return Turn::Late;
            }
        }
        let begun = self.seen;
        let was_loading = running.is_loading.get();
        let polled = running.future.as_mut().poll(&mut Context::from_waker(&slot.waker));
        slot.link.drain(outbound);
        match polled {
            Poll::Pending => {
                self.seen = Instant::now();
                let took = self.seen - begun;
                running.has_yielded = true;
                let is_runnable = slot.link.is_runnable();
                running.used(is_runnable.into(), took, was_loading);
                if is_runnable {
                    self.turns.push(index, running.class());
                }
                match is_runnable {
                    _ if took >= LONG_SLICE => Turn::Late,
                    true => Turn::Slice,
                    false => Turn::Short,
                }
            }
            Poll::Ready(finished) => {
                // Who ends in the first slice is not worth a look at the clock; to put a large image back burns more.
                let burnt_little = finished.load_fuel == 0 && finished.fuel < TIME_SLICE_FUEL;
                if running.has_yielded || !burnt_little {
                    self.seen = Instant::now();
                }
                let is_late = self.seen - begun >= LONG_SLICE;
                let generation = running.generation;
                slot.running = None;
                write_done(outbound, index, generation, &finished);
                match finished.machine {
                    Some(machine) if finished.peak_memory_bytes > IDLE_BYTES_MAX => {
                        self.dead.push(Box::new(machine));
                    }
                    machine => self.idle.borrow_mut().extend(machine),
                }
                if is_late { Turn::Late } else { Turn::Short }
            }
        }
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
    fn abandon(&mut self, index: u16, ending: Ending, outbound: &mut Vec<u8>) {
        self.turns.remove(index);
        let slot = &mut self.slots[usize::from(index)];
        slot.link.drain(outbound);
        if let Some(running) = slot.running.take() {
            let finished = Finished {
                ending,
                fuel: running.fuel,
                load_fuel: running.load_fuel,
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

fn write_done(outbound: &mut Vec<u8>, slot: u16, generation: u32, finished: &Finished) {
    let done = Done {
        ending: finished.ending,
        fuel: finished.fuel,
        load_fuel: finished.load_fuel,
        peak_memory_bytes: finished.peak_memory_bytes as u64,
        output: &finished.output,
    };
    codec::encode(outbound, FromWorker::Done as u8, slot, generation, &done);
}

#[cfg(test)]
mod tests {
    use shared::limits::FUEL_MIN;
    use shared::script::{Bundle, BundledModule, ScriptKind};

    use super::*;
    use crate::sandbox::sample;

    /// What ten milliseconds of CPU are charged with.
    const MUCH: u64 = 10_000 * FUEL_PER_US;

    /// A worker that is to run a script, which may import a module `m`.
    fn running(source: &str, module: &str, fuel: u64, timeout: Duration) -> Scheduler {
        let mut bundle = Bundle::single(ScriptKind::Endpoint, "script", source);
        bundle.modules.push(BundledModule { name: "m".to_owned(), source: module.to_owned() });
        let mut scheduler = Scheduler::new(Sandbox::load(1, None, 0).unwrap(), 1 << 20);
        scheduler.add_bundle(1, &sample::load_request(&bundle, 64)).unwrap();
        let (memory_bytes, output_bytes, clock_ms, seed) = (32 << 20, 1 << 20, 0, [7; 16]);
        let task = Task::Run {
            fuel,
            memory_bytes,
            output_bytes,
            clock_ms,
            seed,
            input: sample::encoded(&sample::INPUT),
        };
        scheduler.start(Job { slot: 0, generation: 1, handle: 1, task }, timeout).unwrap();
        scheduler
    }

    /// How its only execution ended, what is charged for it, and what for loading it.
    fn ended(outbound: &[u8]) -> (Ending, u64, u64) {
        let done: Done<'_> = codec::decode_body(&outbound[codec::HEADER_BYTES..]).unwrap();
        (done.ending, done.fuel, done.load_fuel)
    }

    const SLOW: &str = "export const SLOW = { let n = 0; while n < 1000000000 { n += 1; } n };";

    #[test]
    fn attack_62_loading_that_is_cut_off_is_charged_by_time_however_little_fuel_the_script_has() {
        let timeout = Duration::from_millis(50);
        let mut scheduler = running("import \"m\" as m; m::SLOW", SLOW, FUEL_MIN, timeout);
        let (mut outbound, mut has_long) = (Vec::new(), false);
        while !scheduler.is_idle() {
            scheduler.give_turn(&mut outbound);
            has_long |= scheduler.has_long();
        }
        let (ending, fuel, load_fuel) = ended(&outbound);
        assert_eq!((ending, fuel), (Ending::Timeout, 0));
        assert!((MUCH..=COMPILE_FUEL).contains(&load_fuel), "{load_fuel}");
        assert!(has_long, "it had its turns before those who burnt little");
    }

    #[test]
    fn what_is_burnt_after_loading_is_the_scripts_own() {
        let mut scheduler = running("loop { }", "", 100 * MUCH, Duration::from_secs(60));
        let mut outbound = Vec::new();
        while scheduler.slots[0].running.as_ref().unwrap().fuel < MUCH {
            scheduler.give_turn(&mut outbound);
        }
        scheduler.cancel(0, 1, &mut outbound).unwrap();
        let (ending, fuel, _) = ended(&outbound);
        assert_eq!(ending, Ending::Cancelled);
        assert!((MUCH..=100 * MUCH).contains(&fuel), "{fuel}");
    }
}
