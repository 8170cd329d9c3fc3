//! Names with stars: `*` stands for any characters, none of them too.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Characters of a pattern; names of collections are as long at most.
const CHARS_MAX: usize = 128;
/// Stars of a pattern: more say nothing more, and each costs.
const STARS_MAX: usize = 4;

/// A pattern of names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Glob(String);

/// What is no pattern of names.
#[derive(Debug, thiserror::Error)]
#[error("a pattern has 1 to {CHARS_MAX} characters, no control characters, and at most {STARS_MAX} '*'")]
pub(crate) struct InvalidGlob;

impl Glob {
    /// Whether this name is one of those meant.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let Some((head, rest)) = self.0.split_once('*') else { return self.0 == name };
        let Some(mut name) = name.strip_prefix(head) else { return false };
        let mut parts = rest.split('*');
        let last = parts.next_back().unwrap_or_default();
        // What is between stars may stand as early as it can: that leaves most to those behind it.
        for part in parts {
            let Some(at) = name.find(part) else { return false };
            name = &name[at + part.len()..];
        }
        name.ends_with(last)
    }
}

impl TryFrom<String> for Glob {
    type Error = InvalidGlob;

    fn try_from(text: String) -> Result<Self, InvalidGlob> {
        let is_good = (1..=CHARS_MAX).contains(&text.chars().count())
            && !text.chars().any(char::is_control)
            && text.matches('*').count() <= STARS_MAX;
        if is_good { Ok(Self(text)) } else { Err(InvalidGlob) }
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> Self {
        glob.0
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Glob {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Glob".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "minLength": 1, "maxLength": CHARS_MAX,
            "description": "A name, in which `*` stands for any characters.",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn glob(text: &str) -> Glob {
        Glob::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, good, bad) in [
            ("*", &["", "a", "a*b"][..], &[][..]),
            ("users", &["users"], &["user", "users2", "Users", ""]),
            ("user*", &["user", "users", "user:1"], &["use", "auser"]),
            ("*:log", &[":log", "a:log", ":log:log"], &["log", "a:logs"]),
            ("a*b*c", &["abc", "a-b-c", "abbcc", "abcbc"], &["ab", "acb", "abcd", "a-c"]),
            ("aa*aa", &["aaaa", "aaxaa"], &["aaa", "aa"]),
        ] {
            for name in good {
                assert!(glob(pattern).matches(name), "{pattern} {name}");
            }
            for name in bad {
                assert!(!glob(pattern).matches(name), "{pattern} {name}");
            }
        }
        for bad in ["", "a\n", "*****", &"x".repeat(129)] {
            assert!(Glob::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    /// The obvious way, which takes long for long names.
    fn slow(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=name.len()).any(|skip| slow(rest, &name[skip..])),
            ([p, rest @ ..], [n, name @ ..]) if p == n => slow(rest, name),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_the_obvious_way_matches(pattern in "[ab*]{1,6}", name in "[ab]{0,8}") {
            if let Ok(glob) = Glob::try_from(pattern.clone()) {
                prop_assert_eq!(glob.matches(&name), slow(pattern.as_bytes(), name.as_bytes()));
            }
        }
    }
}
