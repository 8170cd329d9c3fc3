//! What an app says of its topics.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What somebody outside needs to listen to a topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TopicAuth {
    /// Nothing.
    Public,
    /// A token that a script of the app made for them.
    #[default]
    Token,
    /// To be logged in as a user of the app.
    User,
}

impl TopicAuth {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Token => "token",
            Self::User => "user",
        }
    }
}

impl fmt::Display for TopicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is none of them.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no way to let somebody listen; there are public, token and user")]
pub struct UnknownTopicAuth(String);

impl FromStr for TopicAuth {
    type Err = UnknownTopicAuth;

    fn from_str(text: &str) -> Result<Self, UnknownTopicAuth> {
        let all = [Self::Public, Self::Token, Self::User];
        all.into_iter().find(|mode| mode.as_str() == text).ok_or_else(|| UnknownTopicAuth(text.to_owned()))
    }
}
