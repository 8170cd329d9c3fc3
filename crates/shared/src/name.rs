//! Validated names. A value of one of these types is known to be well formed; the fields are
//! private so that there is no other way to make one.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{APP_USER_LOGIN_BYTES_MAX, APP_USER_ROLE_BYTES_MAX};

/// Why a name was refused; the text is fit to show to the person who typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?} is not valid: {rule}")]
pub struct InvalidName {
    pub what: &'static str,
    pub given: String,
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $pattern:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern, "description": $rule })
            }
        }

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    return Ok(Self(text.to_owned()));
                }
                // A refused name may be megabytes of rubbish; the message carries a readable start.
                let given = text.chars().take(80).collect();
                Err(InvalidName { what: $what, given, rule: $rule })
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// An app's name in URLs and host names, so it is also a DNS label.
    AppSlug,
    "app slug",
    "use 1 to 63 of a-z, 0-9 and '-', not beginning or ending with '-'",
    "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    |text| {
        (1..=63).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !text.starts_with('-')
            && !text.ends_with('-')
    }
}

name! {
    /// A script's name, unique in its app; also what `import` takes.
    ScriptName,
    "script name",
    "use 1 to 128 of a-z, A-Z, 0-9, '_', '-' and '.', beginning with a letter or digit",
    "^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$",
    is_word
}

name! {
    /// A secret's name, unique in its app.
    SecretName,
    "secret name",
    "use 1 to 128 of a-z, A-Z, 0-9, '_', '-' and '.', beginning with a letter or digit",
    "^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$",
    |text| {
        (1..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
            && text.as_bytes()[0].is_ascii_alphanumeric()
    }
}

name! {
    /// A person's login name.
    Username,
    "user name",
    "use 1 to 64 of a-z, A-Z, 0-9, '_', '-', '.' and '@'",
    "^[a-zA-Z0-9_.@-]{1,64}$",
    |text| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@'))
    }
}

name! {
    /// By what a user of an app logs in, a name or an address, unique in the app whatever its case.
    AppLogin,
    "login",
    "use 1 to 254 bytes without spaces and control characters",
    r"^[^\s\x00-\x1f\x7f]{1,254}$",
    |text| {
        (1..=APP_USER_LOGIN_BYTES_MAX).contains(&text.len())
            && !text.chars().any(|c| c.is_whitespace() || c.is_control())
    }
}

impl AppLogin {
    /// The same for all ways to write it in capitals and small letters.
    pub fn key(&self) -> String {
        self.as_str().to_lowercase()
    }
}

name! {
    /// What an app calls something that its user may do or be.
    AppRoleName,
    "role",
    "use 1 to 64 of a-z, A-Z, 0-9, '_', '-', '.' and ':'",
    "^[a-zA-Z0-9_.:-]{1,64}$",
    |text| {
        (1..=APP_USER_ROLE_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':'))
    }
}

name! {
    /// What people call a trigger, unique in its app.
    TriggerName,
    "trigger name",
    "use 1 to 128 of a-z, A-Z, 0-9, '_', '-' and '.', beginning with a letter or digit",
    "^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$",
    is_word
}

name! {
    /// A queue of an app.
    QueueName,
    "queue name",
    "use 1 to 128 of a-z, A-Z, 0-9, '_', '-' and '.', beginning with a letter or digit",
    "^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$",
    is_word
}

name! {
    /// What messages are published under: words with dots between them, from the general to the
    /// particular, such as `orders.paid`.
    TopicName,
    "topic",
    "use words of a-z, A-Z, 0-9, '_' and '-' with '.' between them, 200 characters at most",
    r"^[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*$",
    |text| {
        text.len() <= 200
            && text.split('.').all(|word| {
                !word.is_empty()
                    && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
            })
    }
}

fn is_word(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slugs_are_dns_labels() {
        for good in ["a", "blog", "my-app-2", "0", &"x".repeat(63)] {
            assert!(good.parse::<AppSlug>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", "a\0", "..", &"x".repeat(64)] {
            assert!(bad.parse::<AppSlug>().is_err(), "{bad}");
        }
    }

    #[test]
    fn script_names_cannot_be_paths() {
        for good in ["hello", "Hello_2", "v1.util", "7"] {
            assert!(good.parse::<ScriptName>().is_ok(), "{good}");
        }
        for bad in ["", "../x", "a/b", ".hidden", "a b", "a\u{202e}b", "-x"] {
            assert!(bad.parse::<ScriptName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_megabyte_of_rubbish_gives_a_short_message() {
        let error = "!".repeat(1 << 20).parse::<ScriptName>().unwrap_err();
        assert!(error.to_string().len() < 400);
    }

    proptest! {
        #[test]
        fn a_slug_is_always_the_first_label_of_a_host(text in "[a-z0-9.-]{1,66}") {
            let is_slug = text.parse::<AppSlug>().is_ok();
            let host = format!("{text}.example.com").parse::<crate::host::HostPattern>();
            // What is no slug may still be a host, when it has dots, but never the other way round.
            prop_assert!(!is_slug || host.is_ok());
            prop_assert_eq!(is_slug, host.is_ok() && !text.contains('.'));
        }

        #[test]
        fn arbitrary_text_is_no_name_or_itself(text: String) {
            for parsed in [
                text.parse::<AppSlug>().map(String::from),
                text.parse::<ScriptName>().map(String::from),
                text.parse::<Username>().map(String::from),
            ] {
                prop_assert!(parsed.is_err() || parsed.as_deref() == Ok(text.as_str()));
            }
        }
    }
}
