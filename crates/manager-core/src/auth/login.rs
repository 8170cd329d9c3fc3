//! From a name and a password to a session, and from a token to who it is.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use shared::name::Username;
use sqlx::postgres::PgConnection;

use super::keys;
use super::passwords::{Busy, HashError, Passwords, Verdict};
use super::principal::{Credential, Key, Origin, Principal};
use super::second_factor::{self, Second};
use super::sessions::{self, NoEntropy};
use super::throttle::Throttle;
use crate::audit::{self, Actor, Entry};
use crate::buckets::{Quota, Throttled};
use crate::store::api_keys::LiveKey;
use crate::store::sessions::Device;
use crate::store::users::{Account, User};
use crate::store::{self, Database};

/// Checks credentials.
#[derive(Debug)]
pub(crate) struct Auth {
    database: Database,
    passwords: Arc<Passwords>,
    throttle: Throttle,
}

/// An attempt to log in.
pub(crate) struct Login {
    pub(crate) username: String,
    pub(crate) password: SecretString,
    /// A code from the person's phone or one of their recovery codes.
    pub(crate) otp: Option<SecretString>,
    pub(crate) origin: Origin,
    /// What the caller's program calls itself.
    pub(crate) user_agent: String,
}

/// What a person gets for their password.
pub(crate) struct Passport {
    pub(crate) token: SecretString,
    pub(crate) expires_at: DateTime<Utc>,
    pub(crate) user: User,
}

/// Why a login failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    /// The same whether the name or the password is wrong.
    #[error("user name or password is wrong")]
    Wrong,
    #[error("send a code from the second factor, or a recovery code, as otp")]
    CodeMissing,
    #[error("the code is wrong, over, or was used already")]
    CodeWrong,
    #[error("too many attempts to log in")]
    Throttled { retry_after_s: u32 },
    #[error("too many passwords are being checked")]
    Busy,
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Why a token was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthenticateError {
    #[error("the token is neither of a live session nor a live API key")]
    Unknown,
    /// Whether the token is good is not known, so the caller is neither let in nor called a stranger.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Auth {
    pub(crate) fn new(database: Database) -> Self {
        Self { database, passwords: Arc::default(), throttle: Throttle::default() }
    }

    /// The hashers, which apps' users share with people: so many hashes at a time are all there are.
    pub(crate) fn passwords(&self) -> Arc<Passwords> {
        Arc::clone(&self.passwords)
    }

    pub(crate) async fn hash_password(&self, password: SecretString) -> Result<String, HashError> {
        self.passwords.hash(password).await
    }

    /// Hashes a password that somebody chose through the API.
    pub(crate) async fn hash_new_password(
        &self,
        password: SecretString,
        username: &Username,
    ) -> Result<String, HashError> {
        self.passwords.hash_new(password, username.as_str()).await
    }

    pub(crate) async fn login(&self, login: Login) -> Result<Passport, LoginError> {
        let Login { username, password, otp, origin, user_agent } = login;
        let address = origin.address;
        // What cannot be a name is nobody's, and is not kept whole while attempts are counted.
        let name = username.parse::<Username>().ok();
        let username: String = username.chars().take(64).collect();
        self.throttle
            .admit(&username, address, Instant::now())
            .map_err(|Throttled { retry_after_s }| LoginError::Throttled { retry_after_s })?;
        let account = match name {
            Some(name) => store::users::account(&mut *self.database.acquire().await?, &name).await?,
            None => None,
        };
        // No connection is held while the hash is computed: there are fewer of them than of callers.
        let stored = account.as_ref().and_then(|account| account.password_hash.clone());
        let verdict = self.passwords.verify(password, stored).await.map_err(|Busy| LoginError::Busy)?;
        let (Some(Account { user, .. }), Verdict::Right | Verdict::RightRehashed(_)) = (account, &verdict)
        else {
            return Err(LoginError::Wrong);
        };
        self.throttle
            .admit_code(&username, Instant::now())
            .map_err(|Throttled { retry_after_s }| LoginError::Throttled { retry_after_s })?;
        let mut tx = self.database.begin().await?;
        let second =
            second_factor::ask(&mut tx, &user, otp.as_ref().map(ExposeSecret::expose_secret)).await?;
        if second != Second::Wrong {
            self.throttle.code_was_not_wrong(&username);
        }
        match second {
            Second::Fine => self.throttle.succeeded(&username, address),
            // The attempt stays counted: six digits can be guessed by who may try often enough.
            Second::Missing => return Err(LoginError::CodeMissing),
            Second::Wrong => return Err(LoginError::CodeWrong),
        }
        if let Verdict::RightRehashed(hash) = &verdict {
            store::users::set_password_hash(&mut tx, user.id, hash).await?;
        }
        let passport = self.let_in(&mut tx, user, "password", &origin, user_agent).await?;
        tx.commit().await?;
        Ok(passport)
    }

    /// Begins a session of somebody who proved by `credential` who they are. The last of a transaction.
    pub(crate) async fn let_in(
        &self,
        conn: &mut PgConnection,
        user: User,
        credential: &str,
        origin: &Origin,
        user_agent: String,
    ) -> Result<Passport, LoginError> {
        store::sessions::forget_ended(conn).await?;
        let (token, stored) = sessions::generate()?;
        let remote_address = origin.address.map(|address| address.to_string()).unwrap_or_default();
        let device = Device { remote_address, user_agent };
        let expires_at = store::sessions::create(conn, user.id, stored, &device).await?;
        let actor = Actor::person(&user, credential, origin);
        audit::append(conn, Entry::new(actor, "session.create", &user.username)).await?;
        Ok(Passport { token: token.into(), expires_at, user })
    }

    /// How many attempts the caller has left for this name, which may be anything.
    pub(crate) fn quotas(&self, username: &str, address: Option<IpAddr>) -> Vec<Quota> {
        let username: String = username.chars().take(64).collect();
        self.throttle.quotas(&username, address, Instant::now())
    }

    /// Whether this is the person's password, asked again of somebody who is logged in. Guesses are
    /// counted as those of a login are.
    pub(crate) async fn knows_password(
        &self,
        user: &User,
        password: SecretString,
        address: Option<IpAddr>,
    ) -> Result<bool, LoginError> {
        let username = user.username.as_str();
        self.throttle
            .admit(username, address, Instant::now())
            .map_err(|Throttled { retry_after_s }| LoginError::Throttled { retry_after_s })?;
        let stored = store::users::password_hash(&mut *self.database.acquire().await?, user.id).await?;
        let verdict = self.passwords.verify(password, stored).await.map_err(|Busy| LoginError::Busy)?;
        let is_right = verdict != Verdict::Wrong;
        if is_right {
            self.throttle.succeeded(username, address);
        }
        Ok(is_right)
    }

    pub(crate) async fn authenticate(
        &self,
        token: &str,
        origin: Origin,
    ) -> Result<Principal, AuthenticateError> {
        if token.starts_with(keys::PREFIX) {
            return self.authenticate_key(token, origin).await;
        }
        let stored = sessions::stored_form(token).ok_or(AuthenticateError::Unknown)?;
        let mut conn = self.database.acquire().await?;
        let session = store::sessions::live(&mut conn, stored).await?.ok_or(AuthenticateError::Unknown)?;
        if session.needs_sight {
            store::sessions::mark_seen(&mut conn, session.id).await?;
        }
        Ok(Principal { user: session.user, credential: Credential::Session(session.id), origin })
    }

    /// As [`Self::authenticate`], for API keys alone.
    pub(crate) async fn authenticate_key(
        &self,
        key: &str,
        origin: Origin,
    ) -> Result<Principal, AuthenticateError> {
        let stored = keys::stored_form(key).ok_or(AuthenticateError::Unknown)?;
        let mut conn = self.database.acquire().await?;
        let live = store::api_keys::live(&mut conn, stored).await?.ok_or(AuthenticateError::Unknown)?;
        if live.needs_sight {
            store::api_keys::mark_used(&mut conn, live.id).await?;
        }
        let LiveKey { id, name, scopes, app, user, .. } = live;
        Ok(Principal { user, credential: Credential::Key(Key { id, name, scopes, app }), origin })
    }

    /// Whether this is the password of that person now.
    pub(crate) async fn is_password(
        &self,
        username: &Username,
        password: SecretString,
    ) -> Result<bool, LoginError> {
        let account = store::users::account(&mut *self.database.acquire().await?, username).await?;
        let stored = account.and_then(|account| account.password_hash);
        let verdict = self.passwords.verify(password, stored).await.map_err(|Busy| LoginError::Busy)?;
        Ok(verdict != Verdict::Wrong)
    }
}
