//! Scripts with much code.

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

#[test]
fn a_script_whose_code_is_larger_than_its_memory_does_not_run() {
    let worker = worker_with_large_code();
    let needed = worker.finish(LARGE, FUEL, 64 << 20).peak_memory_bytes;
    assert_eq!(worker.finish(LARGE, FUEL, needed).ending, Ending::Answered);
    let finished = worker.finish(LARGE, FUEL, needed - 1);
    assert_eq!((finished.ending, finished.peak_memory_bytes), (Ending::MemoryExceeded, needed));
}
