//! The whole module: the same sections, with a global, two functions and counting bodies.

use wasm_encoder::reencode::{Error, Reencode, RoundtripReencoder, utils};
use wasm_encoder::{
    BlockType, BranchHints, CodeSection, ConstExpr, ExportKind, ExportSection, Function, FunctionSection,
    GlobalSection, GlobalType, Instruction, Module, SectionId, TypeSection, ValType,
};
use wasmparser::{
    CodeSectionReader, ExportSectionReader, FunctionBody, FunctionSectionReader, GlobalSectionReader, Parser,
    TypeSectionReader,
};

use crate::body::{self, Added};
use crate::profile::Profile;
use crate::survey::Survey;
use crate::{Counter, MeterError, bulk};

struct Rewriter<'a> {
    survey: &'a Survey,
    counter: Counter<'a>,
    refuel_import: u32,
    profile: &'a Profile,
    hints: BranchHints,
    added: Added,
    has_counter: bool,
    /// Number of the next body.
    body: usize,
}

pub(crate) fn rewrite(
    wasm: &[u8],
    survey: &Survey,
    counter: Counter<'_>,
    profile: &Profile,
) -> Result<Vec<u8>, MeterError> {
    let refuel_import = survey.refuel(counter)?;
    let functions = survey.functions();
    let added = Added {
        fuel: survey.globals,
        charge: functions,
        refuel: functions + 1,
        copy: functions + 2,
        fill: functions + 3,
        bulk: survey.types() + 2,
    };
    let mut rewriter = Rewriter {
        survey,
        counter,
        refuel_import,
        profile,
        hints: BranchHints::new(),
        added,
        has_counter: false,
        body: 0,
    };
    let mut module = Module::new();
    rewriter.parse_core_module(&mut module, Parser::new(0), wasm).map_err(plain)?;
    module.section(&rewriter.hints);
    Ok(module.finish())
}

pub(crate) fn plain(error: Error<MeterError>) -> MeterError {
    match error {
        Error::ParseError(error) => MeterError::Invalid(error),
        Error::UserError(error) => error,
        other => MeterError::Unsupported(other.to_string()),
    }
}

impl Reencode for Rewriter<'_> {
    type Error = MeterError;

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: TypeSectionReader<'_>,
    ) -> Result<(), Error<MeterError>> {
        utils::parse_type_section(self, types, section)?;
        types.ty().function([ValType::I64], []);
        types.ty().function([], []);
        types.ty().function(bulk::PARAMS, []);
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), Error<MeterError>> {
        utils::parse_function_section(self, functions, section)?;
        functions.function(self.survey.types());
        functions.function(self.survey.types() + 1);
        if self.survey.moves_bytes {
            functions.function(self.added.bulk);
            functions.function(self.added.bulk);
        }
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: GlobalSectionReader<'_>,
    ) -> Result<(), Error<MeterError>> {
        utils::parse_global_section(self, globals, section)?;
        self.add_counter(globals);
        Ok(())
    }

    /// A module that had no globals gets a section for the counter.
    fn intersperse_section_hook(
        &mut self,
        module: &mut Module,
        _after: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Result<(), Error<MeterError>> {
        let comes_after_globals = matches!(
            before,
            Some(
                SectionId::Export
                    | SectionId::Start
                    | SectionId::Element
                    | SectionId::DataCount
                    | SectionId::Code
                    | SectionId::Data
            )
        );
        if comes_after_globals && !self.has_counter {
            let mut globals = GlobalSection::new();
            self.add_counter(&mut globals);
            module.section(&globals);
        }
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: ExportSectionReader<'_>,
    ) -> Result<(), Error<MeterError>> {
        utils::parse_export_section(self, exports, section)?;
        exports.export(self.counter.global, ExportKind::Global, self.added.fuel);
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: CodeSectionReader<'_>,
    ) -> Result<(), Error<MeterError>> {
        utils::parse_code_section(self, code, section)?;
        self.add_helpers(code);
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        function: FunctionBody<'_>,
    ) -> Result<(), Error<MeterError>> {
        let number = self.body;
        self.body += 1;
        if self.survey.is_light(number) {
            return utils::parse_function_body(&mut RoundtripReencoder, code, function)
                .map_err(|error| Error::UserError(MeterError::Unsupported(error.to_string())));
        }
        let profile = self.profile.body(number);
        let (function, hints) =
            body::rewrite(&function, self.survey, &profile, self.added).map_err(Error::UserError)?;
        let index = self.survey.imported_functions + u32::try_from(number).unwrap_or(u32::MAX);
        self.hints.function_hints(index, hints);
        code.function(&function);
        Ok(())
    }
}

impl Rewriter<'_> {
    fn add_counter(&mut self, globals: &mut GlobalSection) {
        let ty = GlobalType { val_type: ValType::I64, mutable: true, shared: false };
        globals.global(ty, &ConstExpr::i64_const(0));
        self.has_counter = true;
    }

    fn add_helpers(&self, code: &mut CodeSection) {
        let Added { fuel, charge: charge_index, refuel, .. } = self.added;

        let mut charge = Function::new([]);
        for instruction in [
            Instruction::GlobalGet(fuel),
            Instruction::LocalGet(0),
            Instruction::I64Add,
            Instruction::GlobalSet(fuel),
            Instruction::GlobalGet(fuel),
            Instruction::I64Const(0),
            Instruction::I64GeS,
            Instruction::If(BlockType::Empty),
            Instruction::Call(refuel),
            Instruction::End,
            Instruction::End,
        ] {
            charge.instruction(&instruction);
        }
        code.function(&charge);

        let most = i64::from(i32::MAX);
        let mut ask = Function::new([]);
        for instruction in [
            Instruction::I32Const(self.counter.op),
            Instruction::GlobalGet(fuel),
            Instruction::I64Const(most),
            Instruction::GlobalGet(fuel),
            Instruction::I64Const(most),
            Instruction::I64LtS,
            Instruction::Select,
            Instruction::I32WrapI64,
            Instruction::I32Const(0),
            Instruction::Call(self.refuel_import),
            Instruction::GlobalSet(fuel),
            Instruction::End,
        ] {
            ask.instruction(&instruction);
        }
        code.function(&ask);
        if self.survey.moves_bytes {
            code.function(&bulk::copy(fuel, charge_index));
            code.function(&bulk::fill(fuel, charge_index));
        }
    }
}
