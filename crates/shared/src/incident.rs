//! What a worker did that makes it, and what ran in it, suspect.

use std::sync::Arc;

use crate::id::ExecutionId;
use crate::invocation::ScriptTarget;

/// What a worker did that no worker of ours does of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misconduct {
    /// It sent what is not the protocol.
    Protocol,
    /// It made a system call that is not on the list.
    ForbiddenCall,
    /// It crashed, or ended by itself while it had work.
    Crash,
    /// It ignored a deadline, or stopped reading, and had to be killed.
    Unresponsive,
}

impl Misconduct {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::ForbiddenCall => "forbidden_call",
            Self::Crash => "crash",
            Self::Unresponsive => "unresponsive",
        }
    }
}

/// An execution that ran in a worker when it misbehaved.
#[derive(Debug, Clone)]
pub struct Suspect {
    pub execution: ExecutionId,
    pub target: Arc<ScriptTarget>,
}

/// A worker misbehaved, maybe because of what ran in it.
#[derive(Debug, Clone)]
pub struct Incident {
    /// Nobody when nothing but a compilation had run in it: its source is not deployed yet.
    pub suspect: Option<Suspect>,
    pub misconduct: Misconduct,
    /// Whether the worker had run this script and no other, so that nobody else can be the reason.
    pub is_alone: bool,
    /// What was seen, for the instance's log and for those who may read it.
    pub detail: Arc<str>,
}
