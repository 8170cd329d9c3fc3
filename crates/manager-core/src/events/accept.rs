//! Requests that go by way of the outbox: written down, then run like any other event.

use sha2::{Digest, Sha256};
use shared::caller::Caller;
use shared::cause::Cause;
use shared::id::{DeliveryId, ExecutionId, RouteId};
use shared::invocation::{Refusal, WorkResult};
use shared::ports::{Accept, Accepted, Arrived, BoxFuture, NotAccepted};

use super::call::StoredCall;
use super::dispatcher::Dispatching;
use super::event::{EventKind, NewEvent, Payload};
use super::intake::Intake;
use super::outbox::EmitError;
use super::retry::RetryPolicy;
use crate::store::outbox::Seen;
use crate::store::{self, Database};

pub(crate) struct Acceptor {
    database: Database,
    events: Dispatching,
    intake: Intake,
}

impl Accept for Acceptor {
    fn accept<'a>(&'a self, request: Arrived<'a>) -> BoxFuture<'a, Result<Accepted, NotAccepted>> {
        Box::pin(self.take(request))
    }
}

impl Acceptor {
    pub(crate) fn start(database: Database, events: Dispatching) -> Self {
        let intake = Intake::start(database.clone(), events.outbox.clone());
        Self { database, events, intake }
    }

    async fn take(&self, request: Arrived<'_>) -> Result<Accepted, NotAccepted> {
        let event = self.event(&request);
        let delivery = event.delivery;
        let reply = request.is_awaited.then(|| self.events.replies.expect(delivery));
        match request.key {
            None => self.intake.write(event).await.map_err(refused)?,
            Some((key, digest)) => match self.write_once(request.route, key, digest, event).await? {
                Seen::New => {}
                Seen::Before(delivery) => return Ok(Accepted::Later { delivery, is_repeated: true }),
                Seen::Otherwise => return Err(NotAccepted::KeyReused),
            },
        }
        match reply {
            None => Ok(Accepted::Later { delivery, is_repeated: false }),
            // What ends without an answer ends with the platform.
            Some(reply) => {
                let result = reply.wait().await;
                let result = result.unwrap_or(WorkResult::Refused(Refusal::ShuttingDown));
                Ok(Accepted::Ended(Box::new(result)))
            }
        }
    }

    /// Writes the event together with its key, unless the key was seen before.
    async fn write_once(
        &self,
        route: RouteId,
        key: &[u8],
        digest: [u8; 32],
        event: NewEvent,
    ) -> Result<Seen, NotAccepted> {
        let scope = format!("route:{route}");
        let key = Sha256::digest(key).into();
        let mut tx = self.database.begin().await.map_err(unavailable)?;
        let seen = store::outbox::remember(&mut tx, event.app, &scope, &key, &digest, event.delivery).await;
        let seen = seen.map_err(unavailable)?;
        if matches!(seen, Seen::New) {
            let pending = self.events.outbox.insert(&mut tx, vec![event]).await.map_err(refused)?;
            tx.commit().await.map_err(unavailable)?;
            pending.hand_over();
        }
        Ok(seen)
    }

    fn event(&self, request: &Arrived<'_>) -> NewEvent {
        let call = StoredCall {
            request_id: request.request_id,
            user: request.caller.map(Caller::to_guest),
            http: request.http.clone(),
        };
        let delivery = DeliveryId::new();
        let cause = Cause::root(ExecutionId::from_uuid(delivery.as_uuid()));
        let target = request.target;
        let payload = Payload::from_stored(call.to_bytes());
        let event = NewEvent::new(target.app, target.script, EventKind::Http, cause, payload);
        let (retry, reply_to) = match request.is_awaited {
            true => (RetryPolicy::ONCE, Some(self.events.replies.process)),
            false => (RetryPolicy::default(), None),
        };
        NewEvent { delivery, retry, reply_to, ..event }
    }
}

fn refused(error: EmitError) -> NotAccepted {
    match error {
        EmitError::Full => NotAccepted::Full,
        EmitError::Database(error) => unavailable(error),
    }
}

fn unavailable(error: sqlx::Error) -> NotAccepted {
    tracing::warn!(%error, "a request could not be written down");
    NotAccepted::Unavailable
}
