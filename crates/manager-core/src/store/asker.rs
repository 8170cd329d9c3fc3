//! For whom the platform's connections are asked for. What has no asker is the platform's own: events, schedules,
//! records, and what is asked on a route.
//!
//! The asker goes along with a request's task, and not with a task that it starts.

use std::net::IpAddr;

use shared::id::UserId;
use uuid::Uuid;

/// Whose request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Whom {
    Person(UserId),
    /// Nobody knows yet who it is; without an address all are one.
    Stranger(Option<IpAddr>),
}

/// Somebody who asks, by one of their sessions or keys: a program that runs wild leaves its owner the dashboard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    pub(crate) whom: Whom,
    pub(crate) credential: Option<Uuid>,
}

tokio::task_local! {
    static ASKER: Asker;
}

impl Asker {
    /// Does something of which all connections of the platform are asked for by this one.
    pub(crate) fn scope<F: Future>(self, doing: F) -> impl Future<Output = F::Output> {
        ASKER.scope(self, doing)
    }

    pub(super) fn current() -> Option<Self> {
        ASKER.try_with(|asker| *asker).ok()
    }
}
