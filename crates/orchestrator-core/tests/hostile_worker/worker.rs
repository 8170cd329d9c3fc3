//! The worker's part. How it behaves is the body of the request it is to run.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::os::fd::{AsFd, IntoRawFd};
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use shared::guest_abi::{GuestInput, GuestOutput};
use shared::host_call::{CallFailure, HostOp, LogLevel, LogLine};
use shared::limits::HOST_CALL_BYTES_MAX;
use shared::wire::codec::{self, HEADER_BYTES, Header};
use shared::wire::frame::{
    Done, Ending, Execute, FromWorker, HelloParent, HelloWorker, HostCall, HostReply, PROTOCOL_VERSION,
    ToWorker,
};
use shared::wire::worker::{Layers, WITHOUT_WALLS_ARG};

const SLOTS: u16 = 4;
/// More than an app can owe, and less than an execution may burn.
const COSTLY_FUEL: u64 = 1_000_000_000;

/// Lies at the introduction. Which one is to be told, a worker is told as the bytes of its image cache, for which this
/// one has no use: one of these, or the place of a false claim.
pub(crate) const ONE_DESCRIPTOR_MORE: u64 = 100;
pub(crate) const ONE_THREAD_MORE: u64 = 101;

/// Walls that this worker never has, and how the evidence against it begins.
pub(crate) const FALSE_CLAIMS: &[(Layers, &str)] = &[
    (Layers::PROCESS_NAMESPACE, "NSpid is "),
    (Layers::OWN_USER, "Uid is "),
    (Layers::MOUNT_NAMESPACE, "it shares mnt:["),
    (Layers::NETWORK_NAMESPACE, "it shares net:["),
    (Layers::IPC_NAMESPACE, "it shares ipc:["),
    (Layers::UTS_NAMESPACE, "it shares uts:["),
    (Layers::CGROUP_NAMESPACE, "it shares cgroup:["),
    (Layers::EMPTY_ROOT, "its mounts are "),
    (Layers::USER_NAMESPACE, "it maps "),
];

pub(crate) fn play() -> ! {
    println!("{}", std::process::id());
    close_inherited();
    filter_system_calls();
    let mut socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let mut behaviour = String::new();
    while let Some((header, body)) = receive(&mut socket) {
        let mut frames = Vec::new();
        match ToWorker::from_number(header.kind) {
            Some(ToWorker::Hello) => {
                let told: HelloWorker = codec::decode_body(&body).unwrap();
                let hello = HelloParent {
                    protocol: PROTOCOL_VERSION,
                    slots: SLOTS,
                    guest: [0; 32],
                    layers: claims() | lie(told.image_cache_bytes),
                };
                codec::encode(&mut frames, FromWorker::Hello as u8, 0, 0, &hello);
            }
            Some(ToWorker::Execute) => {
                let execute: Execute<'_> = codec::decode_body(&body).unwrap();
                let input: GuestInput<'_> = codec::decode_body(execute.input).unwrap();
                behaviour = String::from_utf8(input.http.unwrap().body.to_vec()).unwrap();
                frames = misbehave(&behaviour, &header);
            }
            // All source is hostile here.
            Some(ToWorker::Compile) => die_of(Signal::SIGABRT),
            Some(ToWorker::HostReply) => {
                let reply: HostReply<'_> = codec::decode_body(&body).unwrap();
                frames = go_on(&behaviour, &header, &reply);
            }
            Some(ToWorker::Cancel) if behaviour == "call-for-ever" => {
                frames = done(header.slot, header.generation, Ending::Cancelled, &[]);
            }
            Some(ToWorker::Stop) if behaviour == "pid-and-stay" => {}
            Some(ToWorker::Stop) => break,
            _ => {}
        }
        // In one case nothing runs any more when it goes.
        if socket.write_all(&frames).is_err() || behaviour == "answer-and-exit" {
            break;
        }
        if behaviour == "answer-and-spin" {
            loop {
                std::hint::spin_loop();
            }
        }
    }
    std::process::exit(0)
}

/// The filter, which it has. One that need not have any walls claims limits too, and has none.
fn claims() -> Layers {
    let is_liar = std::env::args().any(|arg| arg == WITHOUT_WALLS_ARG);
    Layers::SYSTEM_CALL_FILTER | if is_liar { Layers::LIMITS } else { Layers::NONE }
}

/// Does what the lie hides; gives what it claims.
fn lie(which: u64) -> Layers {
    match which {
        ONE_DESCRIPTOR_MORE => {
            let _ = std::fs::File::open("/dev/null").unwrap().into_raw_fd();
        }
        // It ends with this process.
        ONE_THREAD_MORE => drop(std::thread::spawn(|| {
            loop {
                std::thread::park()
            }
        })),
        _ => {}
    }
    let claim = usize::try_from(which).ok().and_then(|number| FALSE_CLAIMS.get(number));
    claim.map_or(Layers::NONE, |(claimed, _)| *claimed)
}

/// The pool employs no worker that holds more than the usual four descriptors, and who runs the
/// tests may have left some open.
fn close_inherited() {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let open: Vec<i32> = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // One of them was the directory's and is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

/// The pool employs no worker without a filter. This one allows everything that is used, and kills for one call that
/// is not.
fn filter_system_calls() {
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let deadly = BTreeMap::from([(nix::libc::SYS_getppid, Vec::new())]);
    let filter = SeccompFilter::new(deadly, SeccompAction::Allow, SeccompAction::KillProcess, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

fn receive(socket: &mut UnixStream) -> Option<(Header, Vec<u8>)> {
    let mut header = [0; HEADER_BYTES];
    socket.read_exact(&mut header).ok()?;
    let header = Header::decode(header).unwrap();
    let mut body = vec![0; header.body_bytes as usize];
    socket.read_exact(&mut body).ok()?;
    Some((header, body))
}

/// As if by its own doing.
fn die_of(signal: Signal) -> ! {
    nix::sys::signal::raise(signal).unwrap();
    unreachable!("the signal ends this process")
}

fn make_forbidden_call() -> ! {
    let parent = std::os::unix::process::parent_id();
    unreachable!("the filter ends this process, and did not keep it from asking for process {parent}")
}

fn result(slot: u16, generation: u32, body_bytes: usize) -> Vec<u8> {
    answer(slot, generation, &vec![b'x'; body_bytes])
}

fn answer(slot: u16, generation: u32, body: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    codec::encode_body(&mut output, &GuestOutput::Response { status: 200, headers: &[], body });
    done(slot, generation, Ending::Answered, &output)
}

/// An honest answer of an execution that has burnt much.
fn costly(slot: u16, generation: u32) -> Vec<u8> {
    let mut output = Vec::new();
    codec::encode_body(&mut output, &GuestOutput::Response { status: 200, headers: &[], body: b"x" });
    done_for(COSTLY_FUEL, slot, generation, Ending::Answered, &output)
}

fn done(slot: u16, generation: u32, ending: Ending, output: &[u8]) -> Vec<u8> {
    done_for(1, slot, generation, ending, output)
}

fn done_for(fuel: u64, slot: u16, generation: u32, ending: Ending, output: &[u8]) -> Vec<u8> {
    let done = Done { ending, fuel, load_fuel: 0, peak_memory_bytes: 1, output };
    let mut frame = Vec::new();
    codec::encode(&mut frame, FromWorker::Done as u8, slot, generation, &done);
    frame
}

fn notice(header: &Header, op: u16, args: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let call = HostCall { op, args };
    codec::encode(&mut frame, FromWorker::Notice as u8, header.slot, header.generation, &call);
    frame
}

const KV_GET: u16 = HostOp::KvGet as u16;

fn call(slot: u16, generation: u32, op: u16, args: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    codec::encode(&mut frame, FromWorker::HostCall as u8, slot, generation, &HostCall { op, args });
    frame
}

/// What to do with the answer to a call.
fn go_on(behaviour: &str, header: &Header, reply: &HostReply<'_>) -> Vec<u8> {
    let Header { slot, generation, .. } = *header;
    match (behaviour, reply.status) {
        ("call", 0) => {
            assert_eq!(reply.body, b"x");
            result(slot, generation, 10)
        }
        ("call-over-budget", 0) | ("call-flood", _) => call(slot, generation, KV_GET, b"x"),
        ("call-over-budget", _) => {
            let failure: CallFailure<'_> = codec::decode_body(reply.body).unwrap();
            assert_eq!(failure.code, "budget_exhausted");
            result(slot, generation, 10)
        }
        (other, _) if other.starts_with("mutated") => result(slot, generation, 10),
        other => panic!("no answer was to come: {other:?}"),
    }
}

/// What to send instead of an honest result.
fn misbehave(behaviour: &str, header: &Header) -> Vec<u8> {
    let Header { slot, generation, .. } = *header;
    let mut honest = result(slot, generation, 10);
    match behaviour {
        "honest" | "answer-and-exit" | "answer-and-spin" => honest,
        "unknown-slot" => result(999, generation, 10),
        "idle-slot" => result((slot + 1) % SLOTS, generation, 10),
        "old-generation" => result(slot, generation.wrapping_sub(1), 10),
        "new-generation" => result(slot, generation + 1, 10),
        "huge-length" => {
            honest[..4].fill(0xff);
            honest
        }
        "long-body" => result(slot, generation, 10 << 20),
        "empty-body" => {
            honest[..4].fill(0);
            honest.truncate(HEADER_BYTES);
            honest
        }
        "unknown-kind" => {
            honest[4] = 99;
            honest
        }
        "second-hello" => {
            honest[4] = FromWorker::Hello as u8;
            honest
        }
        "reserved-byte" => {
            honest[5] = 1;
            honest
        }
        "trailing-bytes" => {
            honest[0] += 1;
            honest.push(0);
            honest
        }
        "rubbish" => {
            honest[HEADER_BYTES..].fill(0xff);
            honest
        }
        "costly" => costly(slot, generation),
        "claims-an-app" => answer(slot, generation, br#"{"app_id":"another","principal":"owner"}"#),
        "nested-bomb" => nested_bomb(header, &honest),
        "shouts" => shout(honest),
        // Reads no more, and does not end either.
        "deaf" => loop {
            std::thread::park();
        },
        "unknown-call" => notice(header, 0x9999, b""),
        "broken-line" => notice(header, 0x8001, &[0, 4, 0xff, 0xff, 0xff, 0xff, 0]),
        // A line is level, message and data.
        "flood" => notice(header, 0x8001, &[1, 1, b'x', 0]).repeat(200_000),
        "compiled" => done(slot, generation, Ending::Compiled, &[]),
        other if other.starts_with("mutated") => mutated(header, &honest, other),
        other if other.starts_with("call") => misbehave_in_calls(other, header, honest),
        // Who ran it, for those who want to know who shares a worker with whom.
        "pid" | "pid-and-stay" => answer(slot, generation, std::process::id().to_string().as_bytes()),
        "crash" => die_of(Signal::SIGABRT),
        "forbidden-call" => make_forbidden_call(),
        "two-results" => honest.repeat(2),
        "half-frame" => {
            honest.truncate(HEADER_BYTES + 3);
            honest
        }
        "silence" => Vec::new(),
        "exit" => std::process::exit(0),
        other => panic!("no such behaviour: {other}"),
    }
}

/// A log line, and a call or a result, of which some bytes are changed, left out or sent twice. Which is in the name.
fn mutated(header: &Header, honest: &[u8], behaviour: &str) -> Vec<u8> {
    let mut drawn = 0_usize;
    let mut draw = |below: usize| {
        drawn += 1;
        let mut hasher = DefaultHasher::new();
        (behaviour, drawn).hash(&mut hasher);
        usize::try_from(hasher.finish() % below as u64).unwrap()
    };
    let line = notice(header, HostOp::Log as u16, &[1, 1, b'x', 0]);
    let call = call(header.slot, header.generation, KV_GET, b"x");
    let end = if draw(2) == 0 { honest } else { call.as_slice() };
    let mut frames = [line.as_slice(), end].concat();
    for _ in 0..=draw(4) {
        let at = draw(frames.len());
        let until = (at + 1 + draw(12)).min(frames.len());
        match draw(4) {
            0 => frames[at] ^= 1 << draw(8),
            1 => frames[at] = u8::try_from(draw(256)).unwrap(),
            2 if frames.len() > until - at => drop(frames.drain(at..until)),
            _ => {
                let again = frames[at..until].to_vec();
                frames.splice(at..at, again);
            }
        }
    }
    frames
}

/// A log line whose data is nested deeper than anybody reads, before the result.
fn nested_bomb(header: &Header, honest: &[u8]) -> Vec<u8> {
    let data = "[".repeat(100_000);
    let mut line = Vec::new();
    codec::encode_body(&mut line, &LogLine { level: LogLevel::Info, message: "m", data: &data });
    [notice(header, 0x8001, &line).as_slice(), honest].concat()
}

/// Shouts until nobody listens any more, and only then answers.
fn shout(honest: Vec<u8>) -> Vec<u8> {
    let words = b"\x1b[2J\x1b]0;owned\x07\r\nerror: all is well\n".repeat(100);
    let is_silenced = (0..2_000).any(|_| std::io::stderr().write_all(&words).is_err());
    if is_silenced { honest } else { Vec::new() }
}

/// What to send instead of an honest result, about calls of the host.
fn misbehave_in_calls(behaviour: &str, header: &Header, mut honest: Vec<u8>) -> Vec<u8> {
    let Header { slot, generation, .. } = *header;
    match behaviour {
        "call" | "call-over-budget" | "call-flood" => call(slot, generation, KV_GET, b"x"),
        "call-for-ever" => call(slot, generation, KV_GET, b""),
        "call-forged" => call(slot, generation, KV_GET, b"forged"),
        "call-unknown" => call(slot, generation, 0x7777, b"x"),
        "call-one-way" => call(slot, generation, 0x8001, &[1, 1, b'x', 0]),
        "call-idle-slot" => call((slot + 1) % SLOTS, generation, KV_GET, b"x"),
        "call-old-generation" => {
            [result(slot, generation, 10), call(slot, generation, KV_GET, b"x")].concat()
        }
        "call-twice" => call(slot, generation, KV_GET, b"").repeat(2),
        "call-too-long" => call(slot, generation, KV_GET, &vec![b'x'; HOST_CALL_BYTES_MAX + 100]),
        "call-and-result" => [call(slot, generation, KV_GET, b""), honest].concat(),
        // Of the first execution that a worker got.
        "call-beside-rubbish" => {
            honest[HEADER_BYTES..].fill(0xff);
            [honest, call(0, 1, KV_GET, b"x")].concat()
        }
        other => panic!("nobody behaves like {other}"),
    }
}
