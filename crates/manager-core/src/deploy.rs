//! What a deploy does to the tables: a bundle, a version, and the live pointer.

use shared::id::{AppId, UserId};
use shared::limits::ScriptLimits;
use shared::name::ScriptName;
use shared::script::Bundle;
use sqlx::postgres::PgConnection;

use crate::store;
use crate::store::scripts::Script;

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
    pub(crate) script: Script,
    pub(crate) is_first: bool,
}

/// Makes a version live, a new one unless the live version is the same already. The app must be
/// locked.
pub(crate) async fn deploy(conn: &mut PgConnection, deploy: Deploy<'_>) -> sqlx::Result<Deployed> {
    let Deploy { app, name, bundle, imports, limits, description, by } = deploy;
    let hash = bundle.hash();
    let existing = store::scripts::by_name(conn, app, name).await?;
    let is_first = existing.is_none();
    let (id, is_same) = match existing {
        Some(script) => {
            let is_same = (script.bundle_hash, script.limits) == (hash, limits);
            if let Some(description) = description {
                store::scripts::set_description(conn, app, script.id, description).await?;
            }
            (script.id, is_same)
        }
        None => {
            let description = description.unwrap_or_default();
            (store::scripts::create(conn, app, name, bundle.kind, description).await?, false)
        }
    };
    if !is_same {
        store::bundles::keep(conn, app, hash, bundle, imports).await?;
        let version = store::versions::add(conn, app, id, hash, &limits, by).await?;
        store::scripts::set_live(conn, app, id, version).await?;
    }
    let script = store::scripts::by_name(conn, app, name).await?.ok_or(sqlx::Error::RowNotFound)?;
    Ok(Deployed { script, is_first })
}
