//! HTTP values at the wall between parent and guest: flat, borrowed, without recursion.

use crate::limits::{BODY_PAUSE_S, BODY_RATE_FROM_S, BODY_RATE_MIN};

/// A list of name/value pairs as one byte string: for headers, query and path parameters.
///
/// Each pair is `u16 name length, name, u32 value length, value`, lengths little-endian. A decoder
/// of this form allocates nothing and cannot be made to recurse, whoever wrote the bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PairBlock(Vec<u8>);

impl PairBlock {
    /// None yet, with room for some bytes of them.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Adds a pair. Names over 64 KiB do not occur behind the ingress limits and are cut.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let name = &name[..name.len().min(usize::from(u16::MAX))];
        let name_len = u16::try_from(name.len()).unwrap_or(u16::MAX);
        let value = &value[..value.len().min(u32::MAX as usize)];
        let value_len = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.0.reserve(2 + name.len() + 4 + value.len());
        self.0.extend_from_slice(&name_len.to_le_bytes());
        self.0.extend_from_slice(name);
        self.0.extend_from_slice(&value_len.to_le_bytes());
        self.0.extend_from_slice(value);
    }

    /// Adds the pairs of another block behind those of this one.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(feature = "host")]
impl PairBlock {
    /// The decoded pairs of a URL's query or of a form body, in order.
    pub fn from_urlencoded(text: &str) -> Self {
        let mut block = Self::default();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            block.push(name.as_bytes(), value.as_bytes());
        }
        block
    }
}

/// Name of the cookie that holds a session of the admin API. The prefix makes browsers take it only
/// from this very host, over TLS or on localhost, so that no app on a neighbouring host can set it.
pub const SESSION_COOKIE: &str = "__Host-picloud";
/// Name of the cookie that holds what a login with an identity provider was begun with. Scripts neither
/// see nor set it either.
pub const LOGIN_COOKIE: &str = "__Host-picloud-oidc";

/// Name of the cookie that holds a session of an app's own user. Scripts set it, and never see it again.
pub const USER_COOKIE: &str = "__Host-picloud-user";

/// A request's body came in too slowly to go on waiting for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a body may pause for {BODY_PAUSE_S} s and must come in at {BODY_RATE_MIN} bytes/s after {BODY_RATE_FROM_S} s"
)]
pub struct BodyTooSlow;

/// Request extension: the client's address, seen through trusted proxies.
#[cfg(feature = "host")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub std::net::IpAddr);

/// Whom an address stands for where clients are counted: an IPv6 address for the network of 64 bits, of which one
/// customer has all addresses.
#[cfg(feature = "host")]
pub fn customer(address: std::net::IpAddr) -> std::net::IpAddr {
    match address.to_canonical() {
        std::net::IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ std::net::IpAddr::V4(_) => v4,
    }
}

/// Request extension: the app whose host was asked.
#[cfg(feature = "host")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppHost(pub crate::id::AppId);

/// Request extension: the id by which logs, records and problems name this request.
#[cfg(feature = "host")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub std::sync::Arc<str>);

/// Request extension: the room for the body. Whoever keeps more of it than a chunk asks here first.
#[cfg(feature = "host")]
#[derive(Debug, Clone)]
pub struct BodyRoom(pub std::sync::Arc<dyn crate::ports::HoldBody>);

/// Bytes that are not a [`PairBlock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed name/value block")]
pub struct MalformedPairs;

/// Iterates over the pairs of a block; ends after the first malformed one.
#[derive(Debug, Clone)]
pub struct Pairs<'a> {
    rest: &'a [u8],
}

impl<'a> Pairs<'a> {
    pub const fn new(block: &'a [u8]) -> Self {
        Self { rest: block }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], MalformedPairs> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(MalformedPairs)?;
        self.rest = rest;
        Ok(head)
    }

    fn pair(&mut self) -> Result<(&'a [u8], &'a [u8]), MalformedPairs> {
        let len = self.take(2)?.try_into().map_err(|_| MalformedPairs)?;
        let name = self.take(usize::from(u16::from_le_bytes(len)))?;
        let len = self.take(4)?.try_into().map_err(|_| MalformedPairs)?;
        let value = self.take(u32::from_le_bytes(len) as usize)?;
        Ok((name, value))
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), MalformedPairs>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let pair = self.pair();
        if pair.is_err() {
            self.rest = &[];
        }
        Some(pair)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn truncated_block_is_an_error_and_ends() {
        let mut block = PairBlock::default();
        block.push(b"a", b"1");
        let bytes = block.into_bytes();
        for cut in 1..bytes.len() {
            let mut pairs = Pairs::new(&bytes[..cut]);
            assert_eq!(pairs.next(), Some(Err(MalformedPairs)));
            assert_eq!(pairs.next(), None);
        }
    }

    proptest! {
        #[test]
        fn pairs_round_trip(pairs: Vec<(Vec<u8>, Vec<u8>)>) {
            let mut block = PairBlock::default();
            for (name, value) in &pairs {
                block.push(name, value);
            }
            let back: Result<Vec<_>, _> = Pairs::new(block.as_bytes()).collect();
            let expected: Vec<_> = pairs.iter().map(|(n, v)| (&n[..], &v[..])).collect();
            prop_assert_eq!(back.unwrap(), expected);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Pairs::new(&bytes).count();
        }
    }
}
