//! Logging in with an identity provider. A browser is sent there and comes back with a code; what it
//! left with is in a cookie, so that a code is worth something only in the browser that went.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use axum::response::{AppendHeaders, IntoResponse, Response};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Uri};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use shared::fault::Code;
use shared::id::IdentityId;

use super::gate::Caller;
use super::openapi::{Answer, Operation};
use super::page::{Items, PageParams};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, arrival, cookie, session};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::oidc::{Begun, Flow, OidcError, Provider};
use crate::store;
use crate::store::identities::LinkedIdentity;

/// Where people go who did not say where to.
const HOME: &str = "/admin/";
const RETURN_TO_CHARS_MAX: usize = 200;

/// A provider as a login page shows it.
#[derive(Serialize, JsonSchema)]
pub(super) struct ProviderView {
    name: String,
    /// For the button.
    title: String,
    /// Where the button leads.
    login_url: String,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ProviderList {
    items: Vec<ProviderView>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginParams {
    /// A path of the dashboard to go to afterwards; `/admin/` unless given.
    return_to: Option<String>,
}

/// What a provider sends people back with. It may add what it likes.
#[derive(Deserialize, JsonSchema)]
pub(super) struct CallbackParams {
    state: Option<String>,
    code: Option<String>,
    /// The provider's name for itself (RFC 9207).
    iss: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewLink {
    /// The provider's name.
    provider: String,
    /// One's own, so that a stolen session is not the account.
    #[schemars(with = "String")]
    password: SecretString,
    return_to: Option<String>,
}

/// Where to send the browser, which has a cookie for the way back now.
#[derive(Serialize, JsonSchema)]
pub(super) struct LinkBegun {
    url: String,
}

/// Sends a browser elsewhere, with or without cookies for later.
pub(super) struct Elsewhere {
    to: String,
    cookies: Vec<HeaderValue>,
}

impl IntoResponse for Elsewhere {
    fn into_response(self) -> Response {
        let to = HeaderValue::try_from(self.to).unwrap_or(HeaderValue::from_static(HOME));
        let cookies = self.cookies.into_iter().map(|cookie| (header::SET_COOKIE, cookie));
        (StatusCode::SEE_OTHER, [(header::LOCATION, to)], AppendHeaders(cookies)).into_response()
    }
}

impl Answer for Elsewhere {
    fn describe(operation: &mut Operation<'_>) {
        operation.answer_redirect();
    }
}

/// The cookie is for the browser to keep to itself.
impl<T: JsonSchema> Answer for ([(HeaderName, HeaderValue); 1], JsonBody<T>) {
    fn describe(operation: &mut Operation<'_>) {
        operation.answer_json::<T>(200);
    }
}

pub(super) async fn providers(State(admin): State<Arc<Admin>>) -> JsonBody<ProviderList> {
    let items = admin.oidc.all().iter().map(Provider::settings).map(|settings| ProviderView {
        name: settings.name.clone(),
        title: settings.shown().to_owned(),
        login_url: format!("{}/auth/oidc/{}/login", super::ROOT, settings.name),
    });
    JsonBody(ProviderList { items: items.collect() })
}

pub(super) async fn login(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    Params(params): Params<LoginParams>,
) -> Result<Elsewhere, ApiError> {
    let provider = admin.oidc.by_name(&name).ok_or_else(no_provider)?;
    let Begun { url, flow } = provider.begin(return_to(params.return_to)?).await?;
    Ok(Elsewhere { to: url, cookies: vec![cookie::login_begun(&flow)] })
}

/// The way back: logs in, or links the account of somebody who went to have it linked.
pub(super) async fn callback(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    Caller(origin): Caller,
    headers: HeaderMap,
    Params(params): Params<CallbackParams>,
) -> Result<Elsewhere, ApiError> {
    let provider = admin.oidc.by_name(&name).ok_or_else(no_provider)?;
    let (code, flow) = answered(provider, &headers, params)?;
    let (state_hash, return_to) = (hash(&flow.state), flow.return_to.clone());
    let identity = provider.finish(code, flow).await?;
    let user_agent = session::user_agent(&headers);
    let mut tx = admin.database.begin().await?;
    let linker = store::identities::take_link(&mut tx, state_hash).await?;
    let mut cookies = vec![cookie::login_over()];
    if let Some(user) = linker {
        arrival::link(&mut tx, user, &name, identity, &origin).await?;
    } else {
        let user = arrival::person(&mut tx, provider.settings(), identity, &origin).await?;
        let credential = format!("oidc {name}");
        let passport = admin.auth.let_in(&mut tx, user, &credential, &origin, user_agent).await?;
        cookies.push(cookie::given(passport.token.expose_secret(), passport.expires_at));
    }
    tx.commit().await?;
    Ok(Elsewhere { to: return_to, cookies })
}

/// The code, when it is the answer to what this browser asked this provider.
fn answered(
    provider: &Provider,
    headers: &HeaderMap,
    params: CallbackParams,
) -> Result<(String, Flow), ApiError> {
    let name = &provider.settings().name;
    let again = format!("begin again at {}/auth/oidc/{name}/login", super::ROOT);
    let flow = cookie::login(headers).filter(|flow| {
        let is_state = params.state.as_deref().is_some_and(|state| hash(state) == hash(&flow.state));
        is_state && flow.provider == *name
    });
    let Some(flow) = flow else {
        let detail =
            format!("this login was not begun in this browser, or more than ten minutes ago; {again}");
        return Err(ApiError::new(Code::BadRequest, detail));
    };
    if params.iss.is_some_and(|issuer| issuer != provider.settings().issuer) {
        let detail = format!("the answer is another provider's than the one that was asked; {again}");
        return Err(ApiError::new(Code::BadRequest, detail));
    }
    if let Some(error) = params.error {
        let words: String = params.error_description.unwrap_or(error).chars().take(200).collect();
        let detail = format!("the provider let nobody in: {words}; {again}");
        return Err(ApiError::new(Code::Unauthenticated, detail));
    }
    let missing = || ApiError::new(Code::BadRequest, format!("the provider sent no code; {again}"));
    Ok((params.code.ok_or_else(missing)?, flow))
}

pub(super) async fn identities(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<LinkedIdentity>>, ApiError> {
    let page = params.page::<IdentityId>()?;
    let mut conn = admin.database.acquire().await?;
    let rows = store::identities::page(&mut conn, principal.user.id, page.after, page.rows()).await?;
    Ok(JsonBody(page.items(rows, |identity| identity.id.to_string())))
}

pub(super) async fn link(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Json(body): Json<NewLink>,
) -> Result<([(HeaderName, HeaderValue); 1], JsonBody<LinkBegun>), ApiError> {
    let provider = admin.oidc.by_name(&body.provider).ok_or_else(no_provider)?;
    let return_to = return_to(body.return_to)?;
    let address = principal.origin.address;
    if !admin.auth.knows_password(&principal.user, body.password, address).await? {
        return Err(ApiError::invalid("the password is wrong").with("field", "password"));
    }
    let Begun { url, flow } = provider.begin(return_to).await?;
    let mut conn = admin.database.acquire().await?;
    store::identities::expect_link(&mut conn, principal.user.id, hash(&flow.state)).await?;
    Ok(([(header::SET_COOKIE, cookie::login_begun(&flow))], JsonBody(LinkBegun { url })))
}

pub(super) async fn unlink(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let missing = || ApiError::not_found("you have no such identity");
    let id: IdentityId = id.parse().map_err(|_| missing())?;
    let mut tx = admin.database.begin().await?;
    store::users::lock_roles(&mut tx).await?;
    let old = store::identities::delete(&mut tx, principal.user.id, id).await?.ok_or_else(missing)?;
    if !store::identities::has_way_in(&mut tx, principal.user.id).await? {
        let detail = "it is the only way into your account; ask an admin to give you a password first";
        return Err(ApiError::new(Code::Conflict, detail));
    }
    let entry = Entry::new(&principal, "identity.unlink", &old.subject).before(&old);
    audit::append(&mut tx, entry).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A path of the dashboard and nothing that a browser could take for another host.
fn return_to(asked: Option<String>) -> Result<String, ApiError> {
    let Some(path) = asked else { return Ok(HOME.to_owned()) };
    let is_path = path.starts_with(HOME)
        && path.len() <= RETURN_TO_CHARS_MAX
        && !path.contains('\\')
        && path.parse::<Uri>().is_ok_and(|uri| uri.authority().is_none());
    if is_path {
        return Ok(path);
    }
    let detail = format!(
        "return_to is a path that begins with {HOME} and has at most {RETURN_TO_CHARS_MAX} characters"
    );
    Err(ApiError::invalid(detail).with("field", "return_to"))
}

fn hash(state: &str) -> [u8; 32] {
    Sha256::digest(state).into()
}

fn no_provider() -> ApiError {
    ApiError::not_found("there is no such identity provider; GET /auth/oidc lists those there are")
}

impl From<OidcError> for ApiError {
    fn from(error: OidcError) -> Self {
        let detail = error.to_string();
        match error {
            OidcError::Discovery(_) | OidcError::Exchange(_) => {
                Self::new(Code::IdentityProviderFailed, detail)
            }
            OidcError::Domain(_) => Self::new(Code::Forbidden, detail).with("rule", "identity_domain").with(
                "remedy",
                "whoever runs the server can add the domain to allowed_domains of the provider",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nobody_is_sent_away_from_the_dashboard() {
        for good in ["/admin/", "/admin/apps/blog?tab=routes", "/admin/a%20b"] {
            assert_eq!(return_to(Some(good.to_owned())).unwrap(), good);
        }
        let long = format!("/admin/{}", "x".repeat(200));
        for bad in [
            "",
            "/",
            "//evil.example/admin/",
            "https://evil.example/admin/",
            "/admin",
            "/admin/\r\nx: y",
            "/admin/\\evil",
            "/administrator",
            &long,
        ] {
            assert!(return_to(Some(bad.to_owned())).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_stays_on_this_host(tail in "[ -~]{0,40}") {
            if let Ok(path) = return_to(Some(format!("/admin/{tail}"))) {
                prop_assert!(path.starts_with("/admin/") && !path.contains('\\'));
                prop_assert!(HeaderValue::try_from(path).is_ok());
            }
        }
    }
}
