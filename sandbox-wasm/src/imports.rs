//! What a script imports, and whether a module has only what a module may have: read from the
//! syntax tree, so that it is what the interpreter will do and not what the text looks like.

use rhai::{AST, ASTFlags, ASTNode, Expr, Position, Stmt};
use shared::limits::{MODULES_MAX, NAME_BYTES_MAX};
use shared::script::{Diagnostic, Import};

use crate::engine::{diagnostic, line_and_column};

/// Why a script that compiles is refused all the same.
pub(crate) struct Refusal {
    position: Position,
    message: String,
}

impl Refusal {
    pub(crate) fn of_script(self, script: &str) -> Diagnostic {
        diagnostic(script, self.position, self.message)
    }
}

/// The modules that a script names, anywhere in it, each once.
pub(crate) fn of(ast: &AST) -> Result<Vec<Import>, Refusal> {
    let mut imports: Vec<Import> = Vec::new();
    let mut refusal = None;
    ast.walk(&mut |path| {
        let Some(ASTNode::Stmt(Stmt::Import(import, position))) = path.last() else {
            return true;
        };
        match name(&import.0, *position) {
            Ok(found) if imports.iter().any(|known| known.name == found.name) => {}
            Ok(_) if imports.len() == MODULES_MAX => {
                let message = format!("a script may import at most {MODULES_MAX} modules");
                refusal = Some(Refusal { position: *position, message });
            }
            Ok(found) => imports.push(found),
            Err(found) => refusal = Some(found),
        }
        refusal.is_none()
    });
    refusal.map_or(Ok(imports), Err)
}

fn name(path: &Expr, statement: Position) -> Result<Import, Refusal> {
    let position = if path.position().is_none() { statement } else { path.position() };
    let refused = |message: &str| Err(Refusal { position, message: message.to_owned() });
    match path {
        Expr::StringConstant(name, _) if name.len() > NAME_BYTES_MAX => {
            refused("no module has a name as long as this")
        }
        Expr::StringConstant(name, _) => {
            let (line, column) = line_and_column(position);
            Ok(Import { name: name.to_string(), line, column })
        }
        _ => refused(
            "an import must name its module in a plain string, because it is resolved when the script is deployed",
        ),
    }
}

/// Refuses whatever a module would do by being imported.
pub(crate) fn check_top_level(ast: &AST) -> Result<(), Refusal> {
    let is_allowed = |statement: &&Stmt| match statement {
        Stmt::Noop(..) | Stmt::Import(..) | Stmt::Export(..) => true,
        Stmt::Var(_, flags, _) => flags.contains(ASTFlags::CONSTANT),
        _ => false,
    };
    match ast.statements().iter().find(|statement| !is_allowed(statement)) {
        None => Ok(()),
        Some(statement) => Err(Refusal {
            position: statement.position(),
            message: "a module has only functions, constants and imports at the top level".to_owned(),
        }),
    }
}
