//! What is done about workers that misbehave: an incident is kept for each script that ran in one,
//! and a script with several of them in an hour, in workers of its own, is quarantined.

mod quarantined;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};

use shared::id::ScriptId;
use shared::incident::{Incident, Suspect};
use shared::invocation::{Refusal, ScriptTarget};
use shared::ports::IncidentSink;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::quarantined::{Quarantined, Shown};
use crate::store::{self, Database};

/// Incidents in an hour that quarantine a script, in workers that ran nothing else: once may be chance.
pub(crate) const INCIDENTS_MAX: i64 = 3;
/// Incidents that wait to be written. A worker that is lost brings one for each of its slots.
const WAITING_MAX: usize = 1_024;

/// Incidents and quarantines, as a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Incidents {
    database: Database,
    quarantined: Arc<Shown>,
    sender: Arc<Mutex<Option<mpsc::Sender<Incident>>>>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Incidents {
    /// Reads what is quarantined and starts the writer.
    pub(crate) async fn load(database: Database) -> sqlx::Result<Self> {
        let quarantined = store::incidents::quarantined(&mut *database.acquire().await?).await?;
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let incidents = Self {
            database: database.clone(),
            quarantined: Arc::new(quarantined.into_iter().collect()),
            sender: Arc::new(Mutex::new(Some(sender))),
            writer: Arc::default(),
        };
        let quarantined = Arc::clone(&incidents.quarantined);
        let writer = tokio::spawn(writer::run(receiver, database, quarantined));
        *incidents.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
        Ok(incidents)
    }

    pub(crate) fn permit(&self, target: &ScriptTarget) -> Result<(), Refusal> {
        if self.quarantined.refuses(target) { Err(Refusal::Quarantined) } else { Ok(()) }
    }

    /// Commits a release of these scripts and shows it, in a task of its own: a caller that goes away between the two
    /// would leave them quarantined here alone. The commit must need no connection but its own. Where it fails, what is
    /// quarantined is read again: its answer alone may be lost.
    pub(crate) async fn publish_release(
        &self,
        commit: impl Future<Output = sqlx::Result<()>> + Send + 'static,
        scripts: Vec<ScriptId>,
    ) -> sqlx::Result<()> {
        let quarantined = Arc::clone(&self.quarantined);
        self.publish(async move { quarantined.publish(commit, removal(scripts)).await }).await
    }

    /// Commits what removes these scripts, with their quarantines, and shows it, likewise. Nothing can quarantine them
    /// any more once that is committed, so it is enough to wait for what was before.
    pub(crate) async fn publish_removal(
        &self,
        commit: impl Future<Output = sqlx::Result<()>> + Send + 'static,
        scripts: Vec<ScriptId>,
    ) -> sqlx::Result<()> {
        let quarantined = Arc::clone(&self.quarantined);
        self.publish(async move {
            commit.await?;
            quarantined.publish(async { Ok(()) }, removal(scripts)).await
        })
        .await
    }

    async fn publish(
        &self,
        change: impl Future<Output = sqlx::Result<()>> + Send + 'static,
    ) -> sqlx::Result<()> {
        let (quarantined, database) = (Arc::clone(&self.quarantined), self.database.clone());
        let publishing = tokio::spawn(async move {
            let published = change.await;
            if published.is_err() {
                quarantined.catch_up(&database);
            }
            published
        });
        publishing.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }

    /// Writes what waits and stops.
    pub(crate) async fn close(&self) {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.await.is_err()
        {
            tracing::error!("the incidents' writer ended by itself");
        }
    }
}

fn removal(scripts: Vec<ScriptId>) -> impl FnOnce(&mut Quarantined) {
    move |quarantined: &mut Quarantined| scripts.into_iter().for_each(|script| quarantined.remove(script))
}

impl IncidentSink for Incidents {
    fn report(&self, incident: Incident) {
        let misconduct = incident.misconduct.as_str();
        match &incident.suspect {
            Some(Suspect::Execution { execution, target }) => tracing::warn!(
                app.slug = %target.app_slug,
                script.name = %target.name,
                execution.id = %execution,
                misconduct,
                is_alone = incident.is_alone,
                "a worker misbehaved while a script ran: {}", incident.detail
            ),
            Some(Suspect::Compilation(app)) => tracing::warn!(
                app.id = %app,
                misconduct,
                "a worker misbehaved while source was compiled: {}", incident.detail
            ),
            None => tracing::warn!(misconduct, "a worker misbehaved: {}", incident.detail),
        }
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let is_kept = sender.as_ref().is_some_and(|sender| sender.try_send(incident).is_ok());
        if !is_kept {
            tracing::error!("an incident is only in the log: too many wait for the database");
        }
    }
}
