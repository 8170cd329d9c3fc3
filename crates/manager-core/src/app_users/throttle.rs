//! Slows down guessing of passwords of apps' users without locking anyone out, as `auth::throttle` does
//! for people: wrong guesses are counted by login, by address and by app, and an address from which a
//! user has logged in before is counted apart, so that strangers cannot use up that user's attempts.
//!
//! All of it is of one app at a time: what one app's script does with logins changes nothing for another's.
//! Guesses in dry runs are counted apart: they keep nobody out, and are no way around these limits.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::id::AppId;
use shared::limits::{APP_GUESSES_PER_MINUTE, APP_PASSWORDS_PER_MINUTE};

use crate::buckets::{Buckets, Rate, Throttled, network};

const MINUTE: Duration = Duration::from_secs(60);
/// The same as for people.
const PER_LOGIN: Rate = Rate { capacity: 5.0, period: MINUTE };
const PER_ADDRESS: Rate = Rate { capacity: 20.0, period: MINUTE };
const GUESSES: Rate = Rate { capacity: APP_GUESSES_PER_MINUTE as f64, period: MINUTE };
/// In dry runs of an app, whoever is guessed at: one of them can give an account another login for each guess,
/// and nobody sees it afterwards.
const REHEARSED: Rate = Rate { capacity: 5.0, period: MINUTE };
const PASSWORDS: Rate = Rate { capacity: APP_PASSWORDS_PER_MINUTE as f64, period: MINUTE };
/// Pairs of login and address kept as known: of an app, and of all of them.
const KNOWN_OF_APP_MAX: usize = 500;
const KNOWN_MAX: usize = 10_000;

/// Somebody tries to log in.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) app: AppId,
    /// Without regard to case; whatever was given, cut short.
    pub(crate) login: String,
    pub(crate) address: Option<IpAddr>,
    /// Whether it is made in a dry run.
    pub(crate) is_rehearsed: bool,
}

impl Attempt {
    /// `login` may be anything.
    pub(crate) fn new(app: AppId, login: &str, address: Option<IpAddr>) -> Self {
        let login = login.chars().take(256).flat_map(char::to_lowercase).collect();
        Self { app, login, address: address.map(network), is_rehearsed: false }
    }
}

#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    logins: Buckets<(AppId, String, Option<IpAddr>)>,
    addresses: Buckets<(AppId, IpAddr)>,
    guesses: Buckets<AppId>,
    rehearsed: Buckets<AppId>,
    passwords: Buckets<AppId>,
    known: VecDeque<(AppId, String, IpAddr)>,
}

impl Throttle {
    /// Counts an attempt, or refuses it.
    pub(super) fn admit(&self, attempt: &Attempt, now: Instant) -> Result<(), Throttled> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Attempt { app, login, address, is_rehearsed } = attempt;
        if *is_rehearsed {
            return inner.rehearsed.take(*app, REHEARSED, now);
        }
        let known = inner.known_address(attempt);
        // An app that has guessed too often adds no counts, which would crowd out those of others.
        if known.is_none() && inner.guesses.quota("app", app, GUESSES, now).left == 0 {
            return inner.guesses.take(*app, GUESSES, now);
        }
        if let Some(address) = address {
            inner.addresses.take((*app, *address), PER_ADDRESS, now)?;
        }
        inner.logins.take((*app, login.clone(), known), PER_LOGIN, now)?;
        if known.is_some() {
            return Ok(());
        }
        inner.guesses.take(*app, GUESSES, now)
    }

    /// Gives back the attempt of a login that succeeded, and remembers the address unless that was in a dry run.
    pub(super) fn succeeded(&self, attempt: &Attempt) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Attempt { app, login, address, is_rehearsed } = attempt;
        if *is_rehearsed {
            inner.rehearsed.give_back(app, REHEARSED);
            return;
        }
        let known = inner.known_address(attempt);
        inner.logins.give_back(&(*app, login.clone(), known), PER_LOGIN);
        if known.is_none() {
            inner.guesses.give_back(app, GUESSES);
        }
        let Some(address) = address else { return };
        inner.addresses.give_back(&(*app, *address), PER_ADDRESS);
        if known.is_none() {
            inner.remember((*app, login.clone(), *address));
        }
    }

    /// Counts a password that is to be hashed or compared, or refuses it.
    pub(super) fn count_password(&self, app: AppId, now: Instant) -> Result<(), Throttled> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).passwords.take(app, PASSWORDS, now)
    }
}

impl Inner {
    fn known_address(&self, attempt: &Attempt) -> Option<IpAddr> {
        let Attempt { app, login, address, .. } = attempt;
        let is_known = |pair: &&(AppId, String, IpAddr)| pair.0 == *app && pair.1 == *login;
        address.filter(|address| self.known.iter().filter(is_known).any(|pair| pair.2 == *address))
    }

    fn remember(&mut self, pair: (AppId, String, IpAddr)) {
        let of_app = |known: &(AppId, String, IpAddr)| known.0 == pair.0;
        if self.known.iter().filter(|known| of_app(known)).count() >= KNOWN_OF_APP_MAX {
            let oldest = self.known.iter().position(of_app);
            oldest.map(|at| self.known.remove(at));
        }
        if self.known.len() >= KNOWN_MAX {
            self.known.pop_front();
        }
        self.known.push_back(pair);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(app: AppId, login: &str, number: u32) -> Attempt {
        Attempt::new(app, login, Some(IpAddr::V4(number.into())))
    }

    #[test]
    fn the_sixth_guess_at_a_login_waits_and_another_apps_user_of_that_login_does_not() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let [app, other] = [AppId::new(), AppId::new()];
        for number in 0..5 {
            assert_eq!(throttle.admit(&attempt(app, "eve", number), now), Ok(()));
        }
        assert_eq!(throttle.admit(&attempt(app, "EVE", 9), now), Err(Throttled { retry_after_s: 12 }));
        assert_eq!(throttle.admit(&attempt(app, "adam", 9), now), Ok(()));
        assert_eq!(throttle.admit(&attempt(other, "eve", 9), now), Ok(()));
        assert_eq!(throttle.admit(&attempt(app, "eve", 9), now + Duration::from_secs(12)), Ok(()));
    }

    #[test]
    fn the_twenty_first_guess_from_an_address_at_an_app_waits() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let [app, other] = [AppId::new(), AppId::new()];
        for number in 0..20 {
            assert_eq!(throttle.admit(&attempt(app, &format!("user{number}"), 1), now), Ok(()));
        }
        assert!(throttle.admit(&attempt(app, "another", 1), now).is_err());
        assert_eq!(throttle.admit(&attempt(app, "another", 2), now), Ok(()));
        assert_eq!(throttle.admit(&attempt(other, "another", 1), now), Ok(()));
    }

    #[test]
    fn strangers_who_use_up_all_guesses_do_not_lock_out_who_was_here_before() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let app = AppId::new();
        let eve = attempt(app, "eve", 1);
        throttle.admit(&eve, now).unwrap();
        throttle.succeeded(&eve);
        for number in 0..APP_GUESSES_PER_MINUTE {
            throttle.admit(&attempt(app, &format!("user{number}"), 10 + number), now).unwrap();
        }
        assert!(throttle.admit(&attempt(app, "eve", 2), now).is_err());
        assert!(throttle.admit(&attempt(app, "adam", 1), now).is_err());
        assert_eq!(throttle.admit(&eve, now), Ok(()));
    }

    #[test]
    fn attack_the_sixth_guess_in_dry_runs_waits_whomever_they_are_at_and_keeps_nobody_out() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let app = AppId::new();
        let rehearsed = |login: &str, number| Attempt { is_rehearsed: true, ..attempt(app, login, number) };
        for number in 0..5 {
            assert_eq!(throttle.admit(&rehearsed(&format!("eve{number}"), number), now), Ok(()));
        }
        assert_eq!(throttle.admit(&rehearsed("eve", 9), now), Err(Throttled { retry_after_s: 12 }));
        for number in 0..5 {
            assert_eq!(throttle.admit(&attempt(app, "eve", number), now), Ok(()));
        }
    }

    #[test]
    fn a_login_in_a_dry_run_gives_its_attempt_back_and_makes_no_address_known() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let eve = attempt(AppId::new(), "eve", 1);
        let rehearsed = Attempt { is_rehearsed: true, ..eve.clone() };
        for _ in 0..20 {
            throttle.admit(&rehearsed, now).unwrap();
            throttle.succeeded(&rehearsed);
        }
        assert_eq!(throttle.0.lock().unwrap().known_address(&eve), None);
    }

    #[test]
    fn an_app_has_so_many_passwords_in_a_minute_right_or_wrong() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let app = AppId::new();
        for _ in 0..APP_PASSWORDS_PER_MINUTE {
            throttle.count_password(app, now).unwrap();
        }
        assert!(throttle.count_password(app, now).is_err());
        assert_eq!(throttle.count_password(AppId::new(), now), Ok(()));
    }

    #[test]
    fn one_app_does_not_make_the_server_forget_whom_another_knows() {
        let (throttle, [app, busy]) = (Throttle::default(), [AppId::new(), AppId::new()]);
        let eve = attempt(app, "eve", 1);
        throttle.succeeded(&eve);
        for number in 0..20_000 {
            throttle.succeeded(&attempt(busy, "same", number));
        }
        let inner = throttle.0.lock().unwrap();
        assert!(inner.known_address(&eve).is_some() && inner.known.len() <= KNOWN_OF_APP_MAX + 1);
    }
}
