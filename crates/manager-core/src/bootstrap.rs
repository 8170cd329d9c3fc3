//! What a new PiCloud starts with: an owner, the app `default` and a script that says hello.

use secrecy::SecretString;
use shared::id::UserId;
use shared::limits::{BODY_BYTES_DEFAULT, ScriptLimits};
use shared::name::{AppSlug, InvalidName, ScriptName, Username};
use shared::route::{DispatchMode, InvalidPattern, PathPattern, RoutePolicy};
use shared::script::{Bundle, ScriptKind};
use sqlx::postgres::PgConnection;

use crate::audit::{self, Actor, Entry};
use crate::auth::{Auth, HashError};
use crate::deploy::{Deploy, deploy};
use crate::snapshot::Snapshot;
use crate::store::routes::RouteSpec;
use crate::store::users::Role;
use crate::store::{self, Database};

const HELLO_SOURCE: &str = include_str!("hello.rhai");
const HELLO_DESCRIPTION: &str = "Says hello; made when PiCloud was first started.";

/// The first person, who may do everything.
#[derive(Debug)]
pub struct FirstOwner {
    pub username: Username,
    pub password: SecretString,
}

/// Why the first start did not get through.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error(transparent)]
    Password(#[from] HashError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Pattern(#[from] InvalidPattern),
}

/// Makes what is missing; answers whether the owner was.
pub(crate) async fn bootstrap(
    database: &Database,
    auth: &Auth,
    snapshot: &std::sync::Arc<Snapshot>,
    owner: FirstOwner,
) -> Result<bool, BootstrapError> {
    let existing = store::users::owner(&mut *database.acquire().await?).await?;
    // Hashing is slow, so it comes before the transaction and only when it may be needed.
    let password_hash = match existing {
        Some(_) => None,
        None => Some(auth.hash_password(owner.password).await?),
    };

    let mut tx = database.begin().await?;
    store::users::lock_first_start(&mut tx).await?;
    let (owner_id, is_new) = match (store::users::owner(&mut tx).await?, password_hash) {
        (None, Some(hash)) => {
            let id = store::users::create(&mut tx, &owner.username, Some(&hash), Role::Owner).await?;
            let entry = Entry::new(Actor::platform(), "user.create", &owner.username);
            audit::append(&mut tx, entry).await?;
            (id, true)
        }
        (Some(id), _) => (id, false),
        // The only owner was removed in this very moment.
        (None, None) => return Err(sqlx::Error::RowNotFound.into()),
    };
    if store::apps::default_app(&mut tx).await?.is_none() {
        let slug: AppSlug = "default".parse()?;
        match store::apps::by_slug(&mut tx, slug.as_str()).await? {
            Some(app) => store::apps::make_default(&mut tx, app.id).await?,
            None => create_default_app(&mut tx, &slug, owner_id).await?,
        }
    }
    snapshot.publish(tx).await?;
    Ok(is_new)
}

async fn create_default_app(
    conn: &mut PgConnection,
    slug: &AppSlug,
    by: UserId,
) -> Result<(), BootstrapError> {
    let name: ScriptName = "hello".parse()?;
    let app = store::apps::create(conn, slug, "Default", by, true).await?.id;
    let bundle = Bundle::single(ScriptKind::Endpoint, name.as_str(), HELLO_SOURCE);
    let limits = ScriptLimits::default();
    let description = Some(HELLO_DESCRIPTION);
    let hello = Deploy { app, name: &name, bundle: &bundle, imports: &[], limits, description, by };
    let deployed = deploy(conn, hello).await?;
    for path in ["/", "/hello/:name"] {
        let pattern: PathPattern = path.parse()?;
        let script = deployed.script.id;
        let spec = RouteSpec {
            method: None,
            host: None,
            pattern,
            dispatch: DispatchMode::Sync,
            script,
            body_bytes_max: BODY_BYTES_DEFAULT,
            policy: RoutePolicy::default(),
        };
        store::routes::create(conn, app, &spec).await?;
    }
    Ok(())
}
