//! A worker that gets ready like any other and then runs an attack, as native code that escaped
//! from the sandbox would. It writes one line, `seen …`, unless the kernel ends it first.

mod attacks;
mod memory;
mod surroundings;
mod sweep;
mod system;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use executor_core::jail::{Allowed, RULES};
use shared::wire::worker::Layers;

/// What an attack came to: done, or refused with an error.
pub(crate) type Seen = Result<String, nix::errno::Errno>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["sweep"] => report(&sweep::sweep()),
        // Not hostile at all: does its work with one rule less.
        ["without", rule, parent] => {
            let Ok(parent) = parent.parse() else { return ExitCode::from(2) };
            executor_core::serve_with(parent, &without(rule))
        }
        // The same where the clock cannot be read without a call.
        ["without-clock-and", rule, parent] => {
            let (Ok(parent), Ok(())) = (parent.parse(), system::forget_clock()) else {
                return ExitCode::from(2);
            };
            executor_core::serve_with(parent, &without(rule))
        }
        // Fails as a worker of ours would, with one rule less.
        ["dying-without", rule, parent] => {
            let Ok(parent) = parent.parse() else { return ExitCode::from(2) };
            executor_core::rehearse_with(parent, Layers::ALL, &without(rule), || panic!("last words"))
        }
        // Stands for a parent with secrets in its environment and memory.
        ["become", rest @ ..] => {
            let error = Command::new("/proc/self/exe").args(rest).env_clear().exec();
            report(&Ok(error.to_string()))
        }
        ["copy", parent, layers, attack, target] => {
            rehearse(executor_core::rehearse_as_copy, parent, layers, attack, target)
        }
        [parent, layers, attack, target] => rehearse(executor_core::rehearse, parent, layers, attack, target),
        _ => ExitCode::from(2),
    }
}

/// A way to get ready.
type Ready<'a> = fn(i32, Layers, Box<dyn FnOnce() -> u8 + 'a>) -> ExitCode;

fn rehearse<'a>(ready: Ready<'a>, parent: &str, layers: &str, attack: &'a str, target: &'a str) -> ExitCode {
    let (Ok(parent), Some(layers)) = (parent.parse::<i32>(), parse(layers)) else {
        return ExitCode::from(2);
    };
    let attack = move || {
        report(&attacks::run(attack, target, parent.unsigned_abs() as usize));
        0
    };
    ready(parent, layers, Box::new(attack))
}

fn without(rule: &str) -> Vec<Allowed> {
    RULES.iter().filter(|allowed| allowed.name != rule).copied().collect()
}

fn parse(layers: &str) -> Option<Layers> {
    let mut names = layers.split(',').filter(|name| !name.is_empty());
    names.try_fold(Layers::NONE, |set, name| Some(set | Layers::by_name(name)?))
}

fn report(seen: &Seen) -> ExitCode {
    let line = match seen {
        Ok(text) => format!("seen {text}\n"),
        Err(errno) => format!("seen {errno:?}\n"),
    };
    // One call, because it may be the last that is allowed.
    let _ = std::io::stderr().write_all(line.as_bytes());
    ExitCode::SUCCESS
}
