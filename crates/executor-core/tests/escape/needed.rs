//! The list of system calls has nothing on it for no reason: with any one rule less, a worker dies of
//! its ordinary work.

use std::process::Command;

use executor_core::jail::RULES;
use shared::guest_abi::{GuestHttp, GuestInput, InvocationType, LoadRequest};
use shared::limits::ScriptLimits;
use shared::script::{Bundle, ScriptKind};
use shared::wire::codec;
use shared::wire::frame::{AddBundle, Execute, ToWorker};

use super::{Hostile, Sibling, print_row};

/// The rule that is needed where the clock cannot be read without a call: on a machine that has none, or has
/// one and does not show it to this worker.
const FOR_THE_CLOCK: &str = "clock_gettime";
/// The rule without which a worker works, but does not end as it should when it fails.
const FOR_THE_END: &str = "write";

/// Everyday work, one piece after the other: an answer, memory that grows and is given back, too much
/// of it, a request and an answer that are large, an end of fuel, and a trap, as calls nest deeper
/// than the guest's stack.
const SCRIPTS: &[&str] = &[
    "40 + 2",
    "let all = []; for i in 0..20 { all.push(blob(1000000, 7)); } all.len()",
    "let all = []; loop { all.push(blob(1000000, 7)); }",
    "ctx.request.body_raw",
    "let n = 0; loop { n += 1; }",
    "fn deeper(n) { deeper(n + 1) } deeper(0)",
];
const BODY_BYTES: usize = 8 << 20;

#[test]
fn a_worker_dies_of_ordinary_work_or_cannot_fail_properly_without_any_one_rule() {
    assert_eq!(work("without", "no rule at all"), "Exited(0)");
    let (end, words) = fail_without("no rule at all");
    assert_eq!((end.as_str(), words.contains("last words")), ("Exited(69)", true), "{words}");
    let mut needless = Vec::new();
    let mut sibling = Sibling::start();
    for rule in RULES.iter().map(|rule| rule.name) {
        let Some((seen, reason)) = sibling.beside(|| end_without(rule)) else {
            continue;
        };
        print_row(&format!("without {rule}"), reason, "SIGSYS", &seen);
        if seen != "SIGSYS" {
            needless.push(rule);
        }
    }
    sibling.is_well();
    print_row("the sibling", "beside all of these", "well", &sibling.to_string());
    assert!(needless.is_empty(), "nobody needs {needless:?}");
}

/// How a worker ends without this rule, and in doing what; nothing when this machine cannot show it.
fn end_without(rule: &str) -> Option<(String, &'static str)> {
    match rule {
        FOR_THE_CLOCK if clock_is_sealed() => {
            eprintln!("SKIPPED: this kernel does not let go of its clock, so nobody can be without one");
            None
        }
        FOR_THE_CLOCK => {
            assert_eq!(work("without-clock-and", "no rule at all"), "Exited(0)");
            Some((work("without-clock-and", rule), "a clock that cannot be read without a call"))
        }
        FOR_THE_END => Some((fail_without(rule).0, "a worker that fails")),
        _ => Some((work("without", rule), "ordinary work")),
    }
}

/// Whether the page of the clock cannot be replaced (Linux 6.16, where it was built that way).
fn clock_is_sealed() -> bool {
    let mappings = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let page = mappings.split_once("[vvar]\n").map(|(_, page)| page);
    let flags = page.and_then(|page| page.lines().find_map(|line| line.strip_prefix("VmFlags:")));
    flags.is_none_or(|flags| flags.split_whitespace().any(|flag| flag == "sl"))
}

/// How a worker ends that fails in its own code, and what it said.
fn fail_without(rule: &str) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostile-worker"));
    command.args(["dying-without", rule, &std::process::id().to_string()]).env_clear();
    Hostile::spawn(command).end_and_words()
}

/// How a worker ends that does its work on such a machine and whose filter lacks this rule.
fn work(machine: &str, rule: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostile-worker"));
    command.args([machine, rule, &std::process::id().to_string()]).env_clear();
    let Some(mut worker) = Hostile::try_spawn(command) else {
        // It did not live to say hello.
        return "SIGSYS".to_owned();
    };
    for (handle, script) in (0..).zip(SCRIPTS) {
        worker.work(&frames(handle, script, BODY_BYTES), 1);
    }
    let mut stop = Vec::new();
    codec::encode(&mut stop, ToWorker::Stop as u8, 0, 0, &());
    worker.work(&stop, 0);
    worker.end()
}

/// What decides an execution beside its script and its input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    pub(crate) clock_ms: i64,
    pub(crate) seed: [u8; 16],
}

/// Gives a worker a script and runs it once, with a body of so many bytes.
pub(crate) fn frames(handle: u32, script: &str, body_bytes: usize) -> Vec<u8> {
    let mut frames = Vec::new();
    add_bundle(&mut frames, handle, script);
    let start = Start { clock_ms: 0, seed: [7; 16] };
    execute(&mut frames, handle, handle + 1, start, &vec![b'x'; body_bytes]);
    frames
}

pub(crate) fn add_bundle(frames: &mut Vec<u8>, handle: u32, script: &str) {
    let limits = ScriptLimits::default();
    let (mut bundle, mut load) = (Vec::new(), Vec::new());
    codec::encode_body(&mut bundle, &Bundle::single(ScriptKind::Endpoint, "script", script));
    let request = LoadRequest {
        max_operations: limits.max_operations,
        // Out of the way, so that it is the stack that ends.
        max_call_levels: u32::MAX,
        max_expr_depth: limits.max_expr_depth,
        bundle: &bundle,
    };
    codec::encode_body(&mut load, &request);
    codec::encode(frames, ToWorker::AddBundle as u8, 0, 0, &AddBundle { handle, load: &load });
}

pub(crate) fn execute(frames: &mut Vec<u8>, handle: u32, generation: u32, start: Start, body: &[u8]) {
    let mut input = Vec::new();
    codec::encode_body(&mut input, &guest_input(body));
    let execute = Execute {
        handle,
        fuel: 1_000_000_000,
        memory_bytes: ScriptLimits::default().memory_mb << 20,
        output_bytes: 16 << 20,
        timeout_ms: 10_000,
        clock_ms: start.clock_ms,
        seed: start.seed,
        input: &input,
    };
    codec::encode(frames, ToWorker::Execute as u8, 0, generation, &execute);
}

fn guest_input(body: &[u8]) -> GuestInput<'_> {
    GuestInput {
        execution_id: [0; 16],
        request_id: "r",
        app: "app",
        script: "script",
        version: 1,
        invocation_type: InvocationType::Http,
        trigger_depth: 0,
        fuel: 1_000_000_000,
        memory_mb: 32,
        timeout_ms: 10_000,
        response_bytes: 16 << 20,
        user: None,
        http: Some(GuestHttp {
            method: "POST",
            path: "/",
            rest: "",
            remote_ip: "127.0.0.1",
            params: &[],
            query: &[],
            headers: &[],
            body,
        }),
        event: None,
        delivery: None,
    }
}
