//! What an operator says of an identity provider.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::store::users::Role;

/// A provider, as `[[oidc]]` of the configuration has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcSettings {
    /// In addresses: people are sent back to `…/auth/oidc/{name}/callback`.
    pub name: String,
    /// On the button; the name unless set.
    pub title: Option<String>,
    /// The address below which the provider describes itself.
    pub issuer: String,
    pub client_id: String,
    /// None for a client that has no secret: PKCE stands in for it.
    pub client_secret: Option<SecretString>,
    /// A file with the secret, so that the configuration need not be one.
    pub client_secret_file: Option<std::path::PathBuf>,
    /// Asked for besides `openid`.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// Lets in only people whose e-mail address the provider verified and that is in one of these domains.
    #[serde(default)]
    pub allowed_domains: Vec<String>,
    /// Whether somebody who comes for the first time gets an account.
    #[serde(default)]
    pub create_users: bool,
    /// Of those who get one.
    #[serde(default)]
    pub default_role: NewRole,
}

/// What a new person may be by a provider's word alone. Nobody becomes an owner by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NewRole {
    #[default]
    Member,
    Admin,
}

impl From<NewRole> for Role {
    fn from(role: NewRole) -> Self {
        match role {
            NewRole::Member => Self::Member,
            NewRole::Admin => Self::Admin,
        }
    }
}

fn scopes() -> Vec<String> {
    ["profile", "email"].map(str::to_owned).into()
}

/// Providers that one login page can show.
const PROVIDERS_MAX: usize = 16;

impl OidcSettings {
    /// Says what is wrong with a list of providers, for who wrote it.
    pub fn check(all: &[Self]) -> Result<(), String> {
        if all.len() > PROVIDERS_MAX {
            return Err(format!("oidc has {} providers; it may have {PROVIDERS_MAX}", all.len()));
        }
        for (index, one) in all.iter().enumerate() {
            one.check_one()?;
            if all[..index].iter().any(|other| other.name == one.name) {
                return Err(format!("two providers of oidc have the name {:?}", one.name));
            }
        }
        Ok(())
    }

    fn check_one(&self) -> Result<(), String> {
        let name = &self.name;
        let is_name = (1..=32).contains(&name.len())
            && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if !is_name {
            return Err(format!("oidc: the name {name:?} may have 1 to 32 of a-z, 0-9 and '-'"));
        }
        let wrong = |what: String| Err(format!("oidc {name:?}: {what}"));
        let issuer = &self.issuer;
        let Ok(url) = reqwest::Url::parse(issuer) else {
            return wrong(format!("the issuer {issuer:?} is no address such as https://login.example.org"));
        };
        let is_here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if url.scheme() != "https" && !(url.scheme() == "http" && is_here) {
            return wrong(format!(
                "the issuer {issuer:?} must begin with https://, or people could be anybody"
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return wrong(format!("the issuer {issuer:?} may have neither ? nor #"));
        }
        if self.client_id.is_empty() {
            return wrong("client_id is empty".to_owned());
        }
        if self.client_secret.is_some() && self.client_secret_file.is_some() {
            return wrong("set client_secret or client_secret_file, not both".to_owned());
        }
        if let Some(domain) =
            self.allowed_domains.iter().find(|domain| domain.contains('@') || domain.is_empty())
        {
            return wrong(format!("allowed_domains has {domain:?}; it takes domains such as example.org"));
        }
        Ok(())
    }

    /// What the button says.
    pub(crate) fn shown(&self) -> &str {
        self.title.as_deref().unwrap_or(&self.name)
    }

    /// Whether people of this domain are let in; the domain is of a verified address.
    pub(super) fn lets_in(&self, email: &str) -> bool {
        let domain = email.rsplit_once('@').map(|(_, domain)| domain);
        domain.is_some_and(|domain| {
            self.allowed_domains.iter().any(|allowed| allowed.eq_ignore_ascii_case(domain))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl Fn(&mut OidcSettings)) -> OidcSettings {
        let text =
            serde_json::json!({ "name": "work", "issuer": "https://id.example.org", "client_id": "picloud" });
        let mut settings = serde_json::from_value(text).unwrap();
        change(&mut settings);
        settings
    }

    #[test]
    fn what_cannot_work_is_named() {
        assert_eq!(OidcSettings::check(&[with(|_| {}), with(|one| one.name = "home".into())]), Ok(()));
        assert_eq!(OidcSettings::check(&[with(|one| one.issuer = "http://127.0.0.1:3000".into())]), Ok(()));
        for (word, wrong) in [
            ("Work", with(|one| one.name = "Work".into())),
            ("http://id.example.org", with(|one| one.issuer = "http://id.example.org".into())),
            ("id.example.org", with(|one| one.issuer = "id.example.org".into())),
            ("?", with(|one| one.issuer = "https://id.example.org/?a=b".into())),
            ("client_id", with(|one| one.client_id = String::new())),
            ("@example.org", with(|one| one.allowed_domains = vec!["@example.org".into()])),
        ] {
            let error = OidcSettings::check(&[wrong]).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        let twice = OidcSettings::check(&[with(|_| {}), with(|_| {})]).unwrap_err();
        assert!(twice.contains("two providers"), "{twice}");
    }

    #[test]
    fn a_secret_is_in_no_debug_output() {
        let settings = with(|one| one.client_secret = Some("hush-hush".into()));
        assert!(!format!("{settings:?}").contains("hush"));
    }

    #[test]
    fn a_domain_is_the_whole_of_what_is_behind_the_last_at() {
        let settings = with(|one| one.allowed_domains = vec!["example.org".into()]);
        assert!(settings.lets_in("ada@example.org") && settings.lets_in("ada@EXAMPLE.org"));
        for other in
            ["ada@evil-example.org", "ada@sub.example.org", "example.org", "a@example.org@evil.net", ""]
        {
            assert!(!settings.lets_in(other), "{other}");
        }
    }
}
