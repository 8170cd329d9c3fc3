//! The audit log: who changed what, from where. An entry is written in the transaction of the change
//! it tells of, so that there is neither a change without its entry nor an entry without its change.
//!
//! Each entry's hash covers the hash of the one before. Who can write to the database can still
//! write a whole new log, but not one that ends in a hash that somebody noted down before.

mod chain;
mod verify;

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};
use shared::id::{AppId, UserId};
use sqlx::postgres::PgConnection;

pub(crate) use self::chain::{Link, hex_text};
pub(crate) use self::verify::{Verdict, verify};
use crate::auth::{Credential, Origin, Principal};
use crate::store;
use crate::store::users::User;

/// What happened, before it has its place in the log.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) actor: Actor,
    pub(crate) app: Option<AppId>,
    /// A noun and a verb, such as `script.deploy`.
    pub(crate) action: &'static str,
    /// What it was done to, by the name people know it by.
    pub(crate) target: String,
    pub(crate) before: Option<[u8; 32]>,
    pub(crate) after: Option<[u8; 32]>,
}

/// Who did it.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    /// None for the platform itself.
    pub(crate) id: Option<UserId>,
    pub(crate) name: String,
    pub(crate) credential: String,
    pub(crate) address: Option<IpAddr>,
    pub(crate) request_id: Arc<str>,
}

impl Entry {
    pub(crate) fn new(actor: impl Into<Actor>, action: &'static str, target: impl ToString) -> Self {
        let (actor, target) = (actor.into(), target.to_string());
        Self { actor, app: None, action, target, before: None, after: None }
    }

    pub(crate) fn on(self, app: AppId) -> Self {
        Self { app: Some(app), ..self }
    }

    /// What was changed, as it was. Only a digest is kept.
    pub(crate) fn before(self, state: &impl Serialize) -> Self {
        Self { before: digest(state), ..self }
    }

    /// What was changed, as it is now. Only a digest is kept.
    pub(crate) fn after(self, state: &impl Serialize) -> Self {
        Self { after: digest(state), ..self }
    }
}

impl Actor {
    /// A person who showed something else than a session or a key.
    pub(crate) fn person(user: &User, credential: &str, origin: &Origin) -> Self {
        Self {
            id: Some(user.id),
            name: user.username.to_string(),
            credential: credential.to_owned(),
            address: origin.address,
            request_id: Arc::clone(&origin.request_id),
        }
    }

    /// The platform itself, acting on nobody's request.
    pub(crate) fn platform() -> Self {
        Self {
            id: None,
            name: "picloud".to_owned(),
            credential: "none".to_owned(),
            address: None,
            request_id: Arc::default(),
        }
    }
}

impl From<&Principal> for Actor {
    fn from(principal: &Principal) -> Self {
        let credential = match &principal.credential {
            Credential::Session(_) => "session".to_owned(),
            Credential::Key(key) => format!("key {} {}", key.id, key.name),
        };
        Self::person(&principal.user, &credential, &principal.origin)
    }
}

/// Writes an entry at the end of the log. Changes wait for each other from here until they commit,
/// so this is the last statement of a transaction: who waited for another lock while holding this
/// one would make everybody wait, and could wait forever.
pub(crate) async fn append(conn: &mut PgConnection, entry: Entry) -> sqlx::Result<()> {
    append_all(conn, vec![entry]).await
}

/// The same for what one transaction changed, one behind the other, in as many statements as for one: everybody
/// waits for them.
pub(crate) async fn append_all(conn: &mut PgConnection, entries: Vec<Entry>) -> sqlx::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    store::audit::lock(conn).await?;
    let last = store::audit::last(conn).await?;
    store::audit::insert(conn, &Link::chain(last, entries)).await
}

fn digest(state: &impl Serialize) -> Option<[u8; 32]> {
    let json = serde_json::to_vec(state).ok()?;
    Some(Sha256::digest(json).into())
}
