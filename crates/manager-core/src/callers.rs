//! Answers the ingress who sends an API key to a route that asks for one.

use std::sync::Arc;

use shared::id::{AppId, UserId};
use shared::invocation::Caller;
use shared::ports::{Authenticate, BoxFuture, CredentialRefused};

use crate::admin::{Denials, Denied};
use crate::auth::{Auth, AuthenticateError, Capability, Origin, Place, Standing, can};
use crate::store::{self, Database};

pub(crate) struct Callers {
    pub(crate) database: Database,
    pub(crate) auth: Arc<Auth>,
    /// Where the app's people find who was refused and why.
    pub(crate) denials: Arc<Denials>,
}

impl Authenticate for Callers {
    fn authenticate<'a>(
        &'a self,
        app: AppId,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Caller, CredentialRefused>> {
        Box::pin(async move {
            let origin = Origin { address: None, request_id: Arc::default() };
            // Keys only: a session is its person's for the admin API, and no app's business.
            let principal = self.auth.authenticate_key(key, origin).await.map_err(|error| match error {
                AuthenticateError::Unknown => CredentialRefused::Unknown,
                AuthenticateError::Database(error) => unavailable(&error),
            })?;
            let standing =
                self.standing(app, principal.user.id).await.map_err(|error| unavailable(&error))?;
            let standing = standing.ok_or(CredentialRefused::NotAllowed)?;
            let capability = Capability::InvokeScripts;
            if let Err(denial) = can(&principal, capability, Place::App(standing)) {
                self.denials.record(Denied::on_a_route(app, &principal, capability, denial));
                return Err(CredentialRefused::NotAllowed);
            }
            Ok(Caller { id: principal.user.id, name: principal.user.username.to_string() })
        })
    }
}

impl Callers {
    async fn standing(&self, app: AppId, user: UserId) -> sqlx::Result<Option<Standing>> {
        let mut conn = self.database.acquire().await?;
        let Some(found) = store::apps::by_id(&mut conn, app).await? else { return Ok(None) };
        let role = store::members::role(&mut conn, app, user).await?;
        Ok(Some(Standing { app, owner: found.owner_id, role }))
    }
}

fn unavailable(error: &sqlx::Error) -> CredentialRefused {
    tracing::error!(%error, "an API key cannot be checked");
    CredentialRefused::Unavailable
}
