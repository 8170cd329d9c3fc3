//! How often the admin API may be asked, and the headers by which a client learns of it before it runs
//! into it: `RateLimit` and `RateLimit-Policy` (IETF draft "`RateLimit` header fields for HTTP"), `q`
//! requests in `w` seconds, `r` of them left, all of them again in `t` seconds.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::Request;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use shared::fault::Code;
use shared::http::ClientAddress;
use shared::id::{ApiKeyId, SessionId};

use super::problem::ApiError;
use crate::auth::{Credential, Principal};
use crate::buckets::{Buckets, Quota, Rate, Throttled, network};

pub(super) const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub(super) const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

const PERIOD: Duration = Duration::from_secs(60);
/// A household or an office behind one address has a few people with a program or two each.
const CALLERS_PER_ADDRESS: u32 = 5;

/// Both headers for these limits.
pub(super) fn headers(quotas: &[Quota]) -> HeaderMap {
    let joined = |shown: &dyn Fn(&Quota) -> String| {
        let texts: Vec<_> = quotas.iter().map(shown).collect();
        HeaderValue::try_from(texts.join(", ")).unwrap_or(HeaderValue::from_static(""))
    };
    let limit = joined(&|quota| format!("\"{}\";r={};t={}", quota.name, quota.left, quota.reset_s));
    let policy = joined(&|quota| format!("\"{}\";q={};w={}", quota.name, quota.attempts, quota.period_s));
    HeaderMap::from_iter([(LIMIT, limit), (POLICY, policy)])
}

/// Counts of all who ask.
#[derive(Debug)]
pub(crate) struct Rates {
    per_caller: Rate,
    per_address: Rate,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    callers: Buckets<CallerKey>,
    addresses: Buckets<IpAddr>,
}

/// Each session and each key by itself: a program that runs wild leaves its owner the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum CallerKey {
    Session(SessionId),
    Key(ApiKeyId),
}

impl From<&Credential> for CallerKey {
    fn from(credential: &Credential) -> Self {
        match credential {
            Credential::Session(id) => Self::Session(*id),
            Credential::Key(key) => Self::Key(key.id),
        }
    }
}

impl Rates {
    pub(crate) fn new(per_minute: u32) -> Self {
        let rate = |n: u32| Rate { capacity: n.into(), period: PERIOD };
        Self {
            per_caller: rate(per_minute),
            per_address: rate(per_minute.saturating_mul(CALLERS_PER_ADDRESS)),
            counts: Mutex::default(),
        }
    }
}

/// What one request is counted by.
pub(super) struct Count<'a> {
    rates: &'a Rates,
    address: Option<IpAddr>,
    caller: Option<CallerKey>,
}

impl<'a> Count<'a> {
    pub(super) fn new(rates: &'a Rates, request: &Request) -> Self {
        let address = request.extensions().get().map(|ClientAddress(address)| network(*address));
        Self { rates, address, caller: None }
    }

    pub(super) fn address(&self) -> Result<(), ApiError> {
        let Some(address) = self.address else { return Ok(()) };
        let mut counts = self.rates.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.addresses.take(address, self.rates.per_address, Instant::now()).map_err(too_many)
    }

    pub(super) fn caller(&mut self, principal: &Principal) -> Result<(), ApiError> {
        let key = CallerKey::from(&principal.credential);
        self.caller = Some(key);
        let mut counts = self.rates.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.callers.take(key, self.rates.per_caller, Instant::now()).map_err(too_many)
    }

    /// Says in an answer how the counts stand, unless it is about counts of its own.
    pub(super) fn show(&self, answer: &mut HeaderMap) {
        if answer.contains_key(LIMIT) {
            return;
        }
        let (rates, now) = (self.rates, Instant::now());
        let counts = rates.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_caller = self.caller.map(|key| counts.callers.quota("caller", &key, rates.per_caller, now));
        let of_address =
            self.address.map(|address| counts.addresses.quota("address", &address, rates.per_address, now));
        let quotas: Vec<_> = of_caller.into_iter().chain(of_address).collect();
        if !quotas.is_empty() {
            answer.extend(headers(&quotas));
        }
    }
}

fn too_many(Throttled { retry_after_s }: Throttled) -> ApiError {
    let detail = "too many requests to the admin API; the headers RateLimit-Policy and RateLimit say how many there may be";
    ApiError::new(Code::TooManyRequests, detail).retry_after(retry_after_s)
}
