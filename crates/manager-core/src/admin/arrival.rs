//! Whom somebody is who comes from an identity provider: the person to whom the account there was
//! linked, or a new one, if the provider's people get accounts. An e-mail address makes nobody
//! somebody: who gets an address later than its first owner would get their account too.

use shared::fault::Code;
use shared::id::UserId;
use shared::name::Username;
use sqlx::postgres::PgConnection;

use super::problem::ApiError;
use super::users;
use crate::audit::{self, Actor, Entry};
use crate::auth::Origin;
use crate::oidc::{Identity, OidcSettings};
use crate::store;
use crate::store::users::{Person, User};

/// Names tried before a random one: `ada`, `ada-2` …
const NAMES_TRIED: u32 = 9;
/// Leaves room for what makes a taken name another one.
const NAME_CHARS_MAX: usize = 48;

/// The person whom this identity is, made now if need be.
pub(super) async fn person(
    conn: &mut PgConnection,
    settings: &OidcSettings,
    identity: Identity,
    origin: &Origin,
) -> Result<User, ApiError> {
    let Identity { issuer, subject, email, .. } = &identity;
    let known = store::identities::use_by(conn, issuer, subject, email.as_deref()).await?;
    if let Some(id) = known {
        let person =
            store::users::by_id(conn, id).await?.ok_or_else(|| ApiError::not_found("the account is gone"))?;
        return enabled(person);
    }
    if !settings.create_users {
        let detail = "no account here belongs to you at this provider";
        return Err(ApiError::new(Code::Forbidden, detail).with("rule", "identity_unknown").with(
            "remedy",
            "log in with a password and link it with POST /auth/identities, or whoever runs the server sets create_users",
        ));
    }
    // Two logins of one new person at once make one account: the second waits here and finds it.
    store::users::lock_roles(conn).await?;
    if let Some(id) = store::identities::use_by(conn, issuer, subject, email.as_deref()).await? {
        let person =
            store::users::by_id(conn, id).await?.ok_or_else(|| ApiError::not_found("the account is gone"))?;
        return enabled(person);
    }
    let username = free_name(conn, &identity).await?;
    let person = users::make(conn, &username, None, settings.default_role.into()).await?;
    let linked = store::identities::create(conn, person.user.id, issuer, subject, email.as_deref()).await?;
    let actor = Actor::person(&person.user, &format!("oidc {}", settings.name), origin);
    let entry = Entry::new(actor, "user.create", &username).before(&linked).after(&person);
    audit::append(conn, entry).await?;
    Ok(person.user)
}

/// Gives an account at a provider to somebody who is logged in here and proved to have both.
pub(super) async fn link(
    conn: &mut PgConnection,
    user: UserId,
    provider: &str,
    identity: Identity,
    origin: &Origin,
) -> Result<(), ApiError> {
    let person =
        store::users::by_id(conn, user).await?.ok_or_else(|| ApiError::not_found("the account is gone"))?;
    let user = enabled(person)?;
    let Identity { issuer, subject, email, .. } = identity;
    let linked = store::identities::create(conn, user.id, &issuer, &subject, email.as_deref()).await;
    let linked = linked.map_err(|error| {
        if store::violates(&error, store::identities::IDENTITY_KEY) {
            let detail = "your account at this provider is linked to somebody here already";
            return ApiError::new(Code::Conflict, detail);
        }
        error.into()
    })?;
    let actor = Actor::person(&user, &format!("oidc {provider}"), origin);
    let entry = Entry::new(actor, "identity.link", &user.username).after(&linked);
    audit::append(conn, entry).await?;
    Ok(())
}

fn enabled(person: Person) -> Result<User, ApiError> {
    if person.disabled_at.is_none() {
        return Ok(person.user);
    }
    let detail = format!("the account {} is disabled", person.user.username);
    Err(ApiError::new(Code::Forbidden, detail)
        .with("rule", "account_disabled")
        .with("remedy", "an admin can enable it with PATCH /users/{name}"))
}

/// A name that nobody has, like the one they have at the provider.
async fn free_name(conn: &mut PgConnection, identity: &Identity) -> Result<Username, ApiError> {
    let wish = wish(identity);
    for number in 1..=NAMES_TRIED {
        let name = if number == 1 { wish.clone() } else { format!("{wish}-{number}") };
        if let Ok(name) = users::username(&name)
            && store::users::by_name(conn, &name).await?.is_none()
        {
            return Ok(name);
        }
    }
    let random = uuid::Uuid::new_v4().simple().to_string();
    users::username(&format!("{wish}-{}", &random[..12]))
}

/// What a person may be called, by what the provider calls them.
fn wish(identity: &Identity) -> String {
    let local = identity.email.as_deref().and_then(|email| email.split('@').next());
    let mut given = [identity.username.as_deref(), local].into_iter().flatten().map(cleaned);
    given.find(|name| !name.is_empty()).unwrap_or_else(|| "user".to_owned())
}

/// Only what a name may have, and no `@`: a name is not an address that somebody proved.
fn cleaned(text: &str) -> String {
    let text = text.split('@').next().unwrap_or_default();
    let is_kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    text.chars().filter(|c| is_kept(*c)).take(NAME_CHARS_MAX).collect::<String>().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity(username: Option<&str>, email: Option<&str>) -> Identity {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Identity {
            issuer: String::new(),
            subject: "1".into(),
            email: owned(email),
            username: owned(username),
        }
    }

    #[test]
    fn people_are_called_as_they_are_at_the_provider_if_they_can_be() {
        assert_eq!(wish(&identity(Some("Ada.L"), Some("x@example.org"))), "ada.l");
        assert_eq!(wish(&identity(Some("ada@example.org"), None)), "ada");
        assert_eq!(wish(&identity(Some("アダ"), Some("ada+pi@example.org"))), "adapi");
        assert_eq!(wish(&identity(None, None)), "user");
    }

    proptest! {
        #[test]
        fn every_wish_can_be_a_name(username: Option<String>, email: Option<String>) {
            let wish = wish(&identity(username.as_deref(), email.as_deref()));
            prop_assert!(format!("{wish}-123456789abc").parse::<Username>().is_ok(), "{wish}");
        }
    }
}
