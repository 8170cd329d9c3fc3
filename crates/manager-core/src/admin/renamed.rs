//! Addresses with a slug that an app had before it was renamed lead to the same address with the
//! slug it has now.

use axum::body::Body;
use axum::response::Response;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{StatusCode, Uri};
use shared::id::AppId;

use super::{ROOT, verbs};
use crate::store::apps::App;

/// Where a request for an app is to be sent, when it names the app by a former slug. 308 keeps
/// method and body, so that a deploy of a renamed app is still a deploy.
pub(super) fn redirect(app: &App, key: &str, parts: &Parts) -> Option<Response> {
    if key == app.slug.as_str() || key.parse::<AppId>().is_ok() {
        return None;
    }
    let location = HeaderValue::from_str(&location(&parts.uri, key, app.slug.as_str())?).ok()?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    Some(response)
}

/// The address with the slug behind `/apps/` replaced, as its caller would write it. The router has
/// taken the front off before.
fn location(uri: &Uri, former: &str, slug: &str) -> Option<String> {
    let path = verbs::joined(uri.path());
    let tail = path.strip_prefix("/apps/")?.strip_prefix(former)?;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    Some(format!("{ROOT}/apps/{slug}{tail}{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_slug_is_replaced() {
        let to = |text: &str| location(&text.parse().unwrap(), "blog", "journal");
        let api = format!("{ROOT}/apps/journal");
        assert_eq!(to("/apps/blog"), Some(api.clone()));
        assert_eq!(to("/apps/blog/~transfer"), Some(format!("{api}:transfer")));
        assert_eq!(to("/apps/blog/scripts/blog?force=true"), Some(format!("{api}/scripts/blog?force=true")));
        assert_eq!(to("/apps/other"), None);
        assert_eq!(to("/apps/%62log"), None);
    }
}
