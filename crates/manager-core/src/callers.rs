//! Answers the ingress who calls a route that asks for a credential.

use std::sync::Arc;

use shared::caller::{AppCaller, Caller};
use shared::id::{AppId, UserId};
use shared::ports::{Authenticate, BoxFuture, CredentialRefused, Shown};

use crate::admin::{Denials, Denied};
use crate::auth::{AppToken, Auth, AuthenticateError, Capability, Origin, Place, Standing, can};
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
        shown: Shown<'a>,
    ) -> BoxFuture<'a, Result<Caller, CredentialRefused>> {
        Box::pin(async move {
            match shown {
                Shown::ApiKey(key) => self.person(app, key).await,
                Shown::Session(token) => {
                    // Of no other app: what is asked for is a session of this one.
                    let found = self.user(app, token).await.map_err(|error| unavailable(&error))?;
                    found.map(Caller::AppUser).ok_or(CredentialRefused::Unknown)
                }
            }
        })
    }
}

impl Callers {
    async fn person(&self, app: AppId, key: &str) -> Result<Caller, CredentialRefused> {
        let origin = Origin { address: None, request_id: Arc::default() };
        // Keys only: a session is its person's for the admin API, and no app's business.
        let principal = self.auth.authenticate_key(key, origin).await.map_err(|error| match error {
            AuthenticateError::Unknown => CredentialRefused::Unknown,
            AuthenticateError::Database(error) => unavailable(&error),
        })?;
        let standing = self.standing(app, principal.user.id).await.map_err(|error| unavailable(&error))?;
        let standing = standing.ok_or(CredentialRefused::NotAllowed)?;
        let capability = Capability::InvokeScripts;
        if let Err(denial) = can(&principal, capability, Place::App(standing)) {
            self.denials.record(Denied::on_a_route(app, &principal, capability, denial));
            return Err(CredentialRefused::NotAllowed);
        }
        Ok(Caller::Person { id: principal.user.id, name: principal.user.username.to_string() })
    }

    async fn standing(&self, app: AppId, user: UserId) -> sqlx::Result<Option<Standing>> {
        let mut conn = self.database.acquire().await?;
        let Some(found) = store::apps::by_id(&mut conn, app).await? else { return Ok(None) };
        let role = store::members::role(&mut conn, app, user).await?;
        Ok(Some(Standing { app, owner: found.owner_id, role }))
    }

    async fn user(&self, app: AppId, token: &str) -> sqlx::Result<Option<AppCaller>> {
        let Some(hash) = AppToken::Session.stored_form(token) else { return Ok(None) };
        let mut conn = self.database.acquire().await?;
        let Some(session) = store::app_user_sessions::live(&mut conn, app, hash).await? else {
            return Ok(None);
        };
        if session.needs_sight {
            store::app_user_sessions::mark_seen(&mut conn, app, session.id).await?;
        }
        let user = session.user;
        Ok(Some(AppCaller {
            id: user.id,
            session: Some(session.id),
            login: user.login,
            roles: serde_json::to_string(&user.roles).unwrap_or_default(),
            profile: user.profile.to_string(),
        }))
    }
}

fn unavailable(error: &sqlx::Error) -> CredentialRefused {
    tracing::error!(%error, "a credential cannot be checked");
    CredentialRefused::Unavailable
}
