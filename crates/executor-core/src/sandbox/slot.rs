//! One execution, from an image to an answer.

use std::cell::RefCell;
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
/// machine, whose memory is then still in the processor's cache.
pub(crate) async fn execute(
    sandbox: Rc<Sandbox>,
    images: Rc<RefCell<Images>>,
    link: Arc<Link>,
    idle_machine: impl FnOnce() -> Option<Machine>,
    job: Job,
) -> Finished {
    let machine = idle_machine();
    let cached = images.borrow_mut().get(job.handle);
    let (loaded, load_fuel) = match cached {
        Some(image) => (Ok((image, machine)), 0),
        None => {
            // Its memory is needed for loading.
            drop(machine);
            load(&sandbox, &images, &link, &job).await
        }
    };
    let finished = match loaded {
        Err(finished) => finished,
        Ok((image, _)) if matches!(job.task, Task::Compile) => {
            Finished { output: image.report.clone(), ..Finished::ended(Ending::Compiled) }
        }
        Ok((image, machine)) => run(&sandbox, &link, machine, &image, job).await,
    };
    Finished { load_fuel, ..finished }
}

/// An image, and the machine that is in its state if it is at hand.
type Loaded = Result<(Arc<Image>, Option<Machine>), Finished>;

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
            Ok((image, Some(machine)))
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

async fn run(
    sandbox: &Sandbox,
    link: &Arc<Link>,
    machine: Option<Machine>,
    image: &Image,
    job: Job,
) -> Finished {
    let Task::Run { fuel, memory_bytes, output_bytes, clock_ms, seed, input } = job.task else {
        return Finished::ended(Ending::Trapped);
    };
    // It was loaded within a limit of its own.
    if image.memory_bytes() > memory_bytes {
        let peak_memory_bytes = image.memory_bytes();
        return Finished { peak_memory_bytes, ..Finished::ended(Ending::MemoryExceeded) };
    }
    let mut machine = match clean_machine(sandbox, link, machine, image, job.slot).await {
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
    state.notices = 0;
    state.calls = 0;
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
    let mut machine = match machine.filter(|machine| image.fits(machine)) {
        Some(machine) => machine,
        None => {
            let mut fresh = Machine::fresh(sandbox, link, slot).await?;
            image.grow(&mut fresh)?;
            fresh
        }
    };
    image.restore(&mut machine)?;
    Ok(machine)
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
