//! What is found in a script's source against what Rhai makes of it: a request that a script sends is one
//! that its source was found to ask for, however the call is hidden.

use std::sync::{Arc, Mutex};

use rhai::{Engine, Module};
use shared::capabilities::Capabilities;
use shared::script::{Bundle, ScriptKind};

/// Scripts that are made up.
const CASES: usize = 4_096;
/// What begins and ends texts and comments.
const AROUND: [(&str, &str); 11] = [
    ("\"", "\""),
    ("`", "`"),
    ("#\"", "\"#"),
    ("##\"", "\"##"),
    ("'", "'"),
    ("/*", "*/"),
    ("//", "\r"),
    ("//", "\n"),
    ("`${", "}`"),
    ("`${`", "`}`"),
    ("#{ a: `", "` }"),
];
/// What a reader may take for something else than it is.
const WITHIN: [&str; 17] = [
    "\\", "\\\\", "\\\"", "\\'", "\\`", "\\${", "${1}", "$", "{", "}", "\"", "\"\"", "``", "#", "/*", "//",
    "x",
];
/// Parts of an address and what may be done to it.
const ADDRESS: [&str; 14] = [
    "https://",
    "a.example",
    ".com",
    "b.",
    "/",
    "?",
    "\"\"",
    "``",
    "\\x61",
    "${1}",
    "${`x`}",
    "\\${",
    "a",
    "@",
];

/// Makes things up, the same at every run (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most as u64).unwrap()
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn pieces(&mut self, of: &[&str], most: usize) -> String {
        (0..self.below(most + 1)).map(|_| self.one(of)).collect()
    }

    /// Statements that hold texts and comments.
    fn hiding(&mut self) -> String {
        let statements = (0..=self.below(3)).map(|_| {
            let (before, behind) = self.one(&AROUND);
            format!("{before}{}{behind};", self.pieces(&WITHIN, 4))
        });
        statements.collect()
    }

    /// Something that makes an address.
    fn address(&mut self) -> String {
        let quote = self.one(&["\"", "`"]);
        let text = format!("{quote}https://{}{quote}", self.pieces(&ADDRESS, 5));
        let further =
            self.one(&["", "", " + \".org/\"", " - \"b.\"", ".replace(\"b.\", \"\")", "\"\"", "``"]);
        match further.starts_with('.') {
            // It changes a text in its place.
            true => format!("{{ let t = {text}; t{further}; t }}"),
            false => text + further,
        }
    }
}

/// The addresses to which Rhai sends requests.
fn sent_by(source: &str) -> Vec<String> {
    let sent: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut http = Module::new();
    let noted = Arc::clone(&sent);
    http.set_native_fn("get", move |url: &str| {
        noted.lock().unwrap().push(url.to_owned());
        Ok(1_i64)
    });
    let mut engine = Engine::new();
    engine.register_static_module("http", http.into());
    // Most of what is made up here is no script, which is fine.
    let _ = engine.eval::<rhai::Dynamic>(source);
    sent.lock().unwrap().clone()
}

fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default().to_ascii_lowercase()
}

fn found_in(source: &str) -> Capabilities {
    Capabilities::of(&Bundle::single(ScriptKind::Endpoint, "a", source))
}

#[test]
fn attack_no_text_hides_a_request_that_is_sent() {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut sent = 0;
    for _ in 0..CASES {
        let (before, behind) = (chance.hiding(), chance.hiding());
        let source = format!("{before} http::get(\"https://a.example.com/\"); {behind}");
        if !sent_by(&source).is_empty() {
            sent += 1;
            assert!(found_in(&source).destinations.contains("a.example.com"), "{source}");
        }
    }
    assert!(sent > CASES / 50, "only {sent} of what was made up are scripts");
}

#[test]
fn attack_no_request_goes_where_the_source_was_not_found_to_send_it() {
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    let mut sent = 0;
    for _ in 0..CASES {
        let source = format!("http::get({})", chance.address());
        let found = found_in(&source).destinations;
        for url in sent_by(&source) {
            sent += 1;
            assert!(found.contains("*") || found.contains(&host(&url)), "{source} sends to {url}");
        }
    }
    assert!(sent > CASES / 50, "only {sent} of what was made up are scripts");
}
