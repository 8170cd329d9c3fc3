//! One execution, from an image to an answer.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use shared::guest_abi::LoadReply;
use shared::limits::{COMPILE_FUEL, COMPILE_MEMORY_MB};
use shared::wire::codec;
use shared::wire::frame::Ending;
use wasmtime::{Error, Trap};

use super::engine::Sandbox;
use super::image::{INPUT_BYTES, Image, Images};
use super::limiter::MemoryExceeded;
use super::link::Link;
use super::machine::{BadAnswer, Machine};
use super::random::SeededRandom;

/// What a slot is to do.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) slot: u16,
    pub(crate) generation: u32,
    pub(crate) handle: u32,
    pub(crate) task: Task,
}

#[derive(Debug)]
pub(crate) enum Task {
    /// Only find out whether the bundle compiles.
    Compile,
    Run {
        fuel: u64,
        memory_bytes: usize,
        output_bytes: usize,
        clock_ms: i64,
        seed: [u8; 16],
        input: Vec<u8>,
    },
}

/// What came of a job.
pub(crate) struct Finished {
    pub(crate) ending: Ending,
    pub(crate) fuel: u64,
    /// What loading the bundle burnt, if that was necessary.
    pub(crate) load_fuel: u64,
    pub(crate) peak_memory_bytes: usize,
    pub(crate) output: Vec<u8>,
    /// The machine, if it may be used again.
    pub(crate) machine: Option<Machine>,
}

impl Finished {
    fn ended(ending: Ending) -> Self {
        Self { ending, fuel: 0, load_fuel: 0, peak_memory_bytes: 0, output: Vec::new(), machine: None }
    }
}

/// Runs a job to its end. `idle_machine` gives what an earlier execution left, if there is one; it is
/// asked when the job begins to run, so that short executions that follow each other use the same
/// machine, whose memory is then still in the processor's cache, and not for a job that needs none: what
/// it gives is then gone. `is_loading` says, between its turns, whether it is the bundle's loading that burns.
pub(crate) async fn execute(
    sandbox: Rc<Sandbox>,
    images: Rc<RefCell<Images>>,
    link: Arc<Link>,
    idle_machine: impl FnOnce() -> Option<Machine>,
    is_loading: Rc<Cell<bool>>,
    job: Job,
) -> Finished {
    let cached = images.borrow_mut().get(job.handle);
    if let Some(image) = cached {
        return run(&sandbox, &link, idle_machine, &image, job).await;
    }
    // Its memory is needed for loading.
    drop(idle_machine());
    is_loading.set(true);
    let (loaded, load_fuel) = load(&sandbox, &images, &link, &job).await;
    is_loading.set(false);
    let finished = match loaded {
        Err(finished) => finished,
        Ok((image, machine)) => run(&sandbox, &link, || Some(machine), &image, job).await,
    };
    Finished { load_fuel, ..finished }
}

/// An image, and the machine that is in its state.
type Loaded = Result<(Arc<Image>, Machine), Finished>;

/// Loads a bundle into a fresh machine and keeps its image. The fuel for it is told apart from the
/// script's: whether an image is at hand must not change what an execution is said to have burnt.
async fn load(sandbox: &Sandbox, images: &RefCell<Images>, link: &Arc<Link>, job: &Job) -> (Loaded, u64) {
    let Some(request) = images.borrow().load_request(job.handle) else {
        return (Err(Finished::ended(Ending::Trapped)), 0);
    };
    let mut machine = match Machine::fresh(sandbox, link, job.slot).await {
        Ok(machine) => machine,
        Err(error) => return (Err(Finished::ended(classify(&error))), 0),
    };
    let base = images.borrow_mut().base(&machine);
    let reply = compile(&mut machine, &request).await;
    let fuel = COMPILE_FUEL.saturating_sub(machine.fuel_left());
    let loaded = match reply {
        Ok((reply, Some(input))) => {
            let image = Arc::new(Image::capture(&mut machine, &base, input, reply));
            images.borrow_mut().keep(job.handle, &image);
            Ok((image, machine))
        }
        Ok((reply, None)) => Err(Finished { output: reply, ..Finished::ended(Ending::Rejected) }),
        Err(error) => Err(Finished::ended(classify(&error))),
    };
    (loaded, fuel)
}

/// Has a fresh guest compile a bundle. Answers its report and, when the bundle compiles, where inputs go.
async fn compile(machine: &mut Machine, request: &[u8]) -> Result<(Vec<u8>, Option<u32>), Error> {
    machine.store.data_mut().limiter.memory_bytes = (COMPILE_MEMORY_MB as usize) << 20;
    machine.set_fuel(COMPILE_FUEL)?;
    let reply = machine.load(request).await?;
    let is_loaded = match codec::decode_body(&reply)? {
        LoadReply::Loaded { .. } => true,
        LoadReply::Rejected { .. } => false,
    };
    let input = if is_loaded { Some(machine.alloc(INPUT_BYTES).await?) } else { None };
    Ok((reply, input))
}

/// What is to be done with an image. `idle_machine` is asked only when it is known that the script runs.
async fn run(
    sandbox: &Sandbox,
    link: &Arc<Link>,
    idle_machine: impl FnOnce() -> Option<Machine>,
    image: &Image,
    job: Job,
) -> Finished {
    let Task::Run { fuel, memory_bytes, output_bytes, clock_ms, seed, input } = job.task else {
        return Finished { output: image.report.clone(), ..Finished::ended(Ending::Compiled) };
    };
    // It was loaded within a limit of its own.
    if image.memory_bytes() > memory_bytes {
        let peak_memory_bytes = image.memory_bytes();
        return Finished { peak_memory_bytes, ..Finished::ended(Ending::MemoryExceeded) };
    }
    // Putting it back takes longer than what such a script is charged.
    if image.fuel() >= fuel {
        let peak_memory_bytes = image.memory_bytes();
        return Finished { fuel, peak_memory_bytes, ..Finished::ended(Ending::FuelExhausted) };
    }
    let mut machine = match clean_machine(sandbox, link, idle_machine(), image, job.slot).await {
        Ok(machine) => machine,
        Err(error) => return Finished::ended(classify(&error)),
    };
    let state = machine.store.data_mut();
    state.link = link.clone();
    state.slot = job.slot;
    state.limiter.memory_bytes = memory_bytes;
    state.clock_ms = clock_ms;
    state.random = SeededRandom::new(seed);
    state.reply = None;
    state.generation = job.generation;

    let result = call(&mut machine, image, fuel, &input).await;
    let used = fuel - machine.fuel_left().min(fuel);
    let peak_memory_bytes = machine.memory_bytes();
    let answer = match result {
        Ok(packed) => machine.answer(packed, output_bytes).map_err(|bad| match bad {
            BadAnswer::TooLarge => Ending::OutputTooLarge,
            BadAnswer::OutOfBounds => Ending::Trapped,
        }),
        Err(error) => Err(classify(&error)),
    };
    match answer {
        Ok(output) => Finished {
            ending: Ending::Answered,
            fuel: used,
            load_fuel: 0,
            peak_memory_bytes,
            output,
            machine: Some(machine),
        },
        Err(ending) => Finished { fuel: used, peak_memory_bytes, ..Finished::ended(ending) },
    }
}

/// A machine in exactly the image's state.
pub(super) async fn clean_machine(
    sandbox: &Sandbox,
    link: &Arc<Link>,
    machine: Option<Machine>,
    image: &Image,
    slot: u16,
) -> Result<Machine, Error> {
    if let Some(mut machine) = machine.filter(|machine| image.fits(machine)) {
        image.restore(&mut machine)?;
        return Ok(machine);
    }
    let mut fresh = Machine::fresh(sandbox, link, slot).await?;
    image.install(&mut fresh)?;
    Ok(fresh)
}

async fn call(machine: &mut Machine, image: &Image, fuel: u64, input: &[u8]) -> Result<u64, Error> {
    machine.set_fuel(fuel.saturating_sub(image.fuel()))?;
    let ptr = if input.len() <= INPUT_BYTES { image.input } else { machine.alloc(input.len()).await? };
    machine.write(ptr, input)?;
    machine.run(ptr, input.len()).await
}

fn classify(error: &Error) -> Ending {
    if error.is::<MemoryExceeded>() {
        return Ending::MemoryExceeded;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Ending::FuelExhausted,
        // The shadow stack stands first in memory, so its overflow is an access below address 0.
        Some(Trap::StackOverflow | Trap::MemoryOutOfBounds) => Ending::StackOverflow,
        _ => {
            // Nothing a script does should lead here; whoever runs the server wants to know.
            crate::jail::complain(&format_args!("the guest ended unexpectedly: {error:#}"));
            Ending::Trapped
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use shared::script::{Bundle, ScriptKind};

    use super::super::sample;
    use super::*;

    /// A worker with one bundle, whose image is so large that putting it back is paid for.
    struct Worker {
        sandbox: Rc<Sandbox>,
        images: Rc<RefCell<Images>>,
    }

    impl Worker {
        fn new() -> Self {
            let source = format!("if ctx.version == 0 {{ {} }} 1", "let a = 1; ".repeat(20_000));
            let bundle = Bundle::single(ScriptKind::Endpoint, "script", &source);
            let mut images = Images::new(64 << 20);
            assert!(images.add(1, &sample::load_request(&bundle, 64)));
            let sandbox = Rc::new(Sandbox::load(1, None, 0).unwrap());
            Self { sandbox, images: Rc::new(RefCell::new(images)) }
        }

        /// What came of a task, and whether it took the machine that was left by another.
        fn execute(&self, task: Task) -> (Ending, bool) {
            let is_taken = Cell::new(false);
            let idle_machine = || {
                is_taken.set(true);
                None
            };
            let job = Job { slot: 0, generation: 1, handle: 1, task };
            let (sandbox, images) = (self.sandbox.clone(), self.images.clone());
            let mut future = pin!(execute(sandbox, images, Arc::default(), idle_machine, Rc::default(), job));
            loop {
                if let Poll::Ready(finished) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    return (finished.ending, is_taken.get());
                }
            }
        }
    }

    /// Without an input, as it is not to come to an answer.
    fn task(fuel: u64, memory_bytes: usize) -> Task {
        Task::Run { fuel, memory_bytes, output_bytes: 0, clock_ms: 0, seed: [7; 16], input: Vec::new() }
    }

    #[test]
    fn attack_62_whoever_does_not_run_leaves_the_workers_machine_alone() {
        let worker = Worker::new();
        assert_eq!(worker.execute(Task::Compile), (Ending::Compiled, true));
        let price = worker.images.borrow_mut().get(1).unwrap().fuel();
        assert!(price > 0, "its code is too small to be paid for");
        assert_eq!(worker.execute(task(price, 64 << 20)), (Ending::FuelExhausted, false));
        assert_eq!(worker.execute(task(u64::MAX, 0)), (Ending::MemoryExceeded, false));
        assert_eq!(worker.execute(Task::Compile), (Ending::Compiled, false));
        // Whoever can pay runs, if not for long.
        let (_, is_taken) = worker.execute(task(price + 1, 64 << 20));
        assert!(is_taken);
    }
}
