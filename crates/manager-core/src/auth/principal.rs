//! A caller whose credential was verified.

use std::net::IpAddr;
use std::sync::Arc;

use shared::id::{ApiKeyId, AppId, SessionId};

use super::rights::Scope;
use crate::store::apps::Visible;
use crate::store::users::{Role, User};

/// Who calls, by what, and from where.
#[derive(Debug, Clone)]
pub(crate) struct Principal {
    pub(crate) user: User,
    pub(crate) credential: Credential,
    pub(crate) origin: Origin,
}

/// What the caller showed.
#[derive(Debug, Clone)]
pub(crate) enum Credential {
    Session(SessionId),
    Key(Key),
}

/// An API key: it can do what its person can, within its scopes and on its app.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) id: ApiKeyId,
    pub(crate) name: String,
    pub(crate) scopes: Vec<Scope>,
    /// The only app it is good for, unless it is good for all of its person's.
    pub(crate) app: Option<AppId>,
}

/// Where a request came from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) address: Option<IpAddr>,
    pub(crate) request_id: Arc<str>,
}

impl Principal {
    /// The apps that a list shows this caller: those that [`super::can`] lets them see, said in a
    /// way that the database can page through.
    pub(crate) fn visible(&self) -> Visible {
        let member = (self.user.role == Role::Member).then_some(self.user.id);
        match &self.credential {
            Credential::Session(_) => Visible { member, app: None },
            Credential::Key(key) => Visible { member, app: key.app },
        }
    }
}
