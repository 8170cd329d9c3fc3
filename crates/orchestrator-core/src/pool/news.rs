//! What frames of a worker come to.

use super::calls::Started;
use super::connection::Execution;

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
