//! A session as a cookie, for the dashboard in a browser. A browser sends a cookie whoever asks it
//! to, so what changes something is done only when the page that asks is the server's own.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use http::header::{HeaderMap, HeaderValue};
use http::request::Parts;
use shared::credential::cookies;
use shared::fault::Code;
use shared::http::{LOGIN_COOKIE, SESSION_COOKIE};

use super::problem::ApiError;
use crate::oidc::Flow;

/// Not sent to other sites' requests, not readable by scripts, not sent without TLS. Browsers treat
/// `http://localhost` as safe, so it works there too.
const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Strict";

/// How long somebody may take at an identity provider: long enough to look for a second factor there.
const LOGIN_SECONDS: u32 = 600;

/// Sets the cookie.
pub(super) fn given(token: &str, expires_at: DateTime<Utc>) -> HeaderValue {
    let seconds = (expires_at - Utc::now()).num_seconds().max(0);
    header_value(token, seconds)
}

/// Makes the browser forget the cookie.
pub(super) fn taken() -> HeaderValue {
    header_value("", 0)
}

/// What a login with an identity provider was begun with, for the way back. That is another site's doing,
/// with which a browser sends only cookies that are not strict.
pub(super) fn login_begun(flow: &Flow) -> HeaderValue {
    let json = serde_json::to_vec(flow).unwrap_or_default();
    login_value(&URL_SAFE_NO_PAD.encode(json), LOGIN_SECONDS)
}

/// Makes the browser forget it: it is good for one answer.
pub(super) fn login_over() -> HeaderValue {
    login_value("", 0)
}

fn login_value(value: &str, seconds: u32) -> HeaderValue {
    let text = format!("{LOGIN_COOKIE}={value}; Max-Age={seconds}; Path=/; Secure; HttpOnly; SameSite=Lax");
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// What this browser began a login with, if it did.
pub(super) fn login(headers: &HeaderMap) -> Option<Flow> {
    let json = URL_SAFE_NO_PAD.decode(cookies(headers, LOGIN_COOKIE).next()?).ok()?;
    serde_json::from_slice(&json).ok()
}

fn header_value(token: &str, seconds: i64) -> HeaderValue {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = write!(text, "{SESSION_COOKIE}={token}; Max-Age={seconds}; {ATTRIBUTES}");
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// The token in the request's cookie, when the request may use it.
pub(super) fn session(parts: &Parts) -> Result<Option<&str>, ApiError> {
    let mut all = cookies(&parts.headers, SESSION_COOKIE);
    let Some(token) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        // A browser has one of this name. Which of two is the person's is not for the server to guess.
        return Err(ApiError::new(Code::Unauthenticated, "the request has two session cookies"));
    }
    let is_safe = parts.method.is_safe() && !is_of_another_page(&parts.headers);
    if is_safe || is_same_origin(&parts.headers) {
        return Ok(Some(token));
    }
    let detail =
        "a request by cookie must come from a page of this server; programs use Authorization: Bearer";
    Err(ApiError::new(Code::Forbidden, detail).with("rule", "same_origin"))
}

/// Whether the browser says that a page of another host asks. An app's own subdomain is of the same
/// site, so its pages' requests have the cookie with them; and a GET runs a script where scripts are
/// run directly.
pub(super) fn is_of_another_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    !matches!(site, None | Some(b"same-origin" | b"none"))
}

/// Whether the browser says that the page is of this very host. Every browser since 2023 sends
/// `Sec-Fetch-Site`; those before send `Origin` with everything that changes something.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    let origin = text("origin").and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    origin.is_some_and(|origin| text("host").is_some_and(|host| host.eq_ignore_ascii_case(origin)))
}

#[cfg(test)]
mod tests {
    use http::header;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_cookie_header_is_read_or_passed_over(bytes: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut parts = parts("GET", &[]);
                parts.headers.insert(header::COOKIE, value);
                let _ = session(&parts);
            }
        }

        #[test]
        fn the_session_is_found_wherever_it_stands(
            before in proptest::collection::vec("[a-z]{1,8}=[!#-+--:<-~]{0,12}", 0..5),
            after in proptest::collection::vec("[a-z]{1,8}=[!#-+--:<-~]{0,12}", 0..5),
        ) {
            let ours = vec!["__Host-picloud=pics_x".to_owned()];
            let line = [before, ours, after].concat().join("; ");
            let parts = parts("GET", &[("cookie", &line)]);
            prop_assert_eq!(session(&parts).unwrap(), Some("pics_x"));
        }

        #[test]
        fn no_origin_but_our_own_lets_a_change_through(origin in "[ -~]{0,40}", site in "[ -~]{0,20}") {
            prop_assume!(site != "same-origin" && !origin.ends_with("://pi.example.org"));
            let own = [COOKIE, ("host", "pi.example.org")];
            let by_site = [&own[..], &[("sec-fetch-site", site.as_str())]].concat();
            let by_origin = [&own[..], &[("origin", origin.as_str())]].concat();
            prop_assert!(session(&parts("POST", &by_site)).is_err());
            prop_assert!(session(&parts("POST", &by_origin)).is_err());
        }
    }

    fn parts(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    const COOKIE: (&str, &str) = ("cookie", "a=b; __Host-picloud=pics_x; c=d");

    #[test]
    fn the_token_is_found_among_other_cookies() {
        assert_eq!(session(&parts("GET", &[COOKIE])).unwrap(), Some("pics_x"));
        for other in ["", "a=b", "__Host-picloud2=x", "x__Host-picloud=x", "__Host-picloud"] {
            assert_eq!(session(&parts("GET", &[("cookie", other)])).unwrap(), None, "{other}");
        }
    }

    #[test]
    fn attack_56_of_two_session_cookies_neither_counts() {
        for line in
            ["__Host-picloud=pics_mine; __Host-picloud=pics_x", "__Host-picloud=; a=b; __Host-picloud="]
        {
            let refused = session(&parts("GET", &[("cookie", line)])).unwrap_err();
            assert_eq!(refused.code, Code::Unauthenticated, "{line}");
        }
        let mut parts = parts("GET", &[COOKIE]);
        parts.headers.append(header::COOKIE, HeaderValue::from_static("__Host-picloud=pics_mine"));
        assert!(session(&parts).is_err());
    }

    #[test]
    fn a_page_of_an_app_cannot_make_the_browser_ask_anything_by_cookie() {
        for (site, is_let_in) in
            [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false)]
        {
            let parts = parts("GET", &[COOKIE, ("sec-fetch-site", site)]);
            assert_eq!(session(&parts).is_ok(), is_let_in, "{site}");
        }
        assert!(session(&parts("GET", &[COOKIE])).is_ok());
    }

    #[test]
    fn a_change_by_cookie_comes_from_the_servers_own_page() {
        let is_let_in = |headers: &[(&str, &str)]| {
            let mut all = vec![COOKIE, ("host", "pi.example.org")];
            all.extend(headers);
            session(&parts("POST", &all)).is_ok()
        };
        assert!(is_let_in(&[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")]));
        assert!(is_let_in(&[("origin", "https://pi.example.org")]));
        for foreign in ["same-site", "cross-site", "none", ""] {
            assert!(!is_let_in(&[("sec-fetch-site", foreign)]), "{foreign}");
        }
        for origin in
            ["https://evil.example", "null", "https://pi.example.org:81", "https://blog.pi.example.org"]
        {
            assert!(!is_let_in(&[("origin", origin)]), "{origin}");
        }
        assert!(!is_let_in(&[]));
    }
}
