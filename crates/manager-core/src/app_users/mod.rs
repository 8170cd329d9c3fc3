//! The rules for apps' own users: their passwords, which are hashed by the same few threads as those of
//! people, and what an app may say of them.
//!
//! Whose users they are is the caller's to know: every function takes the app of a call's context.

mod places;
mod throttle;

use std::sync::Arc;
use std::time::Instant;

use secrecy::SecretString;
use shared::call::{CallCode, CallError};
use shared::id::AppId;
use shared::json_scan;
use shared::limits::{APP_USER_PROFILE_BYTES_MAX, APP_USER_ROLES_MAX};
use shared::name::{AppLogin, AppRoleName};

use self::places::Places;
pub(crate) use self::throttle::Attempt;
use self::throttle::Throttle;
use crate::auth::{Busy, HashError, Passwords, Verdict};
use crate::buckets::Throttled;
use crate::store;
use crate::store::app_users::LOGIN_KEY;

/// What all apps' users share.
#[derive(Debug)]
pub(crate) struct AppUsers {
    passwords: Arc<Passwords>,
    throttle: Throttle,
    places: Places,
}

impl AppUsers {
    pub(crate) fn new(passwords: Arc<Passwords>) -> Self {
        Self { passwords, throttle: Throttle::default(), places: Places::default() }
    }

    /// Counts an attempt to log in, or refuses it.
    pub(crate) fn admit(&self, attempt: &Attempt) -> Result<(), CallError> {
        self.throttle.admit(attempt, Instant::now()).map_err(throttled)
    }

    /// Gives back an attempt that was none of a stranger's.
    pub(crate) fn succeeded(&self, attempt: &Attempt) {
        self.throttle.succeeded(attempt);
    }

    /// Hashes a password that somebody of this login chose.
    pub(crate) async fn hash(
        &self,
        app: AppId,
        password: &str,
        login: &AppLogin,
    ) -> Result<String, CallError> {
        let _place = self.enter(app)?;
        let password = SecretString::from(password.to_owned());
        self.passwords.hash_new(password, login.as_str()).await.map_err(|error| match error {
            HashError::Busy => busy(),
            HashError::Length | HashError::Short | HashError::Common => CallError::invalid(error.to_string()),
            HashError::Hash(_) => {
                tracing::error!(%error, "a password could not be hashed");
                CallError::new(CallCode::Internal, "the platform failed")
            }
        })
    }

    /// Compares a password with a stored hash; without one, it is wrong after the same work.
    pub(crate) async fn compare(
        &self,
        app: AppId,
        password: &str,
        stored: Option<String>,
    ) -> Result<Verdict, CallError> {
        let _place = self.enter(app)?;
        let password = SecretString::from(password.to_owned());
        self.passwords.verify(password, stored).await.map_err(|Busy| busy())
    }

    /// A place for one password of the app.
    fn enter(&self, app: AppId) -> Result<places::Place<'_>, CallError> {
        let place = self.places.take(app).ok_or_else(busy)?;
        self.throttle.count_password(app, Instant::now()).map_err(throttled)?;
        Ok(place)
    }
}

pub(crate) fn login(text: &str) -> Result<AppLogin, CallError> {
    text.parse().map_err(|error| CallError::invalid(format!("{error}")))
}

/// What an app keeps of a user beside it: an object, and not too much of it.
pub(crate) fn check_profile(json: &str) -> Result<(), CallError> {
    if json.len() > APP_USER_PROFILE_BYTES_MAX {
        let text = format!("a profile has {APP_USER_PROFILE_BYTES_MAX} bytes of JSON at most");
        return Err(CallError::new(CallCode::TooLarge, text));
    }
    json_scan::check(json).map_err(|error| CallError::invalid(error.to_string()))?;
    if json_scan::is_object(json) {
        return Ok(());
    }
    Err(CallError::invalid("a profile is a map"))
}

/// Roles, each once.
pub(crate) fn roles<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, CallError> {
    let mut roles: Vec<String> = Vec::new();
    for name in names {
        let role: AppRoleName = name.parse().map_err(|error| CallError::invalid(format!("{error}")))?;
        if roles.iter().any(|known| known == role.as_str()) {
            continue;
        }
        if roles.len() == APP_USER_ROLES_MAX {
            return Err(CallError::invalid(format!("a user has {APP_USER_ROLES_MAX} roles at most")));
        }
        roles.push(role.into());
    }
    Ok(roles)
}

/// Why an account could not be written.
pub(crate) fn not_written(error: &sqlx::Error) -> CallError {
    if store::violates(error, LOGIN_KEY) {
        return CallError::new(CallCode::Conflict, "the app has a user with this login already");
    }
    crate::data::failed(error)
}

fn busy() -> CallError {
    CallError::new(CallCode::Overloaded, "too many passwords are being checked")
}

fn throttled(Throttled { retry_after_s }: Throttled) -> CallError {
    let message = format!("too many passwords were tried; try again in {retry_after_s} s");
    CallError::new(CallCode::Throttled, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_an_object_of_at_most_its_size() {
        assert!(check_profile("{}").is_ok() && check_profile(r#"{"a":[1]}"#).is_ok());
        for bad in ["", "[]", "1", "{", "null"] {
            assert_eq!(check_profile(bad).unwrap_err().code, CallCode::InvalidArgument, "{bad}");
        }
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(APP_USER_PROFILE_BYTES_MAX));
        assert_eq!(check_profile(&long).unwrap_err().code, CallCode::TooLarge);
    }

    #[test]
    fn roles_are_words_each_of_which_counts_once() {
        assert_eq!(roles(["editor", "shop:admin", "editor"]).unwrap(), ["editor", "shop:admin"]);
        for bad in ["", "a b", "a\0", &"x".repeat(65)] {
            assert!(roles([bad]).is_err(), "{bad:?}");
        }
        let many: Vec<String> = (0..=APP_USER_ROLES_MAX).map(|n| format!("r{n}")).collect();
        assert!(roles(many.iter().map(String::as_str)).is_err());
    }
}
