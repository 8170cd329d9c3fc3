//! What frames of a worker come to, and its end.

use shared::incident::Suspect;

use super::calls::Started;
use super::connection::Execution;
use super::tenancy::Tenant;

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
    /// Whether it was asked to leave and had nothing left to do.
    pub(super) may_leave: bool,
    /// For whom it worked.
    pub(super) tenant: Option<Tenant>,
    pub(super) last: Option<Suspect>,
    /// Whether something has ended in it.
    pub(super) has_worked: bool,
}
