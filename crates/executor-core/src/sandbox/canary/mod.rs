//! The isolation canary (T-ISO-01): an execution leaves a secret in every kind of memory a script
//! can reach, and the next one in its slot, of another script, must start without a byte of it.
//!
//! The scan is over the whole linear memory, right before the next script's first instruction. It
//! must also be, byte by byte, what a guest has that no other script ever ran in.

mod large;

use std::cell::RefCell;
use std::io::BufRead;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use shared::guest_abi::{GuestHttp, GuestInput, InvocationType};
use shared::script::{Bundle, ScriptKind};
use shared::wire::frame::Ending;

use super::engine::Sandbox;
use super::image::Images;
use super::link::Link;
use super::machine::Machine;
use super::random::SeededRandom;
use super::sample;
use super::slot::{Finished, Job, Task, clean_machine, execute};

/// Rounds over all endings; each is a pair of executions for each of them.
const ROUNDS: usize = 250;
const SLOTS: u16 = 3;
const MEMORY_BYTES: usize = 6 << 20;
/// Far more than filling takes.
const FUEL: u64 = 10_000_000_000;
/// A byte that interpreter and scripts hardly use: the scan looks for it first.
const MARK: u8 = 0x7f;
const PATTERN_BYTES: usize = 32;

/// Holds `n` long strings, and blobs and small strings beside them, all made of the pattern.
const FILL: &str = r#"
    let p = ctx.request.body_raw;
    let keep = [];
    let small = [];
    let map = #{};
    fn fill(p, n) {
        let s = p;
        while s.len() < 8192 { s += s; }
        let kept = [s];
        for i in 0..n { kept.push(s + i); kept.push((s + "b").to_blob()); }
        kept
    }
    for i in 0..50 { small.push(p + i); map[p + i] = p; }
"#;

/// How an execution with a secret comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Within the memory the image has.
    ReturnsSmall,
    /// After it grew its memory.
    ReturnsLarge,
    OutOfMemory,
    StackOverflow,
    OutOfFuel,
    /// The scheduler drops it where it stands.
    Timeout,
}

impl Way {
    const ALL: [Self; 6] = [
        Self::ReturnsSmall,
        Self::ReturnsLarge,
        Self::OutOfMemory,
        Self::StackOverflow,
        Self::OutOfFuel,
        Self::Timeout,
    ];

    fn source(self) -> String {
        let rest = match self {
            Self::ReturnsSmall => "small.len()",
            Self::ReturnsLarge => "keep = fill(p, 100); p + keep.len()",
            Self::OutOfMemory => "let n = 0; loop { keep.push(fill(p, 20)); }",
            Self::StackOverflow => "fn down(s) { down(s + \"x\") + 1 } keep = fill(p, 20); down(p)",
            Self::OutOfFuel | Self::Timeout => "keep = fill(p, 100); log::info(\"full\"); loop { }",
        };
        format!("{FILL}{rest}")
    }

    fn ending(self) -> Option<Ending> {
        match self {
            Self::ReturnsSmall | Self::ReturnsLarge => Some(Ending::Answered),
            Self::OutOfMemory => Some(Ending::MemoryExceeded),
            Self::StackOverflow => Some(Ending::StackOverflow),
            Self::OutOfFuel => Some(Ending::FuelExhausted),
            Self::Timeout => None,
        }
    }

    fn handle(self) -> u32 {
        self as u32
    }
}

/// The handle of the other tenant's script.
const OTHER: u32 = 100;

struct Worker {
    sandbox: Rc<Sandbox>,
    images: Rc<RefCell<Images>>,
    links: Vec<Arc<Link>>,
    /// What each slot's last execution left for the next.
    machines: Vec<Option<Machine>>,
}

impl Worker {
    fn new() -> Self {
        Self::with(Sandbox::load(SLOTS, None, 0).unwrap())
    }

    fn with(sandbox: Sandbox) -> Self {
        let sandbox = Rc::new(sandbox);
        let mut images = Images::new(64 << 20);
        for way in Way::ALL {
            assert!(images.add(way.handle(), &load_request(&way.source())));
        }
        assert!(images.add(OTHER, &load_request("\"other\"")));
        let links = (0..sandbox.slots).map(|_| Arc::default()).collect();
        let machines = (0..sandbox.slots).map(|_| None).collect();
        Self { sandbox, images: Rc::new(RefCell::new(images)), links, machines }
    }

    /// Runs a script in a slot to its end; one that is to time out is dropped once it says that
    /// it is full. Answers how it ended.
    fn run(&mut self, slot: u16, handle: u32, secret: &str, drop_when_full: bool) -> Option<Ending> {
        let link = self.links[usize::from(slot)].clone();
        let machine = self.machines[usize::from(slot)].take();
        let fuel = if handle == Way::OutOfFuel.handle() { 200_000_000 } else { FUEL };
        let input = input(secret);
        let task = Task::Run {
            fuel,
            memory_bytes: MEMORY_BYTES,
            output_bytes: 1 << 20,
            clock_ms: 0,
            seed: [7; 16],
            input,
        };
        let job = Job { slot, generation: 1, handle, task };
        let (sandbox, images) = (self.sandbox.clone(), self.images.clone());
        let mut future = pin!(execute(sandbox, images, link.clone(), move || machine, Rc::default(), job));
        let mut said = Vec::new();
        loop {
            if let Poll::Ready(Finished { ending, machine, .. }) =
                future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            {
                self.machines[usize::from(slot)] = machine;
                return Some(ending);
            }
            link.drain(&mut said);
            if drop_when_full && !said.is_empty() {
                return None;
            }
        }
    }

    /// Runs a script to its end within these limits, in a fresh machine.
    fn finish(&self, handle: u32, fuel: u64, memory_bytes: usize) -> Finished {
        let (output_bytes, clock_ms, seed, input) = (1 << 20, 0, [7; 16], input(""));
        let task = Task::Run { fuel, memory_bytes, output_bytes, clock_ms, seed, input };
        let job = Job { slot: 0, generation: 1, handle, task };
        let (sandbox, images, link) = (self.sandbox.clone(), self.images.clone(), self.links[0].clone());
        at_once(execute(sandbox, images, link, || None, Rc::default(), job))
    }

    /// Makes a machine ready for the other tenant's script, as an execution does.
    fn ready(&self, slot: u16, left: Option<Machine>) -> Machine {
        self.ready_for(OTHER, slot, left)
    }

    fn ready_for(&self, handle: u32, slot: u16, left: Option<Machine>) -> Machine {
        let link = self.links[usize::from(slot)].clone();
        let image = self.images.borrow_mut().get(handle).unwrap();
        at_once(clean_machine(&self.sandbox, &link, left, &image, slot)).unwrap()
    }

    /// The memory of a guest in which only the other tenant's script is.
    fn untouched(&self) -> Vec<u8> {
        let machine = self.ready(0, None);
        machine.memory.data(&machine.store).to_vec()
    }

    /// Makes the slot ready for the other tenant's script, and looks for what the last one left.
    fn hits_in_next(&mut self, slot: u16, secret: &str, untouched: &[u8]) -> usize {
        let left = self.machines[usize::from(slot)].take();
        let machine = self.ready(slot, left);
        let memory = machine.memory.data(&machine.store);
        let hits = hits(memory, secret);
        assert!(memory == untouched, "the memory is not what the image says");
        self.machines[usize::from(slot)] = Some(machine);
        hits
    }
}

/// Completes a future that waits for nothing.
fn at_once<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
}

/// How often the first half or the second half of the secret is in memory. Half of it would be a
/// leak too.
fn hits(mut memory: &[u8], secret: &str) -> usize {
    let (first, second) = secret.as_bytes().split_at(PATTERN_BYTES / 2);
    let mut hits = 0;
    let mut skipped = 0;
    // Searching for one byte is fast in unoptimised builds too; comparing every offset is not.
    while let Ok(count @ 1..) = memory.skip_until(MARK) {
        skipped += count;
        let (first, second) = (&first[1..], &second[1..]);
        hits += usize::from(memory.starts_with(first) || memory.starts_with(second));
    }
    assert!(skipped > 500_000, "only {skipped} bytes were scanned");
    hits
}

/// Text, so that strings can hold it; each half begins with the mark.
fn secret(seed: usize) -> String {
    let mut bytes = [0; PATTERN_BYTES];
    let mut seed_bytes = [0x5e; 16];
    seed_bytes[..8].copy_from_slice(&seed.to_le_bytes());
    SeededRandom::new(seed_bytes).fill(&mut bytes);
    for byte in &mut bytes {
        *byte = b'!' + *byte % 90;
    }
    bytes[0] = MARK;
    bytes[PATTERN_BYTES / 2] = MARK;
    String::from_utf8(bytes.into()).unwrap()
}

fn load_request(source: &str) -> Vec<u8> {
    load_request_of(&Bundle::single(ScriptKind::Endpoint, "canary", source))
}

fn load_request_of(whole: &Bundle) -> Vec<u8> {
    // More call levels than any deploy may have: the stack must overflow, not the counter.
    sample::load_request(whole, 1_000_000)
}

fn input(secret: &str) -> Vec<u8> {
    let http = GuestHttp {
        method: "POST",
        path: "/",
        rest: "",
        remote_ip: "127.0.0.1",
        params: &[],
        query: &[],
        headers: &[],
        body: secret.as_bytes(),
    };
    let (script, invocation_type, http) = ("canary", InvocationType::Http, Some(http));
    sample::encoded(&GuestInput { script, invocation_type, fuel: FUEL, memory_mb: 6, http, ..sample::INPUT })
}

#[test]
fn nothing_of_an_execution_is_in_the_memory_of_the_next() {
    search(Worker::new(), ROUNDS);
}

/// The same for as long as the catalogue of attacks asks; `make torture` runs it.
#[test]
#[ignore = "takes minutes"]
fn nothing_is_left_in_ten_thousand_pairs() {
    let rounds = 10_000_usize.div_ceil(Way::ALL.len());
    search(Worker::new(), rounds);
    eprintln!("| T-ISO-01 | no hit in {} pairs | none |", rounds * Way::ALL.len());
}

/// A kernel with larger pages protects and clears more at once. Multiples of this kernel's pages are
/// as good as larger pages to everything but the kernel.
#[test]
fn nothing_is_left_where_the_kernels_pages_are_larger() {
    for page_bytes in [16 << 10, 64 << 10] {
        let sandbox = Sandbox { page_bytes, ..Sandbox::load(SLOTS, None, 0).unwrap() };
        search(Worker::with(sandbox), ROUNDS / 10);
    }
}

fn search(mut worker: Worker, rounds: usize) {
    for slot in 0..SLOTS {
        // So that its image is at hand.
        assert_eq!(worker.run(slot, OTHER, "", false), Some(Ending::Answered));
    }
    let untouched = worker.untouched();
    let mut reused = 0;
    for pair in 0..rounds * Way::ALL.len() {
        let way = Way::ALL[pair % Way::ALL.len()];
        let slot = u16::try_from(pair / Way::ALL.len()).unwrap() % SLOTS;
        let secret = secret(pair);
        assert_eq!(worker.run(slot, way.handle(), &secret, way == Way::Timeout), way.ending(), "{way:?}");
        let left = worker.machines[usize::from(slot)].as_ref();
        let image = worker.images.borrow_mut().get(OTHER).unwrap();
        reused += usize::from(left.is_some_and(|machine| image.fits(machine)));
        assert_eq!(worker.hits_in_next(slot, &secret, &untouched), 0, "{way:?} in slot {slot}, pair {pair}");
        assert_eq!(worker.run(slot, OTHER, "", false), Some(Ending::Answered));
    }
    assert!(reused >= rounds / 2, "memory was restored in place only {reused} times");
}

/// A script that has a memory to itself for a while has its own image protected there, page by page; one
/// that takes turns has not. Both must find their image each time.
#[test]
fn a_script_finds_its_image_however_often_it_ran_before() {
    let mut worker = Worker::new();
    let scripts = [OTHER, Way::ReturnsSmall.handle()];
    let untouched = scripts.map(|handle| {
        worker.run(0, handle, "", false);
        worker.machines[0] = None;
        let machine = worker.ready_for(handle, 0, None);
        machine.memory.data(&machine.store).to_vec()
    });
    let mut turn = 0;
    for times in [1, 1, 2, 30, 12, 9, 10, 1, 1, 40, 8] {
        turn = 1 - turn;
        for time in 0..times {
            // Another secret each time, so that it writes elsewhere than the last time.
            let secret = secret(time).repeat(1 + time % 5);
            assert_eq!(worker.run(0, scripts[turn], &secret, false), Some(Ending::Answered));
            let left = worker.machines[0].take();
            let machine = worker.ready_for(scripts[turn], 0, left);
            assert!(machine.memory.data(&machine.store) == untouched[turn], "time {time} of {times}");
            worker.machines[0] = Some(machine);
        }
    }
}

/// The proof that the tests above can fail: without the restore, the secret is found.
#[test]
fn the_canary_is_found_where_nothing_restores_the_memory() {
    let mut worker = Worker::new();
    for way in [Way::ReturnsSmall, Way::ReturnsLarge] {
        let secret = secret(1);
        worker.run(0, way.handle(), &secret, false);
        let machine = worker.machines[0].as_ref().unwrap();
        let found = hits(machine.memory.data(&machine.store), &secret);
        assert!(found >= 50, "{way:?} left the secret {found} times");
        assert_eq!(hits(machine.memory.data(&machine.store), &self::secret(2)), 0);
    }
}

/// Whatever the image has grown by is guarded too, and then is looked at only where it was written.
#[test]
fn a_short_script_leaves_few_pages_to_look_at() {
    let mut worker = Worker::new();
    let initial = at_once(Machine::fresh(&worker.sandbox, &worker.links[0], 0)).unwrap().memory_bytes();
    for _ in 0..20 {
        worker.run(0, OTHER, "", false);
    }
    let machine = worker.machines[0].as_ref().unwrap();
    assert!(machine.memory_bytes() > initial, "the image has not grown: this shows nothing");
    let pages = machine.guard.written(0..machine.memory_bytes()).count();
    assert!((1..16).contains(&pages), "{pages} pages");
}
