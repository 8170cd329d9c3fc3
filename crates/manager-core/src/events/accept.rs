//! Requests that go by way of the outbox: written down, then run like any other event.

use sha2::{Digest, Sha256};
use shared::caller::Caller;
use shared::cause::Cause;
use shared::id::{DeliveryId, ExecutionId};
use shared::invocation::{Refusal, WorkResult};
use shared::ports::{Accept, Accepted, Arrived, BoxFuture, NotAccepted};

use super::call::StoredCall;
use super::dispatcher::Dispatching;
use super::event::{EventKind, NewEvent, Payload};
use super::outbox::EmitError;
use super::retry::RetryPolicy;
use crate::store::outbox::Seen;
use crate::store::{self, Database};

pub(crate) struct Acceptor {
    pub(crate) database: Database,
    pub(crate) events: Dispatching,
}

impl Accept for Acceptor {
    fn accept<'a>(&'a self, request: Arrived<'a>) -> BoxFuture<'a, Result<Accepted, NotAccepted>> {
        Box::pin(self.take(request))
    }
}

impl Acceptor {
    async fn take(&self, request: Arrived<'_>) -> Result<Accepted, NotAccepted> {
        let event = self.event(&request);
        let delivery = event.delivery;
        let reply = request.is_awaited.then(|| self.events.replies.expect(delivery));
        let mut tx = self.database.begin().await.map_err(unavailable)?;
        if let Some((key, digest)) = request.key {
            let scope = format!("route:{}", request.route);
            let key = Sha256::digest(key).into();
            let app = request.target.app;
            let seen = store::outbox::remember(&mut tx, app, &scope, &key, &digest, delivery).await;
            match seen.map_err(unavailable)? {
                Seen::New => {}
                Seen::Before(delivery) => return Ok(Accepted::Later { delivery, is_repeated: true }),
                Seen::Otherwise => return Err(NotAccepted::KeyReused),
            }
        }
        let pending = self.events.outbox.insert(&mut tx, vec![event]).await.map_err(|error| match error {
            EmitError::Full => NotAccepted::Full,
            EmitError::Database(error) => unavailable(error),
        })?;
        tx.commit().await.map_err(unavailable)?;
        pending.hand_over();
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

fn unavailable(error: sqlx::Error) -> NotAccepted {
    tracing::warn!(%error, "a request could not be written down");
    NotAccepted::Unavailable
}
