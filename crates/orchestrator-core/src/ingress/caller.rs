//! Who calls a route that asks for a credential.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use shared::fault::Code;
use shared::id::AppId;
use shared::invocation::Caller;
use shared::ports::{Authenticate, CredentialRefused};
use shared::route::RouteAuth;

use super::problem::Failure;

/// The caller, where the route wants to know. Whoever shows nothing good gets no further.
pub(super) async fn identify(
    source: &dyn Authenticate,
    app: AppId,
    auth: RouteAuth,
    headers: &HeaderMap,
) -> Result<Option<Caller>, Failure> {
    match auth {
        RouteAuth::None => return Ok(None),
        RouteAuth::ApiKey => {}
    }
    let key = bearer(headers).ok_or_else(|| {
        let detail =
            "this address takes an API key that may run its app's scripts, as Authorization: Bearer pic_…";
        Failure::new(Code::Unauthenticated, detail)
    })?;
    match source.authenticate(app, key).await {
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

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (scheme, token) = values.next()?.to_str().ok()?.split_once(' ')?;
    // Which of two would count is not for this side to guess.
    (values.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then_some(token.trim())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_authorization_headers_are_one_token_or_none(values: Vec<Vec<u8>>) {
            let mut headers = HeaderMap::new();
            for value in values.iter().filter_map(|value| HeaderValue::from_bytes(value).ok()) {
                headers.append(AUTHORIZATION, value);
            }
            if let Some(token) = bearer(&headers) {
                prop_assert_eq!(headers.len(), 1);
                prop_assert_eq!(token.trim(), token);
            }
        }

        #[test]
        fn a_token_is_read_whatever_the_case_of_its_scheme(
            scheme in "[Bb][Ee][Aa][Rr][Ee][Rr]",
            token in "[!-~]{1,80}",
        ) {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, format!("{scheme} {token}").parse().unwrap());
            prop_assert_eq!(bearer(&headers), Some(token.as_str()));
        }
    }

    #[test]
    fn only_one_bearer_token_is_a_credential() {
        let token = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&headers).map(ToOwned::to_owned)
        };
        assert_eq!(token(&["bearer  pic_1 "]).as_deref(), Some("pic_1"));
        for none in [&[][..], &["Basic eDp5"], &["pic_1"], &["Bearer pic_1", "Bearer pic_2"]] {
            assert_eq!(token(none), None, "{none:?}");
        }
    }
}
