//! Arguments and answers of `secrets`.

use serde::{Deserialize, Serialize};

/// Names a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretName<'a> {
    pub name: &'a str,
}

/// The value of a secret, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretValue<'a> {
    pub value: Option<&'a str>,
}

/// Sets a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetSecret<'a> {
    pub name: &'a str,
    pub value: &'a str,
}

/// Whether there was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Existed {
    pub existed: bool,
}

/// Names of secrets, in order, as a JSON list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretNames<'a> {
    pub json: &'a str,
}
