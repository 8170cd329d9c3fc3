//! Cross-origin requests of browsers, answered by a route's policy: the platform's word counts, and
//! what a script says about it does not.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, HeaderValue, ORIGIN, VARY,
};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::Full;
use shared::route::Cors;

/// The headers that say which pages may read an answer.
pub(super) const OURS: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// The method a browser asks for before it sends the request itself.
pub(super) fn preflight<'a>(method: &Method, headers: &'a HeaderMap) -> Option<&'a str> {
    if *method != Method::OPTIONS || !headers.contains_key(ORIGIN) {
        return None;
    }
    headers.get(ACCESS_CONTROL_REQUEST_METHOD)?.to_str().ok()
}

/// The answer to a preflight request. To an origin that may not call it says nothing, which the
/// browser takes for a no.
pub(super) fn allow(cors: &Cors, method: &str, request: &HeaderMap) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    apply(cors, request, headers);
    headers.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
    if !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        return response;
    }
    set(headers, ACCESS_CONTROL_ALLOW_METHODS, method);
    if cors.headers.iter().any(|name| name == "*") {
        // Named one by one, because a browser takes the star for a name when there are credentials.
        if let Some(asked) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        headers.append(VARY, HeaderValue::from_static("access-control-request-headers"));
    } else if !cors.headers.is_empty() {
        set(headers, ACCESS_CONTROL_ALLOW_HEADERS, &cors.headers.join(", "));
    }
    if cors.max_age_s > 0 {
        headers.insert(ACCESS_CONTROL_MAX_AGE, cors.max_age_s.into());
    }
    response
}

/// Says on an answer which pages may read it.
pub(super) fn apply(cors: &Cors, request: &HeaderMap, headers: &mut HeaderMap) {
    for name in OURS {
        headers.remove(name);
    }
    if cors.is_for_all() {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    } else {
        // A cache must not give one origin's answer to another.
        headers.append(VARY, HeaderValue::from_static("origin"));
        let origin = request.get(ORIGIN).filter(|origin| origin.to_str().is_ok_and(|text| cors.allows(text)));
        let Some(origin) = origin else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if cors.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
    if !cors.expose.is_empty() {
        set(headers, ACCESS_CONTROL_EXPOSE_HEADERS, &cors.expose.join(", "));
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str], credentials: bool) -> Cors {
        Cors {
            origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            headers: vec!["content-type".into(), "x-token".into()],
            expose: vec!["x-total".into()],
            credentials,
            max_age_s: 60,
        }
    }

    fn request(origin: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, origin.parse().unwrap());
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, "PUT".parse().unwrap());
        headers
    }

    fn text(headers: &HeaderMap, name: HeaderName) -> &str {
        headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn an_origin_on_the_list_is_let_in_and_another_is_told_nothing() {
        let cors = cors(&["https://a.example"], true);
        let asked = request("https://a.example");
        assert_eq!(preflight(&Method::OPTIONS, &asked), Some("PUT"));
        let response = allow(&cors, "PUT", &asked);
        let headers = response.headers();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(text(headers, ACCESS_CONTROL_ALLOW_ORIGIN), "https://a.example");
        assert_eq!(text(headers, ACCESS_CONTROL_ALLOW_METHODS), "PUT");
        assert_eq!(text(headers, ACCESS_CONTROL_ALLOW_HEADERS), "content-type, x-token");
        assert_eq!(text(headers, ACCESS_CONTROL_ALLOW_CREDENTIALS), "true");
        assert_eq!((text(headers, ACCESS_CONTROL_MAX_AGE), text(headers, VARY)), ("60", "origin"));

        let stranger = allow(&cors, "PUT", &request("https://evil.example"));
        assert!(OURS.iter().all(|name| !stranger.headers().contains_key(name)));
        assert_eq!(text(stranger.headers(), VARY), "origin");
    }

    #[test]
    fn attack_a_script_cannot_open_what_its_route_keeps_closed() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, "https://evil.example".parse().unwrap());
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, "true".parse().unwrap());
        apply(&cors(&["https://a.example"], false), &request("https://evil.example"), &mut headers);
        assert!(OURS.iter().all(|name| !headers.contains_key(name)), "{headers:?}");
    }

    #[test]
    fn an_answer_for_everybody_says_so_and_what_may_be_read() {
        let mut headers = HeaderMap::new();
        apply(&cors(&["*"], false), &HeaderMap::new(), &mut headers);
        assert_eq!(text(&headers, ACCESS_CONTROL_ALLOW_ORIGIN), "*");
        assert_eq!(text(&headers, ACCESS_CONTROL_EXPOSE_HEADERS), "x-total");
        assert!(!headers.contains_key(VARY));
    }

    #[test]
    fn an_ordinary_options_request_is_no_preflight() {
        assert_eq!(preflight(&Method::OPTIONS, &HeaderMap::new()), None);
        assert_eq!(preflight(&Method::PUT, &request("https://a.example")), None);
    }
}
