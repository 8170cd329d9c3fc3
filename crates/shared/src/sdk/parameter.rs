//! A parameter of a function and its type.

use std::fmt;

use serde::Serialize;

/// The types that every script knows; any other is a handle that a function gave.
const PLAIN: [&str; 9] = ["?", "()", "bool", "int", "float", "String", "Blob", "Array", "Map"];
/// A function, or a closure.
const FUNCTION: &str = "Fn";

/// What a function takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Parameter {
    pub name: String,
    pub r#type: String,
}

impl Parameter {
    /// Reads `name: Type`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, r#type) = text.split_once(':')?;
        let (name, r#type) = (name.trim(), r#type.trim());
        let is_word =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let is_known = PLAIN.contains(&r#type) || is_word(r#type);
        (is_word(name) && is_known).then(|| Self { name: name.to_owned(), r#type: r#type.to_owned() })
    }

    pub(super) fn is_handle(&self) -> bool {
        !PLAIN.contains(&self.r#type.as_str()) && self.r#type != FUNCTION
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.r#type)
    }
}
