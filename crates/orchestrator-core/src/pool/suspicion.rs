//! When a worker's end is suspicious, and which executions may have caused it.

use std::collections::HashSet;
use std::sync::Arc;

use nix::sys::signal::Signal;
use shared::id::ScriptId;
use shared::incident::{Incident, Misconduct, Suspect};
use shared::ports::IncidentSink;
use shared::wire::worker::WorkerExit;

use super::conversation::Over;
use super::execution::Execution;
use super::job::{Job, Task};
use super::process::Exit;
use super::watch::Watched;

/// What may be the reason. A compilation may be one as well: the compiler reads a stranger's source.
pub(super) fn suspect(execution: &Execution) -> Suspect {
    match &execution.job.task {
        Task::Run(invocation) => {
            Suspect::Execution { execution: invocation.execution, target: Arc::clone(&invocation.target) }
        }
        Task::Compile => Suspect::Compilation(execution.job.app),
    }
}

/// The one script that a worker has run since its start, if it has run nothing else: nobody but that script can be
/// the reason for what the worker does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sole {
    /// Nothing has run.
    #[default]
    Nothing,
    Script(ScriptId),
    /// There were several scripts, or a compilation.
    Nobody,
}

impl Sole {
    pub(super) fn and(self, job: &Job) -> Self {
        match (self, job.script()) {
            (Self::Nothing, Some(script)) => Self::Script(script),
            (Self::Script(one), Some(script)) if one == script => self,
            _ => Self::Nobody,
        }
    }

    pub(super) const fn is_one(self) -> bool {
        matches!(self, Self::Script(_))
    }
}

/// What a worker did that none of ours does of itself; nothing when it was ended from outside, for
/// example by the kernel, when the machine had no memory left, or by somebody at a terminal. One that was asked to
/// leave, and had nothing left to do, may end by itself.
pub(super) fn misconduct(
    over: &Over,
    exit: Exit,
    may_leave: bool,
    is_out_of_memory: bool,
) -> Option<Misconduct> {
    match (over, exit) {
        (Over::Violation(_), _) | (_, Exit::Code(PROTOCOL)) => Some(Misconduct::Protocol),
        (Over::Unruly(_) | Over::Stalled, _) => Some(Misconduct::Unresponsive),
        (_, Exit::Code(PANIC)) => Some(Misconduct::Crash),
        (_, Exit::Signal(Signal::SIGSYS)) => Some(Misconduct::ForbiddenCall),
        (_, Exit::Signal(signal)) if CRASHES.contains(&signal) => Some(Misconduct::Crash),
        // Code that has taken it over can end it as often as it likes, and others' work with it.
        (Over::Closed, Exit::Code(_)) if !may_leave => Some(Misconduct::Crash),
        (Over::Closed, Exit::Signal(Signal::SIGKILL)) if is_out_of_memory => Some(Misconduct::OutOfMemory),
        _ => None,
    }
}

const PROTOCOL: i32 = WorkerExit::Protocol as i32;
const PANIC: i32 = WorkerExit::Panic as i32;
/// Signals that a program brings upon itself.
const CRASHES: [Signal; 6] =
    [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT, Signal::SIGTRAP];

/// Reports everything that ran, once for each script or app's compilations however many executions were lost: which of it
/// was to blame cannot be seen from here, unless the worker had run one script alone. Where nothing ran that can be suspected, that it happened is reported all the same.
pub(super) fn report(
    suspects: Vec<Suspect>,
    misconduct: Misconduct,
    is_alone: bool,
    detail: &str,
    sink: &dyn IncidentSink,
) {
    let detail: Arc<str> = detail.into();
    let incident = |suspect| Incident { suspect, misconduct, is_alone, detail: Arc::clone(&detail) };
    if suspects.is_empty() {
        sink.report(incident(None));
    }
    let mut reported = HashSet::new();
    for suspect in suspects {
        if reported.insert(Watched::from(&suspect)) {
            sink.report(incident(Some(suspect)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::pool::violation::Unruly;

    fn misconduct(over: &Over, exit: Exit, may_leave: bool) -> Option<Misconduct> {
        super::misconduct(over, exit, may_leave, false)
    }

    #[test]
    fn a_worker_that_was_killed_from_outside_did_nothing_wrong() {
        for exit in [Exit::Signal(Signal::SIGKILL), Exit::Signal(Signal::SIGTERM), Exit::Unknown] {
            assert_eq!(misconduct(&Over::Closed, exit, false), None, "{exit:?}");
        }
    }

    #[test]
    fn only_a_worker_that_was_asked_to_leave_may_end_by_itself() {
        assert_eq!(misconduct(&Over::Closed, Exit::Code(0), true), None);
        assert_eq!(misconduct(&Over::Closed, Exit::Code(0), false), Some(Misconduct::Crash));
        assert_eq!(misconduct(&Over::Closed, Exit::Code(7), false), Some(Misconduct::Crash));
        let failed = Over::Socket(ErrorKind::OutOfMemory.into());
        assert_eq!(misconduct(&failed, Exit::Code(0), false), None, "it left because the parent hung up");
    }

    #[test]
    fn a_worker_that_ends_by_its_own_doing_is_suspicious() {
        let killed = Exit::Signal(Signal::SIGKILL);
        assert_eq!(misconduct(&Over::Unruly(Unruly::Overdue), killed, true), Some(Misconduct::Unresponsive));
        assert_eq!(
            misconduct(&Over::Closed, Exit::Signal(Signal::SIGSYS), true),
            Some(Misconduct::ForbiddenCall)
        );
        assert_eq!(misconduct(&Over::Closed, Exit::Signal(Signal::SIGSEGV), true), Some(Misconduct::Crash));
        assert_eq!(misconduct(&Over::Closed, Exit::Code(PROTOCOL), true), Some(Misconduct::Protocol));
        assert_eq!(misconduct(&Over::Closed, Exit::Code(PANIC), true), Some(Misconduct::Crash));
    }

    #[test]
    fn a_worker_that_used_up_its_groups_memory_was_not_killed_by_anybody_at_a_terminal() {
        let killed = Exit::Signal(Signal::SIGKILL);
        let seen = |over: &Over, exit: Exit| super::misconduct(over, exit, false, true);
        assert_eq!(seen(&Over::Closed, killed), Some(Misconduct::OutOfMemory));
        assert_eq!(
            seen(&Over::Unruly(Unruly::Overdue), killed),
            Some(Misconduct::Unresponsive),
            "the worse of the two"
        );
        assert_eq!(seen(&Over::Closed, Exit::Signal(Signal::SIGTERM)), None);
    }
}
