//! `pubsub`: a message on a topic. Every trigger whose pattern the topic matches gets it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::name::TopicName;

/// Topics to listen to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PubsubConfig {
    pub(crate) topic: TopicPattern,
}

/// One topic, all below one, or all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum TopicPattern {
    Exact(TopicName),
    /// `orders.*`: whatever begins with `orders.`, however deep.
    Below(TopicName),
    All,
}

/// What is no pattern of topics.
#[derive(Debug, thiserror::Error)]
#[error("a pattern of topics is a topic such as orders.paid, or orders.* for all below it, or * for all")]
pub(crate) struct InvalidPattern;

impl TopicPattern {
    pub(crate) fn matches(&self, topic: &TopicName) -> bool {
        match self {
            Self::Exact(exact) => exact == topic,
            Self::Below(above) => {
                let below = topic.as_str().strip_prefix(above.as_str());
                below.is_some_and(|rest| rest.starts_with('.'))
            }
            Self::All => true,
        }
    }
}

impl TryFrom<String> for TopicPattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        if text == "*" {
            return Ok(Self::All);
        }
        let topic = |text: &str| text.parse().map_err(|_| InvalidPattern);
        match text.strip_suffix(".*") {
            Some(above) => topic(above).map(Self::Below),
            None => topic(&text).map(Self::Exact),
        }
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(topic) => topic.fmt(f),
            Self::Below(topic) => write!(f, "{topic}.*"),
            Self::All => f.write_str("*"),
        }
    }
}

impl From<TopicPattern> for String {
    fn from(pattern: TopicPattern) -> Self {
        pattern.to_string()
    }
}

impl JsonSchema for TopicPattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TopicPattern".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": r"^(\*|[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*(\.\*)?)$",
            "maxLength": 200,
            "description": "A topic, `orders.*` for all topics below one, or `*` for all.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_topic_all_below_one_or_all() {
        for (pattern, good, bad) in [
            ("a.b", &["a.b"][..], &["a", "a.b.c", "a.c"][..]),
            ("a.*", &["a.b", "a.b.c"], &["a", "ab.c", "b.a"]),
            ("*", &["a", "a.b"], &[]),
        ] {
            let read = TopicPattern::try_from(pattern.to_owned()).unwrap();
            assert_eq!(read.to_string(), pattern);
            let matches = |topic: &&str| read.matches(&topic.parse().unwrap());
            assert!(good.iter().all(matches) && !bad.iter().any(matches), "{pattern}");
        }
        for bad in ["", ".*", "a.*.b", "*.a", "a.", "a b", "a.**"] {
            assert!(TopicPattern::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
