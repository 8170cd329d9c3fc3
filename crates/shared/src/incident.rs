//! What a worker did that makes it, and what ran in it, suspect.

use std::sync::Arc;

use crate::id::{AppId, ExecutionId};
use crate::invocation::ScriptTarget;

/// What a worker did that no worker of ours does of itself, or took that none may have.
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
    /// The kernel killed it because its control group had no memory left. Many scripts within their limits
    /// can come to that together, so it is no step towards quarantine.
    OutOfMemory,
}

impl Misconduct {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::ForbiddenCall => "forbidden_call",
            Self::Crash => "crash",
            Self::Unresponsive => "unresponsive",
            Self::OutOfMemory => "out_of_memory",
        }
    }
}

/// What ran in a worker when it misbehaved.
#[derive(Debug, Clone)]
pub enum Suspect {
    Execution {
        execution: ExecutionId,
        target: Arc<ScriptTarget>,
    },
    /// Of source that somebody wanted to deploy to this app. It belongs to no script yet.
    Compilation(AppId),
}

/// A worker misbehaved, maybe because of what ran in it.
#[derive(Debug, Clone)]
pub struct Incident {
    /// Nobody when nothing had run in it.
    pub suspect: Option<Suspect>,
    pub misconduct: Misconduct,
    /// Whether the worker had run this script and no other, so that nobody else can be the reason.
    pub is_alone: bool,
    /// What was seen, for the instance's log and for those who may read it.
    pub detail: Arc<str>,
}
