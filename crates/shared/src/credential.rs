//! Where a request shows a credential.

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};

/// The token of the one header `Authorization: Bearer …`. Of two headers it is not for the server to guess which would
/// count.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (scheme, token) = values.next()?.to_str().ok()?.split_once(' ')?;
    (values.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then_some(token.trim())
}

/// The values of all cookies of this name.
pub fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter_map(move |(key, value)| (key == name).then_some(value))
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
