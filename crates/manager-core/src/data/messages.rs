//! Messages to queues and topics, in one transaction with whatever else is changed.

use shared::call::{CallCode, CallError};
use shared::host_call::pubsub::Publish;
use shared::host_call::queue::Send;
use shared::id::DeliveryId;
use shared::json_scan;
use shared::limits::{EPHEMERAL_EXTERNAL_BYTES_MAX, MESSAGE_BYTES_MAX};
use shared::name::{QueueName, TopicName};
use sqlx::postgres::PgConnection;

use super::{Access, Data, Told, failed};
use crate::events::queues::{Message, SendError};
use crate::events::{EmitError, topics};
use crate::realtime::Subject;
use crate::store;

impl Data {
    /// Sends a message to a queue by itself.
    pub(crate) async fn queue_send(
        &self,
        access: &Access<'_>,
        send: &Send<'_>,
    ) -> Result<DeliveryId, CallError> {
        check_send(send)?;
        let mut tx = self.begin(access).await?;
        access.begin()?;
        let mut told = Told::default();
        let delivery = self.send_apply(&mut tx, access, send, &mut told).await?;
        tx.commit(told).await?;
        Ok(delivery)
    }

    /// Sends a message to all who listen to a topic, by itself; answers how many there are.
    pub(crate) async fn publish(&self, access: &Access<'_>, publish: &Publish<'_>) -> Result<u32, CallError> {
        let topic = check_publish(publish)?;
        let has_listeners = self.snapshot.triggers().on_topic(access.app, &topic).next().is_some();
        if !has_listeners && !self.is_external(access, &topic) {
            tracing::debug!(%topic, "nobody listens to a topic");
            return Ok(0);
        }
        let mut tx = self.begin(access).await?;
        access.begin()?;
        let mut told = Told::default();
        let receivers = self.publish_apply(&mut tx, access, publish, &mut told).await?;
        tx.commit(told).await?;
        Ok(receivers)
    }

    /// Sends a message as a part of a transaction. What is told is to be handed over after its commit.
    pub(crate) async fn send_apply(
        &self,
        conn: &mut PgConnection,
        access: &Access<'_>,
        send: &Send<'_>,
        told: &mut Told,
    ) -> Result<DeliveryId, CallError> {
        let Send { message, delay_ms, key, dedup, .. } = *send;
        let message = Message { queue: &queue_name(send.queue)?, message, delay_ms, key, dedup };
        let cause = |delivery| access.cause_of(delivery);
        access.take_events(1)?;
        let sent = self.queues.send(conn, access.app, message, cause).await.map_err(refused)?;
        let delivery = sent.delivery;
        told.add_message(sent);
        Ok(delivery)
    }

    /// The same with a message for all who listen to a topic.
    pub(crate) async fn publish_apply(
        &self,
        conn: &mut PgConnection,
        access: &Access<'_>,
        publish: &Publish<'_>,
        told: &mut Told,
    ) -> Result<u32, CallError> {
        let message = topics::Message { topic: topic_name(publish.topic)?, message: publish.message };
        let cause = |delivery| access.cause_of(delivery);
        let events = topics::events(&self.snapshot.triggers(), access.app, &message, cause)
            .map_err(|error| CallError::invalid(error.to_string()))?;
        access.take_events(events.len())?;
        let receivers = u32::try_from(events.len()).unwrap_or(u32::MAX);
        told.add(self.watch.emit(conn, events).await?);
        // A dry run would keep others from publishing until it is over, for what nobody hears.
        if access.rehearsal.is_none() && self.is_external(access, &message.topic) {
            access.take_rows(1)?;
            let kept = store::topic_messages::append(conn, access.app, &message.topic, message.message).await;
            if kept.map_err(|error| failed(&error))?.is_some() {
                told.add_published(self.hub.published(Subject { app: access.app, topic: message.topic }));
            }
        }
        Ok(receivers)
    }

    /// Whether somebody outside may listen to a topic.
    pub(super) fn is_external(&self, access: &Access<'_>, topic: &TopicName) -> bool {
        self.snapshot.topics().external(access.app, topic).is_some()
    }

    /// The topic of a message that is to be kept nowhere, if somebody outside may listen to it. What cannot be told to other
    /// nodes is refused.
    pub(crate) fn outside(
        &self,
        access: &Access<'_>,
        message: &topics::Message<'_>,
    ) -> Result<Option<Subject>, CallError> {
        if !self.is_external(access, &message.topic) {
            return Ok(None);
        }
        if message.message.len() > EPHEMERAL_EXTERNAL_BYTES_MAX {
            let text = format!(
                "a message that is kept nowhere has {EPHEMERAL_EXTERNAL_BYTES_MAX} bytes of JSON at most on a topic to \
                 which somebody outside may listen; use pubsub::publish for longer ones"
            );
            return Err(CallError::new(CallCode::TooLarge, text));
        }
        Ok(Some(Subject { app: access.app, topic: message.topic.clone() }))
    }

    /// Tells it to who listens from outside now.
    pub(crate) fn pass_on(&self, outside: Option<Subject>, message: &topics::Message<'_>) {
        if let Some(subject) = outside {
            self.hub.pass_on(subject, message.message);
        }
    }
}

/// Refuses a message that nothing in the database could make right.
pub(crate) fn check_send(send: &Send<'_>) -> Result<(), CallError> {
    queue_name(send.queue)?;
    check_message(send.message)
}

/// The same for a message to a topic.
pub(crate) fn check_publish(publish: &Publish<'_>) -> Result<TopicName, CallError> {
    check_message(publish.message)?;
    topic_name(publish.topic)
}

pub(crate) fn queue_name(text: &str) -> Result<QueueName, CallError> {
    text.parse().map_err(|error| CallError::invalid(format!("{error}")))
}

pub(super) fn topic_name(text: &str) -> Result<TopicName, CallError> {
    text.parse().map_err(|error| CallError::invalid(format!("{error}")))
}

/// A message, or what a later call is given: JSON, and not too much of it.
pub(crate) fn check_message(message: &str) -> Result<(), CallError> {
    if message.len() > MESSAGE_BYTES_MAX {
        let text = format!("a message has {MESSAGE_BYTES_MAX} bytes of JSON at most");
        return Err(CallError::new(CallCode::TooLarge, text));
    }
    json_scan::check(message).map_err(|error| CallError::invalid(error.to_string()))
}

fn refused(error: SendError) -> CallError {
    match error {
        SendError::Database(error) => failed(&error),
        SendError::Full => CallError::new(CallCode::BudgetExhausted, error.to_string()),
        SendError::OtherMessage => CallError::new(CallCode::Conflict, error.to_string()),
        SendError::DelayTooLong | SendError::InvalidKey => CallError::invalid(error.to_string()),
    }
}

/// What a script is told when its events were not accepted.
pub(crate) fn not_accepted(error: EmitError) -> CallError {
    match error {
        EmitError::Full => CallError::new(CallCode::BudgetExhausted, error.to_string()),
        EmitError::Database(error) => failed(&error),
    }
}
