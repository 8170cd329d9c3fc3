//! Scripts with much code, and with large constants.

use shared::limits::COMPILE_MEMORY_PER_BYTE;
use shared::script::BundledModule;

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
fn attack_62_who_cannot_pay_for_putting_an_image_back_has_no_guest_made() {
    let worker = worker_with_large_code();
    for handle in [LARGE, OTHER] {
        assert_eq!(worker.finish(handle, FUEL, 64 << 20).ending, Ending::Answered);
    }
    let price = worker.images.borrow_mut().get(LARGE).unwrap().fuel();
    // All there can be, so that whoever wants another fails.
    let _guests: Vec<Machine> = (0..=worker.sandbox.slots).map(|_| worker.ready(0, None)).collect();
    assert_eq!(worker.finish(LARGE, price + 1, 64 << 20).ending, Ending::Trapped);
    let finished = worker.finish(LARGE, price, 64 << 20);
    assert_eq!((finished.ending, finished.fuel), (Ending::FuelExhausted, price));
}

/// A script of few instructions with a module whose constant is 30 MB of zeros.
const ZEROS: u32 = 201;

fn worker_with_zeros() -> Worker {
    let worker = Worker::new();
    let mut bundle = Bundle::single(ScriptKind::Endpoint, "canary", "import \"zeros\" as zeros; 1");
    let source = "export const ZEROS = blob(30000000);";
    bundle.modules.push(BundledModule { name: "zeros".to_owned(), source: source.to_owned() });
    assert!(worker.images.borrow_mut().add(ZEROS, &load_request_of(&bundle)));
    assert_eq!(worker.finish(ZEROS, FUEL, 64 << 20).ending, Ending::Answered);
    worker
}

#[test]
fn attack_62_much_memory_for_a_short_script_is_paid_for_although_it_is_zero() {
    let worker = worker_with_zeros();
    assert_eq!(worker.finish(OTHER, FUEL, 64 << 20).ending, Ending::Answered);
    let fuel = |handle| worker.images.borrow_mut().get(handle).unwrap().fuel();
    assert!(fuel(ZEROS) > 1_000_000, "{}", fuel(ZEROS));
    assert!(worker.finish(ZEROS, FUEL, 64 << 20).fuel > fuel(ZEROS));
    assert_eq!(fuel(OTHER), 0, "ordinary scripts are not charged");
}

#[test]
fn what_is_zero_in_an_image_is_not_touched_in_a_new_guest_and_is_put_back_in_one_that_was_used() {
    let worker = worker_with_zeros();
    let new = worker.ready_for(ZEROS, 0, None);
    let bytes = new.memory_bytes();
    assert!(bytes > 30_000_000, "{bytes}");
    let resident = resident_bytes(&new);
    assert!(resident < bytes / 2, "{resident} of {bytes}");

    let mut used = worker.ready_for(ZEROS, 0, None);
    used.memory.data_mut(&mut used.store)[bytes / 2..].fill(MARK);
    let used = worker.ready_for(ZEROS, 0, Some(used));
    assert!(used.memory.data(&used.store) == new.memory.data(&new.store));
}

/// For how much of a guest's memory the kernel has made pages.
fn resident_bytes(machine: &Machine) -> usize {
    let (memory, page) = (machine.memory.data(&machine.store), machine.guard.page_bytes());
    let mut pages = vec![0_u8; memory.len().div_ceil(page)];
    // SAFETY: nothing is read or written of the memory, which is mapped, and there is a byte for each of its pages.
    let asked = unsafe { libc::mincore(memory.as_ptr().cast_mut().cast(), memory.len(), pages.as_mut_ptr()) };
    assert_eq!(asked, 0);
    pages.iter().filter(|page| **page & 1 != 0).count() * page
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
    let (sandbox, images) = (worker.sandbox.clone(), worker.images.clone());
    let finished = at_once(execute(sandbox, images, link, || None, Rc::default(), job));
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
