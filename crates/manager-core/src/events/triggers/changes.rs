//! `kv`, `docs` and `files`: a change in a collection. The service that makes the change asks
//! [`super::TriggerTable::on_change`] who wants to know, and writes their events into its own transaction: no
//! change without its event, and no event without its change.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::glob::Glob;
use super::{InvalidConfig, Kind};

/// What was done to a key, a document or a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    /// A key got a value, whether it had one or not.
    Set,
    Create,
    Update,
    Delete,
}

impl Operation {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// What three kinds are set to in the same way; they differ in the operations there are.
macro_rules! change_config {
    ($(#[$doc:meta])* $name:ident, $operations:expr, $words:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            /// The collections meant.
            pub(crate) collection: Glob,
            /// The operations meant; none for all of them.
            #[serde(default)]
            #[schemars(length(max = 3))]
            pub(crate) operations: Vec<Operation>,
            /// Whether changes of the same thing are handled one after the other, in their order.
            #[serde(default)]
            pub(crate) ordered: bool,
        }

        impl $name {
            pub(super) fn checked(self) -> Result<Self, InvalidConfig> {
                const POSSIBLE: &[Operation] = &$operations;
                for (at, operation) in self.operations.iter().enumerate() {
                    if !POSSIBLE.contains(operation) {
                        let detail = format!("there is no {} here, only {}", operation.as_str(), $words);
                        return Err(InvalidConfig::new(format!("operations[{at}]"), detail));
                    }
                    if self.operations[..at].contains(operation) {
                        let detail = format!("{} is named twice", operation.as_str());
                        return Err(InvalidConfig::new(format!("operations[{at}]"), detail));
                    }
                }
                Ok(self)
            }

            pub(super) fn wants(&self, collection: &str, operation: Operation) -> bool {
                (self.operations.is_empty() || self.operations.contains(&operation))
                    && self.collection.matches(collection)
            }
        }
    };
}

change_config! {
    /// Changes of keys.
    KvConfig, [Operation::Set, Operation::Delete], "set and delete"
}
change_config! {
    /// Changes of documents.
    DocsConfig, [Operation::Create, Operation::Update, Operation::Delete], "create, update and delete"
}
change_config! {
    /// Changes of files.
    FilesConfig, [Operation::Create, Operation::Update, Operation::Delete], "create, update and delete"
}

/// Which service made a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Kv,
    Docs,
    Files,
}

impl Service {
    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Kv => Kind::Kv,
            Self::Docs => Kind::Docs,
            Self::Files => Kind::Files,
        }
    }
}
