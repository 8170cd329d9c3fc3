//! What can go wrong, how it is told, and the exit code it ends with.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::compile_error::CompileError;
use crate::credentials::CredentialsError;
use crate::output::{Output, Tone, visible};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("not logged in at {url}")]
    NotLoggedIn { url: String },
    #[error("{}", .0.title)]
    Refused(Box<Problem>),
    #[error("the script does not compile")]
    DoesNotCompile(Box<CompileError>),
    #[error("cannot reach {url}")]
    Unreachable { url: String, source: Box<ureq::Error> },
    #[error("the server's answer is not what this version of pic expects")]
    UnexpectedAnswer(#[source] serde_json::Error),
    #[error("{path} cannot be read")]
    File { path: PathBuf, source: io::Error },
    /// What is in a file cannot be deployed.
    #[error("{0}")]
    Source(String),
    /// A wanted route leads to another script.
    #[error("{0}")]
    RouteTaken(String),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("the output cannot be written")]
    Output(#[source] io::Error),
    /// All there is to say has been said: a script that ran answered with an error status.
    #[error("the script answered with an error")]
    ScriptFailed,
}

/// An RFC 9457 problem. Whatever else it carries is in `more`.
#[derive(Debug, Deserialize)]
pub(crate) struct Problem {
    pub(crate) title: String,
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) detail: String,
    #[serde(default)]
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) request_id: String,
    #[serde(flatten)]
    pub(crate) more: Map<String, Value>,
    /// Whether the refused request carried a token.
    #[serde(skip)]
    pub(crate) had_token: bool,
    /// As it came.
    #[serde(skip)]
    pub(crate) raw: Option<Value>,
}

/// The exit codes, as `pic --help` and `docs/cli.md` list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Failure = 1,
    Usage = 2,
    NotAllowed = 3,
    NotFound = 4,
    Unavailable = 5,
}

impl Problem {
    /// Reads an error answer; one without a problem in it (a proxy's page) becomes a plain one.
    pub(crate) fn read(status: u16, body: &[u8]) -> Self {
        if let Ok(raw) = serde_json::from_slice::<Value>(body)
            && let Ok(problem) = Self::deserialize(&raw)
        {
            return Self { raw: Some(raw), ..problem };
        }
        let detail: String = String::from_utf8_lossy(body).trim().chars().take(300).collect();
        let code = String::new();
        let title = format!("the server answered with status {status}");
        Self {
            title,
            status,
            detail,
            code,
            request_id: String::new(),
            more: Map::new(),
            had_token: false,
            raw: None,
        }
    }

    fn exit(&self) -> Exit {
        match self.status {
            401 | 403 => Exit::NotAllowed,
            404 => Exit::NotFound,
            502..=504 => Exit::Unavailable,
            _ => Exit::Failure,
        }
    }
}

impl Failure {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::NotLoggedIn { .. } => Exit::NotAllowed,
            Self::Refused(problem) => problem.exit(),
            Self::Unreachable { .. } => Exit::Unavailable,
            _ => Exit::Failure,
        }
    }

    /// A reader that went away (`pic logs | head`) has got what it wanted.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn report(&self, out: &Output) {
        match self {
            Self::ScriptFailed => {}
            Self::Refused(problem) => report_problem(out, problem),
            Self::DoesNotCompile(error) => match error.raw() {
                Some(raw) if out.is_json() => out.note(&format!("{raw:#}")),
                _ => out.note(error.render(out.stderr).trim_end()),
            },
            _ => {
                report_line(out, &self.to_string());
                let mut source = std::error::Error::source(self);
                while let Some(cause) = source {
                    out.note(&format!("  caused by: {}", visible(&cause.to_string())));
                    source = cause.source();
                }
            }
        }
        if let Some(advice) = self.advice() {
            out.note(&format!("{} {advice}", out.stderr.paint(Tone::Strong, "help:")));
        }
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::NotLoggedIn { url } => Some(format!("run `pic login --url {url}`, or set PICLOUD_TOKEN")),
            Self::Refused(problem) if problem.status == 401 && problem.had_token => {
                Some("the login may have expired; run `pic login`".to_owned())
            }
            Self::Unreachable { .. } => Some(
                "is the server running? start one with `picloud serve`, or name another with --url or PICLOUD_URL"
                    .to_owned(),
            ),
            Self::RouteTaken(_) => Some("nothing was deployed; choose another --route, or remove that one with `pic routes rm`".to_owned()),
            Self::UnexpectedAnswer(_) => {
                Some("is this the address of a PiCloud server, and of the same version as pic?".to_owned())
            }
            _ => None,
        }
    }
}

fn report_problem(out: &Output, problem: &Problem) {
    if out.is_json()
        && let Some(raw) = &problem.raw
    {
        return out.note(&format!("{raw:#}"));
    }
    report_line(out, &problem.title);
    if !problem.detail.is_empty() {
        out.note(&format!("  {}", visible(&problem.detail)));
    }
    let named = [("code", &problem.code), ("request", &problem.request_id)];
    let known: Vec<_> = named.iter().filter(|(_, value)| !value.is_empty()).collect();
    if !known.is_empty() {
        let text: Vec<_> = known.iter().map(|(name, value)| format!("{name} {}", visible(value))).collect();
        out.note(&format!("  {}", out.stderr.paint(Tone::Faint, &text.join(", "))));
    }
}

fn report_line(out: &Output, text: &str) {
    out.note(&format!("{} {}", out.stderr.paint(Tone::Bad, "error:"), visible(text)));
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> Failure {
        Failure::Refused(Box::new(Problem::read(status, b"")))
    }

    #[test]
    fn each_kind_of_failure_has_its_exit_code() {
        let cases = [
            (refused(400), 1),
            (refused(401), 3),
            (refused(403), 3),
            (refused(404), 4),
            (refused(409), 1),
            (refused(500), 1),
            (refused(503), 5),
            (Failure::Usage(String::new()), 2),
            (Failure::NotLoggedIn { url: String::new() }, 3),
            (Failure::ScriptFailed, 1),
        ];
        for (failure, code) in cases {
            assert_eq!(failure.exit() as u8, code, "{failure:?}");
        }
    }

    #[test]
    fn an_answer_without_a_problem_is_told_by_its_status() {
        let problem = Problem::read(502, b"<html>bad gateway</html>");
        assert_eq!(problem.title, "the server answered with status 502");
        assert_eq!(problem.detail, "<html>bad gateway</html>");
    }
}
