//! Scripts, bundles and what the compiler says about them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a script is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ScriptKind {
    /// Runs as a whole, for a request or an event.
    #[default]
    Endpoint,
    /// Only functions and constants, for other scripts of the app to import.
    Module,
}

impl ScriptKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Module => "module",
        }
    }
}

/// SHA-256 over a bundle's content: what an execution is pinned to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BundleHash(pub [u8; 32]);

#[cfg(feature = "schema")]
impl schemars::JsonSchema for BundleHash {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BundleHash".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
    }
}

impl fmt::Display for BundleHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BundleHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BundleHash({self})")
    }
}

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a bundle hash is 64 hexadecimal digits")]
pub struct InvalidBundleHash;

impl FromStr for BundleHash {
    type Err = InvalidBundleHash;

    fn from_str(text: &str) -> Result<Self, InvalidBundleHash> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(InvalidBundleHash);
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| InvalidBundleHash)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| InvalidBundleHash)?;
        }
        Ok(Self(hash))
    }
}

impl Serialize for BundleHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A script with all it imports: everything a worker needs to run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    pub kind: ScriptKind,
    /// Name of the script, for messages.
    pub name: String,
    pub source: String,
    /// Imported modules as name and source, in the order in which they must be compiled.
    pub modules: Vec<BundledModule>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundledModule {
    pub name: String,
    pub source: String,
}

impl Bundle {
    /// A bundle of one script that imports nothing.
    pub fn single(kind: ScriptKind, name: impl Into<String>, source: impl Into<String>) -> Self {
        Self { kind, name: name.into(), source: source.into(), modules: Vec::new() }
    }

    /// The content's hash. Every part is preceded by its length, so that moving bytes from one
    /// part to the next changes the hash. The script's own name is not content.
    #[cfg(feature = "host")]
    pub fn hash(&self) -> BundleHash {
        use sha2::{Digest, Sha256};

        let mut hasher = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(b"picloud bundle 1");
        part(self.kind.as_str().as_bytes());
        part(self.source.as_bytes());
        for module in &self.modules {
            part(module.name.as_bytes());
            part(module.source.as_bytes());
        }
        BundleHash(hasher.finalize().into())
    }
}

/// A module that a source imports, with the place of its first import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    pub name: String,
    pub line: u32,
    pub column: u32,
}

/// Where and why a source does not compile. Line and column count from 1; 0 means unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Name of the script or module the position is in.
    pub script: String,
    pub line: u32,
    pub column: u32,
    pub message: String,
}

#[cfg(all(test, feature = "host"))]
mod tests {
    use super::*;

    #[test]
    fn hash_depends_on_content_and_its_split() {
        let one = Bundle::single(ScriptKind::Endpoint, "a", "40 + 2");
        assert_eq!(one.hash(), Bundle::single(ScriptKind::Endpoint, "b", "40 + 2").hash());
        assert_ne!(one.hash(), Bundle::single(ScriptKind::Module, "a", "40 + 2").hash());
        let module = |name: &str, source: &str| BundledModule { name: name.into(), source: source.into() };
        let left = Bundle { modules: vec![module("ab", "c")], ..one.clone() };
        let right = Bundle { modules: vec![module("a", "bc")], ..one };
        assert_ne!(left.hash(), right.hash());
    }

    #[test]
    fn hash_text_round_trips() {
        let hash = Bundle::single(ScriptKind::Endpoint, "a", "1").hash();
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert!("zz".repeat(32).parse::<BundleHash>().is_err());
        assert!("é".repeat(32).parse::<BundleHash>().is_err());
    }
}
