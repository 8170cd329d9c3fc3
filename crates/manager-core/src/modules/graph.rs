//! From a script and the live sources of its app to a bundle: what it imports, in the order in which
//! it must be compiled. No database here, and no compiler.

use std::collections::{BTreeMap, HashMap};

use shared::limits::{BUNDLE_BYTES_MAX, IMPORT_DEPTH_MAX, MODULES_MAX};
use shared::script::{Bundle, BundledModule, ScriptKind};

use crate::store::modules::Source;

/// Live sources by name.
pub(crate) type Sources = BTreeMap<String, Source>;

/// Why imports cannot be resolved. `chain` goes from the script to where it fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}: {}", chain.join(" → "))]
pub(crate) struct ImportError {
    pub(crate) fault: Fault,
    pub(crate) chain: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the app has no such module")]
    Missing,
    #[error("an endpoint cannot be imported, only a module")]
    NotAModule,
    #[error("modules import each other in a circle")]
    Cycle,
    #[error("imports are more than {IMPORT_DEPTH_MAX} deep")]
    TooDeep,
    #[error("more than {MODULES_MAX} modules are imported")]
    TooMany,
    #[error("a script with its modules is over the limit of {BUNDLE_BYTES_MAX} bytes")]
    TooLarge,
}

/// The bundle of a script, whose own source need not be among `sources`.
pub(crate) fn bundle(name: &str, main: &Source, sources: &Sources) -> Result<Bundle, ImportError> {
    let mut walk = Walk { sources, path: vec![name.to_owned()], done: HashMap::new(), modules: Vec::new() };
    for import in &main.imports {
        walk.visit(import)?;
    }
    let modules = walk.modules;
    let bytes = main.text.len() + modules.iter().map(|module| module.source.len()).sum::<usize>();
    if bytes > BUNDLE_BYTES_MAX {
        return Err(ImportError { fault: Fault::TooLarge, chain: vec![name.to_owned()] });
    }
    Ok(Bundle { kind: main.kind, name: name.to_owned(), source: main.text.clone(), modules })
}

struct Walk<'a> {
    sources: &'a Sources,
    /// From the script to where the walk is.
    path: Vec<String>,
    /// Modules seen to their end, with the length of the longest chain that begins with them.
    done: HashMap<&'a str, usize>,
    modules: Vec<BundledModule>,
}

impl<'a> Walk<'a> {
    /// Takes in a module after those it imports; answers the length of its longest chain.
    fn visit(&mut self, name: &str) -> Result<usize, ImportError> {
        if self.path.iter().any(|above| above == name) {
            return Err(self.error(Fault::Cycle, name));
        }
        let Some((name, source)) = self.sources.get_key_value(name) else {
            return Err(self.error(Fault::Missing, name));
        };
        if source.kind != ScriptKind::Module {
            return Err(self.error(Fault::NotAModule, name));
        }
        let known = self.done.get(name.as_str()).copied();
        // The path has the script itself, which is no import.
        if self.path.len() - 1 + known.unwrap_or(1) > IMPORT_DEPTH_MAX {
            return Err(self.error(Fault::TooDeep, name));
        }
        if let Some(length) = known {
            return Ok(length);
        }
        self.path.push(name.clone());
        let mut longest = 0;
        for import in &source.imports {
            longest = longest.max(self.visit(import)?);
        }
        self.path.pop();
        if self.modules.len() == MODULES_MAX {
            return Err(self.error(Fault::TooMany, name));
        }
        self.modules.push(BundledModule { name: name.clone(), source: source.text.clone() });
        self.done.insert(name, longest + 1);
        Ok(longest + 1)
    }

    fn error(&self, fault: Fault, name: &str) -> ImportError {
        let chain = self.path.iter().cloned().chain([name.to_owned()]).collect();
        ImportError { fault, chain }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(kind: ScriptKind, imports: &[&str]) -> Source {
        Source { kind, text: String::new(), imports: imports.iter().map(|&name| name.to_owned()).collect() }
    }

    fn modules(list: &[(&str, &[&str])]) -> Sources {
        list.iter().map(|(name, imports)| ((*name).to_owned(), source(ScriptKind::Module, imports))).collect()
    }

    fn resolve(imports: &[&str], sources: &Sources) -> Result<Vec<String>, (Fault, String)> {
        bundle("main", &source(ScriptKind::Endpoint, imports), sources)
            .map(|bundle| bundle.modules.into_iter().map(|module| module.name).collect())
            .map_err(|error| (error.fault, error.chain.join(" ")))
    }

    #[test]
    fn a_module_comes_once_and_after_what_it_imports() {
        let sources = modules(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[]), ("unused", &[])]);
        assert_eq!(resolve(&["a", "c"], &sources).unwrap(), ["c", "b", "a"]);
    }

    #[test]
    fn what_cannot_be_imported_is_named_with_the_chain_to_it() {
        let mut sources = modules(&[("a", &["b"]), ("b", &["a"]), ("c", &["gone"]), ("d", &["page"])]);
        sources.insert("page".into(), source(ScriptKind::Endpoint, &[]));
        assert_eq!(resolve(&["a"], &sources), Err((Fault::Cycle, "main a b a".into())));
        assert_eq!(resolve(&["main"], &sources), Err((Fault::Cycle, "main main".into())));
        assert_eq!(resolve(&["c"], &sources), Err((Fault::Missing, "main c gone".into())));
        assert_eq!(resolve(&["d"], &sources), Err((Fault::NotAModule, "main d page".into())));
    }

    #[test]
    fn a_chain_of_eight_is_taken_and_one_of_nine_is_not_whichever_way_it_is_found() {
        let chain: &[(&str, &[&str])] = &[
            ("1", &["2"]),
            ("2", &["3"]),
            ("3", &["4"]),
            ("4", &["5"]),
            ("5", &["6"]),
            ("6", &["7"]),
            ("7", &["8"]),
            ("8", &[]),
            ("0", &["1"]),
        ];
        let sources = modules(chain);
        assert_eq!(resolve(&["1"], &sources).unwrap().len(), 8);
        assert_eq!(resolve(&["0"], &sources).unwrap_err().0, Fault::TooDeep);
        // By then the length of 1's chain is known, and 1 is not walked again.
        assert_eq!(resolve(&["1", "0"], &sources), Err((Fault::TooDeep, "main 0 1".into())));
    }

    #[test]
    fn what_a_bundle_holds_is_bounded() {
        let names: Vec<String> = (0..=MODULES_MAX).map(|n| format!("m{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut sources = modules(&names.iter().map(|name| (*name, &[][..])).collect::<Vec<_>>());
        assert_eq!(resolve(&names, &sources).unwrap_err().0, Fault::TooMany);
        assert!(resolve(&names[1..], &sources).is_ok());
        sources.get_mut("m0").unwrap().text = "x".repeat(BUNDLE_BYTES_MAX + 1);
        assert_eq!(resolve(&["m0"], &sources).unwrap_err().0, Fault::TooLarge);
    }
}
