//! Logging in with an identity provider: `OpenID` Connect, the authorization code flow with PKCE. What
//! a provider says is turned into an [`Identity`] here; whose it is, `admin/oidc` decides.

mod client;
mod provider;
mod settings;

use std::sync::Arc;

pub(crate) use self::provider::{Begun, Flow, Identity, OidcError, Provider};
pub use self::settings::{NewRole, OidcSettings};

/// The providers that the operator set up, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Oidc(Arc<[Provider]>);

impl Oidc {
    /// People come back to `public_url`.
    pub(crate) fn new(settings: &[OidcSettings], public_url: &str) -> Self {
        Self(settings.iter().map(|settings| Provider::new(settings.clone(), public_url)).collect())
    }

    pub(crate) fn all(&self) -> &[Provider] {
        &self.0
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Provider> {
        self.0.iter().find(|provider| provider.settings().name == name)
    }
}
