//! Who calls a script: a person of the instance, or one of the app's own users.

use crate::guest_abi::GuestUser;
use crate::id::{AppSessionId, AppUserId, UserId};

/// Somebody whose credential was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A person, who has rights on the instance.
    Person { id: UserId, name: String },
    /// One of the app's own users, who has none.
    AppUser(AppCaller),
}

/// A user of an app who is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppCaller {
    pub id: AppUserId,
    /// None where the request was written down: it may be over by then.
    pub session: Option<AppSessionId>,
    pub login: String,
    /// JSON text of a list.
    pub roles: String,
    /// JSON text of an object.
    pub profile: String,
}

impl Caller {
    /// Whose rights a script has that runs for them: an app's user has none to give.
    pub const fn principal(&self) -> Option<UserId> {
        match self {
            Self::Person { id, .. } => Some(*id),
            Self::AppUser(_) => None,
        }
    }

    /// Tells callers apart.
    pub const fn id_bytes(&self) -> [u8; 16] {
        match self {
            Self::Person { id, .. } => id.to_bytes(),
            Self::AppUser(user) => user.id.to_bytes(),
        }
    }

    /// The session that let them in, if one of the app's did.
    pub const fn session(&self) -> Option<AppSessionId> {
        match self {
            Self::Person { .. } => None,
            Self::AppUser(user) => user.session,
        }
    }

    /// What the script is told of them.
    pub fn to_guest(&self) -> GuestUser<'_> {
        match self {
            Self::Person { id, name } => GuestUser::Person { id: id.to_bytes(), name },
            Self::AppUser(user) => GuestUser::AppUser {
                id: user.id.to_bytes(),
                login: &user.login,
                roles: &user.roles,
                profile: &user.profile,
            },
        }
    }
}
