//! Identifiers. Each is its own type, so that an app's id can never stand where a script's is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(transparent))]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub struct $name(Uuid);

        impl $name {
            /// A new id. Version 7: ids made later sort later, which keeps index inserts local.
            #[cfg(feature = "host")]
            #[expect(clippy::new_without_default, reason = "a default id would be a new one each time")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            pub const fn as_uuid(self) -> Uuid {
                self.0
            }

            pub const fn to_bytes(self) -> [u8; 16] {
                *self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )+};
}

id! {
    /// A tenant: the wall between scripts, routes and data of different people.
    AppId,
    /// A script, whatever its versions.
    ScriptId,
    /// A route of an app.
    RouteId,
    /// A claim of an app to hosts of its own.
    DomainId,
    /// One run of one version of a script.
    ExecutionId,
    /// A person who may use the admin API.
    UserId,
    /// A worker that misbehaved while a script ran.
    IncidentId,
    /// A login of a person.
    SessionId,
    /// A credential of a person's program.
    ApiKeyId,
    /// A link by which somebody makes an account.
    InvitationId,
    /// What makes a script run for events.
    TriggerId,
    /// An event on its way to one script: the same at every attempt.
    DeliveryId,
    /// A delivery that was given up.
    DeadLetterId,
    /// Somebody's account at an identity provider.
    IdentityId,
    /// A user of an app, who is nobody on the instance.
    AppUserId,
    /// A login of a user of an app.
    AppSessionId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_ids_sort_later() {
        let first = ExecutionId::new();
        let second = ExecutionId::new();
        assert!(first < second);
    }

    #[test]
    fn text_form_round_trips() {
        let id = AppId::new();
        assert_eq!(id.to_string().parse::<AppId>().unwrap(), id);
    }
}
