//! One provider: where to send people, and what to believe of what they come back with.

use std::time::Duration;

use openidconnect::core::{CoreAuthenticationFlow, CoreClient, CoreProviderMetadata, CoreUserInfoClaims};
use openidconnect::{
    AccessTokenHash, AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret, CsrfToken,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, IssuerUrl, Nonce, OAuth2TokenResponse, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, Scope, TokenResponse,
};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::client::Http;
use super::settings::OidcSettings;

/// How long a provider's description and keys are taken as they were: keys are published days before
/// they are used.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// How long a provider that cannot be reached is left alone, so that strangers cannot make us knock.
const REST: Duration = Duration::from_secs(5);

type Client = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// A provider with what it last said of itself.
#[derive(Debug)]
pub(crate) struct Provider {
    settings: OidcSettings,
    callback: String,
    found: Mutex<Option<Found>>,
}

#[derive(Debug)]
struct Found {
    at: Instant,
    what: Result<(Http, CoreProviderMetadata), String>,
}

/// What a login was begun with. It stays in the browser that began it: an answer is worth something
/// only there.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Flow {
    pub(crate) provider: String,
    pub(crate) state: String,
    nonce: String,
    verifier: String,
    /// Where the person wanted to go.
    pub(crate) return_to: String,
}

/// Where to send a person who logs in.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) url: String,
    pub(crate) flow: Flow,
}

/// Who somebody is, by the word of a provider.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) email: Option<String>,
    /// What they would like to be called.
    pub(crate) username: Option<String>,
}

/// Why a provider's word is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OidcError {
    #[error("the provider cannot be used now: {0}")]
    Discovery(String),
    #[error("the provider's word for logging in does not hold: {0}")]
    Exchange(String),
    /// The person may not come in by this provider.
    #[error("{0}")]
    Domain(String),
}

impl Provider {
    pub(super) fn new(settings: OidcSettings, public_url: &str) -> Self {
        let callback = format!("{public_url}/api/v1/admin/auth/oidc/{}/callback", settings.name);
        Self { settings, callback, found: Mutex::new(None) }
    }

    pub(crate) fn settings(&self) -> &OidcSettings {
        &self.settings
    }

    /// Makes the secrets of a login and the address to send its person to.
    pub(crate) async fn begin(&self, return_to: String) -> Result<Begun, OidcError> {
        let (_, client) = self.client().await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let mut request = client.authorize_url(
            CoreAuthenticationFlow::AuthorizationCode,
            CsrfToken::new_random,
            Nonce::new_random,
        );
        for scope in &self.settings.scopes {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        let (url, state, nonce) = request.set_pkce_challenge(challenge).url();
        let flow = Flow {
            provider: self.settings.name.clone(),
            state: state.into_secret(),
            nonce: nonce.secret().clone(),
            verifier: verifier.into_secret(),
            return_to,
        };
        Ok(Begun { url: url.into(), flow })
    }

    /// Takes the code that a person came back with to the provider, and believes only what its signed
    /// answer says about this very login.
    pub(crate) async fn finish(&self, code: String, flow: Flow) -> Result<Identity, OidcError> {
        let wrong = |error: &dyn std::fmt::Display| OidcError::Exchange(error.to_string());
        let (http, client) = self.client().await?;
        let request = client.exchange_code(AuthorizationCode::new(code)).map_err(|error| wrong(&error))?;
        let request = request.set_pkce_verifier(PkceCodeVerifier::new(flow.verifier));
        let tokens = request.request_async(&http).await.map_err(|error| wrong(&chain(&error)))?;
        let id_token = tokens.id_token().ok_or_else(|| wrong(&"it gave no ID token"))?;
        let verifier = client.id_token_verifier();
        let claims = match id_token.claims(&verifier, &Nonce::new(flow.nonce)) {
            Ok(claims) => claims,
            Err(error) => {
                if matches!(error, ClaimsVerificationError::SignatureVerification(_)) {
                    // Its keys may have changed since they were read.
                    *self.found.lock().await = None;
                }
                return Err(wrong(&chain(&error)));
            }
        };
        if let Some(expected) = claims.access_token_hash() {
            let algorithm = id_token.signing_alg().map_err(|error| wrong(&error))?;
            let key = id_token.signing_key(&verifier).map_err(|error| wrong(&error))?;
            let actual = AccessTokenHash::from_token(tokens.access_token(), algorithm, key);
            if actual.map_err(|error| wrong(&error))? != *expected {
                return Err(wrong(&"its access token is of another answer than its ID token"));
            }
        }
        let mut person = Claims {
            email: claims.email().map(|email| email.to_string()),
            is_verified: claims.email_verified().unwrap_or(false),
            username: claims.preferred_username().map(|name| name.to_string()),
        };
        // Most providers say in the token who it is, and only on request what they are called.
        if (person.email.is_none() || person.username.is_none())
            && let Ok(request) =
                client.user_info(tokens.access_token().to_owned(), Some(claims.subject().clone()))
        {
            let info: CoreUserInfoClaims =
                request.request_async(&http).await.map_err(|error| wrong(&chain(&error)))?;
            person = Claims {
                email: info.email().map(|email| email.to_string()).or(person.email),
                is_verified: info.email_verified().unwrap_or(person.is_verified),
                username: info.preferred_username().map(|name| name.to_string()).or(person.username),
            };
        }
        let (issuer, subject) = (claims.issuer().to_string(), claims.subject().to_string());
        self.admit(issuer, subject, person)
    }

    fn admit(&self, issuer: String, subject: String, person: Claims) -> Result<Identity, OidcError> {
        let Claims { email, is_verified, username } = person;
        // Longer ones are not allowed by the standard, and would be cut nowhere.
        if subject.is_empty() || subject.chars().count() > 255 || subject.contains('\0') {
            return Err(OidcError::Exchange(
                "its name for the person has not 1 to 255 characters".to_owned(),
            ));
        }
        let email = email.filter(|email| email.chars().count() <= 320 && !email.contains('\0'));
        if !self.settings.allowed_domains.is_empty() {
            let shown = email.as_deref().unwrap_or("none");
            if !is_verified {
                let detail = format!(
                    "the provider has not verified the e-mail address ({shown}), which is asked for here"
                );
                return Err(OidcError::Domain(detail));
            }
            if !email.as_deref().is_some_and(|email| self.settings.lets_in(email)) {
                return Err(OidcError::Domain(format!(
                    "the e-mail address ({shown}) is of no domain that is let in"
                )));
            }
        }
        Ok(Identity { issuer, subject, email, username })
    }

    /// What the provider says of itself, asked for when that is not known or old.
    async fn client(&self) -> Result<(Http, Client), OidcError> {
        let mut found = self.found.lock().await;
        let is_usable = found.as_ref().is_some_and(|found| {
            let patience = if found.what.is_ok() { FRESH } else { REST };
            found.at.elapsed() < patience
        });
        if !is_usable {
            let what = self.discover().await;
            if let Err(error) = &what {
                tracing::warn!(provider = %self.settings.name, %error, "an identity provider cannot be used");
            }
            *found = Some(Found { at: Instant::now(), what });
        }
        match found.as_ref().map(|found| &found.what) {
            Some(Ok((http, metadata))) => Ok((http.clone(), self.client_of(metadata.clone())?)),
            Some(Err(error)) => Err(OidcError::Discovery(error.clone())),
            None => Err(OidcError::Discovery("it was not asked".to_owned())),
        }
    }

    async fn discover(&self) -> Result<(Http, CoreProviderMetadata), String> {
        let http = Http::new().map_err(|error| error.to_string())?;
        let issuer = IssuerUrl::new(self.settings.issuer.clone()).map_err(|error| error.to_string())?;
        let metadata = CoreProviderMetadata::discover_async(issuer, &http).await;
        metadata.map(|metadata| (http.clone(), metadata)).map_err(|error| chain(&error))
    }

    fn client_of(&self, metadata: CoreProviderMetadata) -> Result<Client, OidcError> {
        let secret = self.settings.client_secret.as_ref();
        let secret = secret.map(|secret| ClientSecret::new(secret.expose_secret().to_owned()));
        let callback = RedirectUrl::new(self.callback.clone())
            .map_err(|error| OidcError::Discovery(format!("PICLOUD_PUBLIC_URL is no address: {error}")))?;
        let client_id = ClientId::new(self.settings.client_id.clone());
        Ok(CoreClient::from_provider_metadata(metadata, client_id, secret).set_redirect_uri(callback))
    }
}

/// What a provider says of a person.
struct Claims {
    email: Option<String>,
    is_verified: bool,
    username: Option<String>,
}

/// An error with its causes: the outermost says "request failed", the innermost why.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    // Part of it may be the provider's own words.
    text.chars().take(500).collect()
}
