//! Bulk memory operations in pieces.
//!
//! `memory.copy` and `memory.fill` are one instruction, however many bytes they move, and nothing
//! interrupts them. A module could hold its host for as long as its whole memory takes to copy. So
//! they go through functions that this pass adds, which count the bytes, and which charge for a piece
//! of what is longer than [`PIECE_BYTES`] before they move it.

use wasm_encoder::{BlockType, Function, Instruction, ValType};

use crate::{cost, short};

/// What is moved in one go: some microseconds, and far more than an interpreter moves for one value.
pub(crate) const PIECE_BYTES: i32 = 64 << 10;

/// Parameters of both operations and of the functions that stand for them: where to, where from or
/// what with, how many bytes.
pub(crate) const PARAMS: [ValType; 3] = [ValType::I32; 3];
const TO: u32 = 0;
const FROM: u32 = 1;
const LEN: u32 = 2;

const COPY: Instruction<'_> = Instruction::MemoryCopy { src_mem: 0, dst_mem: 0 };
const FILL: Instruction<'_> = Instruction::MemoryFill(0);

/// The function that copies. `fuel` and `charge` are those of [`crate::body::Added`].
///
/// Where the target begins within the source, it begins at the end, or it would read what it wrote.
pub(crate) fn copy(fuel: u32, charge: u32) -> Function {
    let mut function = Function::new(short::LOCALS);
    short::copy(&mut function);
    let mut emit = |instructions: &[Instruction<'_>]| {
        for instruction in instructions {
            function.instruction(instruction);
        }
    };
    emit(&one_piece(fuel, &COPY));
    emit(&ends_beyond(TO));
    emit(&ends_beyond(FROM));
    emit(&[Instruction::I32Or]);
    emit(&all_at_once(&COPY));
    emit(&end_of(TO));
    emit(&end_of(FROM));
    emit(&[Instruction::I32Const(0), COPY]);

    emit(&[Instruction::LocalGet(TO), Instruction::LocalGet(FROM), Instruction::I32Sub]);
    emit(&[Instruction::LocalGet(LEN), Instruction::I32LtU]);
    emit(&[Instruction::If(BlockType::Empty), Instruction::Loop(BlockType::Empty)]);
    emit(&charge_piece(charge));
    emit(&shorten());
    emit(&end_of(TO));
    emit(&end_of(FROM));
    emit(&[Instruction::I32Const(PIECE_BYTES), COPY]);
    emit(&again_while_long());
    emit(&[Instruction::End, Instruction::Else, Instruction::Loop(BlockType::Empty)]);
    emit(&charge_piece(charge));
    emit(&[Instruction::LocalGet(TO), Instruction::LocalGet(FROM)]);
    emit(&[Instruction::I32Const(PIECE_BYTES), COPY]);
    emit(&shorten());
    emit(&advance(TO));
    emit(&advance(FROM));
    emit(&again_while_long());
    emit(&[Instruction::End, Instruction::End]);

    emit(&charge_rest(charge));
    emit(&[Instruction::LocalGet(TO), Instruction::LocalGet(FROM), Instruction::LocalGet(LEN), COPY]);
    emit(&[Instruction::End]);
    function
}

/// The function that fills.
pub(crate) fn fill(fuel: u32, charge: u32) -> Function {
    const WITH: u32 = FROM;
    let mut function = Function::new([]);
    let mut emit = |instructions: &[Instruction<'_>]| {
        for instruction in instructions {
            function.instruction(instruction);
        }
    };
    emit(&one_piece(fuel, &FILL));
    emit(&ends_beyond(TO));
    emit(&all_at_once(&FILL));
    emit(&end_of(TO));
    emit(&[Instruction::I32Const(0), Instruction::I32Const(0), FILL]);

    emit(&[Instruction::Loop(BlockType::Empty)]);
    emit(&charge_piece(charge));
    emit(&[Instruction::LocalGet(TO), Instruction::LocalGet(WITH)]);
    emit(&[Instruction::I32Const(PIECE_BYTES), FILL]);
    emit(&shorten());
    emit(&advance(TO));
    emit(&again_while_long());
    emit(&[Instruction::End]);

    emit(&charge_rest(charge));
    emit(&[Instruction::LocalGet(TO), Instruction::LocalGet(WITH), Instruction::LocalGet(LEN), FILL]);
    emit(&[Instruction::End]);
    function
}

/// No more than a piece is counted and moved at once.
fn one_piece(fuel: u32, operation: &Instruction<'static>) -> [Instruction<'static>; 17] {
    [
        Instruction::LocalGet(LEN),
        Instruction::I32Const(PIECE_BYTES),
        Instruction::I32LeU,
        Instruction::If(BlockType::Empty),
        Instruction::GlobalGet(fuel),
        Instruction::LocalGet(LEN),
        Instruction::I64ExtendI32U,
        Instruction::I64Const(cost::BULK_SHIFT),
        Instruction::I64ShrU,
        Instruction::I64Add,
        Instruction::GlobalSet(fuel),
        Instruction::LocalGet(0),
        Instruction::LocalGet(1),
        Instruction::LocalGet(LEN),
        operation.clone(),
        Instruction::Return,
        Instruction::End,
    ]
}

/// Whether a stretch from here ends at or beyond the last address there can be.
fn ends_beyond(start: u32) -> [Instruction<'static>; 5] {
    let [a, b, c] = end_of(start);
    [a, b, c, Instruction::LocalGet(start), Instruction::I32LtU]
}

/// Of such a stretch, the engine says at once that it is out of bounds: before the first byte is
/// moved, as for any other. So does an operation of no bytes at the end of every stretch.
fn all_at_once(operation: &Instruction<'static>) -> [Instruction<'static>; 7] {
    [
        Instruction::If(BlockType::Empty),
        Instruction::LocalGet(0),
        Instruction::LocalGet(1),
        Instruction::LocalGet(2),
        operation.clone(),
        Instruction::Return,
        Instruction::End,
    ]
}

fn end_of(start: u32) -> [Instruction<'static>; 3] {
    [Instruction::LocalGet(start), Instruction::LocalGet(LEN), Instruction::I32Add]
}

fn charge_piece(charge: u32) -> [Instruction<'static>; 2] {
    [Instruction::I64Const(i64::from(PIECE_BYTES) >> cost::BULK_SHIFT), Instruction::Call(charge)]
}

fn charge_rest(charge: u32) -> [Instruction<'static>; 5] {
    [
        Instruction::LocalGet(LEN),
        Instruction::I64ExtendI32U,
        Instruction::I64Const(cost::BULK_SHIFT),
        Instruction::I64ShrU,
        Instruction::Call(charge),
    ]
}

fn shorten() -> [Instruction<'static>; 4] {
    [
        Instruction::LocalGet(LEN),
        Instruction::I32Const(PIECE_BYTES),
        Instruction::I32Sub,
        Instruction::LocalSet(LEN),
    ]
}

fn advance(position: u32) -> [Instruction<'static>; 4] {
    [
        Instruction::LocalGet(position),
        Instruction::I32Const(PIECE_BYTES),
        Instruction::I32Add,
        Instruction::LocalSet(position),
    ]
}

fn again_while_long() -> [Instruction<'static>; 4] {
    [
        Instruction::LocalGet(LEN),
        Instruction::I32Const(PIECE_BYTES),
        Instruction::I32GtU,
        Instruction::BrIf(0),
    ]
}
