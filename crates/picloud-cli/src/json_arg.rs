//! JSON on the command line.

use std::str::FromStr;

use serde_json::Value;

/// An argument that is JSON.
#[derive(Debug, Clone)]
pub(crate) struct JsonArg(pub(crate) Value);

impl FromStr for JsonArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hint = "a text needs quotes of its own: '\"text\"'";
        serde_json::from_str(text).map(Self).map_err(|error| format!("that is not JSON: {error}; {hint}"))
    }
}
