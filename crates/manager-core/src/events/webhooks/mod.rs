//! Requests that other people's servers sign: who sent one is proven before anything of it is written
//! down. It is then an event like any other, one for each id that its sender gives.

mod claim;
mod keys;
mod payload;
mod rates;
#[cfg(test)]
mod testing;

use std::sync::Arc;

use http::HeaderMap;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use shared::id::DeliveryId;
use sqlx::postgres::PgConnection;

pub(crate) use self::claim::Claim;
use self::keys::Key;
pub(crate) use self::rates::Rates;
use super::triggers::Trigger;
use super::triggers::webhook::{ID, Provider, WebhookConfig};
use super::{EmitError, EventKind, NewEvent, Outbox, Pending};
use crate::buckets::Throttled;
use crate::store::outbox::{Seen, remember};
use crate::vault::{Vault, VaultError};

/// Why a request is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the header {0} is missing")]
    Missing(String),
    #[error("the header {0} cannot be read, or is there more than once")]
    Unreadable(String),
    #[error("it was signed at {time} and here it is {now}; at most {tolerance_s} s may lie between")]
    Stale { time: i64, now: i64, tolerance_s: u32 },
    #[error("the signature was made with none of the webhook's secrets, or for another body")]
    WrongSignature,
}

impl Refused {
    fn unreadable(header: &str) -> Self {
        Self::Unreadable(header.to_owned())
    }
}

/// Why a request did not become an event.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebhookError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("none of the secrets that requests are signed with is set, or none is a key")]
    NoKey,
    #[error("too many signed requests")]
    Throttled(Throttled),
    #[error("another request was sent under this id in the last 24 hours")]
    OtherRequest,
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Emit(#[from] EmitError),
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    #[error("the request cannot be written as JSON")]
    Payload(#[from] serde_json::Error),
}

/// A request that is here whole and says something of itself, which is to be proven.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival<'a> {
    pub(crate) trigger: &'a Trigger,
    pub(crate) config: &'a WebhookConfig,
    pub(crate) claim: &'a Claim,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Taken {
    New(DeliveryId, Pending),
    /// It was sent before, and made this event then.
    Before(DeliveryId),
}

/// Where signed requests come in.
#[derive(Debug)]
pub(crate) struct Webhooks {
    vault: Arc<Vault>,
    outbox: Outbox,
    pub(crate) rates: Rates,
}

impl Webhooks {
    pub(crate) fn new(vault: Arc<Vault>, outbox: Outbox) -> Self {
        Self { vault, outbox, rates: Rates::default() }
    }

    /// Proves who sent a request, and then writes its event in the caller's transaction.
    pub(crate) async fn take(
        &self,
        conn: &mut PgConnection,
        arrival: Arrival<'_>,
    ) -> Result<Taken, WebhookError> {
        let Arrival { trigger, config, headers, body, .. } = arrival;
        let keys = keys::of_trigger(conn, &self.vault, trigger, config).await?;
        arrival.check_signature(&keys)?;
        self.rates.take(trigger.id, config.per_minute).map_err(WebhookError::Throttled)?;
        let payload = payload::of(config.provider, headers, body)?;
        let event = NewEvent::first(trigger.app, trigger.target.script, EventKind::Webhook, payload);
        let event = NewEvent { trigger: Some(trigger.id), retry: trigger.retry.into(), ..event };
        let delivery = event.delivery;
        let scope = format!("webhook:{}", trigger.id);
        for Identity { key, content } in arrival.identities() {
            match remember(conn, trigger.app, &scope, &key, &content, delivery).await? {
                Seen::New => {}
                Seen::Before(delivery) => return Ok(Taken::Before(delivery)),
                Seen::Otherwise => return Err(WebhookError::OtherRequest),
            }
        }
        let pending = self.outbox.insert(conn, vec![event]).await?;
        Ok(Taken::New(delivery, pending))
    }
}

/// By what a request that is sent again is known.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    key: [u8; 32],
    /// What may not differ under the same key.
    content: [u8; 32],
}

#[derive(Deserialize)]
struct StripeEvent {
    id: String,
}

impl Arrival<'_> {
    fn check_signature(&self, keys: &[Key]) -> Result<(), WebhookError> {
        if keys.is_empty() {
            return Err(WebhookError::NoKey);
        }
        match keys.iter().any(|key| self.claim.is_signed_with(key, self.body)) {
            true => Ok(()),
            false => Err(Refused::WrongSignature.into()),
        }
    }

    /// By its id; and by all that is signed, where a time is and the id is not, which anybody could
    /// exchange. By nothing where two requests that are the same may well be two events.
    fn identities(&self) -> Vec<Identity> {
        let by_id = self.by_id();
        let is_id_signed = match self.config.provider {
            Provider::Standard | Provider::Stripe => by_id.is_some(),
            Provider::Github => false,
            Provider::Hmac => self.config.signed().contains(ID),
        };
        let by_signed = (self.claim.is_timed() && !is_id_signed).then(|| {
            let content = digest(&self.claim.signed(self.body));
            Identity { key: digest(&[b"signed:", &content]), content }
        });
        by_id.into_iter().chain(by_signed).collect()
    }

    fn by_id(&self) -> Option<Identity> {
        let key = |id: &str| digest(&[b"id:", id.as_bytes()]);
        if self.config.provider == Provider::Stripe {
            let StripeEvent { id } = serde_json::from_slice(self.body).ok()?;
            // An event that Stripe sends again says anew how many have still to hear of it.
            return Some(Identity { key: key(&id), content: key(&id) });
        }
        let id = self.claim.id.as_deref()?;
        Some(Identity { key: key(id), content: digest(&[self.body]) })
    }
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into()
}

#[cfg(test)]
mod tests;
