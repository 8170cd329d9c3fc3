//! What a change of a script means for bundles: its own, and those of all scripts that contain it.
//! Only reads; whether the bundles compile is found out before they are written.

pub(crate) mod graph;

use std::collections::BTreeSet;

use shared::id::{AppId, ScriptId, UserId};
use shared::limits::{DEPENDENTS_MAX, REBUNDLE_BYTES_MAX, ScriptLimits};
use shared::name::ScriptName;
use shared::script::{Bundle, ScriptKind};
use sqlx::postgres::PgConnection;

use self::graph::{ImportError, Sources};
use crate::store;
use crate::store::modules::{ModuleUser, Source};

/// What would be live after a change.
pub(crate) struct Plan {
    pub(crate) bundle: Bundle,
    /// Scripts whose bundles change with it.
    pub(crate) dependents: Vec<Dependent>,
    /// Every script that contains it, changed or not.
    pub(crate) used_by: Vec<String>,
}

pub(crate) struct Dependent {
    script: ScriptId,
    pub(crate) name: ScriptName,
    pub(crate) limits: ScriptLimits,
    pub(crate) bundle: Bundle,
    imports: Vec<String>,
}

/// Why a change cannot be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// `script` is the one that changes, or one that contains it.
    #[error("{error}")]
    Import { script: String, error: ImportError },
    #[error("more than {DEPENDENTS_MAX} scripts use the module")]
    TooManyDependents,
    #[error("the scripts that use the module are over {REBUNDLE_BYTES_MAX} bytes with it")]
    TooLarge,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// What becomes of the app's bundles when `source` is the live one of `name`.
pub(crate) async fn plan(
    conn: &mut PgConnection,
    app: AppId,
    name: &ScriptName,
    source: Source,
) -> Result<Plan, PlanError> {
    let users = match source.kind {
        ScriptKind::Module => users(conn, app, name).await?,
        ScriptKind::Endpoint => Vec::new(),
    };
    if users.len() > DEPENDENTS_MAX {
        return Err(PlanError::TooManyDependents);
    }
    let used_by = users.iter().map(|user| user.name.to_string()).collect();
    let sources = reachable(conn, app, name, source, &users).await?;
    let main = &sources[name.as_str()];
    let refused = |script: &str| {
        let script = script.to_owned();
        move |error| PlanError::Import { script, error }
    };
    let bundle = graph::bundle(name.as_str(), main, &sources).map_err(refused(name.as_str()))?;
    let mut bytes = 0;
    let mut dependents = Vec::new();
    for ModuleUser { id, name, bundle_hash, limits, source } in users {
        let bundle = graph::bundle(name.as_str(), &source, &sources).map_err(refused(name.as_str()))?;
        if bundle.hash() == bundle_hash {
            continue;
        }
        bytes += bundle.source.len() + bundle.modules.iter().map(|m| m.source.len()).sum::<usize>();
        if bytes > REBUNDLE_BYTES_MAX {
            return Err(PlanError::TooLarge);
        }
        dependents.push(Dependent { script: id, name, limits, bundle, imports: source.imports });
    }
    Ok(Plan { bundle, dependents, used_by })
}

/// The scripts that contain the module, unless they are too long to be in memory together.
async fn users(
    conn: &mut PgConnection,
    app: AppId,
    module: &ScriptName,
) -> Result<Vec<ModuleUser>, PlanError> {
    if store::modules::users_bytes(conn, app, module).await? > REBUNDLE_BYTES_MAX as i64 {
        return Err(PlanError::TooLarge);
    }
    Ok(store::modules::users(conn, app, module, DEPENDENTS_MAX as i64 + 1).await?)
}

/// The changed source and the live ones of all modules that it or one of its users takes.
async fn reachable(
    conn: &mut PgConnection,
    app: AppId,
    name: &ScriptName,
    source: Source,
    users: &[ModuleUser],
) -> Result<Sources, PlanError> {
    let mut asked = BTreeSet::from([name.to_string()]);
    let mut bytes = source.text.len() as i64;
    let wanted = users.iter().map(|user| &user.source).chain([&source]);
    let mut next: BTreeSet<String> = wanted.flat_map(|source| source.imports.iter().cloned()).collect();
    let mut sources = Sources::from([(name.to_string(), source)]);
    loop {
        let names: Vec<String> = next.difference(&asked).cloned().collect();
        if names.is_empty() {
            return Ok(sources);
        }
        next.clear();
        bytes = bytes.saturating_add(store::modules::sources_bytes(conn, app, &names).await?);
        if bytes > REBUNDLE_BYTES_MAX as i64 {
            return Err(PlanError::TooLarge);
        }
        for (name, source) in store::modules::sources(conn, app, &names).await? {
            next.extend(source.imports.iter().cloned());
            sources.insert(name, source);
        }
        asked.extend(names);
    }
}

/// Makes a new version of each dependent live; answers their names and numbers. The app must be
/// locked.
pub(crate) async fn rebundle(
    conn: &mut PgConnection,
    app: AppId,
    dependents: &[Dependent],
    by: UserId,
) -> sqlx::Result<Vec<(ScriptName, u32)>> {
    let mut versions = Vec::with_capacity(dependents.len());
    for Dependent { script, name, limits, bundle, imports } in dependents {
        let hash = bundle.hash();
        store::bundles::keep(conn, app, hash, bundle, imports).await?;
        let version = store::versions::add(conn, app, *script, hash, limits, by).await?;
        store::scripts::set_live(conn, app, *script, version).await?;
        versions.push((name.clone(), version));
    }
    Ok(versions)
}
