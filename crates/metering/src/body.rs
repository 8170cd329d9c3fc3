//! One function, counting.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{BlockType, BranchHint, Function, Instruction, ValType};
use wasmparser::{FunctionBody, Operator};

use crate::plan::{self, Plan};
use crate::profile::BodyProfile;
use crate::survey::{Signature, Survey};
use crate::{LAG_MAX, MeterError, bulk, cost};

/// Numbers of what the pass adds to the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Added {
    pub(crate) fuel: u32,
    /// `(units: i64)`: adds to the counter, and asks for more if it is spent.
    pub(crate) charge: u32,
    /// `()`: asks for more.
    pub(crate) refuel: u32,
    /// What moves more than a piece; they are there if the module moves bytes at all.
    pub(crate) copy: u32,
    pub(crate) fill: u32,
    /// The type of those two.
    pub(crate) bulk: u32,
}

struct Writer {
    function: Function,
    /// The variable in which the function counts; none if all it counts is known beforehand.
    counted: Option<u32>,
    /// Keeps the length of a bulk operation.
    length: u32,
    added: Added,
    hints: Vec<BranchHint>,
}

/// Rewrites a body, where `…_UNITS` is what the plan says:
///
/// ```wat
/// (local $counted i64)
/// (local.set $counted (i64.const ENTRY_UNITS))
/// (block (result …)
///   …                                        ;; `return` becomes a branch out of this block
///   (loop
///     (local.set $counted (i64.add (local.get $counted) (i64.const LOOP_UNITS)))
///     (if (i64.ge_s (local.get $counted) (i64.const LAG_MAX))
///       (then (call $charge (local.get $counted)) (local.set $counted (i64.const 0))))
///     …))
/// (global.set $fuel (i64.add (global.get $fuel) (local.get $counted)))
/// (if (i64.ge_s (global.get $fuel) (i64.const 0)) (then (call $refuel)))
/// ```
///
/// Bulk memory operations are in [`bulk`].
pub(crate) fn rewrite(
    body: &FunctionBody<'_>,
    signature: &Signature,
    survey: &Survey,
    profile: &BodyProfile,
    added: Added,
) -> Result<(Function, Vec<BranchHint>), MeterError> {
    let plan = plan::of(body, survey, profile)?;
    let mut encode = RoundtripReencoder;
    let mut locals = Vec::new();
    let mut next_local = u32::try_from(signature.params.len()).unwrap_or(u32::MAX);
    for group in body.get_locals_reader()? {
        let (count, ty) = group?;
        next_local = next_local.saturating_add(count);
        locals.push((count, encode.val_type(ty).map_err(unsupported)?));
    }
    let block = match signature.results[..] {
        [] => BlockType::Empty,
        [ty] => BlockType::Result(encode.val_type(ty).map_err(unsupported)?),
        _ => return Err(MeterError::Unsupported("a function with several results".into())),
    };
    let is_constant = plan.after.is_empty() && !moves_bytes(body)?;
    if !is_constant {
        locals.extend([(1, ValType::I64), (1, ValType::I32)]);
    }
    let mut writer = Writer {
        function: Function::new(locals),
        counted: (!is_constant).then_some(next_local),
        length: next_local + 1,
        added,
        hints: Vec::new(),
    };
    writer.add(plan.entry);
    writer.emit(&Instruction::Block(block));
    writer.operators(body, &plan)?;
    writer.settle(&plan);
    writer.emit(&Instruction::End);
    Ok((writer.function, writer.hints))
}

fn unsupported(what: impl std::fmt::Debug) -> MeterError {
    MeterError::Unsupported(format!("{what:?}"))
}

pub(crate) fn moves_bytes(body: &FunctionBody<'_>) -> Result<bool, MeterError> {
    for operator in body.get_operators_reader()? {
        if matches!(operator?, Operator::MemoryCopy { .. } | Operator::MemoryFill { .. }) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Writer {
    /// Everything up to the body's own `end`, which closes the block.
    fn operators(&mut self, body: &FunctionBody<'_>, plan: &Plan) -> Result<(), MeterError> {
        let mut depth = 0_u32;
        let mut before = None;
        for (number, operator) in body.get_operators_reader()?.into_iter().enumerate() {
            let operator = operator?;
            let is_loop = matches!(operator, Operator::Loop { .. });
            match &operator {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => depth += 1,
                Operator::End if depth > 0 => depth -= 1,
                Operator::MemoryCopy { dst_mem: 0, src_mem: 0 } | Operator::MemoryFill { mem: 0 } => {
                    self.bulk(&operator, before.take())?;
                    if let Some(units) = plan.after.get(&number) {
                        self.add(*units);
                    }
                    continue;
                }
                Operator::MemoryCopy { .. } | Operator::MemoryFill { .. } => {
                    return Err(unsupported(operator));
                }
                Operator::Return => {
                    self.emit(&Instruction::Br(depth));
                    continue;
                }
                Operator::ReturnCall { .. }
                | Operator::ReturnCallIndirect { .. }
                | Operator::ReturnCallRef { .. }
                | Operator::Throw { .. }
                | Operator::ThrowRef
                | Operator::TryTable { .. } => return Err(unsupported(operator)),
                _ => {}
            }
            if let Some(is_taken) = plan.hints.get(&number) {
                self.hint(*is_taken);
            }
            before = match operator {
                Operator::I32Const { value } => Some(value),
                _ => None,
            };
            self.emit(&RoundtripReencoder.instruction(operator).map_err(unsupported)?);
            if let Some(units) = plan.after.get(&number) {
                self.add(*units);
            }
            if is_loop {
                self.check();
            }
        }
        Ok(())
    }

    fn emit(&mut self, instruction: &Instruction<'_>) {
        self.function.instruction(instruction);
    }

    /// Says of the branch that comes next which way it is likely to go.
    fn hint(&mut self, is_taken: bool) {
        self.hints.push(BranchHint {
            branch_func_offset: u32::try_from(self.function.byte_len()).unwrap_or(u32::MAX),
            branch_hint_value: is_taken.into(),
        });
    }

    fn add(&mut self, units: i64) {
        let Some(counted) = self.counted else { return };
        self.emit(&Instruction::LocalGet(counted));
        self.emit(&Instruction::I64Const(units));
        self.emit(&Instruction::I64Add);
        self.emit(&Instruction::LocalSet(counted));
    }

    /// An operation on as many bytes as the top of the operand stack says, which is `constant` if the
    /// operator before it was one. What is longer than a piece is done, and counted, by a function.
    fn bulk(&mut self, operator: &Operator<'_>, constant: Option<i32>) -> Result<(), MeterError> {
        let operation = RoundtripReencoder.instruction(operator.clone()).map_err(unsupported)?;
        if let Some(length) = constant.filter(|length| (0..=bulk::PIECE_BYTES).contains(length)) {
            self.add(i64::from(length) >> cost::BULK_SHIFT);
            self.emit(&operation);
            return Ok(());
        }
        let whole =
            if matches!(operator, Operator::MemoryFill { .. }) { self.added.fill } else { self.added.copy };
        self.emit(&Instruction::LocalTee(self.length));
        self.emit(&Instruction::LocalGet(self.length));
        self.emit(&Instruction::I32Const(bulk::PIECE_BYTES));
        self.emit(&Instruction::I32GtU);
        self.hint(false);
        self.emit(&Instruction::If(BlockType::FunctionType(self.added.bulk)));
        self.emit(&Instruction::Call(whole));
        self.emit(&Instruction::Else);
        self.add_length();
        self.emit(&operation);
        self.emit(&Instruction::End);
        Ok(())
    }

    /// Counts the bytes of a short operation.
    fn add_length(&mut self) {
        let Some(counted) = self.counted else { return };
        self.emit(&Instruction::LocalGet(self.length));
        self.emit(&Instruction::I64ExtendI32U);
        self.emit(&Instruction::I64Const(cost::BULK_SHIFT));
        self.emit(&Instruction::I64ShrU);
        self.emit(&Instruction::LocalGet(counted));
        self.emit(&Instruction::I64Add);
        self.emit(&Instruction::LocalSet(counted));
    }

    /// Moves a large count into the counter, so that no loop runs on without fuel.
    fn check(&mut self) {
        let Some(counted) = self.counted else { return };
        self.emit(&Instruction::LocalGet(counted));
        self.emit(&Instruction::I64Const(LAG_MAX));
        self.emit(&Instruction::I64GeS);
        self.hint(false);
        self.emit(&Instruction::If(BlockType::Empty));
        self.emit(&Instruction::LocalGet(counted));
        self.emit(&Instruction::Call(self.added.charge));
        self.emit(&Instruction::I64Const(0));
        self.emit(&Instruction::LocalSet(counted));
        self.emit(&Instruction::End);
    }

    /// Moves the count into the counter before the function returns.
    fn settle(&mut self, plan: &Plan) {
        self.emit(&Instruction::GlobalGet(self.added.fuel));
        self.emit(&match self.counted {
            Some(counted) => Instruction::LocalGet(counted),
            None => Instruction::I64Const(plan.entry),
        });
        self.emit(&Instruction::I64Add);
        self.emit(&Instruction::GlobalSet(self.added.fuel));
        self.emit(&Instruction::GlobalGet(self.added.fuel));
        self.emit(&Instruction::I64Const(0));
        self.emit(&Instruction::I64GeS);
        self.hint(false);
        self.emit(&Instruction::If(BlockType::Empty));
        self.emit(&Instruction::Call(self.added.refuel));
        self.emit(&Instruction::End);
    }
}
