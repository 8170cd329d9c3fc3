//! Arguments on the stack, as wide as they are read.
//!
//! Cranelift passes the first arguments of a call in registers and the others on the stack. There a caller
//! writes the four bytes of an `i32`, and on x86-64 the callee reads eight (`gen_load_stack` in Cranelift's
//! `isa/x64/abi.rs`). A processor hands what was just written to a read only if one write covers all of it;
//! otherwise the read waits until the bytes have reached the cache, a dozen cycles in every call. The functions of
//! an interpreter have many parameters: this was an eighth of the time of a script that computes (ADR 22).
//!
//! So parameters of type `i32` that go on the stack become `i64`. Callers extend, callees wrap, and a processor
//! does both for next to nothing.

use wasm_encoder::reencode::{Error, Reencode, RoundtripReencoder};
use wasm_encoder::{CodeSection, FuncType, Function, Instruction, Module};
use wasmparser::{BlockType, FunctionBody, Operator, Parser, ValType};

use crate::MeterError;
use crate::module::plain;
use crate::survey::{Signature, Survey};

/// Arguments of integer types that go in registers: six on x86-64, of which two are the engine's.
/// Where there are more, as on aarch64, some are wider than they had to be.
const IN_REGISTERS: usize = 4;

/// The same module, with parameters as wide as their places on the stack.
///
/// # Errors
/// When the module is not valid, imports or exports a function with so many parameters that its type would
/// change, or uses proposals beyond WebAssembly 2.0 by which functions are called (tail calls, references).
pub fn widen_arguments(wasm: &[u8]) -> Result<Vec<u8>, MeterError> {
    let survey = Survey::of(wasm)?;
    for function in survey.outward_functions() {
        if first_widened(survey.signature_of(function)?).is_some() {
            return Err(MeterError::Unsupported(format!(
                "function {function} has more than {IN_REGISTERS} parameters and is imported or exported"
            )));
        }
    }
    let mut module = Module::new();
    let mut widener = Widener { survey: &survey, body: 0 };
    widener.parse_core_module(&mut module, Parser::new(0), wasm).map_err(plain)?;
    Ok(module.finish())
}

const fn is_widened(position: usize, ty: ValType) -> bool {
    position >= IN_REGISTERS && matches!(ty, ValType::I32)
}

fn first_widened(signature: &Signature) -> Option<usize> {
    signature.params.iter().enumerate().position(|(position, ty)| is_widened(position, *ty))
}

/// The type a parameter has afterwards.
fn width(position: usize, ty: ValType) -> ValType {
    if is_widened(position, ty) { ValType::I64 } else { ty }
}

struct Widener<'a> {
    survey: &'a Survey,
    /// Number of the next body.
    body: usize,
}

impl Reencode for Widener<'_> {
    type Error = MeterError;

    fn func_type(&mut self, ty: wasmparser::FuncType) -> Result<FuncType, Error<MeterError>> {
        let params = ty.params().iter().enumerate().map(|(position, ty)| width(position, *ty)).collect();
        let (params, results) = (self.val_types(params)?, self.val_types(ty.results().to_vec())?);
        Ok(FuncType::new(params, results))
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        function: FunctionBody<'_>,
    ) -> Result<(), Error<MeterError>> {
        let signature = self.survey.signature(self.body).map_err(Error::UserError)?;
        self.body += 1;
        let mut writer = Writer::new(self.survey, signature, &function).map_err(Error::UserError)?;
        writer.enter(signature);
        for operator in function.get_operators_reader()? {
            writer.operator(operator?).map_err(Error::UserError)?;
        }
        code.function(&writer.function);
        Ok(())
    }
}

/// Writes one function anew.
struct Writer<'a> {
    survey: &'a Survey,
    function: Function,
    /// For each widened parameter, the local that has its value as an `i32`.
    narrow: Vec<Option<u32>>,
    /// Locals that hold arguments while one below them is extended: by position and type.
    held: Vec<(usize, ValType, u32)>,
    /// The same for the element of a table that is called.
    element: u32,
}

impl<'a> Writer<'a> {
    fn new(
        survey: &'a Survey,
        signature: &Signature,
        function: &FunctionBody<'_>,
    ) -> Result<Self, MeterError> {
        let mut locals = Vec::new();
        let mut next = u32::try_from(signature.params.len()).unwrap_or(u32::MAX);
        for local in function.get_locals_reader()? {
            let (count, ty) = local?;
            next = next.saturating_add(count);
            locals.push((count, ty));
        }
        let mut add = |ty| {
            locals.push((1, ty));
            next += 1;
            next - 1
        };
        let positions = signature.params.iter().enumerate();
        let narrow =
            positions.map(|(position, ty)| is_widened(position, *ty).then(|| add(ValType::I32))).collect();
        let element = add(ValType::I32);
        let mut held: Vec<(usize, ValType, u32)> = Vec::new();
        for operator in function.get_operators_reader()? {
            let Some(callee) = callee(survey, &operator?)? else { continue };
            for (position, ty) in covering(callee) {
                if !held.iter().any(|other| (other.0, other.1) == (position, ty)) {
                    held.push((position, ty, add(ty)));
                }
            }
        }
        let mut reencoder = RoundtripReencoder;
        let locals = locals.into_iter().map(|(count, ty)| Ok((count, reencoder.val_type(ty)?)));
        let locals: Result<Vec<_>, Error> = locals.collect();
        let function = Function::new(locals.map_err(|error| MeterError::Unsupported(error.to_string()))?);
        Ok(Self { survey, function, narrow, held, element })
    }

    /// Has the widened parameters' values where the function looks for them.
    fn enter(&mut self, signature: &Signature) {
        for position in 0..signature.params.len() {
            if let Some(local) = self.narrow[position] {
                self.emit(&Instruction::LocalGet(u32::try_from(position).unwrap_or(u32::MAX)));
                self.emit(&Instruction::I32WrapI64);
                self.emit(&Instruction::LocalSet(local));
            }
        }
    }

    fn operator(&mut self, operator: Operator<'_>) -> Result<(), MeterError> {
        match operator {
            Operator::LocalGet { local_index } => self.emit(&Instruction::LocalGet(self.local(local_index))),
            Operator::LocalSet { local_index } => self.emit(&Instruction::LocalSet(self.local(local_index))),
            Operator::LocalTee { local_index } => self.emit(&Instruction::LocalTee(self.local(local_index))),
            Operator::ReturnCall { .. }
            | Operator::ReturnCallIndirect { .. }
            | Operator::ReturnCallRef { .. }
            | Operator::CallRef { .. } => return Err(unsupported(operator)),
            Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty }
                if self.takes_widened(blockty)? =>
            {
                return Err(unsupported(operator));
            }
            _ => {
                let is_indirect = matches!(operator, Operator::CallIndirect { .. });
                if let Some(callee) = callee(self.survey, &operator)? {
                    self.extend_arguments(callee, is_indirect);
                }
                self.emit(&RoundtripReencoder.instruction(operator).map_err(unsupported)?);
            }
        }
        Ok(())
    }

    /// The arguments are on the operand stack: those over the first to be extended are put aside, each
    /// extended on the way, and put back.
    fn extend_arguments(&mut self, callee: &Signature, is_indirect: bool) {
        let Some(first) = first_widened(callee) else { return };
        let aside: Vec<(usize, u32)> =
            covering(callee).map(|(position, ty)| (position, self.held_in(position, ty))).collect();
        if is_indirect {
            self.emit(&Instruction::LocalSet(self.element));
        }
        for &(position, local) in aside.iter().rev() {
            if is_widened(position, callee.params[position]) {
                self.emit(&Instruction::I64ExtendI32U);
            }
            self.emit(&Instruction::LocalSet(local));
        }
        debug_assert!(is_widened(first, callee.params[first]));
        self.emit(&Instruction::I64ExtendI32U);
        for (_, local) in aside {
            self.emit(&Instruction::LocalGet(local));
        }
        if is_indirect {
            self.emit(&Instruction::LocalGet(self.element));
        }
    }

    fn held_in(&self, position: usize, ty: ValType) -> u32 {
        let held = self.held.iter().find(|held| (held.0, held.1) == (position, ty));
        held.expect("`new` looked at the same calls").2
    }

    fn local(&self, index: u32) -> u32 {
        self.narrow.get(index as usize).copied().flatten().unwrap_or(index)
    }

    fn takes_widened(&self, block: BlockType) -> Result<bool, MeterError> {
        let BlockType::FuncType(ty) = block else { return Ok(false) };
        Ok(first_widened(self.survey.signature_of_type(ty)?).is_some())
    }

    fn emit(&mut self, instruction: &Instruction<'_>) {
        self.function.instruction(instruction);
    }
}

/// Whom an operator calls.
fn callee<'a>(survey: &'a Survey, operator: &Operator<'_>) -> Result<Option<&'a Signature>, MeterError> {
    Ok(match operator {
        Operator::Call { function_index } => Some(survey.signature_of(*function_index)?),
        Operator::CallIndirect { type_index, .. } => Some(survey.signature_of_type(*type_index)?),
        _ => None,
    })
}

/// The parameters that lie over the first that is widened, with the types they have afterwards.
fn covering(callee: &Signature) -> impl Iterator<Item = (usize, ValType)> {
    let first = first_widened(callee).unwrap_or(callee.params.len());
    callee.params.iter().enumerate().skip(first + 1).map(|(position, ty)| (position, width(position, *ty)))
}

fn unsupported(what: impl std::fmt::Debug) -> MeterError {
    MeterError::Unsupported(format!("{what:?}"))
}
