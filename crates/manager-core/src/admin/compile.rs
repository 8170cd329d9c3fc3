//! Whether bundles compile, found out in workers, and what is said of those that do not.

use std::sync::Arc;

use shared::fault::Code;
use shared::invocation::{Compilation, ExecutionStatus, Refusal, Work, WorkResult};
use shared::limits::ScriptLimits;
use shared::name::ScriptName;
use shared::script::{Bundle, BundleHash, Diagnostic, Import};

use super::problem::ApiError;
use super::{Admin, outcome};
use crate::modules::{Dependent, Plan, PlanError};
use crate::store::apps::App;

/// How often a change is planned anew because the app's modules changed while workers compiled. The
/// first plan is the one that says what is to be compiled.
pub(super) const ATTEMPTS: usize = 5;

pub(super) fn keeps_changing() -> ApiError {
    ApiError::new(Code::Conflict, "the app's modules keep changing; try again")
}

/// Bundles that compile, each with the limits under which they do.
#[derive(Default)]
pub(super) struct Verified(Vec<(BundleHash, ScriptLimits)>);

impl Verified {
    pub(super) fn knows(&self, bundle: &Bundle, limits: ScriptLimits) -> bool {
        self.0.contains(&(bundle.hash(), limits))
    }

    pub(super) fn knows_dependents(&self, plan: &Plan) -> bool {
        plan.dependents.iter().all(|dependent| self.knows(&dependent.bundle, dependent.limits))
    }

    /// Compiles a bundle unless it is known; answers what its main source imports. `changed` is the
    /// module for whose sake this is done, when it is not the script itself.
    pub(super) async fn compile(
        &mut self,
        admin: &Admin,
        app: &App,
        bundle: &Arc<Bundle>,
        limits: ScriptLimits,
        changed: Option<&ScriptName>,
    ) -> Result<Vec<Import>, ApiError> {
        if self.knows(bundle, limits) {
            return Ok(Vec::new());
        }
        let limits_now = limits.for_compilation();
        let work = Work::Compile(Compilation {
            app: app.id,
            owner: app.owner_id,
            bundle: Arc::clone(bundle),
            limits: limits_now,
        });
        match admin.invoke.invoke(work).await {
            WorkResult::Compiled { imports } => {
                self.0.push((bundle.hash(), limits));
                Ok(imports)
            }
            WorkResult::Rejected(diagnostic) => Err(compile_error(bundle, diagnostic, changed)),
            WorkResult::NotCompiled(status) => Err(not_compiled(status)),
            WorkResult::Refused(refusal) => Err(outcome::refused(refusal)),
            WorkResult::Ran(_) => {
                tracing::error!("a compilation was answered as if it had been a run");
                Err(outcome::refused(Refusal::Overloaded))
            }
        }
    }

    pub(super) async fn compile_dependents(
        &mut self,
        admin: &Admin,
        app: &App,
        changed: &ScriptName,
        dependents: Vec<Dependent>,
    ) -> Result<(), ApiError> {
        for Dependent { bundle, limits, .. } in dependents {
            self.compile(admin, app, &Arc::new(bundle), limits, Some(changed)).await?;
        }
        Ok(())
    }
}

/// The problem of imports that lead nowhere, at the import in the source where the chain begins.
pub(super) fn unresolved(error: PlanError, name: &ScriptName, source: &str, imports: &[Import]) -> ApiError {
    let (script, error) = match error {
        PlanError::Import { script, error } => (script, error),
        PlanError::Database(error) => return error.into(),
        other => {
            return ApiError::new(Code::CompileError, other.to_string()).with("message", other.to_string());
        }
    };
    let of_itself = script == name.as_str();
    let first = imports.iter().find(|import| of_itself && error.chain.get(1) == Some(&import.name));
    let (line, column) = first.map_or((0, 0), |import| (import.line, import.column));
    let changed = (!of_itself).then_some(name);
    let diagnostic = Diagnostic { script, line, column, message: error.to_string() };
    let source = if of_itself { source } else { "" };
    described(diagnostic, source, changed).with("chain", error.chain)
}

fn compile_error(bundle: &Bundle, mut diagnostic: Diagnostic, changed: Option<&ScriptName>) -> ApiError {
    if diagnostic.script.is_empty() {
        diagnostic.script.clone_from(&bundle.name);
    }
    let module = bundle.modules.iter().find(|module| module.name == diagnostic.script);
    let source = module.map_or(&bundle.source, |module| &module.source);
    described(diagnostic, source, changed)
}

fn described(diagnostic: Diagnostic, source: &str, changed: Option<&ScriptName>) -> ApiError {
    let Diagnostic { script, line, column, message } = diagnostic;
    let at = (line as usize).checked_sub(1);
    let source_line = at.and_then(|at| source.lines().nth(at)).unwrap_or_default();
    let place = match line {
        0 => script.clone(),
        _ => format!("{script}:{line}:{column}"),
    };
    let detail = match changed {
        Some(module) => format!("a script that uses {module} would break: {place}: {message}"),
        None => format!("{place}: {message}"),
    };
    ApiError::new(Code::CompileError, detail)
        .with("script", script)
        .with("line", line)
        .with("column", column)
        .with("message", message)
        .with("source_line", source_line)
}

/// Compiling came to no verdict. A worker that was lost may not be the source's fault, and nothing has been written.
fn not_compiled(status: ExecutionStatus) -> ApiError {
    let message = match status {
        ExecutionStatus::FuelExhausted => "compiling exceeded its CPU limit",
        ExecutionStatus::MemoryExceeded => "compiling exceeded its memory limit",
        ExecutionStatus::Timeout | ExecutionStatus::Cancelled => "compiling exceeded its time limit",
        ExecutionStatus::WorkerLost => {
            let detail =
                "the worker that compiled the script was lost; nothing was changed, so send it again";
            return ApiError::new(Code::WorkerLost, detail).safe_to_retry();
        }
        _ => "the compiler gave up on the source",
    };
    ApiError::new(Code::CompileError, message).with("message", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_is_lost_while_it_compiles_leaves_nothing_done() {
        let problem = not_compiled(ExecutionStatus::WorkerLost).to_json("r1");
        assert_eq!((&problem["code"], &problem["retry"]), (&"worker_lost".into(), &"safe".into()));
        // The same code says of a run that it is unsafe.
        let ran = ApiError::new(Code::WorkerLost, "the worker was lost").to_json("r1");
        assert_eq!(ran["retry"], "unsafe");
    }
}
