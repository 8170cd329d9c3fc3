//! What a deploy does to the tables: a bundle, a version, and the live pointer. The pointer stays where it
//! is when the version asks for more than the live one and the app requires that somebody approves that. Old versions
//! make room for new ones.

use schemars::JsonSchema;
use serde::Serialize;
use shared::capabilities::Capabilities;
use shared::id::{AppId, ScriptId, UserId};
use shared::limits::{ScriptLimits, VERSION_BYTES_MIN, VERSIONS_BYTES_MAX, VERSIONS_MAX};
use shared::name::ScriptName;
use shared::script::{Bundle, ScriptKind};
use sqlx::postgres::PgConnection;

use crate::store;
use crate::store::scripts::Script;

/// What a new endpoint does until somebody approves what it is to do.
const UNAPPROVED_SOURCE: &str = "throw #{ statusCode: 503, body: \"This script waits for approval.\\n\" };";

/// A script that compiles, to be made live.
pub(crate) struct Deploy<'a> {
    pub(crate) app: AppId,
    pub(crate) name: &'a ScriptName,
    pub(crate) bundle: &'a Bundle,
    /// What its main source itself imports.
    pub(crate) imports: &'a [String],
    pub(crate) limits: ScriptLimits,
    /// Left as it is unless given.
    pub(crate) description: Option<&'a str>,
    pub(crate) by: UserId,
}

/// What a deploy led to.
pub(crate) struct Deployed {
    /// As it is live.
    pub(crate) script: Script,
    pub(crate) is_first: bool,
    pub(crate) capabilities: Capabilities,
    /// What it asks for and the version before did not.
    pub(crate) wants_more: Vec<String>,
    pub(crate) awaiting: Option<Awaiting>,
}

/// A version that is kept and not live.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Awaiting {
    pub(crate) version: u32,
    /// What it asks for that somebody has to approve.
    pub(crate) unapproved: Vec<String>,
}

/// Makes a version live, a new one unless the live version is the same already. The app must be
/// locked.
pub(crate) async fn deploy(conn: &mut PgConnection, deploy: Deploy<'_>) -> sqlx::Result<Deployed> {
    let Deploy { app, name, bundle, limits, description, .. } = deploy;
    let existing = store::scripts::by_name(conn, app, name).await?;
    let is_first = existing.is_none();
    let is_same =
        existing.as_ref().is_some_and(|live| (live.bundle_hash, live.limits) == (bundle.hash(), limits));
    let capabilities = Capabilities::of(bundle);
    let beyond = beyond(conn, existing.as_ref(), &capabilities).await?;
    let needs_approval = !beyond.is_empty() && store::apps::requires_approval(conn, app).await?;
    let id = match existing {
        Some(script) => {
            if let Some(description) = description {
                store::scripts::set_description(conn, app, script.id, description).await?;
            }
            script.id
        }
        None => {
            let description = description.unwrap_or_default();
            let id = store::scripts::create(conn, app, name, bundle.kind, description).await?;
            if needs_approval {
                add_unapproved(conn, &deploy, id).await?;
            }
            id
        }
    };
    let awaiting = match (is_same, needs_approval) {
        (true, _) => None,
        (false, true) => Some(add_waiting(conn, &deploy, id, beyond.clone()).await?),
        (false, false) => {
            let version = add(conn, &deploy, id).await?;
            store::scripts::set_live(conn, app, id, version).await?;
            None
        }
    };
    let script = store::scripts::by_name(conn, app, name).await?.ok_or(sqlx::Error::RowNotFound)?;
    let wants_more = if is_first { Vec::new() } else { beyond };
    Ok(Deployed { script, is_first, capabilities, wants_more, awaiting })
}

/// All that an app keeps of its scripts' code takes more than it may.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    #[error(
        "the code of the app's scripts would take {bytes} bytes, each script with its modules, and at most \
         {VERSIONS_BYTES_MAX} are kept of an app; remove or shorten scripts, or the modules that many of them import"
    )]
    Full { bytes: i64 },
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Removes old versions of an app for which there is no room beside those that were just added. The app must be
/// locked.
pub(crate) async fn make_room(conn: &mut PgConnection, app: AppId) -> Result<(), KeepError> {
    if store::versions::forget_old(conn, app, VERSIONS_MAX).await? > 0 {
        store::bundles::forget_unused(conn, app).await?;
    }
    if store::bundles::bytes(conn, app, VERSION_BYTES_MIN).await? <= VERSIONS_BYTES_MAX {
        return Ok(());
    }
    store::versions::forget_beyond(conn, app, VERSIONS_BYTES_MAX, VERSION_BYTES_MIN).await?;
    store::bundles::forget_unused(conn, app).await?;
    match store::bundles::bytes(conn, app, VERSION_BYTES_MIN).await? {
        bytes if bytes > VERSIONS_BYTES_MAX => Err(KeepError::Full { bytes }),
        _ => Ok(()),
    }
}

/// What is asked for and the live version does not ask for; all of it where there is none.
pub(crate) async fn beyond(
    conn: &mut PgConnection,
    live: Option<&Script>,
    wanted: &Capabilities,
) -> sqlx::Result<Vec<String>> {
    let bundle = match live {
        Some(script) => store::bundles::by_hash(conn, script.bundle_hash).await?,
        None => None,
    };
    Ok(wanted.beyond(&bundle.as_ref().map(Capabilities::of).unwrap_or_default()))
}

async fn add(conn: &mut PgConnection, deploy: &Deploy<'_>, script: ScriptId) -> sqlx::Result<u32> {
    let Deploy { app, bundle, imports, limits, by, .. } = deploy;
    let hash = bundle.hash();
    store::bundles::keep(conn, *app, hash, bundle, imports).await?;
    store::versions::add(conn, *app, script, hash, limits, *by).await
}

/// A version that is kept until somebody approves it; the same one when it is deployed again.
async fn add_waiting(
    conn: &mut PgConnection,
    deploy: &Deploy<'_>,
    script: ScriptId,
    unapproved: Vec<String>,
) -> sqlx::Result<Awaiting> {
    let Deploy { app, bundle, limits, .. } = deploy;
    let version = match store::approvals::waiting(conn, *app, script, bundle.hash(), limits).await? {
        Some(version) => version,
        None => add(conn, deploy, script).await?,
    };
    store::approvals::require(conn, *app, script, version, &unapproved).await?;
    Ok(Awaiting { version, unapproved })
}

/// The first version of a script that may not yet do what it is for. A script always has a live version,
/// and this one asks for nothing.
async fn add_unapproved(conn: &mut PgConnection, deploy: &Deploy<'_>, script: ScriptId) -> sqlx::Result<u32> {
    let source = match deploy.bundle.kind {
        ScriptKind::Endpoint => UNAPPROVED_SOURCE,
        ScriptKind::Module => "",
    };
    let bundle = Bundle::single(deploy.bundle.kind, deploy.name.as_str(), source);
    add(conn, &Deploy { bundle: &bundle, imports: &[], description: None, ..*deploy }, script).await
}
