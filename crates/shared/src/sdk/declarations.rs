//! Reads a definition file: a module's comment and name, then functions, each under its comment.

use super::{Example, Function, Namespace, Parameter};

/// A definition file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct Malformed {
    pub line: usize,
    pub reason: String,
}

pub(super) fn read(source: &'static str) -> Result<Namespace, Malformed> {
    let mut namespace = Namespace { name: String::new(), doc: String::new(), functions: Vec::new(), source };
    let mut module_doc = Vec::new();
    let mut doc = Vec::new();
    for (index, line) in source.lines().enumerate() {
        let at = |reason: String| Malformed { line: index + 1, reason };
        if let Some(text) = line.strip_prefix("//!") {
            module_doc.push(text.strip_prefix(' ').unwrap_or(text));
        } else if let Some(text) = line.strip_prefix("///") {
            doc.push(text.strip_prefix(' ').unwrap_or(text));
        } else if let Some(name) = line.strip_prefix("module ") {
            name.trim().trim_end_matches(';').clone_into(&mut namespace.name);
            namespace.doc = paragraphs(&module_doc);
        } else if let Some(declaration) = line.strip_prefix("fn ") {
            let function = function(&namespace.name, declaration, &doc).map_err(at)?;
            namespace.functions.push(function);
            doc.clear();
        } else if !line.is_empty() {
            return Err(at(format!("{line:?} is neither a comment, the module nor a function")));
        }
    }
    let incomplete =
        |reason: &str| Err(Malformed { line: source.lines().count(), reason: reason.to_owned() });
    match &namespace {
        Namespace { name, .. } if name.is_empty() => incomplete("there is no `module name;`"),
        Namespace { doc, .. } if doc.is_empty() => incomplete("the module has no `//!` comment"),
        Namespace { functions, .. } if functions.is_empty() => incomplete("there is no function"),
        _ => Ok(namespace),
    }
}

fn function(namespace: &str, declaration: &str, doc: &[&str]) -> Result<Function, String> {
    let malformed = || format!("{declaration:?} is not `name(parameter: Type, …) -> Type;`");
    let rest = declaration.trim_end().strip_suffix(';').ok_or_else(malformed)?;
    let (name, rest) = rest.split_once('(').ok_or_else(malformed)?;
    let (parameters, returns) = rest.split_once(") -> ").ok_or_else(malformed)?;
    let texts = parameters.split(',').map(str::trim).filter(|text| !text.is_empty());
    let parameters: Option<Vec<_>> = texts.map(Parameter::parse).collect();
    let (doc, examples) = prose_and_examples(doc)?;
    if doc.is_empty() || examples.is_empty() {
        return Err(format!("{name} needs a comment with an example"));
    }
    let parameters = parameters.ok_or_else(malformed)?;
    Ok(Function::new(namespace, name.trim(), parameters, returns.trim(), doc, examples))
}

fn prose_and_examples(doc: &[&str]) -> Result<(String, Vec<Example>), String> {
    let mut prose = Vec::new();
    let mut examples = Vec::new();
    let mut lines = doc.iter();
    while let Some(&line) = lines.next() {
        if line != "```rhai" {
            prose.push(line);
            continue;
        }
        let code: Vec<&str> = lines.by_ref().copied().take_while(|line| *line != "```").collect();
        examples.push(Example::parse(&code)?);
    }
    Ok((paragraphs(&prose), examples))
}

/// Lines of a comment as Markdown, where one line is a paragraph.
fn paragraphs(lines: &[&str]) -> String {
    let text = lines.join("\n");
    text.trim().split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KV: &str = "//! Keys and\n//! values.\nmodule kv;\n\n/// A handle.\n///\n/// ```rhai\n\
        /// kv::collection(\"a\") // => 1\n/// ```\nfn collection(name: String) -> KvCollection;\n\n\
        /// Reads.\n/// ```rhai\n/// c.get(\"k\") // => ()\n/// ```\n\
        fn get(collection: KvCollection, key: String) -> ?;\n";

    #[test]
    fn functions_have_their_comments_and_handles_their_methods() {
        let kv = read(KV).unwrap();
        assert_eq!((kv.name.as_str(), kv.doc.as_str()), ("kv", "Keys and values."));
        let [collection, get] = kv.functions.as_slice() else { panic!("{kv:?}") };
        assert_eq!(collection.signature, "kv::collection(name: String) -> KvCollection");
        assert_eq!(
            (collection.doc.as_str(), collection.call.as_str()),
            ("A handle.", "kv::collection(name)")
        );
        assert_eq!(get.signature, "KvCollection.get(key: String) -> ?");
        assert_eq!((get.call.as_str(), get.returns.as_str()), ("collection.get(key)", "?"));
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_line() {
        for (source, line) in [
            ("//! A.\nmodule a;\n/// B.\nfn b();\n", 4),
            ("//! A.\nmodule a;\nfn b() -> int;\n", 3),
            ("//! A.\nmodule a;\n/// B.\n/// ```rhai\n/// 1 // => 1\n/// ```\nfn b(c) -> int;\n", 7),
            ("//! A.\nmodule a;\nlet b = 1;\n", 3),
            ("//! A.\nmodule a;\n", 2),
            ("module a;\n", 1),
        ] {
            assert_eq!(read(source).unwrap_err().line, line, "{source}");
        }
    }
}
