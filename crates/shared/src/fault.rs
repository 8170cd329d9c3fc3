//! Every error a client can see: its code, HTTP status, whose fault it is, and whether trying
//! again is safe. The form on the wire is RFC 9457 `application/problem+json`.

use serde::Serialize;

/// Whose doing an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    Caller,
    Script,
    Platform,
}

impl Blame {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Script => "script",
            Self::Platform => "platform",
        }
    }
}

macro_rules! codes {
    ($($variant:ident $code:literal $status:literal $blame:ident $retry:ident $title:literal;)+) => {
        /// A problem's code. `docs/errors/<code>.md` explains each to users.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $title] $variant,)+
        }

        impl Code {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The HTTP status the problem is answered with.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            pub const fn blame(self) -> Blame {
                match self { $(Self::$variant => Blame::$blame,)+ }
            }

            /// True when the platform knows that nothing was done, so that the same request may
            /// simply be sent again.
            pub const fn is_safe_to_retry(self) -> bool {
                match self { $(Self::$variant => codes!(@retry $retry),)+ }
            }

            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }
        }
    };
    (@retry safe) => { true };
    (@retry unsafe) => { false };
}

codes! {
    BadRequest           "bad_request"            400 Caller   safe   "The request is malformed";
    Unauthenticated      "unauthenticated"        401 Caller   safe   "A valid credential is needed";
    SecondFactorRequired "second_factor_required" 401 Caller  safe   "A code from the second factor is needed";
    SignatureInvalid     "signature_invalid"      401 Caller   safe   "The request is not signed as the webhook asks";
    SignatureExpired     "signature_expired"      401 Caller   safe   "The request was signed too long ago";
    Forbidden            "forbidden"              403 Caller   safe   "This credential may not do that";
    NotFound             "not_found"              404 Caller   safe   "There is nothing here";
    UnknownHost          "unknown_host"           404 Caller   safe   "No app answers on this host";
    NoRoute              "no_route"               404 Caller   safe   "The app has no route for this path";
    MethodNotAllowed     "method_not_allowed"     405 Caller   safe   "The path exists, but not for this method";
    RequestTimeout       "request_timeout"        408 Caller   safe   "The request came in too slowly";
    Conflict             "conflict"               409 Caller   safe   "The change contradicts what exists";
    DomainUnproven       "domain_unproven"        409 Caller   safe   "The domain is not proven to be the app's";
    DeliveryKeyReused    "delivery_key_reused"    409 Caller   safe   "The key was used for another request";
    RequestInFlight      "request_in_flight"      409 Caller   safe   "The same request is still being worked on";
    PreconditionFailed   "precondition_failed"    412 Caller   safe   "The resource is not as the caller last saw it";
    BodyTooLarge         "body_too_large"         413 Caller   safe   "The request body is over the limit";
    UriTooLong           "uri_too_long"           414 Caller   safe   "The request's address is over the limit";
    UnsupportedMedia     "unsupported_media_type" 415 Caller   safe   "The body is not of a type understood here";
    CompileError         "compile_error"          422 Caller   safe   "The script does not compile";
    InvalidInput         "invalid_input"          422 Caller   safe   "A field has a value that is not allowed";
    IdempotencyKeyReused "idempotency_key_reused" 422 Caller   safe   "The idempotency key was used for another request";
    LimitOutOfRange      "limit_out_of_range"     422 Caller   safe   "A limit is outside its range";
    TooManyRequests      "too_many_requests"      429 Caller   safe   "Too many requests";
    BudgetExhausted      "budget_exhausted"       429 Script   safe   "The app has used up its budget for now";
    OutboxFull           "outbox_full"            429 Script   safe   "The app has too many events waiting";
    Internal             "internal"               500 Platform unsafe "The platform failed";
    ScriptError          "script_error"           500 Script   unsafe "The script failed";
    InvalidResponse      "invalid_response"       502 Script   unsafe "The script's answer is not a valid response";
    IdentityProviderFailed "identity_provider_failed" 502 Platform safe "The identity provider did not answer as it should";
    WorkerLost           "worker_lost"            502 Platform unsafe "The worker that ran the script was lost";
    Overloaded           "overloaded"             503 Platform safe   "All workers are busy";
    AppFrozen            "app_frozen"             503 Script   safe   "The app is frozen";
    ScriptQuarantined    "script_quarantined"     503 Script   safe   "The script is quarantined";
    ScriptDisabled       "script_disabled"        503 Script   safe   "The script is switched off";
    WebhookNotReady      "webhook_not_ready"      503 Script   safe   "The webhook has no secret to check signatures with";
    DnsUnavailable       "dns_unavailable"        503 Platform safe   "The DNS cannot be asked";
    Unavailable          "unavailable"            503 Platform safe   "The database cannot be reached";
    Timeout              "timeout"                504 Script   unsafe "The script took longer than its time limit";
    FuelExhausted        "fuel_exhausted"         507 Script   unsafe "The script used up its CPU limit";
    MemoryExceeded       "memory_exceeded"        507 Script   unsafe "The script used up its memory limit";
}

/// A problem as clients see it: RFC 9457 with our members.
///
/// `E` holds further members, such as the position of a compile error.
#[derive(Debug, Clone, Serialize)]
pub struct Problem<'a, E = ()> {
    /// Where the code is explained, relative to the server.
    pub r#type: String,
    pub title: &'static str,
    pub status: u16,
    pub detail: &'a str,
    pub code: &'static str,
    pub request_id: &'a str,
    pub fault: &'static str,
    pub retry: &'static str,
    #[serde(flatten)]
    pub extra: E,
}

impl<'a, E> Problem<'a, E> {
    pub fn new(code: Code, detail: &'a str, request_id: &'a str, extra: E) -> Self {
        Self {
            r#type: format!("/api/v1/errors/{}", code.as_str()),
            title: code.title(),
            status: code.status(),
            detail,
            code: code.as_str(),
            request_id,
            fault: code.blame().as_str(),
            retry: if code.is_safe_to_retry() { SAFE } else { UNSAFE },
            extra,
        }
    }

    /// Says that nothing was done, where whoever answers knows more than the code says.
    pub fn safe_to_retry(self) -> Self {
        Self { retry: SAFE, ..self }
    }

    /// The same where something was done.
    pub fn unsafe_to_retry(self) -> Self {
        Self { retry: UNSAFE, ..self }
    }
}

/// [`Problem::retry`] where nothing was done.
const SAFE: &str = "safe";
/// [`Problem::retry`] where something was done, or may have been.
const UNSAFE: &str = "unsafe";

/// Content type of a [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_flat_json() {
        let problem = Problem::new(Code::Timeout, "too slow", "r1", ());
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "/api/v1/errors/timeout", "title": "The script took longer than its time limit",
                "status": 504, "detail": "too slow", "code": "timeout", "request_id": "r1",
                "fault": "script", "retry": "unsafe"
            })
        );
    }

    #[test]
    fn whoever_knows_that_nothing_was_done_says_so() {
        assert_eq!(Problem::new(Code::WorkerLost, "gone", "r1", ()).retry, "unsafe");
        assert_eq!(Problem::new(Code::WorkerLost, "gone", "r1", ()).safe_to_retry().retry, "safe");
        assert_eq!(Problem::new(Code::Overloaded, "full", "r1", ()).unsafe_to_retry().retry, "unsafe");
    }

    #[test]
    fn every_code_has_a_page() {
        let errors = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors");
        for code in Code::ALL {
            let page = format!("{errors}/{}.md", code.as_str());
            let text = std::fs::read_to_string(&page).unwrap_or_default();
            assert!(text.contains(code.title()), "{page} is missing or lacks the title {:?}", code.title());
        }
    }
}
