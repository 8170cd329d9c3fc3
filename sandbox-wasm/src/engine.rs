//! The Rhai engine: what a script may use, how a bundle is compiled, how it is run.

use rhai::module_resolvers::StaticModuleResolver;
use rhai::packages::{Package, StandardPackage};
use rhai::{AST, Engine, EvalAltResult, Module, OptimizationLevel, ParseError, Position, Scope, Shared};
use shared::guest_abi::{GuestInput, LoadRequest};
use shared::limits::MODULES_MAX;
use shared::script::{Bundle, Diagnostic, Import, ScriptKind};
use shared::wire::codec;

use crate::needs::Needs;
use crate::outcome::{Outcome, truncate};
use crate::{ctx, imports, known, room, sort};

/// Functions a bundle may define: far beyond any honest script, and a bound on what calling
/// `compile` repeatedly could register.
const FUNCTIONS_MAX: usize = 10_000;
/// Variables alive at once.
const VARIABLES_MAX: usize = 100_000;

pub(crate) struct Guest {
    engine: Engine,
    loaded: Option<Loaded>,
}

struct Loaded {
    name: String,
    ast: AST,
    needs: Needs,
}

impl Guest {
    pub(crate) fn new() -> Self {
        let mut engine = Engine::new_raw();
        StandardPackage::new().register_into_engine(&mut engine);
        room::register(&mut engine);
        sort::register(&mut engine);
        // Code that was not deployed was not checked and is in no bundle.
        engine.disable_symbol("eval");
        // What a source imports is read from what it says, before anything is folded.
        engine.set_optimization_level(OptimizationLevel::None);
        engine.set_max_functions(FUNCTIONS_MAX);
        engine.set_max_variables(VARIABLES_MAX);
        engine.set_max_modules(MODULES_MAX);
        #[cfg(feature = "sdk")]
        sdk::register(&mut engine);
        known::register(&mut engine);
        Self { engine, loaded: None }
    }

    /// Compiles a bundle and keeps it; answers what its main source itself imports.
    pub(crate) fn load(&mut self, request: &LoadRequest<'_>) -> Result<Vec<Import>, Diagnostic> {
        let bundle: Bundle = codec::decode_body(request.bundle).expect("the parent encodes bundles");
        let depth = request.max_expr_depth as usize;
        self.engine.set_max_operations(request.max_operations);
        self.engine.set_max_call_levels(request.max_call_levels as usize);
        self.engine.set_max_expr_depths(depth, depth);

        let mut resolver = StaticModuleResolver::new();
        for module in &bundle.modules {
            // A module may import those before it.
            self.engine.set_module_resolver(resolver.clone());
            let ast = self.optimize(self.parse(&module.name, &module.source)?);
            resolver.insert(&module.name, self.evaluate_module(&module.name, &ast)?);
        }
        self.engine.set_module_resolver(resolver);

        let ast = self.parse(&bundle.name, &bundle.source)?;
        let imports = imports::of(&ast).map_err(|refusal| refusal.of_script(&bundle.name))?;
        if bundle.kind == ScriptKind::Module {
            imports::check_top_level(&ast).map_err(|refusal| refusal.of_script(&bundle.name))?;
        }
        let ast = self.optimize(ast);
        if bundle.kind == ScriptKind::Module {
            // Without its own modules, which the parent finds by this very answer, it cannot start.
            let is_whole = |import: &Import| bundle.modules.iter().any(|module| module.name == import.name);
            if imports.iter().all(is_whole) {
                self.evaluate_module(&bundle.name, &ast)?;
            }
        }
        let sources =
            bundle.modules.iter().map(|module| module.source.as_str()).chain([bundle.source.as_str()]);
        let needs = Needs::of(sources);
        self.loaded = Some(Loaded { name: bundle.name, ast, needs });
        Ok(imports)
    }

    fn parse(&self, name: &str, source: &str) -> Result<AST, Diagnostic> {
        self.engine.compile(source).map_err(|error| parse_failure(name, &error))
    }

    fn optimize(&self, ast: AST) -> AST {
        self.engine.optimize_ast(&Scope::new(), ast, OptimizationLevel::Simple)
    }

    /// Computes a module's constants and links its functions.
    fn evaluate_module(&self, name: &str, ast: &AST) -> Result<Module, Diagnostic> {
        let mut ast = ast.clone();
        // Errors of its functions then say that their positions are in this source.
        ast.set_source(name);
        Module::eval_ast_as_new(Scope::new(), &ast, &self.engine).map_err(|error| eval_failure(name, error))
    }

    /// Runs the loaded script once. The worker restores the whole memory afterwards, so nothing
    /// done here outlives the run.
    pub(crate) fn run(&mut self, input: &GuestInput<'_>) -> Outcome {
        let loaded = self.loaded.as_ref().expect("the worker loads before it runs");
        let mut globals = Module::new();
        // A global constant, so that functions see it too; shared, so that reading one of its
        // members does not copy the whole of it.
        globals.set_var("ctx", ctx::build(input, &loaded.needs).into_shared());
        self.engine.register_global_module(Shared::new(globals));
        match self.engine.eval_ast_with_scope(&mut Scope::new(), &loaded.ast) {
            Ok(value) => Outcome::from_value(value),
            Err(error) => Outcome::from_error(&loaded.name, *error),
        }
    }
}

fn parse_failure(script: &str, error: &ParseError) -> Diagnostic {
    diagnostic(script, error.position(), error.err_type().to_string())
}

fn eval_failure(script: &str, mut error: Box<EvalAltResult>) -> Diagnostic {
    let position = error.take_position();
    diagnostic(script, position, error.to_string())
}

pub(crate) fn diagnostic(script: &str, position: Position, message: String) -> Diagnostic {
    let (line, column) = line_and_column(position);
    // A message may quote the source, and a report has a limit.
    Diagnostic { script: script.to_owned(), line, column, message: truncate(message) }
}

/// Line and column from 1, or 0 where Rhai knows none.
pub(crate) fn line_and_column(position: Position) -> (u32, u32) {
    let number = |n: Option<usize>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    (number(position.line()), number(position.position()))
}
