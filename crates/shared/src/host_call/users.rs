//! Arguments and answers of the calls of `users`. Users and their profiles are JSON text.

use serde::{Deserialize, Deserializer, Serialize};

use super::list;
use crate::limits::APP_USER_ROLES_MAX;

/// Makes an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register<'a> {
    pub login: &'a str,
    pub password: &'a str,
    /// An object.
    pub profile: &'a str,
}

/// Somebody who wants to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login<'a> {
    pub login: &'a str,
    pub password: &'a str,
}

/// The session that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logout<'a> {
    /// None for the one by which the route let the caller in.
    pub token: Option<&'a str>,
}

/// A token of a session, or of one use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token<'a> {
    pub token: &'a str,
}

/// Which user is meant, by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Id<'a> {
    pub id: &'a str,
}

/// Which user is meant, by login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named<'a> {
    pub login: &'a str,
}

/// A part of the users, in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct List<'a> {
    pub limit: u32,
    /// The id after which it begins; empty for the beginning.
    pub after: &'a str,
}

/// What changes of a user; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update<'a> {
    pub id: &'a str,
    pub login: Option<&'a str>,
    pub password: Option<&'a str>,
    pub profile: Option<&'a str>,
    #[serde(borrow, deserialize_with = "limited_roles")]
    pub roles: Option<Vec<&'a str>>,
    pub verified: Option<bool>,
    pub disabled: Option<bool>,
}

#[derive(Deserialize)]
struct Roles<'a>(#[serde(borrow, deserialize_with = "limited_names")] Vec<&'a str>);

fn limited_names<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<&'a str>, D::Error> {
    list::at_most(APP_USER_ROLES_MAX, deserializer)
}

fn limited_roles<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<&'a str>>, D::Error> {
    let roles = Option::<Roles<'a>>::deserialize(deserializer)?;
    Ok(roles.map(|Roles(names)| names))
}

/// A new password, for who got the token of one use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetPassword<'a> {
    pub token: &'a str,
    pub password: &'a str,
}

/// An answer as JSON text, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found<'a> {
    pub json: Option<&'a str>,
}

/// A new token, if there is somebody to have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued<'a> {
    pub token: Option<&'a str>,
}

/// Whether there was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Existed {
    pub existed: bool,
}
