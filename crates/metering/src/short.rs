//! A few bytes, moved by the module itself.
//!
//! wasmtime leaves the module for a copy whose length it does not know, which takes longer than moving
//! the few bytes of most strings.

use wasm_encoder::{BlockType, Function, Instruction, MemArg, ValType};

const TO: u32 = 0;
const FROM: u32 = 1;
const LENGTH: u32 = 2;
/// The first of the variables.
const KEPT: u32 = 3;

/// Operand of a load or a store: how many bytes, at a power of two.
#[derive(Debug, Clone, Copy)]
enum Width {
    One,
    Four,
    Eight,
}

/// Where a load or a store is done, from the beginning of the bytes.
#[derive(Debug, Clone, Copy)]
enum At {
    Start(u64),
    /// So many before the end.
    End(i32),
    Middle,
}

/// The variables that [`copy`] needs, after the three parameters.
pub(crate) const LOCALS: [(u32, ValType); 1] = [(4, ValType::I64)];

/// Copies up to 32 bytes and returns. Others go on. All is read before any is written: source and target
/// may overlap.
pub(crate) fn copy(function: &mut Function) {
    if_at_most(function, 16, |function| {
        if_at_least(function, 8, |function| {
            move_all(function, Width::Eight, &[At::Start(0), At::End(8)]);
        });
        if_at_least(function, 4, |function| move_all(function, Width::Four, &[At::Start(0), At::End(4)]));
        if_at_least(function, 1, |function| {
            move_all(function, Width::One, &[At::Start(0), At::Middle, At::End(1)]);
        });
        function.instruction(&Instruction::Return);
    });
    if_at_most(function, 32, |function| {
        move_all(function, Width::Eight, &[At::Start(0), At::Start(8), At::End(16), At::End(8)]);
    });
}

fn if_at_most(function: &mut Function, length: i32, then: impl FnOnce(&mut Function)) {
    when(function, length, &Instruction::I32LeU, then);
}

fn if_at_least(function: &mut Function, length: i32, then: impl FnOnce(&mut Function)) {
    when(function, length, &Instruction::I32GeU, then);
}

fn when(function: &mut Function, length: i32, compare: &Instruction<'_>, then: impl FnOnce(&mut Function)) {
    function.instruction(&Instruction::LocalGet(LENGTH));
    function.instruction(&Instruction::I32Const(length));
    function.instruction(compare);
    function.instruction(&Instruction::If(BlockType::Empty));
    then(function);
    function.instruction(&Instruction::End);
}

/// Reads all places, then writes them, and returns.
fn move_all(function: &mut Function, width: Width, places: &[At]) {
    for (local, place) in (KEPT..).zip(places) {
        let argument = address(function, FROM, *place);
        function.instruction(&match width {
            Width::One => Instruction::I64Load8U(argument),
            Width::Four => Instruction::I64Load32U(argument),
            Width::Eight => Instruction::I64Load(argument),
        });
        function.instruction(&Instruction::LocalSet(local));
    }
    for (local, place) in (KEPT..).zip(places) {
        let argument = address(function, TO, *place);
        function.instruction(&Instruction::LocalGet(local));
        function.instruction(&match width {
            Width::One => Instruction::I64Store8(argument),
            Width::Four => Instruction::I64Store32(argument),
            Width::Eight => Instruction::I64Store(argument),
        });
    }
    function.instruction(&Instruction::Return);
}

/// Puts the address of a place on the stack.
fn address(function: &mut Function, base: u32, place: At) -> MemArg {
    function.instruction(&Instruction::LocalGet(base));
    let mut add = |instructions: &[Instruction<'_>]| {
        function.instruction(&Instruction::LocalGet(LENGTH));
        for instruction in instructions {
            function.instruction(instruction);
        }
        function.instruction(&Instruction::I32Add);
    };
    let mut offset = 0;
    match place {
        At::Start(bytes) => offset = bytes,
        At::End(bytes) => add(&[Instruction::I32Const(bytes), Instruction::I32Sub]),
        At::Middle => add(&[Instruction::I32Const(1), Instruction::I32ShrU]),
    }
    MemArg { offset, align: 0, memory_index: 0 }
}
