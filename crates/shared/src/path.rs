//! What a route's pattern takes from the path of a request. The router finds routes by it, and the
//! admin API shows by it what a route would take.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::http::PairBlock;
use crate::route::{PathPattern, Segment};

/// The file that a folder's address is for.
const INDEX: &str = "index.html";

/// A path cut at its slashes.
#[derive(Debug)]
pub struct PathSegments<'a> {
    /// Percent-decoded; for matching and for parameters.
    decoded: SmallVec<[Cow<'a, str>; 8]>,
    /// As sent; for the rest of a prefix.
    raw: SmallVec<[&'a str; 8]>,
}

/// Parameters, and what a prefix pattern's `*` stands for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Captured {
    pub params: PairBlock,
    pub rest: String,
}

impl<'a> PathSegments<'a> {
    /// Nothing when the path does not begin with a slash.
    pub fn new(path: &'a str) -> Option<Self> {
        let body = path.strip_prefix('/')?;
        let raw: SmallVec<[_; 8]> = if body.is_empty() { SmallVec::new() } else { body.split('/').collect() };
        let decoded = raw.iter().map(|segment| decode(segment)).collect();
        Some(Self { decoded, raw })
    }

    /// The segments, decoded.
    pub fn decoded(&self) -> &[Cow<'a, str>] {
        &self.decoded
    }

    /// The path of the file that a request for this path is for: that of the same name, or the index of
    /// a folder. Nothing when a segment is none of a file's, such as `..`.
    pub fn file(&self) -> Option<String> {
        let is_name = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['/', '\\', '\0']);
        let (last, folders) = self.decoded.split_last().map_or(("", &[][..]), |(last, head)| (&**last, head));
        if !folders.iter().all(|part| is_name(part)) || !(last.is_empty() || is_name(last)) {
            return None;
        }
        let mut path = String::new();
        for part in folders {
            path.push('/');
            path.push_str(part);
        }
        path.push('/');
        path.push_str(if last.is_empty() { INDEX } else { last });
        Some(path)
    }

    /// Nothing when the pattern does not match.
    pub fn capture(&self, pattern: &PathPattern) -> Option<Captured> {
        let wanted = pattern.segments();
        let given = self.decoded.len();
        // What is below `/files/` is not `/files` itself; of `/*` everything is below.
        let is_below = given > wanted.len() || wanted.is_empty();
        let fits = if pattern.is_prefix() { is_below } else { given == wanted.len() };
        if !fits {
            return None;
        }
        let mut captured = Captured::default();
        for (segment, given) in wanted.iter().zip(&self.decoded) {
            match segment {
                Segment::Literal(text) if text == given => {}
                Segment::Param(name) if !given.is_empty() => {
                    captured.params.push(name.as_bytes(), given.as_bytes());
                }
                _ => return None,
            }
        }
        if pattern.is_prefix() {
            captured.rest = self.raw[wanted.len()..].join("/");
        }
        Some(captured)
    }
}

/// Decodes a segment once. A decoded slash stays inside its segment; a malformed escape stands for
/// itself.
fn decode(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let pair = tail.get(..2).filter(|pair| byte == b'%' && pair.iter().all(u8::is_ascii_hexdigit));
        let hex = pair.and_then(|pair| std::str::from_utf8(pair).ok());
        match hex.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(value) => {
                bytes.push(value);
                rest = &tail[2..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn attack_no_path_is_a_file_outside_its_folder(path in "(/|\\.|%2e|%2F|%5c|%00|%|a|\u{e9}){0,12}", any: String) {
            for path in [path, any] {
                let Some(file) = PathSegments::new(&path).and_then(|path| path.file()) else { continue };
                let parts: Vec<_> = file.strip_prefix('/').unwrap().split('/').collect();
                prop_assert!(parts.iter().all(|part| !matches!(*part, "" | "." | "..")), "{file}");
                prop_assert!(!file.contains(['\\', '\0']), "{file}");
            }
        }

        #[test]
        fn what_a_pattern_takes_is_what_stands_in_its_places(
            parts in proptest::collection::vec("(a|b|:x|:y)", 0..4),
            is_prefix: bool,
            path in "(/(a|b|%61|c%2Fd|)){0,5}",
        ) {
            let text = parts.iter().map(|part| format!("/{part}")).collect::<String>();
            let text = if is_prefix { format!("{text}/*") } else { text };
            let Ok(pattern) = text.parse::<PathPattern>() else { return Ok(()) };
            let Some(segments) = PathSegments::new(&path) else { return Ok(()) };
            let given = segments.decoded();
            let fits = |(wanted, given): (&Segment, &Cow<'_, str>)| match wanted {
                Segment::Literal(literal) => literal == given,
                Segment::Param(_) => !given.is_empty(),
            };
            let wanted = pattern.segments();
            let is_long_enough = match is_prefix {
                true => given.len() > wanted.len() || wanted.is_empty(),
                false => given.len() == wanted.len(),
            };
            let is_match = is_long_enough && wanted.iter().zip(given).all(fits);
            prop_assert_eq!(segments.capture(&pattern).is_some(), is_match);
        }
    }

    fn taken(pattern: &str, path: &str) -> Option<(Vec<(String, String)>, String)> {
        let captured = PathSegments::new(path)?.capture(&pattern.parse().unwrap())?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let pairs = crate::http::Pairs::new(captured.params.as_bytes())
            .map(|pair| pair.map(|(name, value)| (text(name), text(value))).unwrap())
            .collect();
        Some((pairs, captured.rest))
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn attack_a_files_path_never_leaves_its_folder() {
        let file = |path: &str| PathSegments::new(path)?.file();
        assert_eq!(file("/").as_deref(), Some("/index.html"));
        assert_eq!(file("/docs/").as_deref(), Some("/docs/index.html"));
        assert_eq!(file("/a%20b/%C3%A9.css").as_deref(), Some("/a b/é.css"));
        for none in
            ["", "x", "/..", "/../a", "/a/../b", "/%2e%2e/a", "/a%2fb", "/a%5cb", "/a%00", "//a", "/a//b"]
        {
            assert_eq!(file(none), None, "{none}");
        }
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
        assert_eq!(taken("/f/*", "/f"), None);
        assert_eq!(taken("/f/*", "/f/"), Some((vec![], String::new())));
        assert_eq!(taken("/f/:a/*", "/f/x"), None);
        assert_eq!(taken("/f/*", "/f/a/b"), Some((vec![], "a/b".to_owned())));
        assert_eq!(taken("/*", "/"), Some((vec![], String::new())));
    }
}
