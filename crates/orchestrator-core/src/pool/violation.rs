//! What no worker of ours does.

use shared::wire::codec::FrameError;

/// A worker did what no worker of ours does. It is killed: whatever it says next may be a lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("no more, as it hung up")]
    HungUp,
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    #[error("a frame about slot {0}, which does not exist")]
    NoSuchSlot(u16),
    #[error("a frame about slot {0}, in which nothing runs")]
    IdleSlot(u16),
    #[error("a frame about a finished execution of slot {0}")]
    Generation(u16),
    #[error("a body of {0} bytes where fewer are allowed")]
    TooLong(u32),
    #[error("host call {0}, which does not exist")]
    UnknownCall(u16),
    #[error("more log notices, or longer ones, than the worker's own guest could send")]
    NoticeFlood,
    #[error("a host call of slot {0}, which waits for the answer to another one")]
    SecondCall(u16),
    #[error("more host calls, or longer ones, than the worker's own guest could make")]
    CallFlood,
    #[error("a result of slot {0}, which waits for the answer to a host call")]
    Unanswered(u16),
    #[error("a host call with arguments that no guest encodes")]
    Forged,
    #[error("an answer that does not decode")]
    Answer,
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// A worker did not do what it was told to, or something that nobody asked of it. Only killing it helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unruly {
    #[error("an execution ignored its deadline")]
    Overdue,
    #[error("the worker was told to leave, and stayed")]
    Lingering,
    #[error("the worker had nothing to do, and burnt CPU")]
    Restless,
}
