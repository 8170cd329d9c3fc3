//! Events: what happens is written into the outbox in the transaction of the change that caused it,
//! and from there it is delivered to scripts until it is done. No change without its event, no event
//! without its change.
//!
//! `outbox` is the door for who causes events, `dispatcher` delivers them, `retry` and `verdict` say
//! what becomes of what fails, `dead_letters` what is done about what was given up. `docs/outbox.md`
//! draws it.

mod accept;
mod call;
mod dispatcher;
mod event;
mod outbox;
mod replay;
mod replies;
mod retention;
mod retry;
mod row;
mod targets;
#[expect(dead_code, reason = "the services that make events ask it, and come after it")]
pub(crate) mod triggers;
mod verdict;

pub(crate) use self::accept::Acceptor;
pub use self::dispatcher::EventCounters;
pub(crate) use self::dispatcher::{Dispatching, Fetch, Page};
pub(crate) use self::event::{Due, NewEvent, Payload};
pub(crate) use self::outbox::{EmitError, Outbox};
pub(crate) use self::replay::replay;
pub(crate) use self::retention::sweep as sweep_retention;
pub(crate) use self::retry::RetryPolicy;
pub(crate) use self::row::{Row, Task, shard_of};
