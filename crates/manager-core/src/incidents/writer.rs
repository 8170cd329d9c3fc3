//! The task that writes incidents and decides on quarantine, one after the other.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use shared::id::ScriptId;
use shared::incident::Incident;
use shared::invocation::ScriptTarget;
use tokio::sync::mpsc;

use super::INCIDENTS_MAX;
use crate::audit::{self, Actor, Entry};
use crate::store::{self, Database};

/// A database that is away is tried this often for an incident; it is in the server's log anyway.
const TRIES: u32 = 3;
const RETRY: Duration = Duration::from_secs(1);

pub(super) async fn run(
    mut incidents: mpsc::Receiver<Incident>,
    database: Database,
    quarantined: Arc<RwLock<HashSet<ScriptId>>>,
) {
    while let Some(incident) = incidents.recv().await {
        match write(&database, &incident).await {
            Ok(None) => {}
            Ok(Some(target)) => {
                quarantined.write().unwrap_or_else(PoisonError::into_inner).insert(target.script);
                tracing::error!(
                    app.slug = %target.app_slug,
                    script.name = %target.name,
                    "the script is quarantined: {INCIDENTS_MAX} incidents within an hour"
                );
            }
            Err(error) => tracing::error!(%error, "an incident could not be written"),
        }
    }
}

/// The script for which this incident was one too many.
async fn write(database: &Database, incident: &Incident) -> sqlx::Result<Option<Arc<ScriptTarget>>> {
    let mut tries = 0;
    loop {
        tries += 1;
        match record(database, incident).await {
            Err(error) if store::is_outage(&error) && tries < TRIES => tokio::time::sleep(RETRY).await,
            result => return result,
        }
    }
}

async fn record(database: &Database, incident: &Incident) -> sqlx::Result<Option<Arc<ScriptTarget>>> {
    let misconduct = incident.misconduct.as_str();
    let mut tx = database.begin().await?;
    let Some(suspect) = &incident.suspect else {
        let violation = Entry::new(Actor::platform(), "worker.violation", "worker").after(&misconduct);
        audit::append(&mut tx, violation).await?;
        tx.commit().await?;
        return Ok(None);
    };
    let target = &suspect.target;
    let (app, script) = (target.app, target.script);
    if !store::incidents::add(&mut tx, incident, suspect).await? {
        return Ok(None);
    }
    let is_one_too_many = store::incidents::recent(&mut tx, app, script).await? >= INCIDENTS_MAX
        && store::incidents::quarantine(&mut tx, app, script).await?;
    let entry = |action| Entry::new(Actor::platform(), action, &target.name).on(app);
    audit::append(&mut tx, entry("worker.violation").after(&misconduct)).await?;
    if is_one_too_many {
        audit::append(&mut tx, entry("script.quarantine")).await?;
    }
    tx.commit().await?;
    Ok(is_one_too_many.then(|| Arc::clone(target)))
}
