//! Who is calling and what they may do. Nothing here knows HTTP.

mod login;
mod passwords;
mod sessions;
mod throttle;

pub(crate) use self::login::{Auth, AuthenticateError, Login, LoginError, Passport};
pub use self::passwords::HashError;

use shared::id::SessionId;

use crate::store::users::{Role, User};

/// A caller whose credential was verified.
#[derive(Debug, Clone)]
pub(crate) struct Principal {
    pub(crate) user: User,
    pub(crate) session: SessionId,
}

/// Everything the admin API lets some people do and others not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capability {
    /// See what the machine is like and which processes run.
    ReadSystem,
    /// Make apps.
    CreateApps,
    /// See an app, its scripts, routes and executions.
    ReadApp,
    /// Change an app's scripts and routes.
    WriteApp,
    /// Run an app's scripts outside their routes.
    InvokeScripts,
    /// Rename or remove an app.
    AdministerApp,
    /// Say what an app may use. Not its own people's business: they would say "everything".
    SetBudgets,
    /// Let a script run again that was quarantined.
    ReleaseScripts,
}

/// Whether this person may do this, on any app. The one place where it is decided.
pub(crate) fn can(principal: &Principal, capability: Capability) -> bool {
    match (principal.user.role, capability) {
        (Role::Owner | Role::Admin, _) => true,
        // A member's rights come from being a member of an app.
        (
            Role::Member,
            Capability::ReadSystem
            | Capability::CreateApps
            | Capability::ReadApp
            | Capability::WriteApp
            | Capability::InvokeScripts
            | Capability::AdministerApp
            | Capability::SetBudgets
            | Capability::ReleaseScripts,
        ) => false,
    }
}

#[cfg(test)]
mod tests {
    use shared::id::UserId;

    use super::*;

    #[test]
    fn a_member_without_an_app_may_do_nothing() {
        let principal = |role| Principal {
            user: User { id: UserId::new(), username: "ada".parse().unwrap(), role },
            session: SessionId::new(),
        };
        for capability in
            [Capability::ReadSystem, Capability::CreateApps, Capability::ReadApp, Capability::InvokeScripts]
        {
            assert!(!can(&principal(Role::Member), capability));
            assert!(can(&principal(Role::Owner), capability));
        }
    }
}
