//! The gate in front of every handler: who is calling, and may they do what the endpoint declares?
//! A handler behind it finds the caller and the app in the request and need not ask again.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::Extensions;
use http::header;
use http::request::Parts;
use shared::credential;
use shared::fault::Code;
use shared::http::{ClientAddress, RequestId};

use super::denials::Denied;
use super::endpoints::Needs;
use super::problem::ApiError;
use super::rate::Count;
use super::{Admin, access, cookie, idempotency, renamed};
use crate::auth::{Auth, AuthenticateError, Capability, Credential, Origin, Principal, Standing};
use crate::buckets::network;
use crate::store::apps::App;
use crate::store::{Asker, Whom};

/// Lets a request through to its handler, with [`Principal`] and, where the path names an app, [`App`]
/// and [`Standing`] in its extensions. It is counted, and the answer says how the counts stand.
pub(super) async fn pass(
    State((admin, needs)): State<(Arc<Admin>, Needs)>,
    params: RawPathParams,
    request: Request,
    next: Next,
) -> Response {
    let mut count = Count::new(&admin.rates, &request);
    let passed = enter(&admin, needs, params, request, next, Some(&mut count)).await;
    let mut response = passed.unwrap_or_else(IntoResponse::into_response);
    count.show(response.headers_mut());
    response
}

/// The same for what runs a script and is limited by its app's budget: those calls are what it is for.
pub(super) async fn pass_to_script(
    State((admin, needs)): State<(Arc<Admin>, Needs)>,
    params: RawPathParams,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    enter(&admin, needs, params, request, next, None).await
}

/// Around the handler alone, which may run in a task of its own: what it asks the database for is asked for by the
/// caller there too.
pub(super) async fn as_caller(request: Request, next: Next) -> Response {
    let asker = request.extensions().get::<Principal>().map(Asker::from);
    match asker {
        Some(asker) => asker.scope(next.run(request)).await,
        None => next.run(request).await,
    }
}

async fn enter(
    admin: &Arc<Admin>,
    needs: Needs,
    params: RawPathParams,
    request: Request,
    next: Next,
    mut count: Option<&mut Count<'_>>,
) -> Result<Response, ApiError> {
    // Before the credential, which costs a look at the database.
    if let Some(count) = &mut count {
        count.address()?;
    }
    let Needs::Right(capability) = needs else {
        return Ok(stranger(request.extensions()).scope(next.run(request)).await);
    };
    let (parts, body) = request.into_parts();
    let principal = authenticate(&admin.auth, &parts).await?;
    if let Some(count) = count {
        count.caller(&principal)?;
    }
    let request = Request::from_parts(parts, body);
    Asker::from(&principal).scope(let_in(admin, principal, capability, params, request, next)).await
}

/// Lets somebody whom the gate knows through to the handler, if they may do what it does.
async fn let_in(
    admin: &Arc<Admin>,
    principal: Principal,
    capability: Capability,
    params: RawPathParams,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let key = params.iter().find(|(name, _)| *name == "app").map(|(_, key)| key.to_owned());
    if let Some((app, standing)) = admit(admin, &principal, capability, key.as_deref(), &parts).await? {
        if let Some(response) = key.and_then(|key| renamed::redirect(&app, &key, &parts)) {
            return Ok(response);
        }
        parts.extensions.insert(app);
        parts.extensions.insert(standing);
    }
    let user = principal.user.id;
    parts.extensions.insert(principal);
    idempotency::once(admin, user, Request::from_parts(parts, body), next).await
}

async fn admit(
    admin: &Admin,
    principal: &Principal,
    capability: Capability,
    app: Option<&str>,
    parts: &Parts,
) -> Result<Option<(App, Standing)>, ApiError> {
    let Some(key) = app else {
        return access::require(principal, capability).map(|()| None);
    };
    let mut conn = admin.database.acquire().await?;
    let (app, standing) = access::find(&mut conn, principal, key).await?;
    let decided = access::decide(principal, capability, standing);
    let Err(denial) = decided else { return Ok(Some((app, standing))) };
    let request = (&parts.method, &parts.uri);
    admin.denials.record(Denied::new(app.id, principal, capability, request, denial.clone()));
    Err(access::refusal(denial))
}

/// Who is calling. A credential that cannot be checked makes nobody a stranger.
pub(super) async fn authenticate(auth: &Auth, parts: &Parts) -> Result<Principal, ApiError> {
    let token = match bearer(parts)? {
        Some(token) => token,
        None => cookie::session(parts)?.ok_or_else(|| {
            let detail = "send the token from POST /api/v1/admin/auth/login as Authorization: Bearer";
            ApiError::new(Code::Unauthenticated, detail)
        })?,
    };
    let authenticating = auth.authenticate(token, origin(parts));
    stranger(&parts.extensions).scope(authenticating).await.map_err(|error| match error {
        AuthenticateError::Unknown => {
            let detail = "the token is neither of a live session nor a live API key; log in again";
            ApiError::new(Code::Unauthenticated, detail)
        }
        AuthenticateError::Database(error) => error.into(),
    })
}

/// The bearer token, if there is an Authorization header. One of another kind is refused and not
/// passed over for a cookie: what was shown is what counts. So are two, of which a proxy might have
/// looked at the other.
fn bearer(parts: &Parts) -> Result<Option<&str>, ApiError> {
    if !parts.headers.contains_key(header::AUTHORIZATION) {
        return Ok(None);
    }
    let wrong =
        || ApiError::new(Code::Unauthenticated, "the header Authorization is not, once: Bearer and a token");
    credential::bearer(&parts.headers).ok_or_else(wrong).map(Some)
}

impl From<&Principal> for Asker {
    fn from(principal: &Principal) -> Self {
        let credential = match &principal.credential {
            Credential::Session(id) => id.as_uuid(),
            Credential::Key(key) => key.id.as_uuid(),
        };
        Self { whom: Whom::Person(principal.user.id), credential: Some(credential) }
    }
}

/// Who asks, as long as nobody knows who it is.
fn stranger(extensions: &Extensions) -> Asker {
    let address = extensions.get().map(|ClientAddress(address)| network(*address));
    Asker { whom: Whom::Stranger(address), credential: None }
}

/// Where a request came from, for the audit log.
fn origin(parts: &Parts) -> Origin {
    let address: Option<IpAddr> = parts.extensions.get().map(|ClientAddress(address)| *address);
    let request_id = parts.extensions.get().map(|RequestId(id)| Arc::clone(id));
    Origin { address, request_id: request_id.unwrap_or_default() }
}

/// Where a request came from, for handlers that need no credential.
pub(super) struct Caller(pub(super) Origin);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(origin(parts)))
    }
}

/// The caller whom the gate let through.
impl FromRequestParts<Arc<Admin>> for Principal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Admin>) -> Result<Self, ApiError> {
        parts.extensions.get().cloned().ok_or_else(|| not_gated("a caller"))
    }
}

/// The app in the path, which the caller may see.
impl FromRequestParts<Arc<Admin>> for App {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Admin>) -> Result<Self, ApiError> {
        parts.extensions.get().cloned().ok_or_else(|| not_gated("an app"))
    }
}

/// How the caller stands to the app in the path.
impl FromRequestParts<Arc<Admin>> for Standing {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Admin>) -> Result<Self, ApiError> {
        parts.extensions.get().copied().ok_or_else(|| not_gated("an app"))
    }
}

/// A handler takes what its line in the table of endpoints does not give it.
fn not_gated(what: &str) -> ApiError {
    tracing::error!("a handler takes {what}, which its endpoint does not ask for");
    ApiError::new(Code::Internal, "the platform failed")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn with(value: HeaderValue) -> Parts {
        let mut parts = http::Request::new(()).into_parts().0;
        parts.headers.insert(header::AUTHORIZATION, value);
        parts
    }

    proptest! {
        #[test]
        fn any_authorization_header_is_a_token_or_refused(bytes: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let parts = with(value);
                // Never passed over for a cookie: there was a header.
                prop_assert!(!matches!(bearer(&parts), Ok(None)));
            }
        }

        #[test]
        fn a_token_is_read_whatever_the_case_of_its_scheme(
            scheme in "[Bb][Ee][Aa][Rr][Ee][Rr]",
            space in " {1,3}",
            token in "[!-~]{1,80}",
        ) {
            let parts = with(HeaderValue::try_from(format!("{scheme}{space}{token}")).unwrap());
            prop_assert_eq!(bearer(&parts).unwrap(), Some(token.as_str()));
        }

        #[test]
        fn two_headers_are_refused_whatever_they_say(first in "[ -~]{0,20}", second in "[ -~]{0,20}") {
            let mut parts = with(HeaderValue::try_from(first).unwrap());
            parts.headers.append(header::AUTHORIZATION, HeaderValue::try_from(second).unwrap());
            prop_assert!(bearer(&parts).is_err());
        }

        #[test]
        fn another_scheme_is_refused(scheme in "[A-Za-z]{1,12}", token in "[!-~]{0,80}") {
            prop_assume!(!scheme.eq_ignore_ascii_case("bearer"));
            let parts = with(HeaderValue::try_from(format!("{scheme} {token}")).unwrap());
            prop_assert!(bearer(&parts).is_err());
        }
    }
}
