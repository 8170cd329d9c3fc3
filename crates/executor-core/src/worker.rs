//! The whole life of a worker: enter the jail, say hello, work, leave.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;

use shared::wire::codec::{self, FrameError, Header};
use shared::wire::frame::{
    AddBundle, Compile, DropBundle, Execute, FromWorker, HelloParent, HelloWorker, HostReply,
    PROTOCOL_VERSION, ToWorker,
};
use shared::wire::process_limits::data_bytes;
use shared::wire::worker::{Layers, STRICT_ARG, WITHOUT_WALLS_ARG, WorkerExit, ZYGOTE_ARG};

use crate::channel::{Channel, ChannelError};
use crate::jail::{self, Allowed, Jail, JailError, Priority, RULES};
use crate::program;
use crate::sandbox::{GUEST_SHA256, Job, Reply, Sandbox, SandboxError, Task};
use crate::scheduler::{Misuse, Scheduler, Turn};
use crate::zygote::Zygote;

/// Results are sent when this many bytes have gathered, so that the parent works on the first of a
/// batch while the rest still runs.
const FLUSH_BYTES: usize = 2 << 10;
/// Time slices for a guest that has the worker to itself before the next look at the socket. The look
/// costs a system call; a request that arrives meanwhile waits a tenth of a millisecond for it.
const LONE_SLICES: usize = 4;

#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    #[error("usage: only the supervisor starts workers")]
    Usage,
    #[error(transparent)]
    Jail(#[from] JailError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Misuse(#[from] Misuse),
    #[error("the parent speaks protocol {0}, this worker {PROTOCOL_VERSION}")]
    Protocol(u16),
    #[error("frame kind {0} is unknown or out of place")]
    Kind(u8),
}

impl WorkerError {
    const fn exit(&self) -> WorkerExit {
        match self {
            Self::Usage => WorkerExit::Usage,
            Self::Jail(_) => WorkerExit::Jail,
            Self::Sandbox(_) => WorkerExit::Guest,
            Self::Channel(ChannelError::Closed) => WorkerExit::Clean,
            Self::Channel(ChannelError::Socket(_)) => WorkerExit::Socket,
            Self::Channel(ChannelError::TooLong(_) | ChannelError::Frame(_))
            | Self::Frame(_)
            | Self::Misuse(_)
            | Self::Protocol(_)
            | Self::Kind(_) => WorkerExit::Protocol,
        }
    }
}

/// A worker that is ready.
struct Worker {
    channel: Channel,
    scheduler: Scheduler,
    priority: Priority,
}

/// Runs a worker, or what workers are copies of. `args` are those after the one that selects this role: the parent's
/// process id, which of the two it is, and whether there are to be all walls or none.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let exit = match run(args) {
        Ok(()) => WorkerExit::Clean,
        Err(error) => {
            let exit = error.exit();
            if exit != WorkerExit::Clean {
                jail::complain(&error);
            }
            exit
        }
    };
    ExitCode::from(exit as u8)
}

fn run(mut args: impl Iterator<Item = OsString>) -> Result<(), WorkerError> {
    let parent = args.next().and_then(|pid| pid.to_str()?.parse().ok()).ok_or(WorkerError::Usage)?;
    let mut word = args.next();
    let is_zygote = word.as_ref().is_some_and(|word| word == ZYGOTE_ARG);
    if is_zygote {
        word = args.next();
    }
    let wanted = match word {
        None => Layers::USUAL,
        Some(word) if word == STRICT_ARG => Layers::ALL,
        Some(word) if word == WITHOUT_WALLS_ARG => Layers::NONE,
        Some(_) => return Err(WorkerError::Usage),
    };
    serve(if is_zygote { copies(parent, wanted)? } else { prepare(parent, wanted, RULES)? })
}

/// For the escape tests: gets ready like any worker, behind the given layers only, and then runs
/// `act` where executions would run.
#[cfg(feature = "hostile")]
pub fn rehearse(parent: i32, wanted: Layers, act: impl FnOnce() -> u8) -> ExitCode {
    rehearse_with(parent, wanted, RULES, act)
}

/// The same, with a filter that lets fewer calls through.
#[cfg(feature = "hostile")]
pub fn rehearse_with(parent: i32, wanted: Layers, rules: &[Allowed], act: impl FnOnce() -> u8) -> ExitCode {
    act_in(prepare(parent, wanted, rules), act)
}

/// The same in each copy of a zygote, as workers are where isolation is not strict.
#[cfg(feature = "hostile")]
pub fn rehearse_as_copy(parent: i32, wanted: Layers, act: impl FnOnce() -> u8) -> ExitCode {
    act_in(copies(parent, wanted), act)
}

#[cfg(feature = "hostile")]
fn act_in(worker: Result<Worker, WorkerError>, act: impl FnOnce() -> u8) -> ExitCode {
    match worker {
        Ok(mut worker) => match worker.channel.flush() {
            Ok(()) => ExitCode::from(act()),
            Err(_) => ExitCode::from(WorkerExit::Socket as u8),
        },
        Err(error) => {
            let exit = error.exit();
            if exit != WorkerExit::Clean {
                jail::complain(&error);
            }
            ExitCode::from(exit as u8)
        }
    }
}

/// For the escape tests: a worker like any other, whose filter lets fewer calls through.
#[cfg(feature = "hostile")]
pub fn serve_with(parent: i32, rules: &[Allowed]) -> ExitCode {
    let served = prepare(parent, Layers::ALL, rules).and_then(serve);
    let exit = served.map_or_else(|error| error.exit(), |()| WorkerExit::Clean);
    ExitCode::from(exit as u8)
}

/// Enters the jail, loads the guest, locks the jail. The answer to the parent's hello is the first
/// frame to be sent.
fn prepare(parent: i32, wanted: Layers, rules: &[Allowed]) -> Result<Worker, WorkerError> {
    end_by_exit();
    let (jail, socket) = jail::enter(parent, wanted)?;
    let mut channel = Channel::new(socket);
    let (hello, published) = receive_hello(&mut channel)?;
    let sandbox = Sandbox::load(hello.slots, published.as_ref(), hello.code_at)?;
    drop(published);
    lock(jail, channel, sandbox, &hello, rules)
}

/// Loads the guest once, and makes workers as copies of this process for as long as the parent asks for them. Returns in
/// each copy, which hears its parent's hello on a socket of its own.
fn copies(parent: i32, wanted: Layers) -> Result<Worker, WorkerError> {
    end_by_exit();
    let mut zygote = Zygote::enter(parent)?;
    let (hello, published) = receive_hello(&mut zygote.channel)?;
    // Copies have what this process has: huge pages and all.
    program::move_to_huge_pages();
    let sandbox = Sandbox::load(hello.slots, published.as_ref(), hello.code_at)?;
    drop(published);
    let (jail, mut channel) = zygote.copy_for_each(parent, wanted)?;
    let (hello, _) = receive_hello(&mut channel)?;
    lock(jail, channel, sandbox, &hello, RULES)
}

/// Locks the jail around a guest that is loaded.
fn lock(
    jail: Jail,
    mut channel: Channel,
    sandbox: Sandbox,
    hello: &HelloWorker,
    rules: &[Allowed],
) -> Result<Worker, WorkerError> {
    let slots = sandbox.slots;
    let data_bytes = data_bytes(slots, hello.image_cache_bytes);
    let code = sandbox.code.clone();
    let cache_bytes = usize::try_from(hello.image_cache_bytes).unwrap_or(usize::MAX);
    let scheduler = Scheduler::new(sandbox, cache_bytes);
    let priority = Priority::take();
    let layers = jail.lock(data_bytes, code, rules)?;
    let hello = HelloParent { protocol: PROTOCOL_VERSION, slots, guest: GUEST_SHA256, layers };
    codec::encode(&mut channel.outbound, FromWorker::Hello as u8, 0, 0, &hello);
    Ok(Worker { channel, scheduler, priority })
}

/// A fault in this program ends the process with a code of its own, after it has said where. By itself it would
/// abort, which takes calls that the filter forbids, and would look like an attack.
fn end_by_exit() {
    std::panic::set_hook(Box::new(|fault| {
        jail::complain(fault);
        std::process::exit(WorkerExit::Panic as i32)
    }));
}

/// The parent's hello, and the guest's code if it came with it.
fn receive_hello(channel: &mut Channel) -> Result<(HelloWorker, Option<OwnedFd>), WorkerError> {
    let mut code = None;
    loop {
        if let Some((header, body)) = channel.next_frame()? {
            if header.kind != ToWorker::Hello as u8 {
                return Err(WorkerError::Kind(header.kind));
            }
            let hello: HelloWorker = codec::decode_body(body)?;
            if hello.protocol != PROTOCOL_VERSION {
                return Err(WorkerError::Protocol(hello.protocol));
            }
            return Ok((hello, code));
        }
        code = channel.receive_first()?.or(code);
    }
}

/// Takes in frames, gives turns, sends what came of it; sleeps in the socket when there is nothing to
/// do.
fn serve(worker: Worker) -> Result<(), WorkerError> {
    let Worker { mut channel, mut scheduler, mut priority } = worker;
    let mut stopping = false;
    loop {
        channel.flush()?;
        if stopping && scheduler.is_idle() {
            return Ok(());
        }
        // What others wait for is sent. Unless somebody short is left, they may act on it before those who run
        // for long go on.
        if scheduler.next_class().is_some_and(|class| class.is_long()) {
            priority.rest();
        }
        channel.receive(scheduler.runnable() == 0)?;
        let mut outbound = std::mem::take(&mut channel.outbound);
        while let Some((header, body)) = channel.next_frame()? {
            stopping |= handle(&mut scheduler, header, body, &mut outbound)?;
        }
        channel.outbound = outbound;
        bury(&mut scheduler, &mut channel, &mut priority)?;
        give_turns(&mut scheduler, &mut channel, &mut priority)?;
        priority.give_way(scheduler.has_long());
    }
}

/// Gives turns until the socket should be looked at: when somebody has used a slice up, so that whoever
/// comes meanwhile does not wait for a second one. Those who run for long get their turn right after the
/// look, when nothing waits to be sent.
fn give_turns(
    scheduler: &mut Scheduler,
    channel: &mut Channel,
    priority: &mut Priority,
) -> Result<(), ChannelError> {
    let mut slices = if scheduler.runnable() == 1 { LONE_SLICES } else { 1 };
    let mut has_looked = true;
    while let Some(class) = scheduler.next_class() {
        if class.is_long() && !has_looked {
            break;
        }
        let turn = scheduler.give_turn(&mut channel.outbound);
        if channel.outbound.len() >= FLUSH_BYTES {
            channel.flush()?;
        }
        bury(scheduler, channel, priority)?;
        match turn {
            Some(Turn::Slice) => slices -= 1,
            Some(Turn::Short) => has_looked = false,
            Some(Turn::Late) | None => break,
        }
        if slices == 0 {
            break;
        }
    }
    Ok(())
}

/// Tells the parent which guests were ended, and then gives back what they had. That is never put off for others' work:
/// meanwhile nobody in this worker gets on, and the parent waits for nobody longer than its deadline.
fn bury(
    scheduler: &mut Scheduler,
    channel: &mut Channel,
    priority: &mut Priority,
) -> Result<(), ChannelError> {
    if scheduler.has_dead() {
        priority.give_way(false);
        channel.flush()?;
        scheduler.bury();
    }
    Ok(())
}

/// Acts on one frame; true when it was the last one to come.
fn handle(
    scheduler: &mut Scheduler,
    header: Header,
    body: &[u8],
    outbound: &mut Vec<u8>,
) -> Result<bool, WorkerError> {
    let Header { slot, generation, kind, .. } = header;
    match ToWorker::from_number(kind) {
        Some(ToWorker::AddBundle) => {
            let AddBundle { handle, load } = codec::decode_body(body)?;
            scheduler.add_bundle(handle, load)?;
        }
        Some(ToWorker::DropBundle) => {
            let DropBundle { handle } = codec::decode_body(body)?;
            scheduler.drop_bundle(handle)?;
        }
        Some(ToWorker::Execute) => {
            let frame: Execute<'_> = codec::decode_body(body)?;
            let timeout = Duration::from_millis(frame.timeout_ms.into());
            scheduler.start(run_job(slot, generation, &frame), timeout)?;
        }
        Some(ToWorker::Compile) => {
            let Compile { handle, timeout_ms } = codec::decode_body(body)?;
            let job = Job { slot, generation, handle, task: Task::Compile };
            scheduler.start(job, Duration::from_millis(timeout_ms.into()))?;
        }
        Some(ToWorker::HostReply) => {
            let HostReply { status, body } = codec::decode_body(body)?;
            scheduler.answer(slot, generation, Reply { status, body: body.to_vec() })?;
        }
        Some(ToWorker::Cancel) => scheduler.cancel(slot, generation, outbound)?,
        Some(ToWorker::Stop) => return Ok(true),
        Some(ToWorker::Hello) | None => return Err(WorkerError::Kind(kind)),
    }
    Ok(false)
}

fn run_job(slot: u16, generation: u32, frame: &Execute<'_>) -> Job {
    let task = Task::Run {
        fuel: frame.fuel,
        memory_bytes: frame.memory_bytes as usize,
        output_bytes: frame.output_bytes as usize,
        clock_ms: frame.clock_ms,
        seed: frame.seed,
        input: frame.input.to_vec(),
    };
    Job { slot, generation, handle: frame.handle, task }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_worker_that_gives_way_does_not_while_it_gives_back_memory() {
        let (_parent, socket) = UnixStream::pair().unwrap();
        let mut channel = Channel::new(socket.into());
        let mut scheduler = Scheduler::new(Sandbox::load(1, None, 0).unwrap(), 1 << 20);
        let mut priority = Priority::take();
        priority.give_way(true);
        bury(&mut scheduler, &mut channel, &mut priority).unwrap();
        assert!(priority.gives_way(), "there was nothing to give back");
        scheduler.add_bundle(1, &[]).unwrap();
        let job = Job { slot: 0, generation: 1, handle: 1, task: Task::Compile };
        scheduler.start(job, Duration::from_secs(60)).unwrap();
        scheduler.cancel(0, 1, &mut channel.outbound).unwrap();
        bury(&mut scheduler, &mut channel, &mut priority).unwrap();
        assert!(!priority.gives_way() && !scheduler.has_dead());
    }
}
