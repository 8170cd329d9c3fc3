//! What a route's pattern takes from a path, for test runs, which do not pass through the router.
//! The rules are the router's.

use shared::http::PairBlock;
use shared::route::{PathPattern, Segment};

/// Parameters and rest that a pattern takes from a path.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Captured {
    pub(super) params: PairBlock,
    pub(super) rest: String,
}

/// Nothing when the pattern does not match.
pub(super) fn capture(pattern: &PathPattern, path: &str) -> Option<Captured> {
    let body = path.strip_prefix('/')?;
    let given: Vec<_> = if body.is_empty() { Vec::new() } else { body.split('/').collect() };
    let wanted = pattern.segments();
    let fits = if pattern.is_prefix() { given.len() >= wanted.len() } else { given.len() == wanted.len() };
    if !fits {
        return None;
    }
    let mut captured = Captured::default();
    for (segment, given) in wanted.iter().zip(&given) {
        let given = decoded(given);
        match segment {
            Segment::Literal(text) if *text == given => {}
            Segment::Param(name) if !given.is_empty() => {
                captured.params.push(name.as_bytes(), given.as_bytes());
            }
            _ => return None,
        }
    }
    if pattern.is_prefix() {
        captured.rest = given[wanted.len()..].join("/");
    }
    Some(captured)
}

/// Percent-decoded; what is no escape stays as it is.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = text.get(at..at + 3).and_then(|escape| escape.strip_prefix('%'));
        match escape.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())) {
            Some(hex) => {
                decoded.push(u8::from_str_radix(hex, 16).unwrap_or_default());
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pattern: &str, path: &str) -> Option<(Vec<(String, String)>, String)> {
        let captured = capture(&pattern.parse().unwrap(), path)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let pairs = shared::http::Pairs::new(captured.params.as_bytes())
            .map(|pair| pair.map(|(name, value)| (text(name), text(value))).unwrap())
            .collect();
        Some((pairs, captured.rest))
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn patterns_take_their_parameters_and_rest() {
        assert_eq!(taken("/", "/"), Some((vec![], String::new())));
        assert_eq!(taken("/", "/a"), None);
        assert_eq!(taken("/u/:id", "/u/7"), Some((pairs(&[("id", "7")]), String::new())));
        assert_eq!(taken("/u/:id", "/u/a%20%C3%A9"), Some((pairs(&[("id", "a é")]), String::new())));
        for miss in ["/u/", "/u", "/u/7/x", "/v/7", "u/7", ""] {
            assert_eq!(taken("/u/:id", miss), None, "{miss}");
        }
        assert_eq!(taken("/u/:id", "/u/100%"), Some((pairs(&[("id", "100%")]), String::new())));
        assert_eq!(taken("/f/*", "/f"), Some((vec![], String::new())));
        assert_eq!(taken("/f/*", "/f/a/b"), Some((vec![], "a/b".to_owned())));
        assert_eq!(taken("/*", "/"), Some((vec![], String::new())));
    }
}
