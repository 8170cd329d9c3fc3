//! The reference for people: one page for each namespace, and one that leads to them.

use std::fmt::Write;

use super::{NAMESPACES, Namespace};

/// The page that names all namespaces.
pub fn index() -> String {
    let mut page = String::from(
        "# What scripts can call\n\n\
         This reference is made from the declarations in `sandbox-wasm/sdk/src/`, and a test runs each of its \
         examples in the real guest. `// =>` says what a line gives, `// throws` with which code it fails. \
         A function that fails throws a map `#{code, message}`; what is absent is `()`.\n\n\
         `/api/v1/sdk.json` has all of it for editors, `/api/v1/sdk/<namespace>.d.rhai` the definition \
         files of Rhai. `?` is any type.\n\n",
    );
    let _ = writeln!(page, "`ctx.sdk_version` is `{}`.\n", crate::SDK_VERSION);
    for namespace in NAMESPACES.iter() {
        let Namespace { name, doc, functions, .. } = namespace;
        let first = doc.split_once(". ").map_or_else(|| doc.trim_end_matches('.'), |(first, _)| first);
        let mut names: Vec<&str> = functions.iter().map(|function| function.name.as_str()).collect();
        names.dedup();
        let _ = writeln!(page, "* [`{name}`]({name}.md): {first}. `{}`", names.join(" "));
    }
    page
}

/// The page of one namespace.
pub fn page(namespace: &Namespace) -> String {
    let mut page = format!("# `{}`\n\n{}\n", namespace.name, namespace.doc);
    for function in &namespace.functions {
        let _ = write!(page, "\n## `{}`\n\n`{}`\n\n{}\n", function.call, function.signature, function.doc);
        for example in &function.examples {
            let _ = write!(page, "\n```rhai\n{}\n```\n", example.as_str());
        }
    }
    page
}
