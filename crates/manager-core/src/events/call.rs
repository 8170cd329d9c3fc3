//! A request that is answered later, as it is kept in the outbox.

use serde::{Deserialize, Serialize};
use shared::guest_abi::{GuestHttp, GuestUser};
use shared::id::UserId;
use shared::invocation::Caller;

/// The first byte of what is stored: another form gets another number, and old rows stay readable.
const FORM: u8 = 1;

/// What a script sees of a request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredCall<'a> {
    pub(crate) request_id: &'a str,
    #[serde(borrow)]
    pub(crate) user: Option<GuestUser<'a>>,
    #[serde(borrow)]
    pub(crate) http: GuestHttp<'a>,
}

impl<'a> StoredCall<'a> {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let http = &self.http;
        let mut bytes = Vec::with_capacity(256 + http.headers.len() + http.query.len() + http.body.len());
        bytes.push(FORM);
        shared::wire::codec::encode_body(&mut bytes, self);
        bytes
    }

    /// None when the bytes are no request.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (form, body) = bytes.split_first()?;
        if *form != FORM {
            return None;
        }
        shared::wire::codec::decode_body(body).ok()
    }

    pub(crate) fn caller(&self) -> Option<Caller> {
        let user = self.user.as_ref()?;
        Some(Caller { id: UserId::from_uuid(uuid::Uuid::from_bytes(user.id)), name: user.name.to_owned() })
    }
}
