//! One attempt: from a row to an execution, and from what came of it to a verdict.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shared::caller::Caller;
use shared::cause::Delivery;
use shared::id::{ExecutionId, TriggerId, UserId};
use shared::invocation::{
    ExecutionRecord, ExecutionStatus, Invocation, Occasion, Outcome, Refusal, ScriptFailure, ScriptTarget,
    Usage, Work, WorkResult,
};
use shared::ports::{Invoke, RecordSink};
use sqlx::postgres::PgConnection;
use tokio::sync::mpsc::UnboundedSender;

use crate::events::call::StoredCall;
use crate::events::event::{DEPTH_MAX, EventKind};
use crate::events::handlers;
use crate::events::outbox::{Outbox, Pending};
use crate::events::queues::Queues;
use crate::events::replies::Replies;
use crate::events::row::{Role, Row, Task};
use crate::events::targets::{Resolved, Targets};
use crate::events::verdict::{Reason, Verdict};
use crate::snapshot::Snapshot;
use crate::store::dead_letters::DeadLetter;
use crate::store::{self, Database};

/// When to try again what found no free worker: one is free in a moment.
const OVERLOADED: Duration = Duration::from_millis(100);
/// When to try again while the platform itself is not well.
const UNWELL: Duration = Duration::from_secs(1);
/// When to look whether somebody has let a frozen app or a quarantined script go on.
const STOPPED: Duration = Duration::from_secs(60);

pub(super) struct Runner {
    pub(super) targets: Targets,
    pub(super) database: Database,
    pub(super) invoke: Arc<dyn Invoke>,
    pub(super) records: Arc<dyn RecordSink>,
    pub(super) replies: Replies,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) queues: Queues,
    /// Hears of events that wait for their trigger.
    pub(super) holds: UnboundedSender<TriggerId>,
}

impl Runner {
    /// Runs a row's script once.
    pub(super) async fn run(&self, row: &Row) -> Verdict {
        let verdict = self.attempt(row).await;
        let is_attempt = !matches!(verdict, Verdict::PutOff(_) | Verdict::Held);
        if let Some(consumer) = row.task.trigger
            && is_attempt
            && row.task.kind == EventKind::Queue
            && row.attempts == 0
            && row.task.replay_of.is_none()
        {
            self.queues.attempted(consumer);
        }
        verdict
    }

    async fn attempt(&self, row: &Row) -> Verdict {
        let task = &*row.task;
        let principal = match self.standing(task).await {
            Ok(principal) => principal,
            Err(verdict) => return verdict,
        };
        if task.reply_to.is_some_and(|process| process != self.replies.process) {
            // Whoever waited is gone with its process; perhaps the script has run there.
            return self.abandon(row, None).await;
        }
        let target = match self.targets.find(task.script, task.version).await {
            Ok(Resolved::Target(target)) => target,
            Ok(Resolved::Missing) => return self.unable(row, Reason::ScriptMissing).await,
            Ok(Resolved::Disabled) => return self.unable(row, Reason::ScriptDisabled).await,
            Err(error) => {
                tracing::warn!(%error, delivery.id = %task.delivery, "a delivery's script could not be looked up");
                return Verdict::PutOff(UNWELL);
            }
        };
        if task.cause.depth > DEPTH_MAX {
            self.records.record(too_deep(row, target));
            return Verdict::Done;
        }
        let Some(invocation) = invocation(row, target, principal) else {
            let error = "the stored request cannot be read".to_owned();
            return Verdict::Fatal { reason: Reason::Fatal, error };
        };
        let execution = invocation.execution;
        let result = self.invoke.invoke(Work::Run(invocation)).await;
        match row.role {
            Role::Awaited => self.reply(row, execution, result).await,
            Role::Event | Role::Handler => judge(&result),
        }
    }

    /// Whose rights stand behind an event of a trigger; nobody's behind others. An event whose trigger
    /// may not run waits, and one whose trigger was removed is given up.
    async fn standing(&self, task: &Task) -> Result<Option<UserId>, Verdict> {
        let Some(id) = task.trigger else { return Ok(None) };
        match self.snapshot.trigger(id).await {
            Ok(Some(trigger)) if trigger.may_run() => Ok(trigger.registered_by),
            Ok(Some(_)) => Err(Verdict::Held),
            Ok(None) => {
                let error = "the trigger that it was for is not there any more".to_owned();
                Err(Verdict::Fatal { reason: Reason::TriggerMissing, error })
            }
            Err(error) => {
                tracing::warn!(%error, delivery.id = %task.delivery, "a delivery's trigger could not be looked up");
                Err(Verdict::PutOff(UNWELL))
            }
        }
    }

    async fn reply(&self, row: &Row, execution: ExecutionId, result: WorkResult) -> Verdict {
        match self.replies.answer(row.task.delivery, result) {
            Ok(()) => Verdict::Done,
            Err(unwanted) => match *unwanted {
                WorkResult::Ran(outcome) => self.abandon(row, Some((execution, &outcome))).await,
                // Nothing was started, and nobody is left to be told.
                _ => Verdict::Done,
            },
        }
    }

    async fn unable(&self, row: &Row, reason: Reason) -> Verdict {
        if row.role == Role::Awaited {
            return self.abandon(row, None).await;
        }
        let error = match reason {
            Reason::ScriptDisabled => "the script is switched off",
            _ => "the script is not there any more",
        };
        Verdict::Fatal { reason, error: error.to_owned() }
    }

    /// Notes that nobody waits for an answer any more.
    async fn abandon(&self, row: &Row, ran: Option<(ExecutionId, &Outcome)>) -> Verdict {
        let abandoned = store::abandoned::Abandoned {
            app: row.app,
            delivery: row.task.delivery,
            script: row.task.script,
            execution: ran.map(|(execution, _)| execution),
            status: ran.map(|(_, outcome)| outcome.status.as_str()),
            http_status: ran.and_then(|(_, outcome)| outcome.response.as_ref().map(|r| r.status.as_u16())),
        };
        let noted = async {
            let mut conn = self.database.acquire().await?;
            store::abandoned::insert(&mut conn, &abandoned).await
        };
        if let Err(error) = noted.await {
            tracing::warn!(%error, delivery.id = %row.task.delivery, "an abandoned execution could not be noted");
        }
        Verdict::Done
    }

    /// Writes the events for those who want to know of dead letters.
    pub(super) async fn announce(
        &self,
        conn: &mut PgConnection,
        outbox: &Outbox,
        letters: &[DeadLetter],
    ) -> sqlx::Result<Pending> {
        for letter in letters {
            tracing::info!(
                dead_letter.id = %letter.id,
                app.id = %letter.app_id,
                reason = letter.reason,
                "a delivery was given up"
            );
        }
        let events = handlers::events(conn, &self.snapshot.triggers(), letters).await?;
        // An app whose outbox is full is to hear of what it lost all the same.
        outbox.insert_beyond(conn, events).await
    }

    /// An event of this trigger was written down as one that waits for it.
    pub(super) fn held(&self, trigger: TriggerId) {
        // Without a releaser the platform stops, and the next start looks.
        let _ = self.holds.send(trigger);
    }
}

/// What came of a run, for the row.
fn judge(result: &WorkResult) -> Verdict {
    match result {
        WorkResult::Ran(outcome) => judge_outcome(outcome),
        WorkResult::Refused(refusal) => Verdict::PutOff(match *refusal {
            Refusal::Overloaded => OVERLOADED,
            Refusal::ShuttingDown | Refusal::BundleUnavailable => UNWELL,
            Refusal::OverBudget { retry_after_s } => Duration::from_secs(retry_after_s.max(1).into()),
            Refusal::Frozen | Refusal::Quarantined => STOPPED,
        }),
        WorkResult::Compiled { .. } | WorkResult::Rejected(_) | WorkResult::NotCompiled(_) => {
            Verdict::PutOff(UNWELL)
        }
    }
}

fn judge_outcome(outcome: &Outcome) -> Verdict {
    let message = || match &outcome.failure {
        Some(failure) => format!("{}: {}", outcome.status.as_str(), failure.message),
        None => outcome.status.as_str().to_owned(),
    };
    match outcome.status {
        ExecutionStatus::Ok => Verdict::Done,
        // The platform stops: nobody's fault, and the next start runs it again.
        ExecutionStatus::Cancelled => Verdict::PutOff(UNWELL),
        ExecutionStatus::ScriptError if outcome.failure.as_ref().is_some_and(|failure| failure.is_fatal) => {
            Verdict::Fatal { reason: Reason::Fatal, error: message() }
        }
        status => Verdict::Failed { error: message(), killed_worker: status == ExecutionStatus::WorkerLost },
    }
}

/// The execution of an attempt.
fn invocation(row: &Row, target: Arc<ScriptTarget>, principal: Option<UserId>) -> Option<Invocation> {
    let task = &*row.task;
    let delivery =
        Delivery { id: task.delivery, attempt: u32::from(row.attempts) + 1, replay_of: task.replay_of };
    let execution = execution_of(row);
    let call = match task.kind {
        EventKind::Http => Some(StoredCall::read(task.payload.as_bytes())?),
        _ => None,
    };
    let caller = call.as_ref().and_then(StoredCall::caller);
    let request_id = match &call {
        Some(call) => call.request_id.into(),
        None => request_id(task),
    };
    let occasion = Occasion {
        invocation_type: task.kind.invocation_type(),
        cause: task.cause,
        delivery: Some(delivery),
        principal: principal.or_else(|| caller.as_ref().and_then(Caller::principal)),
        caller: caller.as_ref(),
        http: call.as_ref().map(|call| call.http.clone()),
        event: call.is_none().then(|| task.payload.as_bytes()),
    };
    Some(Invocation::new(target, execution, request_id, occasion))
}

/// The first attempt's execution has the delivery's id, by which it can be asked for before it is
/// there. What may have run before gets a new one, so that both are recorded.
fn execution_of(row: &Row) -> ExecutionId {
    match row.attempts == 0 && row.strikes == 0 && !row.is_suspect {
        true => ExecutionId::from_uuid(row.task.delivery.as_uuid()),
        false => ExecutionId::new(),
    }
}

fn request_id(task: &Task) -> Arc<str> {
    let mut buffer = uuid::Uuid::encode_buffer();
    let text: &str = task.delivery.as_uuid().simple().encode_lower(&mut buffer);
    text.into()
}

/// The record of an event that ended because its chain is too long.
fn too_deep(row: &Row, target: Arc<ScriptTarget>) -> ExecutionRecord {
    let Task { cause, delivery, kind, .. } = &*row.task;
    let message = format!(
        "the chain of events is {} deep, and at most {DEPTH_MAX} are run; it began with {}{}",
        cause.depth,
        cause.root,
        cause.parent.map(|parent| format!(", and {parent} caused this one")).unwrap_or_default()
    );
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ExecutionRecord {
        id: execution_of(row),
        request_id: request_id(&row.task),
        target,
        invocation_type: kind.invocation_type(),
        cause: *cause,
        delivery: Some(Delivery { id: *delivery, attempt: 1, replay_of: row.task.replay_of }),
        status: ExecutionStatus::DepthExceeded,
        http_status: None,
        started_at_us: i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX),
        usage: Usage::default(),
        failure: Some(ScriptFailure::without_position(message)),
        logs: Arc::default(),
    }
}
