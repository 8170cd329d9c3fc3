//! What metered modules do when they run, beside what they do unmetered.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use metering::{Counter, Profile, instrument, meter};
use wasmi::{Caller, Engine, Error, Instance, Linker, Module, Store, TrapCode, Val};

const COUNTER: Counter<'_> = Counter { global: "fuel", module: "host", import: "call", op: 7 };
const HOST: &str = r#"(import "host" "call" (func $host (param i32 i32 i32) (result i64)))"#;

/// Each with an argument, and the operators that run for it.
const SAMPLES: &[(&str, &str, i32, i64)] = &[
    (
        "a loop",
        r#"(func (export "run") (param i32) (result i32) (local i32)
            (block (loop
                (br_if 1 (i32.ge_u (local.get 1) (local.get 0)))
                (local.set 1 (i32.add (local.get 1) (i32.const 1)))
                (br 0)))
            (local.get 1))"#,
        5_000,
        5_000 * 9,
    ),
    (
        "recursion",
        r#"(func $fib (export "run") (param i32) (result i32)
            (if (i32.lt_u (local.get 0) (i32.const 2)) (then (return (local.get 0))))
            (i32.add
                (call $fib (i32.sub (local.get 0) (i32.const 1)))
                (call $fib (i32.sub (local.get 0) (i32.const 2)))))"#,
        18,
        // fib(19) = 4,181 calls return at once, one less do not.
        4_181 * 5 + 4_180 * 13,
    ),
    (
        "a light function in a loop that is left from its middle",
        r#"(func $step (param i32) (result i32)
            (if (result i32) (i32.and (local.get 0) (i32.const 1))
                (then (i32.add (i32.mul (local.get 0) (i32.const 3)) (i32.const 1)))
                (else (i32.shr_u (local.get 0) (i32.const 1)))))
        (func (export "run") (param i32) (result i32) (local i32)
            (loop $next (result i32)
                (if (i32.eq (local.get 0) (i32.const 1)) (then (return (local.get 1))))
                (local.set 0 (call $step (local.get 0)))
                (local.set 1 (i32.add (local.get 1) (i32.const 1)))
                (br $next)))"#,
        837_799,
        // 524 steps, of which two thirds halve.
        524 * 12 + 329 * 7 + 195 * 9,
    ),
    (
        "a table of ways, each seldom",
        r#"(func (export "run") (param i32) (result i32) (local i32)
            (loop $next
                (block $d (block $c (block $b (block $a
                    (br_table $a $b $c $d (i32.and (local.get 0) (i32.const 3))))
                    (local.set 1 (i32.add (local.get 1) (i32.const 3))) (br $d))
                    (local.set 1 (i32.xor (local.get 1) (i32.const 5))) (br $d))
                    (local.set 1 (i32.mul (local.get 1) (i32.const 7))))
                (br_if $next (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
            (local.get 1))"#,
        3_000,
        750 * (6 + 4 + 5) * 2 + 750 * (4 + 4 + 5) + 750 * (4 + 5),
    ),
];

struct Run {
    ended: Result<i32, TrapCode>,
    /// What the module burnt, by its own counter.
    burnt: i64,
}

fn module(text: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {HOST} (memory (export \"memory\") 4) {text})")).unwrap()
}

/// Gives fuel in slices of 100 until there is none.
fn refuel(mut caller: Caller<'_, i64>, op: i32, over: i32, zero: i32) -> Result<i64, Error> {
    assert_eq!((op, zero), (7, 0));
    *caller.data_mut() -= i64::from(over);
    let slice = (*caller.data()).min(100);
    if slice <= 0 {
        return Err(TrapCode::OutOfFuel.into());
    }
    *caller.data_mut() -= slice;
    Ok(-slice)
}

fn start(wasm: &[u8], fuel: i64) -> (Store<i64>, Instance) {
    let engine = Engine::default();
    let mut linker: Linker<i64> = Linker::new(&engine);
    linker.func_wrap("host", "call", refuel).unwrap();
    let mut store = Store::new(&engine, fuel);
    let module = Module::new(&engine, wasm).unwrap();
    let instance = linker.instantiate_and_start(&mut store, &module).unwrap();
    (store, instance)
}

fn call(store: &mut Store<i64>, instance: &Instance, argument: i32) -> Result<i32, TrapCode> {
    let function = instance.get_typed_func::<i32, i32>(&*store, "run").unwrap();
    function.call(store, argument).map_err(|error| error.as_trap_code().unwrap())
}

/// Runs `run` of a metered module.
fn run(wasm: &[u8], argument: i32, fuel: i64) -> Run {
    let (mut store, instance) = start(wasm, fuel);
    let ended = call(&mut store, &instance, argument);
    let Val::I64(counter) = instance.get_global(&store, "fuel").unwrap().get(&store) else {
        panic!("the counter has 64 bits");
    };
    Run { ended, burnt: fuel - *store.data() + counter }
}

/// What the module computes when nobody counts.
fn unmetered(wasm: &[u8], argument: i32) -> i32 {
    let (mut store, instance) = start(wasm, 0);
    call(&mut store, &instance, argument).unwrap()
}

#[test]
fn computes_the_same_and_counts_about_what_runs() {
    for (what, text, argument, units) in SAMPLES {
        let wasm = module(text);
        let run = run(&meter(&wasm, COUNTER, &Profile::default()).unwrap(), *argument, 1 << 40);
        assert_eq!(run.ended.unwrap(), unmetered(&wasm, *argument), "{what}");
        let is_near = run.burnt * 2 >= *units && run.burnt <= *units * 2;
        assert!(is_near, "{what}: {units} operators count {}", run.burnt);
    }
}

#[test]
fn the_same_call_burns_the_same() {
    for (what, text, argument, _) in SAMPLES {
        let metered = meter(&module(text), COUNTER, &Profile::default()).unwrap();
        assert_eq!(
            run(&metered, *argument, 1 << 40).burnt,
            run(&metered, *argument, 1 << 40).burnt,
            "{what}"
        );
    }
}

#[test]
fn attack_whatever_runs_forever_runs_out_of_fuel() {
    let forever = [
        "(func (export \"run\") (param i32) (result i32) (loop (br 0)) (unreachable))",
        // Two that call each other, each twice: the stack alone would stop them after 2^100 calls.
        r#"(func $a (export "run") (param i32) (result i32)
            (if (i32.gt_u (local.get 0) (i32.const 100)) (then (return (i32.const 0))))
            (i32.add (call $b (i32.add (local.get 0) (i32.const 1))) (call $b (i32.add (local.get 0) (i32.const 1)))))
        (func $b (param i32) (result i32)
            (i32.add (call $a (local.get 0)) (call $a (local.get 0))))"#,
        // Through a table.
        r#"(table 1 funcref) (elem (i32.const 0) $a) (type $f (func (param i32) (result i32)))
        (func $a (export "run") (param i32) (result i32)
            (if (i32.gt_u (local.get 0) (i32.const 100)) (then (return (i32.const 0))))
            (drop (call_indirect (type $f) (i32.add (local.get 0) (i32.const 1)) (i32.const 0)))
            (call_indirect (type $f) (i32.add (local.get 0) (i32.const 1)) (i32.const 0)))"#,
        // Few operators that move many bytes.
        r#"(func (export "run") (param i32) (result i32)
            (loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 262144)) (br 0)) (unreachable))"#,
    ];
    for text in forever {
        let metered = meter(&module(text), COUNTER, &Profile::default()).unwrap();
        let run = run(&metered, 0, 1_000_000);
        assert_eq!(run.ended, Err(TrapCode::OutOfFuel), "{text}");
        assert!(run.burnt >= 1_000_000, "{text}: {}", run.burnt);
    }
}

#[test]
fn moved_bytes_are_counted() {
    let text = r#"(func (export "run") (param i32) (result i32)
        (memory.fill (i32.const 0) (i32.const 1) (local.get 0)) (i32.const 0))"#;
    let metered = meter(&module(text), COUNTER, &Profile::default()).unwrap();
    let (few, many) = (run(&metered, 8, 1 << 40).burnt, run(&metered, 80_008, 1 << 40).burnt);
    assert_eq!(many - few, 10_000);
}

/// What the metered and the unmetered module leave of a memory full of different bytes.
fn moved(text: &str) -> [(Result<i32, TrapCode>, Vec<u8>); 2] {
    let wasm = module(&format!("(func (export \"run\") (param i32) (result i32) {text} (i32.const 0))"));
    [wasm.clone(), meter(&wasm, COUNTER, &Profile::default()).unwrap()].map(|wasm| {
        let (mut store, instance) = start(&wasm, 1 << 40);
        let memory = instance.get_memory(&store, "memory").unwrap();
        for (index, byte) in memory.data_mut(&mut store).iter_mut().enumerate() {
            let [low, middle, high, ..] = index.to_le_bytes();
            *byte = low ^ middle.wrapping_mul(7) ^ high.wrapping_mul(13);
        }
        let ended = call(&mut store, &instance, 0);
        (ended, memory.data(&store).to_vec())
    })
}

#[test]
fn what_is_moved_in_pieces_ends_up_where_it_would_at_once() {
    let (piece, end) = (64_u32 << 10, 256_u32 << 10);
    let mut stretches = Vec::new();
    for len in [0, 1, piece - 1, piece, piece + 1, 2 * piece, 2 * piece + 1, 3 * piece + 77] {
        for (to, from) in [(0, end - len), (end - len, 0), (5, 6), (6, 5), (7, 7), (0, piece), (piece, 0)] {
            stretches.push((to, from, len));
        }
    }
    // Out of bounds by one, by much, and around the last address.
    stretches.extend([(end - piece, 0, piece + 1), (0, end - piece, piece + 1), (end, end, piece + 1)]);
    stretches.extend([(u32::MAX - piece, 0, 2 * piece), (0, u32::MAX - piece, 2 * piece), (1, 0, u32::MAX)]);
    for (to, from, len) in stretches {
        let operands = |from: u32| format!("(i32.const {to}) (i32.const {from}) (i32.const {len})");
        // A length the pass knows, and one it does not.
        let hidden = |from: u32| {
            format!("(i32.const {to}) (i32.const {from}) (i32.add (local.get 0) (i32.const {len}))")
        };
        for (name, text) in [
            ("copy", format!("(memory.copy {})", operands(from))),
            ("fill", format!("(memory.fill {})", operands(0xa5))),
            ("copy of unknown length", format!("(memory.copy {})", hidden(from))),
            ("fill of unknown length", format!("(memory.fill {})", hidden(0xa5))),
        ] {
            let [at_once, in_pieces] = moved(&text);
            assert!(at_once == in_pieces, "{name} to {to} from {from} of {len}: {:?}", in_pieces.0);
        }
    }
}

#[test]
fn attack_one_long_operation_is_paid_for_piece_by_piece() {
    // All of the memory, with fuel for half of it: it must end in the middle.
    let half = i64::from(128_u32 << 10) >> 3;
    for name in ["memory.fill", "memory.copy"] {
        let text = format!(
            r#"(func (export "run") (param i32) (result i32)
                ({name} (i32.const 0) (i32.const 0) (local.get 0)) (i32.const 0))"#
        );
        let metered = meter(&module(&text), COUNTER, &Profile::default()).unwrap();
        assert_eq!(run(&metered, 256 << 10, half).ended, Err(TrapCode::OutOfFuel), "{name}");
        assert_eq!(run(&metered, 256 << 10, 1 << 40).ended, Ok(0), "{name}");
    }
}

#[test]
fn a_module_without_memory_is_metered_too() {
    let wasm = wat::parse_str(format!(
        "(module {HOST} (func (export \"run\") (param i32) (result i32) (local.get 0)))"
    ));
    let metered = meter(&wasm.unwrap(), COUNTER, &Profile::default()).unwrap();
    assert_eq!(run(&metered, 5, 1 << 40).ended, Ok(5));
}

#[test]
fn bytes_are_moved_as_before_whatever_their_number_and_however_they_overlap() {
    let bytes: String = (0..=255_u8).map(|byte| format!("\\{byte:02x}")).collect();
    // Target, source and length are a byte of the argument each.
    let byte = |shift| format!("(i32.and (i32.shr_u (local.get 0) (i32.const {shift})) (i32.const 255))");
    let text = format!(
        r#"(data (i32.const 0) "{bytes}")
        (func (export "run") (param i32) (result i32) (memory.copy {} {} {}) (i32.const 0))"#,
        byte(16),
        byte(8),
        byte(0)
    );
    let wasm = module(&text);
    let metered = meter(&wasm, COUNTER, &Profile::default()).unwrap();
    let after = |wasm: &[u8], argument: i32| {
        let (mut store, instance) = start(wasm, 1 << 40);
        call(&mut store, &instance, argument).unwrap();
        instance.get_memory(&store, "memory").unwrap().data(&store)[..256].to_vec()
    };
    for length in 0..=70 {
        for (to, from) in [(100, 0), (20, 19), (19, 20), (20, 12), (12, 20), (30, 13), (13, 30), (7, 7)] {
            let argument = to << 16 | from << 8 | length;
            assert_eq!(after(&metered, argument), after(&wasm, argument), "{length} from {from} to {to}");
        }
    }
}

#[test]
fn attack_a_few_bytes_beyond_the_memory_are_out_of_bounds() {
    let text = r#"(func (export "run") (param i32) (result i32)
        (memory.copy (i32.const 0) (i32.sub (i32.const 262144) (local.get 0)) (i32.add (local.get 0) (i32.const 1)))
        (i32.const 0))"#;
    let metered = meter(&module(text), COUNTER, &Profile::default()).unwrap();
    for inside in 0..70 {
        assert_eq!(run(&metered, inside, 1 << 40).ended, Err(TrapCode::MemoryOutOfBounds), "{inside}");
    }
}

#[test]
fn an_instrumented_module_computes_the_same_and_its_profile_makes_the_count_exact() {
    for (what, text, argument, units) in SAMPLES {
        let wasm = module(text);
        let expected = unmetered(&wasm, *argument);
        let (mut store, instance) = start(&instrument(&wasm).unwrap(), 0);
        assert_eq!(call(&mut store, &instance, *argument).unwrap(), expected, "{what}");

        let counts = instance.get_memory(&store, metering::PROFILE).unwrap().data(&store).to_vec();
        let profile = Profile::read(&wasm, &counts).unwrap();
        let trained = run(&meter(&wasm, COUNTER, &profile).unwrap(), *argument, 1 << 40);
        assert_eq!(trained.ended.unwrap(), expected, "{what}");
        let is_near = trained.burnt * 4 >= *units * 3 && trained.burnt * 3 <= *units * 4;
        assert!(is_near, "{what}: {units} operators count {}", trained.burnt);
    }
}

#[test]
fn refuses_what_it_cannot_count() {
    let has_counter = r#"(global (export "fuel") (mut i64) (i64.const 0)) (func)"#;
    assert!(meter(&module(has_counter), COUNTER, &Profile::default()).is_err());
    let no_import = wat::parse_str("(module (func))").unwrap();
    assert!(meter(&no_import, COUNTER, &Profile::default()).is_err());
    assert!(meter(b"no module", COUNTER, &Profile::default()).is_err());
    let tail_call = "(func $a (export \"run\") (param i32) (result i32) (return_call $a (local.get 0)))";
    assert!(meter(&module(tail_call), COUNTER, &Profile::default()).is_err());
}
