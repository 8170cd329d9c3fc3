//! Modules whose arguments were widened, beside the same modules as they were.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use metering::{MeterError, widen_arguments};
use wasmi::{Engine, Linker, Module, Store};
use wasmparser::{Parser, Payload, ValType};

/// Digits of all arguments, so that one that is lost, swapped or cut changes the answer. The functions that are
/// called have parameters of every type on both sides of where registers end.
const MODULE: &str = r#"(module
    (type $many (func (param i32 i64 i32 f64 i32 i64 i32 f32 i32 f64 i32) (result i64)))
    (type $last (func (param i32 i32 i32 i32 i32) (result i32)))
    (type $few (func (param i32 i32 i32 i32) (result i32)))
    (table funcref (elem $many $last $few))
    (func $many (type $many) (local $sum i64)
        ;; Written as well as read.
        (local.set 4 (i32.add (local.get 4) (i32.const 1)))
        (local.set $sum (i64.extend_i32_s (local.tee 6 (i32.mul (local.get 6) (i32.const 3)))))
        (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31)) (i64.extend_i32_s (local.get 0))))
        (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31)) (local.get 1)))
        (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31)) (i64.extend_i32_s (local.get 2))))
        (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31)) (i64.trunc_f64_s (local.get 3))))
        (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31)) (i64.extend_i32_s (local.get 4))))
        (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31)) (local.get 5)))
        (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31)) (i64.extend_i32_s (local.get 6))))
        (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31)) (i64.trunc_f32_s (local.get 7))))
        (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31)) (i64.extend_i32_s (local.get 8))))
        (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31)) (i64.trunc_f64_s (local.get 9))))
        (i64.add (i64.mul (local.get $sum) (i64.const 31)) (i64.extend_i32_s (local.get 10))))
    (func $last (type $last)
        (i32.sub (i32.mul (local.get 0) (local.get 4)) (i32.xor (local.get 3) (i32.add (local.get 1) (local.get 2)))))
    (func $few (type $few)
        (i32.sub (i32.mul (local.get 0) (local.get 3)) (i32.xor (local.get 1) (local.get 2))))
    (func (export "direct") (param i32) (result i64) (local i32)
        (i64.add
            (call $many (local.get 0) (i64.const -5) (i32.const 7) (f64.const -9) (i32.sub (i32.const 0) (local.get 0))
                (i64.const 11) (i32.const -13) (f32.const 15) (i32.const 0x80000000) (f64.const 17) (local.get 0))
            (i64.extend_i32_s (i32.add
                (call $last (i32.const 3) (local.get 0) (i32.const 5) (i32.const 6)
                    (call $last (local.get 0) (i32.const 1) (i32.const -2) (i32.const 3) (i32.const -4)))
                (call $few (local.get 0) (i32.const 1) (i32.const 2) (i32.const 3))))))
    (func (export "indirect") (param i32) (result i64)
        (i64.add
            (call_indirect (type $many) (i32.const -1) (i64.const 2) (local.get 0) (f64.const 4) (local.get 0)
                (i64.const -6) (i32.const 0x7fffffff) (f32.const -8) (local.get 0) (f64.const 10) (i32.const -12)
                (i32.const 0))
            (i64.extend_i32_s (i32.add
                (call_indirect (type $last) (i32.const 3) (local.get 0) (i32.const 5) (i32.const 6) (local.get 0)
                    (i32.const 1))
                (call_indirect (type $few) (local.get 0) (i32.const 1) (i32.const 2) (i32.const 3)
                    (i32.const 2)))))))"#;

fn call(wasm: &[u8], export: &str, argument: i32) -> i64 {
    let engine = Engine::default();
    let module = Module::new(&engine, wasm).unwrap();
    let mut store = Store::new(&engine, ());
    let instance = Linker::new(&engine).instantiate_and_start(&mut store, &module).unwrap();
    instance.get_typed_func::<i32, i64>(&store, export).unwrap().call(&mut store, argument).unwrap()
}

#[test]
fn calls_give_their_callees_the_same_arguments_as_before() {
    let wasm = wat::parse_str(MODULE).unwrap();
    let widened = widen_arguments(&wasm).unwrap();
    for export in ["direct", "indirect"] {
        for argument in [0, 1, -1, 255, i32::MAX, i32::MIN, 0x0102_0304] {
            assert_eq!(
                call(&widened, export, argument),
                call(&wasm, export, argument),
                "{export} {argument}"
            );
        }
    }
}

#[test]
fn no_parameter_on_the_stack_is_narrower_than_its_place() {
    let widened = widen_arguments(&wat::parse_str(MODULE).unwrap()).unwrap();
    let mut types = Vec::new();
    for payload in Parser::new(0).parse_all(&widened) {
        if let Payload::TypeSection(section) = payload.unwrap() {
            types = section.into_iter_err_on_gc_types().map(Result::unwrap).collect();
        }
    }
    let expected: &[ValType] = &[
        ValType::I32,
        ValType::I64,
        ValType::I32,
        ValType::F64,
        ValType::I64,
        ValType::I64,
        ValType::I64,
        ValType::F32,
        ValType::I64,
        ValType::F64,
        ValType::I64,
    ];
    assert_eq!(types[0].params(), expected);
    assert_eq!(types[1].params(), [ValType::I32, ValType::I32, ValType::I32, ValType::I32, ValType::I64]);
    assert_eq!(types[2].params(), [ValType::I32; 4]);
}

#[test]
fn refuses_what_the_host_calls_and_what_it_does_not_know() {
    for text in [
        r#"(func (export "run") (param i32 i32 i32 i32 i32))"#,
        r#"(import "host" "call" (func (param i32 i32 i32 i32 i32)))"#,
        "(func $a (param i32) (return_call $a (local.get 0)))",
        "(func (param i32 i32 i32 i32 i32) (local.get 0) (local.get 0) (local.get 0) (local.get 0) (local.get 0)
            (block (param i32 i32 i32 i32 i32) (drop) (drop) (drop) (drop) (drop)))",
    ] {
        let wasm = wat::parse_str(format!("(module {text})")).unwrap();
        assert!(matches!(widen_arguments(&wasm), Err(MeterError::Unsupported(_))), "{text}");
    }
    assert!(matches!(widen_arguments(b"no module"), Err(MeterError::Invalid(_))));
}
