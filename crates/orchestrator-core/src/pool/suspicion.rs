//! When a worker's end is suspicious, and which executions may have caused it.

use std::sync::Arc;

use nix::sys::signal::Signal;
use shared::id::{ExecutionId, ScriptId};
use shared::incident::{Incident, Misconduct};
use shared::invocation::ScriptTarget;
use shared::ports::IncidentSink;
use shared::wire::worker::WorkerExit;

use super::connection::Execution;
use super::conversation::Over;
use super::job::Task;
use super::process::Exit;

/// An execution that ran when its worker misbehaved.
#[derive(Debug, Clone)]
pub(super) struct Suspect {
    execution: ExecutionId,
    target: Arc<ScriptTarget>,
}

impl Suspect {
    /// A compilation is none: its source is not deployed yet, and who asked for it is told.
    pub(super) fn of(execution: &Execution) -> Option<Self> {
        match &execution.job.task {
            Task::Run(invocation) => {
                Some(Self { execution: invocation.execution, target: Arc::clone(&invocation.target) })
            }
            Task::Compile => None,
        }
    }

    pub(super) fn script(&self) -> ScriptId {
        self.target.script
    }
}

/// What a worker did that none of ours does of itself; nothing when it was ended from outside, for
/// example by the kernel, which had no memory left, or by somebody at a terminal.
pub(super) fn misconduct(over: &Over, exit: Exit) -> Option<Misconduct> {
    match (over, exit) {
        (Over::Violation(_), _) | (_, Exit::Code(PROTOCOL)) => Some(Misconduct::Protocol),
        (Over::Overdue | Over::Stalled, _) => Some(Misconduct::Unresponsive),
        (_, Exit::Code(PANIC)) => Some(Misconduct::Crash),
        (_, Exit::Signal(Signal::SIGSYS)) => Some(Misconduct::ForbiddenCall),
        (_, Exit::Signal(signal)) if CRASHES.contains(&signal) => Some(Misconduct::Crash),
        _ => None,
    }
}

const PROTOCOL: i32 = WorkerExit::Protocol as i32;
const PANIC: i32 = WorkerExit::Panic as i32;
/// Signals that a program brings upon itself.
const CRASHES: [Signal; 6] =
    [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT, Signal::SIGTRAP];

/// Reports everything that ran: which of it was to blame cannot be seen from here, unless the worker
/// had run one script alone.
pub(super) fn report(
    suspects: Vec<Suspect>,
    misconduct: Misconduct,
    is_alone: bool,
    detail: &str,
    sink: &dyn IncidentSink,
) {
    let detail: Arc<str> = detail.into();
    for Suspect { execution, target } in suspects {
        sink.report(Incident { execution, target, misconduct, is_alone, detail: Arc::clone(&detail) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_was_killed_from_outside_did_nothing_wrong() {
        for exit in
            [Exit::Signal(Signal::SIGKILL), Exit::Signal(Signal::SIGTERM), Exit::Code(0), Exit::Unknown]
        {
            assert_eq!(misconduct(&Over::Closed, exit), None, "{exit:?}");
        }
    }

    #[test]
    fn a_worker_that_ends_by_its_own_doing_is_suspicious() {
        let killed = Exit::Signal(Signal::SIGKILL);
        assert_eq!(misconduct(&Over::Overdue, killed), Some(Misconduct::Unresponsive));
        assert_eq!(misconduct(&Over::Closed, Exit::Signal(Signal::SIGSYS)), Some(Misconduct::ForbiddenCall));
        assert_eq!(misconduct(&Over::Closed, Exit::Signal(Signal::SIGSEGV)), Some(Misconduct::Crash));
        assert_eq!(misconduct(&Over::Closed, Exit::Code(PROTOCOL)), Some(Misconduct::Protocol));
        assert_eq!(misconduct(&Over::Closed, Exit::Code(PANIC)), Some(Misconduct::Crash));
    }
}
