//! Mail of scripts, which goes to the operator's mail server and always comes from the operator's address: a
//! script is a stranger's code, and must not write as whoever it likes.
//!
//! Each mail has a connection of its own. A pool would keep one whose mail was given up half way, with the server
//! still waiting for the rest of it, and would wake an idle server up to look after what is kept.

mod address;
mod letter;
mod server;
mod session;

use std::sync::Arc;
use std::time::Duration;

use shared::id::{AppId, UserId};
use shared::limits::{EMAILS_CONCURRENT_MAX, EMAILS_PER_MINUTE_MAX};
use tokio::time::{Instant, timeout_at};

pub(crate) use self::letter::{Letter, Posted};
pub use self::server::{MailServer, MailSettings, MailTls, NoMailServer};
use self::session::Tls;
pub use self::session::Unreachable;
use crate::budgets::Spent;
use crate::shares::{Exhausted, Shares};

/// Longest wait for a mail to be accepted, connection included.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Mails of all apps under way: connections that the operator's mail server has to take from this one.
const UNDER_WAY_MAX: usize = 16;

/// Why a mail was not sent. No text has anything of the mail but what the mail server said of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSent {
    #[error("this server sends no mail until its operator has set smtp_host (PICLOUD_SMTP_HOST)")]
    NotConfigured,
    #[error("{0}")]
    TooMany(&'static str),
    #[error(transparent)]
    OverBudget(#[from] Spent),
    #[error("the mail server refused it: {0}")]
    Refused(String),
    #[error("the mail server does not take it now: {0}")]
    Deferred(String),
    /// What exactly is the operator's to know.
    #[error("the mail server cannot be used now: {}", .0.what)]
    Unreachable(#[from] Unreachable),
    #[error("the connection broke before the mail server had said whether it takes the mail")]
    Broken,
    #[error("the mail server did not say in time whether it takes the mail")]
    Timeout,
}

/// The way out; a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Mail(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    server: Option<MailServer>,
    tls: Tls,
    shares: Shares,
}

impl Mail {
    pub(crate) fn new(server: Option<MailServer>) -> Self {
        let shares = Shares::new(EMAILS_CONCURRENT_MAX, EMAILS_PER_MINUTE_MAX).within(UNDER_WAY_MAX);
        Self(Arc::new(Shared { server, tls: Tls::default(), shares }))
    }

    pub(crate) fn server(&self) -> Result<&MailServer, NotSent> {
        self.0.server.as_ref().ok_or(NotSent::NotConfigured)
    }

    /// Hands a mail over; it is the mail server's from then on. `spend` is asked before anybody is spoken to.
    pub(crate) async fn send(
        &self,
        (owner, app): (UserId, AppId),
        posted: &Posted,
        deadline: Instant,
        spend: impl FnOnce() -> Result<(), Spent>,
    ) -> Result<(), NotSent> {
        let server = self.server()?;
        let whole = async {
            let _pass = self.0.shares.pass(owner, app).await.map_err(too_many)?;
            spend()?;
            session::deliver(server, &self.0.tls, posted).await
        };
        timeout_at(deadline, whole).await.unwrap_or(Err(NotSent::Timeout))
    }
}

fn too_many(exhausted: Exhausted) -> NotSent {
    NotSent::TooMany(match exhausted {
        Exhausted::AtOnce => "too many mails of the app, or of its owner's apps, are under way",
        Exhausted::PerMinute => "the app, or its owner's apps, have sent too many mails in this minute",
    })
}
