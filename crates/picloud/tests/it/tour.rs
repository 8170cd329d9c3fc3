//! The tour of `docs/api.md`, line by line: what the page shows is what is answered.

use std::fs;
use std::process::Command;

use crate::harness::{ADMIN, PASSWORD, TestServer};

const PAGE: &str = include_str!("../../../../docs/api.md");
/// Stands on the page for what is another each time.
const ANYTHING: char = '…';
/// Ends what a command has printed.
const END: &str = "\u{1e}";

/// A command of the page, and what it shows of the answer.
#[derive(Default)]
struct Step {
    command: String,
    shown: String,
}

/// The commands in the page's blocks of a console.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut is_console = false;
    for line in page.lines() {
        if line.starts_with("```") {
            is_console = line == "```console";
            continue;
        }
        if !is_console {
            continue;
        }
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), ..Step::default() });
        } else if let Some(step) = steps.last_mut() {
            let is_continued = step.shown.is_empty() && step.command.ends_with('\\');
            let text = if is_continued { &mut step.command } else { &mut step.shown };
            *text += &format!("{}{line}", if text.is_empty() { "" } else { "\n" });
        }
    }
    steps
}

/// Whether a text is the shown one, where that says what it is.
fn is_shown(shown: &str, text: &str) -> bool {
    let parts: Vec<_> = shown.split(ANYTHING).collect();
    let [first, between @ .., last] = &parts[..] else { return shown == text };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for part in between {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

#[test]
fn the_tour_of_the_api_shows_what_is_answered() {
    for tool in ["curl", "jq"] {
        assert!(
            Command::new(tool).arg("--version").output().is_ok(),
            "the tour needs {tool}: make setup-tests"
        );
    }
    let server = TestServer::start();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("picloud-data")).unwrap();
    fs::write(dir.path().join("picloud-data/initial-admin-password"), PASSWORD).unwrap();
    let page =
        PAGE.replace("localhost:8080", &format!("localhost:{}", server.port)).replace("\"admin\"", "\"ada\"");
    let page = page.replace("\\\"admin\\\"", &format!("\\\"{ADMIN}\\\""));
    let steps = steps(&page);
    assert!(steps.len() > 20, "the page has no tour");
    let script: String = steps.iter().map(|step| format!("{}\nprintf '{END}'\n", step.command)).collect();
    let output = Command::new("bash").arg("-c").arg(script).current_dir(dir.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut seen = text.split(END);
    for Step { command, shown } in &steps {
        let seen = seen.next().unwrap_or_default().trim_end();
        assert!(is_shown(shown, seen), "$ {command}\n--- the page shows\n{shown}\n--- answered\n{seen}");
    }
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn what_is_left_out_may_be_anything_and_the_rest_may_not() {
    for (shown, text, is_match) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("", "", true),
        ("", "a", false),
        ("a…c", "abc", true),
        ("a…c", "abcd", false),
        ("a…c", "abcbc", true),
        ("…c", "abc", true),
        ("a…", "abc", true),
        ("a…x…c", "abc", false),
    ] {
        assert_eq!(is_shown(shown, text), is_match, "{shown} {text}");
    }
}
