//! The task that writes incidents and decides on quarantine, one after the other.

use std::sync::Arc;
use std::time::Duration;

use shared::id::IncidentId;
use shared::incident::{Incident, Misconduct, Suspect};
use shared::invocation::ScriptTarget;
use tokio::sync::mpsc;

use super::INCIDENTS_MAX;
use super::quarantined::{Quarantined, Shown};
use crate::audit::{self, Actor, Entry};
use crate::store::incidents::Quarantine;
use crate::store::{self, Database};

/// A database that is away is tried this often for an incident; it is in the server's log anyway.
const TRIES: u32 = 3;
const RETRY: Duration = Duration::from_secs(1);

pub(super) async fn run(
    mut incidents: mpsc::Receiver<Incident>,
    database: Database,
    quarantined: Arc<Shown>,
) {
    while let Some(incident) = incidents.recv().await {
        match write(&database, &quarantined, &incident).await {
            Ok(None) => {}
            Ok(Some(target)) => {
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
async fn write(
    database: &Database,
    quarantined: &Arc<Shown>,
    incident: &Incident,
) -> sqlx::Result<Option<Arc<ScriptTarget>>> {
    // The same each time: it is counted once, whatever became of the last try.
    let id = IncidentId::new();
    let mut tries = 0;
    loop {
        tries += 1;
        match record(database, quarantined, id, incident).await {
            Err(error) if store::is_outage(&error) && tries < TRIES => tokio::time::sleep(RETRY).await,
            result => return result,
        }
    }
}

async fn record(
    database: &Database,
    quarantined: &Arc<Shown>,
    id: IncidentId,
    incident: &Incident,
) -> sqlx::Result<Option<Arc<ScriptTarget>>> {
    let mut tx = database.begin().await?;
    let culprit = match &incident.suspect {
        Some(Suspect::Execution { execution, target }) if counts(incident.misconduct) => {
            // Its app may be gone meanwhile; that it happened is in the log all the same.
            let is_one_too_many = store::incidents::add(&mut tx, id, incident, *execution, target).await?
                && store::incidents::recent(&mut tx, target.app, target.script).await? >= INCIDENTS_MAX;
            is_one_too_many.then_some(target)
        }
        _ => None,
    };
    audit::append(&mut tx, entry(incident)).await?;
    let Some(target) = culprit else {
        tx.commit().await?;
        return Ok(None);
    };
    let is_new = store::incidents::quarantine(&mut tx, Quarantine::of(target)).await?;
    if is_new {
        let entry = Entry::new(Actor::platform(), "script.quarantine", &target.name).on(target.app);
        audit::append(&mut tx, entry).await?;
    }
    // One that is not new is shown as well: it may have been committed without an answer.
    let kept = store::incidents::quarantine_of(&mut tx, target.app, target.script).await?;
    let show = move |shown: &mut Quarantined| kept.into_iter().for_each(|kept| shown.insert(kept));
    let published = quarantined.publish(tx.commit(), show).await;
    if published.is_err() {
        quarantined.catch_up(database);
    }
    published.map(|()| is_new.then(|| Arc::clone(target)))
}

/// Whether it may be a step towards quarantine, and is kept with the script.
const fn counts(misconduct: Misconduct) -> bool {
    !matches!(misconduct, Misconduct::OutOfMemory)
}

fn entry(incident: &Incident) -> Entry {
    let action = match incident.misconduct {
        Misconduct::OutOfMemory => "worker.out_of_memory",
        _ => "worker.violation",
    };
    let entry =
        |target: &str| Entry::new(Actor::platform(), action, target).after(&incident.misconduct.as_str());
    match &incident.suspect {
        Some(Suspect::Execution { target, .. }) => entry(target.name.as_str()).on(target.app),
        Some(Suspect::Compilation(app)) => entry("compilation").on(*app),
        None => entry("worker"),
    }
}
