//! Scripts with much code.

use shared::limits::COMPILE_MEMORY_PER_BYTE;

use super::*;

/// A script of few instructions whose code takes megabytes.
const LARGE: u32 = 200;

fn worker_with_large_code() -> Worker {
    let worker = Worker::new();
    let source = format!("if ctx.version == 0 {{ {} }} 1", "let a = 1; ".repeat(20_000));
    assert!(worker.images.borrow_mut().add(LARGE, &load_request(&source)));
    worker
}

#[test]
fn attack_62_putting_back_much_code_for_a_short_script_is_paid_for() {
    let worker = worker_with_large_code();
    let finished = worker.finish(LARGE, FUEL, 64 << 20);
    assert_eq!(finished.ending, Ending::Answered);
    let price = worker.images.borrow_mut().get(LARGE).unwrap().fuel();
    assert!(price > 1_000_000, "{price}: its code is too small to show anything");
    assert!(finished.fuel > price, "{} of at least {price}", finished.fuel);
    // Another time too, and whoever cannot pay does not run.
    assert_eq!(worker.finish(LARGE, FUEL, 64 << 20).fuel, finished.fuel);
    assert_eq!(worker.finish(LARGE, price, 64 << 20).ending, Ending::FuelExhausted);
    assert!(worker.finish(OTHER, FUEL, 64 << 20).fuel < price / 10);
}

/// Source that takes much memory for each byte, of those that were tried.
const DENSE: [&str; 12] = [
    "|a|a;",
    "!a;",
    "a+a;",
    "#{a:1};",
    "a.b;",
    "a();",
    "if a{}",
    "a=1;",
    "switch a{1=>2}",
    "a??b;",
    "`${a}`;",
    "a;",
];

#[test]
fn attack_no_source_takes_more_memory_to_load_than_is_set_aside_for_it() {
    let worker = Worker::new();
    let empty = memory_to_load(&worker, 300, "1");
    for (handle, unit) in (301..).zip(DENSE) {
        let source = unit.repeat((32 << 10) / unit.len());
        let taken = memory_to_load(&worker, handle, &source) - empty;
        assert!(taken <= source.len() * COMPILE_MEMORY_PER_BYTE, "{taken} for {unit:?}");
    }
}

fn memory_to_load(worker: &Worker, handle: u32, source: &str) -> usize {
    assert!(worker.images.borrow_mut().add(handle, &load_request(source)));
    let job = Job { slot: 0, generation: 1, handle, task: Task::Compile };
    let link = worker.links[0].clone();
    let finished = at_once(execute(worker.sandbox.clone(), worker.images.clone(), link, || None, job));
    assert_eq!(finished.ending, Ending::Compiled, "{source:.20}");
    worker.images.borrow_mut().get(handle).unwrap().memory_bytes()
}

#[test]
fn a_script_whose_code_is_larger_than_its_memory_does_not_run() {
    let worker = worker_with_large_code();
    let needed = worker.finish(LARGE, FUEL, 64 << 20).peak_memory_bytes;
    assert_eq!(worker.finish(LARGE, FUEL, needed).ending, Ending::Answered);
    let finished = worker.finish(LARGE, FUEL, needed - 1);
    assert_eq!((finished.ending, finished.peak_memory_bytes), (Ending::MemoryExceeded, needed));
}
