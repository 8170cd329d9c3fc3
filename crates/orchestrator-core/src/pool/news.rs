//! What frames of a worker come to, and its end.

use shared::incident::Suspect;

use super::calls::Started;
use super::execution::Execution;

/// What is to be done about frames, once the pool's lock is let go.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) ended: Vec<Ended>,
    /// Host calls to be carried out.
    pub(super) calls: Vec<Started>,
}

/// A frame that ended an execution: what ran, and where its body lies in the bytes passed in.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) execution: Execution,
    pub(super) body: std::ops::Range<usize>,
}

/// A worker that is gone.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// What it was running.
    pub(super) executions: Vec<Execution>,
    /// What may be the reason: what ran, or had just ended, or ended last.
    pub(super) suspects: Vec<Suspect>,
    /// Whether it was asked to leave and had nothing left to do.
    pub(super) may_leave: bool,
    /// Whether it had run one script and nothing else.
    pub(super) is_one_scripts: bool,
    /// Whether something has ended in it.
    pub(super) has_worked: bool,
}
