//! From HTTP to an invocation.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, COOKIE, HOST, HeaderValue};
use http::request::Parts;
use ipnet::IpNet;
use shared::caller::Caller;
use shared::fault::Code;
use shared::guest_abi::GuestHttp;
use shared::http::{LOGIN_COOKIE, PairBlock, SESSION_COOKIE, USER_COOKIE};
use shared::invocation::Invocation;

use super::problem::Failure;
use crate::routing::Matched;

const URI_BYTES_MAX: usize = 8 << 10;
const QUERY_PAIRS_MAX: usize = 256;
/// What the headers of most requests take.
const HEADER_BYTES_USUAL: usize = 512;
/// Longest request id taken over from a proxy.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// The host a request is for: of the URI in HTTP/2 and in absolute form, else of the header. Where
/// there are both they are the same, or a script would see another host than the one it answers on.
pub(super) fn host<B>(request: &Request<B>) -> Result<&str, Failure> {
    if let Some(authority) = request.uri().authority() {
        let is_same =
            |host: &HeaderValue| host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes());
        if request.headers().get_all(HOST).iter().all(is_same) {
            return Ok(authority.as_str());
        }
        return Err(Failure::new(Code::BadRequest, "the request names two hosts"));
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next().map(|host| host.to_str()), hosts.next()) {
        (Some(Ok(host)), None) => Ok(host),
        (None, _) => Err(Failure::new(Code::BadRequest, "the request names no host")),
        _ => Err(Failure::new(Code::BadRequest, "the request's Host header is malformed or repeated")),
    }
}

pub(super) fn check_uri<B>(request: &Request<B>) -> Result<(), Failure> {
    let uri = request.uri();
    let bytes = uri.path_and_query().map_or(0, |path| path.as_str().len());
    if bytes > URI_BYTES_MAX {
        return Err(Failure::new(Code::UriTooLong, format!("the address may have {URI_BYTES_MAX} bytes")));
    }
    let pairs = uri.query().map_or(0, |query| query.split('&').count());
    if pairs > QUERY_PAIRS_MAX {
        let detail = format!("the query may have {QUERY_PAIRS_MAX} parameters");
        return Err(Failure::new(Code::BadRequest, detail));
    }
    Ok(())
}

/// The client's address. A trusted proxy's word is believed, as far back as trust reaches: the
/// last hop in `X-Forwarded-For` that is not itself a trusted proxy.
pub(super) fn client_address(parts: &http::HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    if !is_trusted(peer, trusted) {
        return peer;
    }
    let hops = parts.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<_> =
        hops.flat_map(|value| value.split(',')).map(|hop| hop.trim().parse::<IpAddr>()).collect();
    for hop in hops.into_iter().rev() {
        match hop {
            Ok(address) if is_trusted(address.to_canonical(), trusted) => {}
            Ok(address) => return address.to_canonical(),
            Err(_) => return peer,
        }
    }
    peer
}

pub(super) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// The id under which this request is known: a trusted proxy's, or a new one.
pub(super) fn request_id(headers: &http::HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> Arc<str> {
    if is_trusted(peer, trusted)
        && let Some(given) = headers.get(&super::problem::REQUEST_ID).and_then(|id| id.to_str().ok())
        && (1..=REQUEST_ID_BYTES_MAX).contains(&given.len())
        && given.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    {
        return given.into();
    }
    let mut buffer = uuid::Uuid::encode_buffer();
    let text: &str = uuid::Uuid::now_v7().simple().encode_lower(&mut buffer);
    text.into()
}

/// What a route was called with.
pub(super) struct Call<'a> {
    pub(super) parts: &'a Parts,
    pub(super) body: &'a Bytes,
    pub(super) client: IpAddr,
    /// Where the route asked who calls.
    pub(super) caller: Option<&'a Caller>,
    /// Parameters in the host.
    pub(super) host_params: &'a [(&'a str, &'a str)],
}

/// The parts of a request in the form in which the script gets them.
pub(super) struct Blocks {
    headers: PairBlock,
    params: PairBlock,
    query: PairBlock,
}

impl Blocks {
    pub(super) fn http<'a>(
        &'a self,
        matched: &'a Matched<'_>,
        call: &Call<'a>,
        remote_ip: &'a str,
    ) -> GuestHttp<'a> {
        GuestHttp {
            method: call.parts.method.as_str(),
            path: call.parts.uri.path(),
            rest: &matched.rest,
            remote_ip,
            params: self.params.as_bytes(),
            query: self.query.as_bytes(),
            headers: self.headers.as_bytes(),
            body: call.body,
        }
    }
}

/// Everything the script sees of a request, encoded for it.
pub(super) fn invocation(matched: &Matched<'_>, call: &Call<'_>, request_id: Arc<str>) -> Invocation {
    let blocks = blocks(matched, call);
    let remote_ip = call.client.to_string();
    let http = blocks.http(matched, call, &remote_ip);
    let invocation = Invocation::http_of(matched.route.target.clone(), request_id, call.caller, http);
    // By now the header names our step of the trace.
    invocation.following(&call.parts.headers)
}

pub(super) fn blocks(matched: &Matched<'_>, call: &Call<'_>) -> Blocks {
    let Call { parts, caller, host_params, .. } = call;
    let mut headers = PairBlock::with_capacity(HEADER_BYTES_USUAL);
    for (name, value) in &parts.headers {
        match *name {
            COOKIE => push_cookies(&mut headers, value.as_bytes()),
            // The key that let the caller in is between them and the platform.
            AUTHORIZATION if caller.is_some() => {}
            _ => headers.push(name.as_str().as_bytes(), value.as_bytes()),
        }
    }
    let mut params = PairBlock::default();
    for (name, value) in *host_params {
        params.push(name.as_bytes(), value.as_bytes());
    }
    // Of equal names the path's counts, which comes last.
    params.extend(&matched.params);
    let query = parts.uri.query().map(PairBlock::from_urlencoded).unwrap_or_default();
    Blocks { headers, params, query }
}

/// Cookies without those of the admin API: the default app answers on the same host as the
/// dashboard, and its author must not become whoever looks at it. Nor with that of the app's own user,
/// which lets its holder in: whatever a script logs or sends on, it is not in it.
fn push_cookies(headers: &mut PairBlock, value: &[u8]) {
    let is_ours = |pair: &&[u8]| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        [SESSION_COOKIE, LOGIN_COOKIE, USER_COOKIE].iter().any(|ours| name.trim_ascii() == ours.as_bytes())
    };
    let kept: Vec<_> = value.split(|byte| *byte == b';').filter(|pair| !is_ours(pair)).collect();
    let kept = kept.join(&b';');
    if !kept.trim_ascii().is_empty() {
        headers.push(COOKIE.as_str().as_bytes(), kept.trim_ascii());
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;

    /// The pairs of a cookie header, whose names end at the first `=`.
    fn cookies(value: &[u8]) -> Vec<&[u8]> {
        value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).collect()
    }

    proptest! {
        #[test]
        fn whatever_cookies_there_are_a_script_sees_all_but_the_platforms(
            names in proptest::collection::vec("(__Host-picloud(-oidc|-user)?|[a-z_ ]{0,3}|__host-picloud)", 0..6),
            tail: Vec<u8>,
        ) {
            let line: Vec<String> = names.iter().map(|name| format!("{name}=1")).collect();
            let line = [line.join(";").into_bytes(), vec![b';'], tail].concat();
            let mut headers = PairBlock::default();
            push_cookies(&mut headers, &line);
            let seen = shared::http::Pairs::new(headers.as_bytes()).next();
            let seen = seen.map_or(&[][..], |pair| pair.unwrap().1);
            let is_ours = |pair: &&[u8]| {
                let name = pair.split(|byte| *byte == b'=').next().unwrap().trim_ascii();
                [SESSION_COOKIE, LOGIN_COOKIE, USER_COOKIE].iter().any(|ours| name == ours.as_bytes())
            };
            let expected: Vec<_> = cookies(&line).into_iter().filter(|pair| !is_ours(pair)).collect();
            prop_assert_eq!(cookies(seen), expected);
        }

        #[test]
        fn any_forwarded_header_gives_the_peer_or_an_address_in_it(values in proptest::collection::vec("[0-9a-f:., ]{0,30}", 0..3)) {
            let peer: IpAddr = [127, 0, 0, 1].into();
            let values: Vec<_> = values.iter().map(String::as_str).collect();
            let trusted = ["127.0.0.0/8".parse().unwrap()];
            let client = client_address(&forwarded(&values), peer, &trusted);
            let is_named = values.iter().flat_map(|value| value.split(',')).any(|hop| hop.trim().parse::<IpAddr>().is_ok_and(|hop| hop.to_canonical() == client));
            prop_assert!(client == peer || is_named);
        }
    }

    fn forwarded(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_script_never_sees_the_session_of_the_admin_api() {
        let seen = |value: &str| {
            let mut headers = PairBlock::default();
            push_cookies(&mut headers, value.as_bytes());
            let pair = shared::http::Pairs::new(headers.as_bytes()).next();
            pair.map(|pair| String::from_utf8(pair.unwrap().1.to_vec()).unwrap())
        };
        assert_eq!(seen("a=1; b=2").as_deref(), Some("a=1; b=2"));
        assert_eq!(seen("a=1; __Host-picloud=pics_x; b=2").as_deref(), Some("a=1; b=2"));
        assert_eq!(seen("__Host-picloud=pics_x;a=1").as_deref(), Some("a=1"));
        assert_eq!(seen(" __Host-picloud = pics_x"), None);
        assert_eq!(seen("__Host-picloud-oidc=x;a=1").as_deref(), Some("a=1"));
        assert_eq!(seen("a=1; __Host-picloud-user=picu_x").as_deref(), Some("a=1"));
        assert_eq!(seen("__Host-picloud2=x").as_deref(), Some("__Host-picloud2=x"));
    }

    #[test]
    fn a_stranger_cannot_claim_another_address() {
        let peer: IpAddr = [203, 0, 113, 9].into();
        let trusted = ["127.0.0.0/8".parse().unwrap()];
        assert_eq!(client_address(&forwarded(&["1.2.3.4"]), peer, &trusted), peer);
    }

    #[test]
    fn a_trusted_proxy_is_believed_about_its_own_client_only() {
        let proxy: IpAddr = [127, 0, 0, 1].into();
        let trusted = ["127.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        let address = |values: &[&str]| client_address(&forwarded(values), proxy, &trusted).to_string();
        assert_eq!(address(&["1.2.3.4"]), "1.2.3.4");
        assert_eq!(address(&["6.6.6.6, 1.2.3.4"]), "1.2.3.4");
        assert_eq!(address(&["6.6.6.6", "1.2.3.4, 10.0.0.7"]), "1.2.3.4");
        assert_eq!(address(&["::ffff:1.2.3.4, ::ffff:10.0.0.7"]), "1.2.3.4");
        assert_eq!(address(&["rubbish"]), "127.0.0.1");
        assert_eq!(address(&[]), "127.0.0.1");
    }
}
