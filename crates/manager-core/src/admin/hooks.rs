//! `POST /api/v1/hooks/{trigger_id}`: where other people's servers say what happened there. It needs no
//! credential but the signature that its trigger asks for, and answers 202 when the event is written down.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::handler::Handler;
use chrono::Utc;
use http::HeaderMap;
use shared::fault::Code;
use shared::http::{ClientAddress, RequestId};
use shared::id::{DeliveryId, TriggerId};
use shared::limits::BODY_BYTES_DEFAULT;

use super::denials::Denied;
use super::later::Later;
use super::openapi::{Described, Operation};
use super::problem::ApiError;
use super::queues::Accepted;
use super::{Admin, read};
use crate::auth::{Denial, Rule};
use crate::buckets::Throttled;
use crate::events::triggers::webhook::WebhookConfig;
use crate::events::triggers::{Trigger, TriggerConfig};
use crate::events::webhooks::{Arrival, Claim, Refused, Taken, WebhookError};

pub(super) const PATH: &str = "/api/v1/hooks/{trigger_id}";
/// As on a route. What is larger is a file, and is to be fetched by who wants it.
const BODY_BYTES_MAX: usize = BODY_BYTES_DEFAULT as usize;
/// When to come again to a webhook whose secret is not set: people have to do something first.
const NOT_READY_RETRY_S: u32 = 60;

/// Where a trigger's requests are to be sent.
pub(super) fn address(public_url: &str, id: TriggerId) -> String {
    format!("{public_url}{}", PATH.replace("{trigger_id}", &id.to_string()))
}

pub(super) async fn receive(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Later<Accepted>, ApiError> {
    let id: TriggerId = id.parse().map_err(|_| no_hook())?;
    let table = admin.snapshot.triggers();
    let trigger = table.get(id).filter(|trigger| trigger.is_enabled).ok_or_else(no_hook)?;
    let TriggerConfig::Webhook(config) = &trigger.config else { return Err(no_hook()) };
    let caller: Option<IpAddr> = request.extensions().get().map(|ClientAddress(address)| *address);
    let request_id = request.extensions().get().map(|RequestId(id)| Arc::clone(id)).unwrap_or_default();
    let doubt = admin.webhooks.rates.doubt(id, caller).map_err(|throttled| {
        too_many("too many requests that are not believed came from this address", throttled)
    })?;
    // Whatever can be refused for its headers is refused before anybody reads a body for it.
    let headers = request.headers().clone();
    let claim =
        claim(config, &headers).map_err(|refused| deny(&admin, trigger, request_id.clone(), &refused))?;
    let body = read::body(request, BODY_BYTES_MAX).await?;
    let taken =
        take(&admin, Arrival { trigger, config, claim: &claim, headers: &headers, body: &body }).await;
    if !matches!(taken, Err(WebhookError::Refused(_))) {
        doubt.give_back();
    }
    let id = taken.map_err(|error| failed(&admin, trigger, request_id, error))?;
    Ok(Later(Accepted { id }))
}

fn claim(config: &WebhookConfig, headers: &HeaderMap) -> Result<Claim, Refused> {
    let claim = Claim::read(config, headers)?;
    claim.check_time(config.tolerance_s, Utc::now().timestamp())?;
    Ok(claim)
}

async fn take(admin: &Admin, arrival: Arrival<'_>) -> Result<DeliveryId, WebhookError> {
    let mut tx = admin.database.begin().await?;
    match admin.webhooks.take(&mut tx, arrival).await? {
        Taken::Before(delivery) => Ok(delivery),
        Taken::New(delivery, pending) => {
            tx.commit().await?;
            pending.hand_over();
            Ok(delivery)
        }
    }
}

fn no_hook() -> ApiError {
    ApiError::not_found("there is no such webhook")
}

fn too_many(detail: &'static str, Throttled { retry_after_s }: Throttled) -> ApiError {
    ApiError::new(Code::TooManyRequests, detail).retry_after(retry_after_s)
}

/// Says no, and tells the app's people why, and what would change that.
fn deny(admin: &Admin, trigger: &Trigger, request_id: Arc<str>, refused: &Refused) -> ApiError {
    let (code, remedy) = match refused {
        Refused::Missing(_) | Refused::Unreadable(_) => (
            Code::SignatureInvalid,
            "have the sender sign as the trigger's config says, or the config say how it signs",
        ),
        Refused::WrongSignature => {
            (Code::SignatureInvalid, "set one of the trigger's secrets to what the sender signs with")
        }
        Refused::Stale { .. } => (
            Code::SignatureExpired,
            "set the clocks of both servers, or raise tolerance_s in the trigger's config",
        ),
    };
    note(admin, trigger, request_id, refused.to_string(), remedy);
    ApiError::new(code, refused.to_string())
}

fn note(admin: &Admin, trigger: &Trigger, request_id: Arc<str>, value: String, remedy: &str) {
    let denial = Denial { rule: Rule::Signature, value, remedy: remedy.to_owned() };
    let path = PATH.replace("{trigger_id}", &trigger.id.to_string());
    admin.denials.record(Denied::on_a_webhook(trigger.app, &path, request_id, denial));
}

fn failed(admin: &Admin, trigger: &Trigger, request_id: Arc<str>, error: WebhookError) -> ApiError {
    match error {
        WebhookError::Refused(refused) => deny(admin, trigger, request_id, &refused),
        WebhookError::NoKey => {
            let remedy = "set one of the secrets that the trigger's config names";
            note(admin, trigger, request_id, error.to_string(), remedy);
            ApiError::new(Code::WebhookNotReady, error.to_string()).retry_after(NOT_READY_RETRY_S)
        }
        WebhookError::Throttled(throttled) => {
            too_many("the webhook takes no more signed requests for now", throttled)
        }
        WebhookError::OtherRequest => ApiError::new(Code::DeliveryKeyReused, error.to_string()),
        WebhookError::Vault(error) => error.into(),
        WebhookError::Emit(error) => error.into(),
        WebhookError::Database(error) => error.into(),
        WebhookError::Payload(error) => {
            tracing::error!(trigger.id = %trigger.id, %error, "a signed request is no event");
            ApiError::new(Code::Internal, "the platform failed")
        }
    }
}

/// For the document of the API.
pub(super) fn describe(operation: &mut Operation<'_>) {
    fn of<H: Handler<T, Arc<Admin>> + Described<T>, T>(_: H, operation: &mut Operation<'_>) {
        H::describe(operation);
    }
    of(receive, operation);
    operation.problems(&[
        Code::SignatureInvalid,
        Code::SignatureExpired,
        Code::NotFound,
        Code::DeliveryKeyReused,
        Code::TooManyRequests,
        Code::OutboxFull,
        Code::WebhookNotReady,
        Code::Internal,
        Code::Unavailable,
    ]);
}
