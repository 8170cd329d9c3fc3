//! What scripts can call, from one source: the declarations that stand beside each namespace's code in
//! `sandbox-wasm/sdk/src/<namespace>.d.rhai`.
//!
//! They are definition files of Rhai, so editors read them as they are. From them also come the
//! reference in `docs/sdk/`, the completion data at `/api/v1/sdk.json`, the list that keeps signatures
//! from changing, and the examples that the tests run. Only the host has them; the guest does not.

mod declarations;
mod example;
mod page;
mod parameter;

use std::sync::LazyLock;

use serde::Serialize;

pub use self::declarations::Malformed;
pub use self::example::Example;
pub use self::page::{index, page};
pub use self::parameter::Parameter;

/// One line for each namespace.
const SOURCES: &[&str] = &[
    include_str!("../../../../sandbox-wasm/sdk/src/atomic.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/base64.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/dead_letters.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/docs.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/email.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/files.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/hash.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/hex.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/http.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/invoke.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/json.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/kv.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/log.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/pubsub.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/queue.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/random.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/regex.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/retry.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/secrets.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/time.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/url.d.rhai"),
    include_str!("../../../../sandbox-wasm/sdk/src/users.d.rhai"),
];

/// All namespaces, by name. They are read once.
pub static NAMESPACES: LazyLock<Vec<Namespace>> = LazyLock::new(|| {
    SOURCES.iter().map(|source| Namespace::parse(source).expect("a test reads every declaration")).collect()
});

/// The namespace of this name.
pub fn namespace(name: &str) -> Option<&'static Namespace> {
    NAMESPACES.iter().find(|namespace| namespace.name == name)
}

/// What stands before the `::`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Namespace {
    pub name: String,
    /// What it is for, in Markdown.
    pub doc: String,
    pub functions: Vec<Function>,
    /// The definition file.
    #[serde(skip)]
    pub source: &'static str,
}

/// One way to call a function. Several may have its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Function {
    pub name: String,
    /// How it is written in a script: `kv::collection(name)`, `collection.get(key)` for what is
    /// called on a handle, or `invoke(script)` for what is called by its name alone.
    pub call: String,
    /// Its declaration: `kv::collection(name: String) -> KvCollection`.
    pub signature: String,
    pub parameters: Vec<Parameter>,
    /// The type of what it returns, as Rhai writes it; `?` is any.
    pub returns: String,
    /// What it does, in Markdown.
    pub doc: String,
    pub examples: Vec<Example>,
}

impl Namespace {
    /// Reads a definition file.
    pub fn parse(source: &'static str) -> Result<Self, Malformed> {
        declarations::read(source)
    }
}

impl Function {
    fn new(
        namespace: &str,
        name: &str,
        parameters: Vec<Parameter>,
        returns: &str,
        doc: String,
        examples: Vec<Example>,
    ) -> Self {
        let names: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        let typed: Vec<String> = parameters.iter().map(ToString::to_string).collect();
        // What takes a handle first is called on it.
        let (call, signature) = match parameters.split_first() {
            Some((handle, _)) if handle.is_handle() => (
                format!("{}.{name}({})", handle.name, names[1..].join(", ")),
                format!("{}.{name}({}) -> {returns}", handle.r#type, typed[1..].join(", ")),
            ),
            // A function that has its namespace's name is known everywhere, with all that begin so.
            _ if name.starts_with(namespace) => (
                format!("{name}({})", names.join(", ")),
                format!("{name}({}) -> {returns}", typed.join(", ")),
            ),
            _ => (
                format!("{namespace}::{name}({})", names.join(", ")),
                format!("{namespace}::{name}({}) -> {returns}", typed.join(", ")),
            ),
        };
        Self {
            name: name.to_owned(),
            call,
            signature,
            parameters,
            returns: returns.to_owned(),
            doc,
            examples,
        }
    }
}
