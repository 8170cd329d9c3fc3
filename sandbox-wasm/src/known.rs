//! What Rhai would otherwise look for in every namespace of the SDK, again and again.
//!
//! Each method call asks by what name the type of its receiver is known, and each number in a text which function
//! makes text of it. Rhai looks through what is registered globally and then through all namespaces, of which
//! an engine without our SDK has none. What is registered here is found at the first look.

use rhai::{Engine, INT, ImmutableString};

/// Rhai's own types, whose names stay as they are.
const TYPES: [&str; 10] = ["()", "bool", "char", "i64", "f64", "string", "array", "blob", "map", "Fn"];

pub(crate) fn register(engine: &mut Engine) {
    for name in TYPES {
        engine.register_type_with_name_raw(name, name);
    }
    // The same text as by Rhai's function for values of any type.
    engine.register_fn("to_string", |number: INT| ImmutableString::from(number.to_string()));
}
