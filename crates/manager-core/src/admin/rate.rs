//! `RateLimit` and `RateLimit-Policy`, the headers by which a client learns of a limit before it runs
//! into it (IETF draft "`RateLimit` header fields for HTTP"): `q` attempts in `w` seconds, `r` of them left,
//! all of them again in `t` seconds.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::auth::Quota;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

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
