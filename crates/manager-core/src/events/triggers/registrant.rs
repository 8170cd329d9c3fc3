//! With whose rights a trigger runs: those that the person who registered it has on the app by now,
//! and never more.

use crate::auth::{Capability, Place, Standing, allows};
use crate::store::users::User;

/// The person, and how they stand to the trigger's app.
#[derive(Debug, Clone)]
pub(crate) struct Registrant {
    pub(crate) user: User,
    pub(crate) is_disabled: bool,
    pub(crate) standing: Standing,
}

impl Registrant {
    /// Why a trigger of this person, or of nobody, may not run; none when it may.
    pub(crate) fn refusal(registrant: Option<&Self>) -> Option<String> {
        let Some(Self { user, is_disabled, standing }) = registrant else {
            return Some("the account that registered it is gone".to_owned());
        };
        if *is_disabled {
            return Some(format!("the account {} is disabled", user.username));
        }
        // What the trigger does for its registrant, they could do themselves.
        let denied = allows(user, Capability::InvokeScripts, Place::App(*standing)).err()?;
        Some(format!("{}; {}", denied.value, denied.remedy))
    }
}

#[cfg(test)]
mod tests {
    use shared::id::{AppId, UserId};

    use super::*;
    use crate::store::members::AppRole;
    use crate::store::users::Role;

    fn registrant(role: Role, app_role: Option<AppRole>) -> Registrant {
        Registrant {
            user: User { id: UserId::new(), username: "ada".parse().unwrap(), role },
            is_disabled: false,
            standing: Standing { app: AppId::new(), owner: UserId::new(), role: app_role },
        }
    }

    #[test]
    fn a_trigger_runs_as_long_as_its_registrant_could_run_the_script() {
        let refusal = |registrant: &Registrant| Registrant::refusal(Some(registrant));
        assert_eq!(refusal(&registrant(Role::Member, Some(AppRole::Editor))), None);
        assert_eq!(refusal(&registrant(Role::Admin, None)), None);
        for (registrant, reason) in [
            (registrant(Role::Member, Some(AppRole::Viewer)), "has the role viewer"),
            (registrant(Role::Member, None), "is no member"),
            (Registrant { is_disabled: true, ..registrant(Role::Owner, None) }, "is disabled"),
        ] {
            let shown = refusal(&registrant).unwrap();
            assert!(shown.contains(reason), "{shown}");
        }
        assert!(Registrant::refusal(None).unwrap().contains("gone"));
    }
}
