//! A request that is answered later, as it is kept in the outbox.

use serde::{Deserialize, Serialize};
use shared::caller::{AppCaller, Caller};
use shared::guest_abi::{GuestHttp, GuestUser};
use shared::id::{AppUserId, UserId};
use shared::wire::codec;
use uuid::Uuid;

/// The first byte of what is stored: another form gets another number, and old rows stay readable.
const FORM: u8 = 2;
/// The form before apps had users of their own.
const FORM_OF_PEOPLE: u8 = 1;

/// What a script sees of a request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredCall<'a> {
    pub(crate) request_id: &'a str,
    #[serde(borrow)]
    pub(crate) user: Option<GuestUser<'a>>,
    #[serde(borrow)]
    pub(crate) http: GuestHttp<'a>,
}

/// The same in [`FORM_OF_PEOPLE`].
#[derive(Serialize, Deserialize)]
struct CallOfPerson<'a> {
    request_id: &'a str,
    #[serde(borrow)]
    user: Option<([u8; 16], &'a str)>,
    #[serde(borrow)]
    http: GuestHttp<'a>,
}

impl<'a> StoredCall<'a> {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let http = &self.http;
        let mut bytes = Vec::with_capacity(256 + http.headers.len() + http.query.len() + http.body.len());
        bytes.push(FORM);
        codec::encode_body(&mut bytes, self);
        bytes
    }

    /// None when the bytes are no request.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (form, body) = bytes.split_first()?;
        match *form {
            FORM => codec::decode_body(body).ok(),
            FORM_OF_PEOPLE => {
                let CallOfPerson { request_id, user, http } = codec::decode_body(body).ok()?;
                let user = user.map(|(id, name)| GuestUser::Person { id, name });
                Some(Self { request_id, user, http })
            }
            _ => None,
        }
    }

    pub(crate) fn caller(&self) -> Option<Caller> {
        Some(match self.user? {
            GuestUser::Person { id, name } => {
                Caller::Person { id: UserId::from_uuid(Uuid::from_bytes(id)), name: name.to_owned() }
            }
            GuestUser::AppUser { id, login, roles, profile } => Caller::AppUser(AppCaller {
                id: AppUserId::from_uuid(Uuid::from_bytes(id)),
                session: None,
                login: login.to_owned(),
                roles: roles.to_owned(),
                profile: profile.to_owned(),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP: GuestHttp<'_> = GuestHttp {
        method: "POST",
        path: "/",
        rest: "",
        remote_ip: "192.0.2.1",
        params: &[],
        query: &[],
        headers: &[],
        body: b"body",
    };

    #[test]
    fn a_users_request_is_read_as_it_was_stored_and_gives_nobodys_rights() {
        let user = GuestUser::AppUser { id: [7; 16], login: "eve", roles: "[]", profile: "{}" };
        let bytes = StoredCall { request_id: "r", user: Some(user), http: HTTP }.to_bytes();
        let read = StoredCall::read(&bytes).unwrap();
        assert_eq!((read.user, read.http.body), (Some(user), HTTP.body));
        assert_eq!(read.caller().unwrap().principal(), None);
    }

    #[test]
    fn a_request_that_was_stored_before_apps_had_users_is_still_read() {
        let mut bytes = vec![FORM_OF_PEOPLE];
        codec::encode_body(
            &mut bytes,
            &CallOfPerson { request_id: "r", user: Some(([7; 16], "grace")), http: HTTP },
        );
        let read = StoredCall::read(&bytes).unwrap();
        assert_eq!(read.user, Some(GuestUser::Person { id: [7; 16], name: "grace" }));
        assert!(read.caller().unwrap().principal().is_some());
    }
}
