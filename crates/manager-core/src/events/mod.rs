//! Events: what happens is written into the outbox in the transaction of the change that caused it,
//! and from there it is delivered to scripts until it is done. No change without its event, no event
//! without its change.
//!
//! `triggers` are what scripts run for; `cron`, `queues`, `topics` and `webhooks` make events of times, messages
//! and requests.
//! `outbox` is the door for who causes events, `dispatcher` delivers them, `retry` and `verdict` say
//! what becomes of what fails, `dead_letters` what is done about what was given up. `docs/outbox.md`
//! draws it.

mod accept;
mod arrivals;
mod call;
pub(crate) mod cron;
mod dispatcher;
mod event;
mod handlers;
mod held;
mod intake;
mod keepers;
mod kinds;
mod late;
mod outbox;
pub(crate) mod queues;
mod replay;
mod replies;
mod retention;
mod retry;
mod row;
mod targets;
pub(crate) mod topics;
#[expect(dead_code, reason = "changes of data ask it, and come after it")]
pub(crate) mod triggers;
mod verdict;
pub(crate) mod webhooks;

pub(crate) use self::accept::Acceptor;
pub use self::dispatcher::EventCounters;
pub(crate) use self::dispatcher::{Dispatching, Fetch, Page};
pub(crate) use self::event::{DEPTH_MAX, Due, EventKind, NewEvent, Payload};
pub(crate) use self::keepers::Keepers;
pub(crate) use self::late::LateInvoke;
pub(crate) use self::outbox::{EmitError, Outbox, Pending};
pub(crate) use self::replay::{redrive, replay};
pub use self::retention::EventRetention;
pub(crate) use self::retention::sweep as sweep_retention;
pub(crate) use self::retry::RetryPolicy;
pub(crate) use self::row::{Row, Task, shard_of};
pub(crate) use self::verdict::STRIKES_MAX;
