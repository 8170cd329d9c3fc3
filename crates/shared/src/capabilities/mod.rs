//! What a script asks for, read from its source: which namespaces of the SDK it calls, where it sends
//! requests, which secrets it names. It is shown when the script is deployed, and a later version that
//! wants more says so, and may have to wait until somebody approves it.
//!
//! What a script may do is decided when it does it, and not here: a server that is asked can lead
//! elsewhere. Whatever is not plainly a literal counts as anything, `*`. A namespace is written out or not
//! reached; the functions that call scripts have none, so their calls are refused where nothing here names them.

mod tokens;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use self::tokens::{Token, tokens};
use crate::script::Bundle;
use crate::sdk;

/// Stands for what only a run will tell.
const ANY: &str = "*";
/// Namespaces that reach nothing outside the script.
const INWARD: [&str; 10] =
    ["base64", "hash", "hex", "json", "log", "random", "regex", "retry", "time", "url"];
/// What stands for the functions that call another script, which belong to no namespace.
const INVOKE: &str = "invoke";
const INVOKING: [&str; 2] = ["invoke", "invoke_async"];
/// Makes a pointer to the function of a name.
const POINTER: &str = "Fn";

/// What a bundle asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Capabilities {
    /// Namespaces of the SDK that reach outside the script, such as `kv`, and `invoke`.
    pub namespaces: BTreeSet<String>,
    /// Hosts that requests go to; `*` where the source does not say.
    pub destinations: BTreeSet<String>,
    /// Secrets by name; `*` where the source does not say.
    pub secrets: BTreeSet<String>,
}

impl Capabilities {
    /// Of a script with all its modules.
    pub fn of(bundle: &Bundle) -> Self {
        let mut found = Self::default();
        let modules = bundle.modules.iter().map(|module| module.source.as_str());
        for source in std::iter::once(bundle.source.as_str()).chain(modules) {
            found.scan(source);
        }
        found
    }

    /// What this asks for and the other does not, in words.
    pub fn beyond(&self, other: &Self) -> Vec<String> {
        let more = |kind: &str, ours: &BTreeSet<String>, theirs: &BTreeSet<String>| {
            // What asked for anything has asked for this.
            let news = ours.iter().filter(|one| !theirs.contains(*one) && !theirs.contains(ANY));
            news.map(|one| format!("{kind} {one}")).collect::<Vec<_>>()
        };
        let mut beyond = more("namespace", &self.namespaces, &other.namespaces);
        beyond.extend(more("requests to", &self.destinations, &other.destinations));
        beyond.extend(more("secret", &self.secrets, &other.secrets));
        beyond
    }

    fn scan(&mut self, source: &str) {
        let tokens = tokens(source);
        for window in 0..tokens.len() {
            match &tokens[window..] {
                [Token::Word(namespace), Token::Path, Token::Word(function), rest @ ..] => {
                    self.call(namespace, function, rest);
                }
                [Token::Word(function), Token::Open, ..]
                | [Token::Word(POINTER), Token::Open, Token::Text { text: function, .. }, ..]
                    if INVOKING.contains(function) =>
                {
                    self.namespaces.insert(INVOKE.to_owned());
                }
                _ => {}
            }
        }
    }

    fn call(&mut self, namespace: &str, function: &str, rest: &[Token<'_>]) {
        if sdk::namespace(namespace).is_none() || INWARD.contains(&namespace) {
            return;
        }
        self.namespaces.insert(namespace.to_owned());
        let arguments = match rest {
            [Token::Open, arguments @ ..] => arguments,
            _ => &[],
        };
        match (namespace, function) {
            ("http", "request") => {
                let url = match arguments {
                    [Token::Text { .. }, Token::Comma, url @ ..] => url,
                    _ => &[],
                };
                self.destinations.insert(destination(url));
            }
            ("http", _) => {
                self.destinations.insert(destination(arguments));
            }
            ("secrets", "list") => {}
            ("secrets", _) => {
                self.secrets.insert(literal(arguments));
            }
            _ => {}
        }
    }
}

fn any() -> String {
    ANY.to_owned()
}

/// A name that is written out, and all of the argument.
fn literal(argument: &[Token<'_>]) -> String {
    match argument {
        [Token::Text { text, is_whole: true }, Token::Comma | Token::Close, ..] => (*text).to_owned(),
        _ => any(),
    }
}

/// The host of an address whose beginning is written out, as far as its path. What is done with the text,
/// such as `-`, could give it another.
fn destination(argument: &[Token<'_>]) -> String {
    let (text, is_whole) = match argument {
        [Token::Text { text, is_whole }, Token::Comma | Token::Close, ..] => (*text, *is_whole),
        [Token::Template(head), code @ ..] if is_all_of_argument(code) => (*head, false),
        _ => return any(),
    };
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else { return any() };
    match rest.split_once(['/', '?', '#']) {
        Some((host, _)) if !host.is_empty() => host.to_ascii_lowercase(),
        None if is_whole && !rest.is_empty() => rest.to_ascii_lowercase(),
        _ => any(),
    }
}

/// Whether nothing is done with a template, whose code this is, before the argument is over.
fn is_all_of_argument(code: &[Token<'_>]) -> bool {
    let mut depth = 1_usize;
    let end = code.iter().position(|token| {
        match token {
            Token::Template(_) => depth += 1,
            Token::TemplateEnd => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    end.is_some_and(|end| matches!(code.get(end + 1), Some(Token::Comma | Token::Close)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::script::ScriptKind;

    fn of(source: &str) -> Capabilities {
        Capabilities::of(&Bundle::single(ScriptKind::Endpoint, "a", source))
    }

    fn set(items: &[&str]) -> BTreeSet<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn what_is_written_out_is_found_and_the_rest_is_anything() {
        let found = of("let c = kv::collection(\"a\"); json::parse(\"1\");\n\
             http::get(\"https://api.example.com/v1\"); http :: post(`https://Shop.example.com:8443/${id}`, 1);\n\
             http::request(\"GET\", \"http://a.example.com\", (), #{}); secrets::handle(\"key\", \"Bearer {}\")");
        assert_eq!(found.namespaces, set(&["http", "kv", "secrets"]));
        assert_eq!(found.destinations, set(&["a.example.com", "api.example.com", "shop.example.com:8443"]));
        assert_eq!(found.secrets, set(&["key"]));
        for source in [
            "http::get(url)",
            "http::get(`https://${host}/`)",
            "http::get(\"https://\" + host)",
            "http::get(`https://api.exa${x}`)",
            "http::get(\"https://a.example\" + \".com\")",
            "http::get(\"https://no.example.com/\" - \"no.\")",
            "http::get(`https://no.example.com/${`${1}`}`.replace(\"no.\", \"\"))",
            "http::get(\"https://a.example.com\"\".org\")",
            "http::request(m, \"https://a.example.com/\")",
        ] {
            assert_eq!(of(source).destinations, set(&["*"]), "{source}");
        }
        let found =
            of("http::get(`https://a.example.com/${f(`x${1}`)}/y`, #{}); log::info(\"x\"); invoke(\"b\", 1)");
        assert_eq!(found.destinations, set(&["a.example.com"]));
        assert_eq!(found.namespaces, set(&["http", "invoke"]));
        for source in ["invoke_async(\"b\")", "Fn(\"invoke\").call(\"b\")", "Fn( `invoke_async` )"] {
            assert_eq!(of(source).namespaces, set(&["invoke"]), "{source}");
        }
        // What a call of them needs is that they are named, so these ask for nothing and get nothing.
        for source in ["Fn(\"inv\" + \"oke\")", "let name = \"invoke\"; Fn(name)", "Fn(\"other\")"] {
            assert_eq!(of(source).namespaces, set(&[]), "{source}");
        }
        for source in ["secrets::get(name)", "secrets::get(\"a\" + \"b\")"] {
            assert_eq!(of(source).secrets, set(&["*"]), "{source}");
        }
    }

    #[test]
    fn comments_and_texts_ask_for_nothing_and_code_in_texts_does() {
        for source in [
            "// kv::collection(\"a\")",
            "/* /* http::get(\"x\") */ kv::collection(1) */",
            "\"kv::collection(1)\"",
            "my_kv::collection(1)",
            "'k'",
        ] {
            assert_eq!(of(source), Capabilities::default(), "{source}");
        }
        assert_eq!(of("`a ${ kv::collection(`b${1}`) } c`").namespaces, set(&["kv"]));
    }

    #[test]
    fn attack_no_text_or_comment_hides_the_code_behind_it() {
        for hiding in [
            "#\"\\\"#;",
            "##\"\"# ` \"##;",
            "`\\${`;",
            "`${1}\\${`;",
            "`a``${1}`;",
            "\"a\"\"b\";",
            "'\"';",
            "'\\'';",
            "'`';",
            "// a comment\r",
            "/* /* */ // */",
            "`${ `${ \"}\" }` }`;",
            "`${ #{ a: \"`\" } }`;",
        ] {
            let found = of(&format!("{hiding} http::get(\"https://a.example.com/\")"));
            assert_eq!(found.destinations, set(&["a.example.com"]), "{hiding}");
        }
    }

    #[test]
    fn a_version_that_wants_more_says_what() {
        let old = of("http::get(\"https://a.example.com/\")");
        let new = of("http::get(\"https://b.example.com/\"); kv::collection(\"a\"); secrets::get(\"k\")");
        let words = ["namespace kv", "namespace secrets", "requests to b.example.com", "secret k"];
        assert_eq!(new.beyond(&old), words);
        assert_eq!(old.beyond(&of("http::get(url)")), [""; 0]);
    }

    proptest! {
        #[test]
        fn arbitrary_source_never_panics(source in "([a-z:(\"`'${}/*\\\\ #r]|kv::|http::get){0,60}") {
            let _ = of(&source);
        }
    }
}
