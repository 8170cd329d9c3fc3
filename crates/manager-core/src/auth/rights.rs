//! Who may do what. [`can`] is the one place where it is decided; what it refuses it explains.
//!
//! A person has a role on the instance and may have one on each app. The owner of the instance is
//! an admin of every app and an instance admin an editor of every app; everybody else sees the apps
//! that they are members of. An API key narrows its person's rights by its scopes and by its app.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::id::{AppId, UserId};

use super::principal::{Credential, Key, Principal};
use crate::store::members::AppRole;
use crate::store::users::{Role, User};

/// Everything the admin API lets some people do and others not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Capability {
    /// See who one is.
    ReadSelf,
    /// Change one's password, second factor, sessions and API keys.
    ManageSelf,
    /// Make apps.
    CreateApps,
    /// See, make, change and remove people; invite.
    ManageUsers,
    /// Read the instance's audit log.
    ReadAudit,
    /// See what the machine is like and which processes run.
    ReadSystem,
    /// Say what an app may use. Not its own people's business: they would say "everything".
    SetBudgets,
    /// Let a script run again that was quarantined.
    ReleaseScripts,
    /// Believe an app's claim to a domain without proof.
    WaiveDomains,
    /// Put another key in the place of the one that all secrets depend on.
    RotateKeys,
    /// See an app, its scripts, routes, members and executions.
    ReadApp,
    /// Change an app's scripts and routes.
    WriteApp,
    /// Run an app's scripts outside their routes.
    InvokeScripts,
    /// Look at what an app's scripts keep.
    ReadData,
    /// Change what an app's scripts keep.
    WriteData,
    /// Set and remove an app's secrets.
    WriteSecrets,
    /// Rename or remove an app, change its members, read its audit log.
    AdministerApp,
    /// Offer an app to somebody else, or take the offer back.
    TransferApp,
    /// Make somebody the owner of an app without asking them.
    AssignApps,
}

/// What an API key may be used for. A vocabulary that does not grow with every capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub(crate) enum Scope {
    #[serde(rename = "app:read")]
    AppRead,
    #[serde(rename = "app:write")]
    AppWrite,
    #[serde(rename = "script:invoke")]
    ScriptInvoke,
    #[serde(rename = "data:read")]
    DataRead,
    #[serde(rename = "data:write")]
    DataWrite,
    #[serde(rename = "app:admin")]
    AppAdmin,
    #[serde(rename = "instance:admin")]
    InstanceAdmin,
}

/// Where something is to be done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    Instance,
    App(Standing),
}

/// How the caller's person stands to an app.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) app: AppId,
    pub(crate) owner: UserId,
    /// Their role as a member.
    pub(crate) role: Option<AppRole>,
}

/// Why something may not be done, for the person who can change it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Denial {
    pub(crate) rule: Rule,
    /// What the rule looked at and found.
    pub(crate) value: String,
    /// The setting that would change the answer.
    pub(crate) remedy: String,
}

/// The rules by which [`can`] refuses, and webhooks do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rule {
    /// The person's role on the instance is too low.
    InstanceRole,
    /// The person has no role on the app.
    Membership,
    /// The person's role on the app is too low.
    AppRole,
    /// The person does not own the app.
    Ownership,
    /// The key lacks the scope.
    KeyScope,
    /// The key is for another app.
    KeyApp,
    /// The account is managed from a session, never by a key.
    SessionOnly,
    /// A script manages its app only on behalf of somebody, and runs for nobody.
    NobodyLoggedIn,
    /// The request is not signed as its webhook asks.
    Signature,
}

/// What a capability asks of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Least {
    Anybody,
    Instance(Role),
    App(AppRole),
    OwnerOfApp,
}

impl Denial {
    /// Whether the caller may not even know that the app exists.
    pub(crate) fn hides_the_app(&self) -> bool {
        matches!(self.rule, Rule::Membership | Rule::KeyApp)
    }
}

impl Capability {
    /// Those that are about one app.
    pub(crate) const ON_APPS: [Self; 12] = [
        Self::ReadApp,
        Self::WriteApp,
        Self::InvokeScripts,
        Self::ReadData,
        Self::WriteData,
        Self::WriteSecrets,
        Self::AdministerApp,
        Self::TransferApp,
        Self::AssignApps,
        Self::SetBudgets,
        Self::ReleaseScripts,
        Self::WaiveDomains,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ReadSelf => "read_self",
            Self::ManageSelf => "manage_self",
            Self::CreateApps => "create_apps",
            Self::ManageUsers => "manage_users",
            Self::ReadAudit => "read_audit",
            Self::ReadSystem => "read_system",
            Self::SetBudgets => "set_budgets",
            Self::ReleaseScripts => "release_scripts",
            Self::WaiveDomains => "waive_domains",
            Self::RotateKeys => "rotate_keys",
            Self::ReadApp => "read_app",
            Self::WriteApp => "write_app",
            Self::InvokeScripts => "invoke_scripts",
            Self::ReadData => "read_data",
            Self::WriteData => "write_data",
            Self::WriteSecrets => "write_secrets",
            Self::AdministerApp => "administer_app",
            Self::TransferApp => "transfer_app",
            Self::AssignApps => "assign_apps",
        }
    }

    const fn least(self) -> Least {
        match self {
            Self::ReadSelf | Self::ManageSelf => Least::Anybody,
            Self::CreateApps
            | Self::ManageUsers
            | Self::ReadAudit
            | Self::ReadSystem
            | Self::SetBudgets
            | Self::ReleaseScripts => Least::Instance(Role::Admin),
            // Who believes a claim answers for every host on the instance; who makes somebody pay for
            // an app, for every person.
            Self::WaiveDomains | Self::AssignApps => Least::Instance(Role::Owner),
            // Who holds the new key can open every app's secrets.
            Self::RotateKeys => Least::Instance(Role::Owner),
            Self::ReadApp | Self::ReadData => Least::App(AppRole::Viewer),
            // Who deploys a script reads what it may read, so setting asks for no more.
            Self::WriteApp | Self::InvokeScripts | Self::WriteData | Self::WriteSecrets => {
                Least::App(AppRole::Editor)
            }
            Self::AdministerApp => Least::App(AppRole::AppAdmin),
            Self::TransferApp => Least::OwnerOfApp,
        }
    }

    /// The scopes of which a key needs one; nothing where no key is enough.
    pub(crate) const fn scopes(self) -> Option<&'static [Scope]> {
        match self {
            Self::ReadSelf => Some(&[]),
            Self::ManageSelf => None,
            Self::CreateApps
            | Self::ManageUsers
            | Self::ReadAudit
            | Self::ReadSystem
            | Self::SetBudgets
            | Self::ReleaseScripts
            | Self::WaiveDomains
            | Self::AssignApps
            | Self::RotateKeys => Some(&[Scope::InstanceAdmin]),
            Self::ReadApp => Some(&[Scope::AppRead, Scope::AppWrite, Scope::AppAdmin]),
            Self::WriteApp | Self::WriteSecrets => Some(&[Scope::AppWrite, Scope::AppAdmin]),
            Self::InvokeScripts => Some(&[Scope::ScriptInvoke]),
            Self::ReadData => Some(&[Scope::DataRead, Scope::DataWrite]),
            Self::WriteData => Some(&[Scope::DataWrite]),
            Self::AdministerApp | Self::TransferApp => Some(&[Scope::AppAdmin]),
        }
    }
}

impl Scope {
    pub(crate) const ALL: [Self; 7] = [
        Self::AppRead,
        Self::AppWrite,
        Self::ScriptInvoke,
        Self::DataRead,
        Self::DataWrite,
        Self::AppAdmin,
        Self::InstanceAdmin,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::AppRead => "app:read",
            Self::AppWrite => "app:write",
            Self::ScriptInvoke => "script:invoke",
            Self::DataRead => "data:read",
            Self::DataWrite => "data:write",
            Self::AppAdmin => "app:admin",
            Self::InstanceAdmin => "instance:admin",
        }
    }
}

/// A word that names no scope.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no scope")]
pub(crate) struct UnknownScope(String);

impl std::str::FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let named = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        named.ok_or_else(|| UnknownScope(text.to_owned()))
    }
}

impl Standing {
    /// The role on the app, counting what comes with the role on the instance.
    pub(crate) fn role_of(&self, role: Role) -> Option<AppRole> {
        let implied = match role {
            Role::Owner => Some(AppRole::AppAdmin),
            Role::Admin => Some(AppRole::Editor),
            Role::Member => None,
        };
        implied.max(self.role)
    }
}

/// Whether this caller may do this here.
pub(crate) fn can(principal: &Principal, capability: Capability, place: Place) -> Result<(), Denial> {
    if let Credential::Key(key) = &principal.credential {
        refuse_other_app(key, capability, place)?;
    }
    allows(&principal.user, capability, place)?;
    match &principal.credential {
        Credential::Session(_) => Ok(()),
        Credential::Key(key) => refuse_scope(key, capability),
    }
}

/// Whether this caller may give this role on the instance, or manage somebody who has it: nobody
/// makes others more than they are themselves.
pub(crate) fn outranks(principal: &Principal, role: Role) -> Result<(), Denial> {
    let user = &principal.user;
    if user.role >= role {
        return Ok(());
    }
    Err(Denial {
        rule: Rule::InstanceRole,
        value: format!("{} has the role {} on the instance", user.username, user.role.as_str()),
        remedy: format!("ask somebody with the role {}", role.as_str()),
    })
}

fn refuse_other_app(key: &Key, capability: Capability, place: Place) -> Result<(), Denial> {
    let Some(bound) = key.app else { return Ok(()) };
    let is_elsewhere = match place {
        Place::App(standing) => standing.app != bound,
        // Who it is, a key may always know.
        Place::Instance => capability != Capability::ReadSelf,
    };
    if !is_elsewhere {
        return Ok(());
    }
    let value = format!("the key {:?} is for the app {bound} alone", key.name);
    Err(Denial { rule: Rule::KeyApp, value, remedy: "make a key that is not bound to that app".to_owned() })
}

/// The same of a person who shows no credential now: what runs for them does no more than they may.
pub(crate) fn allows(user: &User, capability: Capability, place: Place) -> Result<(), Denial> {
    match (capability.least(), place) {
        (Least::Anybody, _) => Ok(()),
        (Least::Instance(least), place) => {
            // Who may not see an app is not told that only an admin may do this to it.
            if let Place::App(standing) = place {
                refuse_role(user, standing, AppRole::Viewer)?;
            }
            if user.role >= least {
                return Ok(());
            }
            Err(Denial {
                rule: Rule::InstanceRole,
                value: format!("{} has the role {} on the instance", user.username, user.role.as_str()),
                remedy: format!("give {} the role {} on the instance", user.username, least.as_str()),
            })
        }
        (Least::App(least), Place::App(standing)) => refuse_role(user, standing, least),
        (Least::OwnerOfApp, Place::App(standing)) => {
            refuse_role(user, standing, AppRole::Viewer)?;
            if user.role == Role::Owner || standing.owner == user.id {
                return Ok(());
            }
            Err(Denial {
                rule: Rule::Ownership,
                value: format!("{} does not own the app", user.username),
                remedy: "ask the app's owner, or an owner of the instance".to_owned(),
            })
        }
        (Least::App(_) | Least::OwnerOfApp, Place::Instance) => Err(Denial {
            rule: Rule::Membership,
            value: "no app was named".to_owned(),
            remedy: "name the app".to_owned(),
        }),
    }
}

fn refuse_role(user: &User, standing: Standing, least: AppRole) -> Result<(), Denial> {
    let name = &user.username;
    let remedy = format!("give {name} the role {} on the app", least.as_str());
    match standing.role_of(user.role) {
        Some(role) if role >= least => Ok(()),
        Some(role) => {
            let value = format!("{name} has the role {} on the app", role.as_str());
            Err(Denial { rule: Rule::AppRole, value, remedy })
        }
        None => {
            let value = format!("{name} is no member of the app");
            Err(Denial { rule: Rule::Membership, value, remedy })
        }
    }
}

fn refuse_scope(key: &Key, capability: Capability) -> Result<(), Denial> {
    let Some(enough) = capability.scopes() else {
        return Err(Denial {
            rule: Rule::SessionOnly,
            value: format!("the credential is the API key {:?}", key.name),
            remedy: "log in with a password instead of the key".to_owned(),
        });
    };
    if enough.is_empty() || enough.iter().any(|scope| key.scopes.contains(scope)) {
        return Ok(());
    }
    let words =
        |scopes: &[Scope], between| scopes.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(between);
    Err(Denial {
        rule: Rule::KeyScope,
        value: format!("the key {:?} has the scopes {}", key.name, words(&key.scopes, ", ")),
        remedy: format!("make a key with the scope {}", words(enough, " or ")),
    })
}

#[cfg(test)]
mod tests {
    use shared::id::{ApiKeyId, SessionId};

    use super::super::principal::Origin;
    use super::*;

    fn principal(role: Role, key: Option<Key>) -> Principal {
        let credential = key.map_or_else(|| Credential::Session(SessionId::new()), Credential::Key);
        Principal {
            user: User { id: UserId::new(), username: "ada".parse().unwrap(), role },
            credential,
            origin: Origin { address: None, request_id: "r".into() },
        }
    }

    fn standing(role: Option<AppRole>) -> Place {
        Place::App(Standing { app: AppId::new(), owner: UserId::new(), role })
    }

    fn rule(principal: &Principal, capability: Capability, place: Place) -> Option<Rule> {
        can(principal, capability, place).err().map(|denial| denial.rule)
    }

    #[test]
    fn a_member_sees_the_apps_of_their_memberships_only() {
        let member = principal(Role::Member, None);
        assert_eq!(rule(&member, Capability::ReadApp, standing(None)), Some(Rule::Membership));
        assert!(can(&member, Capability::ReadApp, standing(None)).unwrap_err().hides_the_app());
        assert_eq!(rule(&member, Capability::ReadApp, standing(Some(AppRole::Viewer))), None);
        let write = |role| rule(&member, Capability::WriteApp, standing(Some(role)));
        assert_eq!((write(AppRole::Viewer), write(AppRole::Editor)), (Some(Rule::AppRole), None));
    }

    #[test]
    fn roles_on_the_instance_imply_roles_on_apps() {
        let [owner, admin] = [Role::Owner, Role::Admin].map(|role| principal(role, None));
        assert_eq!(rule(&owner, Capability::TransferApp, standing(None)), None);
        assert_eq!(rule(&admin, Capability::WriteApp, standing(None)), None);
        assert_eq!(rule(&admin, Capability::AdministerApp, standing(None)), Some(Rule::AppRole));
        assert_eq!(rule(&admin, Capability::AdministerApp, standing(Some(AppRole::AppAdmin))), None);
    }

    #[test]
    fn only_the_owner_gives_an_app_away() {
        let member = principal(Role::Member, None);
        let admin_of_it = standing(Some(AppRole::AppAdmin));
        assert_eq!(rule(&member, Capability::TransferApp, admin_of_it), Some(Rule::Ownership));
        let role = Some(AppRole::AppAdmin);
        let own = Place::App(Standing { app: AppId::new(), owner: member.user.id, role });
        assert_eq!(rule(&member, Capability::TransferApp, own), None);
        assert_eq!(rule(&member, Capability::AssignApps, own), Some(Rule::InstanceRole));
        let admin = principal(Role::Admin, None);
        assert_eq!(rule(&admin, Capability::AssignApps, own), Some(Rule::InstanceRole));
    }

    #[test]
    fn a_key_never_does_more_than_its_person_its_scopes_and_its_app() {
        let key = |scopes: &[Scope], app| Key {
            id: ApiKeyId::new(),
            name: "ci".into(),
            scopes: scopes.to_vec(),
            app,
        };
        let all = key(&Scope::ALL, None);
        let member = principal(Role::Member, Some(all.clone()));
        assert_eq!(rule(&member, Capability::ReadApp, standing(None)), Some(Rule::Membership));
        let owner = principal(Role::Owner, Some(all));
        assert_eq!(rule(&owner, Capability::ManageUsers, Place::Instance), None);
        assert_eq!(rule(&owner, Capability::ManageSelf, Place::Instance), Some(Rule::SessionOnly));
        let reader = principal(Role::Owner, Some(key(&[Scope::AppRead], None)));
        assert_eq!(rule(&reader, Capability::ReadApp, standing(None)), None);
        assert_eq!(rule(&reader, Capability::WriteApp, standing(None)), Some(Rule::KeyScope));
        let bound = principal(Role::Owner, Some(key(&Scope::ALL, Some(AppId::new()))));
        assert_eq!(rule(&bound, Capability::ReadApp, standing(None)), Some(Rule::KeyApp));
        assert_eq!(rule(&bound, Capability::CreateApps, Place::Instance), Some(Rule::KeyApp));
        assert_eq!(rule(&bound, Capability::ReadSelf, Place::Instance), None);
    }
}
