//! One function, counting.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{BlockType, BranchHint, Function, Instruction};
use wasmparser::{FunctionBody, Operator};

use crate::plan::{self, Plan};
use crate::profile::BodyProfile;
use crate::survey::Survey;
use crate::{MeterError, bulk, cost};

/// Numbers of what the pass adds to the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Added {
    pub(crate) fuel: u32,
    /// `(units: i64)`: adds to the counter, and asks for more if it is spent.
    pub(crate) charge: u32,
    /// `()`: asks for more.
    pub(crate) refuel: u32,
    /// What moves bytes and counts them; they are there if the module moves bytes at all.
    pub(crate) copy: u32,
    pub(crate) fill: u32,
    /// The type of those two.
    pub(crate) bulk: u32,
}

struct Writer {
    function: Function,
    added: Added,
    hints: Vec<BranchHint>,
}

/// Rewrites a body, where `…_UNITS` is what the plan says:
///
/// ```wat
/// (global.set $fuel (i64.add (global.get $fuel) (i64.const ENTRY_UNITS)))
/// (if (i64.ge_s (global.get $fuel) (i64.const 0)) (then (call $refuel)))
/// …
/// (loop
///   (global.set $fuel (i64.add (global.get $fuel) (i64.const LOOP_UNITS)))
///   (if (i64.ge_s (global.get $fuel) (i64.const 0)) (then (call $refuel)))
///   …)
/// ```
///
/// Where a seldom region begins, it adds to the counter and does not ask: what comes before the next
/// loop or call is bounded. An addition to memory is one instruction; kept in a variable, the count would
/// take a register from everything else in the function.
pub(crate) fn rewrite(
    body: &FunctionBody<'_>,
    survey: &Survey,
    profile: &BodyProfile,
    added: Added,
) -> Result<(Function, Vec<BranchHint>), MeterError> {
    let plan = plan::of(body, survey, profile)?;
    let mut locals = Vec::new();
    for group in body.get_locals_reader()? {
        let (count, ty) = group?;
        locals.push((count, RoundtripReencoder.val_type(ty).map_err(unsupported)?));
    }
    let mut writer = Writer { function: Function::new(locals), added, hints: Vec::new() };
    writer.count(plan.entry);
    writer.ask();
    writer.operators(body, &plan)?;
    Ok((writer.function, writer.hints))
}

pub(crate) fn moves_bytes(body: &FunctionBody<'_>) -> Result<bool, MeterError> {
    for operator in body.get_operators_reader()? {
        if matches!(operator?, Operator::MemoryCopy { .. } | Operator::MemoryFill { .. }) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn unsupported(what: impl std::fmt::Debug) -> MeterError {
    MeterError::Unsupported(format!("{what:?}"))
}

impl Writer {
    fn operators(&mut self, body: &FunctionBody<'_>, plan: &Plan) -> Result<(), MeterError> {
        let mut before = None;
        for (number, operator) in body.get_operators_reader()?.into_iter().enumerate() {
            let operator = operator?;
            if let Some(is_taken) = plan.hints.get(&number) {
                self.hint(*is_taken);
            }
            let is_loop = matches!(operator, Operator::Loop { .. });
            let constant = before.take();
            if let Operator::I32Const { value } = operator {
                before = Some(value);
            }
            match operator {
                Operator::MemoryCopy { dst_mem: 0, src_mem: 0 } => {
                    self.bulk(&operator, self.added.copy, constant)?;
                }
                Operator::MemoryFill { mem: 0 } => self.bulk(&operator, self.added.fill, constant)?,
                Operator::MemoryCopy { .. }
                | Operator::MemoryFill { .. }
                | Operator::ReturnCall { .. }
                | Operator::ReturnCallIndirect { .. }
                | Operator::ReturnCallRef { .. }
                | Operator::Throw { .. }
                | Operator::ThrowRef
                | Operator::TryTable { .. } => return Err(unsupported(operator)),
                _ => self.emit(&RoundtripReencoder.instruction(operator).map_err(unsupported)?),
            }
            if let Some(units) = plan.after.get(&number) {
                self.count(*units);
            }
            if is_loop {
                self.ask();
            }
        }
        Ok(())
    }

    /// An operation on as many bytes as the top of the operand stack says, which is `constant` if the
    /// operator before it was one. A short constant stays one instruction, of which wasmtime makes a few
    /// moves; else a function does it, and counts.
    fn bulk(
        &mut self,
        operator: &Operator<'_>,
        function: u32,
        constant: Option<i32>,
    ) -> Result<(), MeterError> {
        let Some(length) = constant.filter(|length| (0..=bulk::PIECE_BYTES).contains(length)) else {
            self.emit(&Instruction::Call(function));
            return Ok(());
        };
        self.emit(&RoundtripReencoder.instruction(operator.clone()).map_err(unsupported)?);
        let units = i64::from(length) >> cost::BULK_SHIFT;
        if units > 0 {
            self.count(units);
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

    fn count(&mut self, units: i64) {
        self.emit(&Instruction::GlobalGet(self.added.fuel));
        self.emit(&Instruction::I64Const(units));
        self.emit(&Instruction::I64Add);
        self.emit(&Instruction::GlobalSet(self.added.fuel));
    }

    /// Asks for more if the counter is spent.
    fn ask(&mut self) {
        self.emit(&Instruction::GlobalGet(self.added.fuel));
        self.emit(&Instruction::I64Const(0));
        self.emit(&Instruction::I64GeS);
        self.hint(false);
        self.emit(&Instruction::If(BlockType::Empty));
        self.emit(&Instruction::Call(self.added.refuel));
        self.emit(&Instruction::End);
    }
}
