//! Who calls a route that asks for a credential.

use http::HeaderMap;
use http::header::{HOST, HeaderValue, ORIGIN};
use http::request::Parts;
use shared::caller::Caller;
use shared::credential::{bearer, cookies};
use shared::fault::Code;
use shared::http::USER_COOKIE;
use shared::id::AppId;
use shared::ports::{Authenticate, CredentialRefused, Shown};
use shared::route::{Cors, RouteAuth, RoutePolicy};

use super::problem::Failure;

/// The caller, where the route wants to know. Whoever shows nothing good gets no further.
pub(super) async fn identify(
    source: &dyn Authenticate,
    app: AppId,
    policy: &RoutePolicy,
    parts: &Parts,
) -> Result<Option<Caller>, Failure> {
    let shown = match policy.auth {
        RouteAuth::None => return Ok(None),
        RouteAuth::ApiKey => Shown::ApiKey(api_key(&parts.headers)?),
        RouteAuth::User => Shown::Session(session(policy.cors.as_ref(), parts)?),
    };
    match source.authenticate(app, shown).await {
        Ok(caller) => Ok(Some(caller)),
        Err(refused @ CredentialRefused::Unknown) => {
            Err(Failure::new(Code::Unauthenticated, refused.to_string()))
        }
        Err(refused @ CredentialRefused::NotAllowed) => {
            Err(Failure::new(Code::Forbidden, refused.to_string()))
        }
        Err(refused @ CredentialRefused::Unavailable) => {
            let failure = Failure::new(Code::Unavailable, refused.to_string());
            Err(Failure { retry_after_s: Some(1), ..failure })
        }
    }
}

fn api_key(headers: &HeaderMap) -> Result<&str, Failure> {
    bearer(headers).ok_or_else(|| {
        let detail =
            "this address takes an API key that may run its app's scripts, as Authorization: Bearer pic_…";
        Failure::new(Code::Unauthenticated, detail)
    })
}

/// The token of an app's user: a program's in the header, a browser's in the cookie.
fn session<'a>(cors: Option<&Cors>, parts: &'a Parts) -> Result<&'a str, Failure> {
    if let Some(token) = bearer(&parts.headers) {
        return Ok(token);
    }
    let unauthenticated = |detail: &str| Failure::new(Code::Unauthenticated, detail);
    let mut cookies = cookies(&parts.headers, USER_COOKIE);
    let token = match (cookies.next(), cookies.next()) {
        (Some(token), None) => token,
        (None, _) => {
            let detail = "this address is for users of the app who are logged in, by Authorization: Bearer picu_… or \
                          by the cookie of their session";
            return Err(unauthenticated(detail));
        }
        // A browser has one of this name. Which of two would count is not for this side to guess.
        (Some(_), Some(_)) => return Err(unauthenticated("the request has two session cookies")),
    };
    if parts.method.is_safe() || may_change_by_cookie(cors, &parts.headers) {
        return Ok(token);
    }
    let detail = "a change by cookie must come from a page of this host, or of one that the route's CORS allows \
                  with credentials; programs use Authorization: Bearer";
    Err(Failure::new(Code::Forbidden, detail))
}

/// Whether the browser says that the page is one that may act for its visitor. A neighbouring app's
/// page is of the same site, so its requests have the cookie with them whatever `SameSite` says. Every
/// browser since 2023 sends `Sec-Fetch-Site`; those before send `Origin` with all that changes something.
fn may_change_by_cookie(cors: Option<&Cors>, headers: &HeaderMap) -> bool {
    let text = |value: &'_ HeaderValue| value.to_str().ok().map(str::to_owned);
    let origin = headers.get(ORIGIN).and_then(text);
    if let (Some(cors), Some(origin)) = (cors, &origin)
        && cors.credentials
        && cors.allows(origin)
    {
        return true;
    }
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let host = headers.get(HOST).and_then(text);
    origin
        .as_deref()
        .and_then(|origin| origin.split_once("://"))
        .is_some_and(|(_, of_page)| host.is_some_and(|host| host.eq_ignore_ascii_case(of_page)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_origin_but_its_own_changes_anything_by_a_users_cookie(origin in "[ -~]{0,40}", site in "[ -~]{0,20}") {
            prop_assume!(site != "same-origin" && !origin.ends_with("://shop.example.org"));
            prop_assert!(session(None, &parts("POST", &[COOKIES, OWN, ("sec-fetch-site", &site)])).is_err());
            prop_assert!(session(None, &parts("POST", &[COOKIES, OWN, ("origin", &origin)])).is_err());
        }
    }

    const COOKIES: (&str, &str) = ("cookie", "a=b; __Host-picloud-user=picu_x; c=d");
    const OWN: (&str, &str) = ("host", "shop.example.org");

    fn parts(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_users_session_is_in_the_header_or_in_one_cookie() {
        let find = |headers: &[(&str, &str)]| session(None, &parts("GET", headers)).map(str::to_owned).ok();
        assert_eq!(find(&[COOKIES]).as_deref(), Some("picu_x"));
        assert_eq!(find(&[COOKIES, ("authorization", "Bearer picu_y")]).as_deref(), Some("picu_y"));
        assert_eq!(find(&[COOKIES, ("cookie", "__Host-picloud-user=picu_z")]), None);
        assert_eq!(find(&[("cookie", "__Host-picloud=picu_x; __Host-picloud-users=picu_x")]), None);
        assert_eq!(find(&[]), None);
    }

    #[test]
    fn a_change_by_cookie_comes_from_the_host_itself_or_from_where_cors_allows() {
        let cors = |credentials| Cors {
            origins: vec!["https://app.example".to_owned()],
            headers: Vec::new(),
            expose: Vec::new(),
            credentials,
            max_age_s: 0,
        };
        let ok = |cors: Option<&Cors>, header| session(cors, &parts("POST", &[COOKIES, OWN, header])).is_ok();
        assert!(ok(None, ("sec-fetch-site", "same-origin")));
        assert!(ok(None, ("origin", "https://shop.example.org")));
        for header in [
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "none"),
            ("origin", "https://blog.example.org"),
            ("origin", "https://app.example"),
            ("accept", "*/*"),
        ] {
            assert!(!ok(None, header) && !ok(Some(&cors(false)), header), "{header:?}");
        }
        assert!(ok(Some(&cors(true)), ("origin", "https://app.example")));
        let bearer = [("authorization", "Bearer picu_y"), ("sec-fetch-site", "cross-site")];
        assert!(session(None, &parts("POST", &bearer)).is_ok(), "a page must have been given the token");
    }
}
