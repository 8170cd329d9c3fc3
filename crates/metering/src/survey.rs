//! What must be known of a module before it is rewritten.

use wasmparser::{ExternalKind, Operator, Parser, Payload, TypeRef, ValType};

use crate::{Counter, MeterError, body, cost};

/// Most units of a light function. Its caller is charged all of them, so the larger this is, the
/// less exact is the count.
const LIGHT_MAX: u32 = 40;

/// The types, numbers and weights of a module's functions.
#[derive(Debug)]
pub(crate) struct Survey {
    /// Parameters and results by type.
    types: Vec<Signature>,
    /// The type of each function that the module defines.
    bodies: Vec<u32>,
    pub(crate) imported_functions: u32,
    pub(crate) globals: u32,
    /// Module, name and type of each imported function.
    imports: Vec<(String, String, u32)>,
    exports: Vec<String>,
    /// Functions that the host can call by a name.
    exported_functions: Vec<u32>,
    /// Whether any function copies or fills memory.
    pub(crate) moves_bytes: bool,
    /// Units of each defined function that is light.
    light: Vec<Option<u32>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Signature {
    pub(crate) params: Vec<ValType>,
    pub(crate) results: Vec<ValType>,
}

/// What matters of a function's body.
#[derive(Debug, Default)]
struct Weight {
    units: u32,
    callees: Vec<u32>,
    /// It loops, or calls what is only known when it runs.
    is_heavy: bool,
}

impl Survey {
    pub(crate) fn of(wasm: &[u8]) -> Result<Self, MeterError> {
        let mut survey = Self {
            types: Vec::new(),
            imports: Vec::new(),
            exports: Vec::new(),
            exported_functions: Vec::new(),
            bodies: Vec::new(),
            imported_functions: 0,
            globals: 0,
            moves_bytes: false,
            light: Vec::new(),
        };
        let mut weights = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::TypeSection(types) => {
                    for ty in types.into_iter_err_on_gc_types() {
                        let ty = ty?;
                        survey
                            .types
                            .push(Signature { params: ty.params().into(), results: ty.results().into() });
                    }
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import?;
                        match import.ty {
                            TypeRef::Func(ty) => {
                                survey.imports.push((import.module.into(), import.name.into(), ty));
                                survey.imported_functions += 1;
                            }
                            TypeRef::Global(_) => survey.globals += 1,
                            _ => {}
                        }
                    }
                }
                Payload::FunctionSection(functions) => {
                    survey.bodies = functions.into_iter().collect::<Result<_, _>>()?;
                }
                Payload::GlobalSection(globals) => survey.globals += globals.count(),
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        survey.exports.push(export.name.to_owned());
                        if export.kind == ExternalKind::Func {
                            survey.exported_functions.push(export.index);
                        }
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    survey.moves_bytes |= body::moves_bytes(&body)?;
                    let mut weight = Weight::default();
                    for operator in body.get_operators_reader()? {
                        weight.add(&operator?);
                    }
                    weights.push(weight);
                }
                _ => {}
            }
        }
        survey.light = light(&weights, survey.imported_functions);
        Ok(survey)
    }

    /// The number of the import that is asked for more fuel.
    pub(crate) fn refuel(&self, counter: Counter<'_>) -> Result<u32, MeterError> {
        let is_it = |(module, name, ty): &(String, String, u32)| {
            module == counter.module
                && name == counter.import
                && self.types.get(*ty as usize).is_some_and(asks_for_fuel)
        };
        let position = self.imports.iter().position(is_it).and_then(|number| u32::try_from(number).ok());
        if self.exports.iter().any(|export| export == counter.global) {
            return Err(MeterError::HasCounter(counter.global.into()));
        }
        position.ok_or_else(|| MeterError::NoImport {
            module: counter.module.into(),
            name: counter.import.into(),
        })
    }

    pub(crate) fn signature(&self, body: usize) -> Result<&Signature, MeterError> {
        let ty = self.bodies.get(body).and_then(|ty| self.types.get(*ty as usize));
        ty.ok_or_else(|| MeterError::Unsupported(format!("function {body} has no type")))
    }

    /// That of any function, imported or defined.
    pub(crate) fn signature_of(&self, function: u32) -> Result<&Signature, MeterError> {
        match function.checked_sub(self.imported_functions) {
            Some(body) => self.signature(body as usize),
            None => self.signature_of_type(self.imports[function as usize].2),
        }
    }

    pub(crate) fn signature_of_type(&self, ty: u32) -> Result<&Signature, MeterError> {
        let signature = self.types.get(ty as usize);
        signature.ok_or_else(|| MeterError::Unsupported(format!("there is no type {ty}")))
    }

    /// The functions whose types the host knows.
    pub(crate) fn outward_functions(&self) -> impl Iterator<Item = u32> {
        (0..self.imported_functions).chain(self.exported_functions.iter().copied())
    }

    pub(crate) fn types(&self) -> u32 {
        u32::try_from(self.types.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn functions(&self) -> u32 {
        self.imported_functions.saturating_add(u32::try_from(self.bodies.len()).unwrap_or(u32::MAX))
    }

    pub(crate) fn is_light(&self, body: usize) -> bool {
        self.light.get(body).copied().flatten().is_some()
    }

    /// What a direct call of this function costs besides the call: 0 if the function counts for itself.
    pub(crate) fn units_of_callee(&self, function: u32) -> u32 {
        let body = function.checked_sub(self.imported_functions);
        body.and_then(|body| self.light.get(body as usize).copied().flatten()).unwrap_or(0)
    }
}

impl Weight {
    fn add(&mut self, operator: &Operator<'_>) {
        self.units = self.units.saturating_add(cost::of(operator));
        match operator {
            Operator::Call { function_index } => self.callees.push(*function_index),
            Operator::Loop { .. }
            | Operator::CallIndirect { .. }
            | Operator::CallRef { .. }
            | Operator::ReturnCall { .. }
            | Operator::ReturnCallIndirect { .. }
            | Operator::ReturnCallRef { .. }
            | Operator::TryTable { .. }
            | Operator::MemoryCopy { .. }
            | Operator::MemoryFill { .. }
            | Operator::MemoryGrow { .. } => self.is_heavy = true,
            _ => {}
        }
    }
}

/// A function is light if it cannot run long: no loop, no indirect call, and it calls only light
/// functions, which rules out recursion. Found from the leaves upwards.
fn light(weights: &[Weight], imported_functions: u32) -> Vec<Option<u32>> {
    let mut light = vec![None; weights.len()];
    loop {
        let mut is_changed = false;
        for (body, weight) in weights.iter().enumerate() {
            if light[body].is_some() || weight.is_heavy {
                continue;
            }
            let callees = weight.callees.iter().try_fold(weight.units, |units, callee| {
                let callee = callee.checked_sub(imported_functions)?;
                Some(units.saturating_add((*light.get(callee as usize)?)?))
            });
            if let Some(units) = callees.filter(|units| *units <= LIGHT_MAX) {
                light[body] = Some(units);
                is_changed = true;
            }
        }
        if !is_changed {
            return light;
        }
    }
}

fn asks_for_fuel(signature: &Signature) -> bool {
    signature.params == [ValType::I32; 3] && signature.results == [ValType::I64]
}
