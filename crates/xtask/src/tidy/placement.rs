//! Where SQL, `unsafe` and the environment may be. An exception is a line here, with its reason.

use super::Violation;
use super::source::Source;

/// Where SQL may be.
const SQL: &[&str] = &[
    // All of PiCloud's statements.
    "crates/manager-core/src/store/",
    // Creates the role and the database of the private server, before there is a store.
    "crates/picloud/src/postgres/",
    // What statements cost by themselves, beside PiCloud.
    "crates/picloud-bench/src/baseline/database.rs",
];

/// Where `unsafe` may be.
const UNSAFE: &[&str] = &[
    // System calls that no safe interface has.
    "crates/executor-core/src/jail/",
    // The memory of a guest and the module that was compiled ahead of time.
    "crates/executor-core/src/sandbox/",
    // Attacks on the jail, which are system calls that no safe interface has.
    "crates/executor-core/tests/escape/hostile/",
    // The guest's imports.
    "sandbox-wasm/sdk/src/host.rs",
    // The guest's exports.
    "sandbox-wasm/src/exports.rs",
    // Comparing bytes, under names that the C language gives.
    "sandbox-wasm/src/compare.rs",
    // The guest's allocator.
    "sandbox-wasm/src/memory.rs",
];

/// Where the environment may be read, besides a binary's `config.rs` and build scripts.
const ENVIRONMENT: &[&str] = &[
    // Counts the variables, to refuse a worker that inherited any.
    "crates/executor-core/src/jail/",
    // Programs for developers.
    "crates/xtask/",
    "crates/picloud-bench/",
];

/// SQL belongs to the store, where each statement is a function that joins any transaction.
pub(super) fn sql(source: &Source) -> Vec<Violation> {
    if is_within(source, SQL) {
        return Vec::new();
    }
    let calls = source.production_code().filter(|(_, line)| is_sqlx_call(line)).map(|(line, _)| line);
    let statements = source.production_strings().filter(|(_, text)| is_statement(text)).map(|(line, _)| line);
    let mut lines: Vec<usize> = calls.chain(statements).collect();
    lines.sort_unstable();
    lines.dedup();
    let advice = "SQL belongs in crates/manager-core/src/store/: make it a function there";
    lines.into_iter().map(|line| Violation::new(&source.path, line, "sql", advice)).collect()
}

/// `unsafe` belongs where reviewers look for it.
pub(super) fn unsafe_code(source: &Source) -> Vec<Violation> {
    if is_within(source, UNSAFE) {
        return Vec::new();
    }
    let advice = "unsafe belongs in the jail, the sandbox or the guest's host.rs, exports.rs, compare.rs and memory.rs: use a safe interface here";
    let is_unsafe = |line: &str| {
        line.match_indices("unsafe").any(|(at, word)| {
            let is_word = !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let rest = line[at + word.len()..].trim_start();
            // Elsewhere the word is a macro's own.
            is_word && ["{", "fn ", "impl", "trait ", "extern", "("].iter().any(|next| rest.starts_with(next))
        })
    };
    let lines = (1..).zip(source.lexed.code.lines()).filter(|(_, line)| is_unsafe(line));
    lines.map(|(line, _)| Violation::new(&source.path, line, "unsafe", advice)).collect()
}

/// The environment is read in one place of each binary, where every setting is listed.
pub(super) fn environment(source: &Source) -> Vec<Violation> {
    let file = source.path.rsplit('/').next().unwrap_or_default();
    if matches!(file, "config.rs" | "build.rs") || is_within(source, ENVIRONMENT) {
        return Vec::new();
    }
    let advice = "read the environment in the binary's config.rs and pass the value here";
    let is_read =
        |line: &str| ["env::var(", "env::var_os(", "env::vars"].iter().any(|call| line.contains(call));
    let lines = source.production_code().filter(|(_, line)| is_read(line));
    lines.map(|(line, _)| Violation::new(&source.path, line, "environment", advice)).collect()
}

fn is_within(source: &Source, places: &[&str]) -> bool {
    places.iter().any(|place| source.path.starts_with(place))
}

fn is_sqlx_call(line: &str) -> bool {
    ["sqlx::query", "sqlx::raw_sql", "query!(", "query_as!(", "query_scalar!("]
        .iter()
        .any(|call| line.contains(call))
}

/// Whether a text reads like a statement. Keywords are lower-case in this repository; prose that
/// begins with the same words lacks the words that follow.
fn is_statement(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().filter(|word| *word != "\\").collect();
    let has = |word: &str| words.contains(&word);
    match words.as_slice() {
        ["select", what, ..] => has("from") || what.contains('(') || what.parse::<u32>().is_ok(),
        ["insert", "into", _, ..] | ["delete", "from", _, ..] => true,
        ["update", _, ..] => has("set"),
        ["with", _, ..] => has("as") && (has("select") || has("(select") || has("insert") || has("delete")),
        ["create" | "alter" | "drop", kind, _, ..] => {
            ["table", "index", "role", "database", "schema", "type", "function", "extension"].contains(kind)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(violations: Vec<Violation>) -> Vec<usize> {
        violations.into_iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn sql_outside_the_store_is_found() {
        let text =
            "let a = r#\"\n  select id\n  from app\n\"#;\nlet b = \"update app set x = 1\";\nsqlx::query(c);";
        assert_eq!(lines(sql(&Source::new("crates/manager-core/src/admin/apps.rs", text))), [1, 5, 6]);
        assert_eq!(lines(sql(&Source::new("crates/manager-core/src/store/apps.rs", text))), [0_usize; 0]);
        assert_eq!(lines(sql(&Source::new("crates/manager-core/tests/apps.rs", text))), [0_usize; 0]);
    }

    #[test]
    fn prose_is_no_statement() {
        for text in
            ["select a route", "update the script", "with a body", "create", "delete it", "drop table"]
        {
            assert!(!is_statement(text), "{text}");
        }
        for text in ["select 1", "select count(*)", "with a as (select 1) table a", "delete from app"] {
            assert!(is_statement(text), "{text}");
        }
    }

    #[test]
    fn unsafe_outside_its_folders_is_found_in_tests_too() {
        let text = "// unsafe {\nlet a = unsafe { f() };\n#[cfg(test)]\nmod tests {\nunsafe fn g() {}\n}\n";
        assert_eq!(lines(unsafe_code(&Source::new("crates/shared/src/id.rs", text))), [2, 5]);
        assert_eq!(
            lines(unsafe_code(&Source::new("crates/executor-core/src/jail/mod.rs", text))),
            [0_usize; 0]
        );
    }

    #[test]
    fn forbidding_unsafe_is_not_using_it() {
        let text = "#![forbid(unsafe_code)]\nm! { A unsafe \"title\"; }\n(@retry unsafe) => { false }\n";
        assert_eq!(lines(unsafe_code(&Source::new("crates/shared/src/fault.rs", text))), [0_usize; 0]);
    }

    #[test]
    fn the_environment_is_read_in_config_alone() {
        let text = "let a = std::env::var(\"A\");\nlet b = env::var_os(\"B\");\nlet c = env!(\"C\");\n";
        assert_eq!(lines(environment(&Source::new("crates/picloud/src/serve.rs", text))), [1, 2]);
        assert_eq!(lines(environment(&Source::new("crates/picloud/src/config.rs", text))), [0_usize; 0]);
        assert_eq!(lines(environment(&Source::new("crates/executor-core/build.rs", text))), [0_usize; 0]);
    }
}
