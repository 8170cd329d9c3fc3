//! Which way control goes in a typical run.
//!
//! [`instrument`] gives a module that counts, in a second memory, how often each function is entered
//! and which way each branch is taken. Who builds the guest runs typical scripts in it, and hands what
//! that memory then holds to [`Profile::read`].

use wasm_encoder::reencode::{Error, Reencode, RoundtripReencoder, utils};
use wasm_encoder::{
    CodeSection, ExportKind, ExportSection, Function, Instruction, MemArg, MemorySection, MemoryType, Module,
    ValType,
};
use wasmparser::{ExportSectionReader, FunctionBody, MemorySectionReader, Operator, Parser, Payload};

use crate::MeterError;
use crate::survey::Survey;

/// The exported memory in which an instrumented module counts. It is the module's second one.
pub const PROFILE: &str = "profile";

const MEMORY: u32 = 1;
const PAGE_BYTES: u64 = 64 << 10;
const SLOT_BYTES: u64 = 8;

/// How often control went where; empty if nobody looked.
#[derive(Debug, Default)]
pub struct Profile {
    bodies: Vec<BodyProfile>,
}

/// The part of one function.
#[derive(Debug, Default, Clone)]
pub(crate) struct BodyProfile {
    /// The counts of each branch, in the order of the operators.
    branches: Vec<Box<[u64]>>,
}

impl Profile {
    /// Reads what [`instrument`]'s version of `wasm` has counted.
    ///
    /// # Errors
    /// When `counts` is not the memory of an instrumented `wasm`.
    pub fn read(wasm: &[u8], counts: &[u8]) -> Result<Self, MeterError> {
        let mut counts =
            counts.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()));
        let mut bodies = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            if let Payload::CodeSectionEntry(body) = payload? {
                let mut branches = Vec::new();
                for operator in body.get_operators_reader()? {
                    let slots = slots(&operator?);
                    if slots > 0 {
                        let branch: Box<[u64]> = counts.by_ref().take(slots).collect();
                        if branch.len() < slots {
                            return Err(MeterError::Unsupported("a profile of another module".into()));
                        }
                        branches.push(branch);
                    }
                }
                bodies.push(BodyProfile { branches });
            }
        }
        Ok(Self { bodies })
    }

    pub(crate) fn body(&self, number: usize) -> BodyProfile {
        self.bodies.get(number).cloned().unwrap_or_default()
    }
}

impl BodyProfile {
    /// How the `number`th branch of the function went: the share of each way, if it was ever reached.
    pub(crate) fn shares(&self, number: usize) -> Option<Vec<f64>> {
        let counts = self.branches.get(number)?;
        let total: u64 = counts.iter().sum();
        #[expect(clippy::cast_precision_loss, reason = "shares need no 64 bits")]
        (total > 0).then(|| counts.iter().map(|count| *count as f64 / total as f64).collect())
    }
}

/// Ways out of an operator: not taken and taken, or the targets of a table and its default.
pub(crate) fn slots(operator: &Operator<'_>) -> usize {
    match operator {
        Operator::If { .. } | Operator::BrIf { .. } => 2,
        Operator::BrTable { targets } => targets.len() as usize + 1,
        _ => 0,
    }
}

/// The same module, counting which way control goes.
///
/// # Errors
/// As [`crate::meter`].
pub fn instrument(wasm: &[u8]) -> Result<Vec<u8>, MeterError> {
    let survey = Survey::of(wasm)?;
    let mut slot_count = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::CodeSectionEntry(body) = payload? {
            for operator in body.get_operators_reader()? {
                slot_count += slots(&operator?) as u64;
            }
        }
    }
    let mut instrument = Instrument { survey: &survey, slot_count, body: 0, slot: 0 };
    let mut module = Module::new();
    instrument.parse_core_module(&mut module, Parser::new(0), wasm).map_err(crate::module::plain)?;
    Ok(module.finish())
}

struct Instrument<'a> {
    survey: &'a Survey,
    slot_count: u64,
    body: usize,
    slot: u64,
}

impl Reencode for Instrument<'_> {
    type Error = MeterError;

    fn parse_memory_section(
        &mut self,
        memories: &mut MemorySection,
        section: MemorySectionReader<'_>,
    ) -> Result<(), Error<MeterError>> {
        utils::parse_memory_section(self, memories, section)?;
        memories.memory(MemoryType {
            minimum: (self.slot_count * SLOT_BYTES).div_ceil(PAGE_BYTES),
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: ExportSectionReader<'_>,
    ) -> Result<(), Error<MeterError>> {
        utils::parse_export_section(self, exports, section)?;
        exports.export(PROFILE, ExportKind::Memory, MEMORY);
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Result<(), Error<MeterError>> {
        let mut locals = Vec::new();
        let mut way = u32::try_from(self.survey.signature(self.body).map_err(Error::UserError)?.params.len())
            .unwrap_or(u32::MAX);
        self.body += 1;
        for group in body.get_locals_reader()? {
            let (count, ty) = group?;
            way = way.saturating_add(count);
            locals.push((count, self.val_type(ty)?));
        }
        locals.push((1, ValType::I32));
        let mut function = Function::new(locals);
        for operator in body.get_operators_reader()? {
            let operator = operator?;
            let slots = slots(&operator) as u64;
            if slots > 0 {
                self.count(&mut function, way, slots);
                self.slot += slots;
            }
            function.instruction(
                &RoundtripReencoder
                    .instruction(operator)
                    .map_err(|error| Error::UserError(MeterError::Unsupported(error.to_string())))?,
            );
        }
        code.function(&function);
        Ok(())
    }
}

impl Instrument<'_> {
    /// Adds 1 to the slot that the operand chooses: the last one if it is beyond.
    fn count(&self, function: &mut Function, way: u32, slots: u64) {
        let last = i32::try_from(slots - 1).unwrap_or(i32::MAX);
        let at = MemArg { offset: self.slot * SLOT_BYTES, align: 3, memory_index: MEMORY };
        for instruction in [
            Instruction::LocalTee(way),
            // From here on above the operand.
            Instruction::LocalGet(way),
            Instruction::I32Const(last),
            Instruction::LocalGet(way),
            Instruction::I32Const(last),
            Instruction::I32LtU,
            Instruction::Select,
            Instruction::I32Const(3),
            Instruction::I32Shl,
            Instruction::LocalTee(way),
            Instruction::LocalGet(way),
            Instruction::I64Load(at),
            Instruction::I64Const(1),
            Instruction::I64Add,
            Instruction::I64Store(at),
        ] {
            function.instruction(&instruction);
        }
    }
}
