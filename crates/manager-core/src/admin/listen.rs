//! `GET /realtime/topics/{topic}`, on the hosts of apps: server-sent events of what is published. No part of the admin
//! API: who may listen says the topic.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Extension, Path, State};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::stream;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use shared::credential::{bearer, cookies};
use shared::fault::Code;
use shared::http::{AppHost, ClientAddress, USER_COOKIE};
use shared::id::AppId;
use shared::name::TopicName;
use shared::topic::TopicAuth;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::problem::{ApiError, IsTls, render};
use super::{Admin, cookie};
use crate::auth::AppToken;
use crate::realtime::{Full, Heard, Listener, Subject, spread};
use crate::store;

const PATH: &str = "/realtime/topics/{topic}";
const ELSEWHERE: &str = "/realtime/{*rest}";
/// A comment is sent this often, so that proxies do not close a quiet connection and that who is gone is found out; and
/// who is logged in is asked for again.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
/// Who has read nothing for so long is gone, or holds what others may have.
const UNREAD_MAX: Duration = Duration::from_secs(30);
/// When to come again where as many listen as can.
const FULL_RETRY_S: u32 = 10;
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Pages of every origin may read what is sent: it is public, or for who shows a token that no browser sends by itself.
/// With the cookie of a user no page but the host's own may, since credentials are not allowed here.
const FOR_ALL_PAGES: HeaderValue = HeaderValue::from_static("*");

pub(super) fn router(is_tls: IsTls) -> Router<Arc<Admin>> {
    Router::new()
        .route(PATH, get(listen).options(preflight))
        .route(ELSEWHERE, any(async || no_topic()))
        .layer(from_fn_with_state(is_tls, render))
        .layer(map_response(|mut response: Response| {
            response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, FOR_ALL_PAGES);
            ready(response)
        }))
}

async fn preflight() -> impl IntoResponse {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, last-event-id"),
        (header::ACCESS_CONTROL_MAX_AGE, "7200"),
    ];
    (StatusCode::NO_CONTENT, headers)
}

async fn listen(
    State(admin): State<Arc<Admin>>,
    app: Option<Extension<AppHost>>,
    client: Option<Extension<ClientAddress>>,
    Path(topic): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Some(Extension(AppHost(app))) = app else { return Err(no_topic()) };
    let topic: TopicName = topic.parse().map_err(|_| no_topic())?;
    let mut changes = admin.snapshot.changes();
    changes.mark_unchanged();
    let mode = admin.snapshot.topics().external(app, &topic).ok_or_else(no_topic)?;
    let after = last_event_id(&headers)?;
    let subject = Subject { app, topic: topic.clone() };
    let address = client.map(|Extension(ClientAddress(address))| address);
    // Before the right: who only guesses takes a place as well, and no more than there are.
    let entered = admin
        .hub
        .enter(subject, address)
        .map_err(|full: Full| ApiError::new(Code::Unavailable, full.to_string()).retry_after(FULL_RETRY_S))?;
    let right = Right::of(&admin, app, (&topic, mode), &headers).await?;
    let listener = admin.hub.open(entered, after).await?;
    let mut heartbeat = interval_at(Instant::now() + spread(HEARTBEAT_EVERY), HEARTBEAT_EVERY);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (sender, events) = mpsc::channel(1);
    let ends = Ends {
        admin: Arc::clone(&admin),
        app,
        topic: topic.clone(),
        mode,
        until: right.end(),
        changes,
        has_ended: admin.hub.has_ended(),
    };
    let telling = Telling { admin, app, topic, right, is_in_doubt: false, listener, heartbeat };
    // By itself, so that it ends when it has to, whether or not anybody reads it.
    tokio::spawn(run(ends, telling, sender));
    let events = stream::unfold(events, |mut events| async {
        let event: Event = events.recv().await?;
        Some((Ok::<_, Infallible>(event), events))
    });
    // Some proxies keep back what they pass on until there is more of it.
    Ok(([("x-accel-buffering", "no")], Sse::new(events)).into_response())
}

/// The id behind which messages are wanted.
fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>, ApiError> {
    let Some(given) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let id = given.to_str().ok().and_then(|text| text.parse().ok()).filter(|id| *id >= 0);
    let wrong = || ApiError::invalid("Last-Event-ID is the id of an event of this topic: a number");
    id.map(Some).ok_or_else(wrong)
}

/// Why somebody may listen.
enum Right {
    Public,
    /// Until then.
    Token(Instant),
    /// With a session, by what is stored of it.
    User([u8; 32]),
}

impl Right {
    async fn of(
        admin: &Admin,
        app: AppId,
        (topic, mode): (&TopicName, TopicAuth),
        headers: &HeaderMap,
    ) -> Result<Self, ApiError> {
        match mode {
            TopicAuth::Public => Ok(Self::Public),
            TopicAuth::Token => {
                let token = bearer(headers).ok_or_else(refused)?;
                let known = admin.data.subscription(app, token).await?;
                let known = known.filter(|known| known.covers(topic)).ok_or_else(refused)?;
                Ok(Self::Token(Instant::now() + left(known.expires_at_s)))
            }
            TopicAuth::User => {
                let token = bearer(headers).or_else(|| cookie_of_own_page(headers)).ok_or_else(refused)?;
                let stored = AppToken::Session.stored_form(token).ok_or_else(refused)?;
                let mut conn = admin.hub.acquire().await?;
                let session =
                    store::app_user_sessions::live(&mut conn, app, stored).await?.ok_or_else(refused)?;
                if session.needs_sight {
                    store::app_user_sessions::mark_seen(&mut conn, app, session.id).await?;
                }
                Ok(Self::User(stored))
            }
        }
    }

    /// Whether what was found out once still holds; what ends at a time of its own is not asked here. That somebody listens
    /// does not keep their session.
    async fn still_holds(&self, admin: &Admin, app: AppId) -> sqlx::Result<bool> {
        let Self::User(stored) = self else { return Ok(true) };
        let mut conn = admin.hub.acquire().await?;
        Ok(store::app_user_sessions::live(&mut conn, app, *stored).await?.is_some())
    }

    /// When it is over by itself.
    const fn end(&self) -> Option<Instant> {
        match self {
            Self::Token(until) => Some(*until),
            Self::Public | Self::User(_) => None,
        }
    }
}

/// How long it is to this time.
fn left(expires_at_s: u64) -> Duration {
    let until = UNIX_EPOCH + Duration::from_secs(expires_at_s);
    until.duration_since(SystemTime::now()).unwrap_or_default()
}

/// The cookie of a user's session, unless another host's page asks: it could not read what is sent, and would
/// take places.
fn cookie_of_own_page(headers: &HeaderMap) -> Option<&str> {
    if cookie::is_of_another_page(headers) {
        return None;
    }
    let mut values = cookies(headers, USER_COOKIE);
    let token = values.next()?;
    values.next().is_none().then_some(token)
}

/// Of what is not there, and of what is not for somebody outside.
fn no_topic() -> ApiError {
    ApiError::not_found("there is no topic of this name to which somebody outside may listen")
}

fn refused() -> ApiError {
    let detail = "this topic is for who is let in: Authorization: Bearer with a token from pubsub::subscriber_token that \
                  names the topic and is not over, or the session of a user of the app, as the topic's auth_mode says";
    ApiError::new(Code::Unauthenticated, detail)
}

/// Tells until the end, or until nobody reads. What ends a stream goes before what it would tell.
async fn run(mut ends: Ends, mut telling: Telling, events: mpsc::Sender<Event>) {
    tokio::select! {
        biased;
        () = ends.come() => {}
        () = events.closed() => {}
        () = telling.tell(&events) => {}
    }
}

/// What ends a stream.
struct Ends {
    admin: Arc<Admin>,
    app: AppId,
    topic: TopicName,
    /// What the topic asked for when the stream began.
    mode: TopicAuth,
    until: Option<Instant>,
    changes: watch::Receiver<()>,
    has_ended: watch::Receiver<bool>,
}

impl Ends {
    async fn come(&mut self) {
        while !*self.has_ended.borrow() {
            let is_over = async {
                match self.until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = is_over => return,
                ended = self.has_ended.changed() => if ended.is_err() { return },
                changed = self.changes.changed() => {
                    let mode = self.admin.snapshot.topics().external(self.app, &self.topic);
                    if changed.is_err() || mode != Some(self.mode) {
                        return;
                    }
                }
            }
        }
    }
}

/// What a stream tells.
struct Telling {
    admin: Arc<Admin>,
    app: AppId,
    topic: TopicName,
    right: Right,
    /// Whether it could not be asked at the last heartbeat.
    is_in_doubt: bool,
    listener: Listener,
    heartbeat: Interval,
}

impl Telling {
    async fn tell(&mut self, events: &mpsc::Sender<Event>) {
        // An id alone is no event, and what somebody who hears nothing until the stream ends comes again with.
        let begin = self.listener.behind().map(|id| Event::default().id(id.to_string()));
        let mut next = match begin {
            None => self.next().await,
            begin => begin,
        };
        while let Some(event) = next {
            if events.send_timeout(event, UNREAD_MAX).await.is_err() {
                return;
            }
            next = self.next().await;
        }
    }

    /// What is sent next; nothing at the end.
    async fn next(&mut self) -> Option<Event> {
        tokio::select! {
            biased;
            _ = self.heartbeat.tick() => {
                let still = self.right.still_holds(&self.admin, self.app).await;
                // Who cannot be asked about twice does not listen on either; who is cut off comes again.
                if still.as_ref().map_or(self.is_in_doubt, |holds| !holds) {
                    return None;
                }
                self.is_in_doubt = still.is_err();
                Some(Event::default().comment(""))
            }
            heard = self.listener.next() => heard.map(|heard| event(&self.topic, &heard)),
        }
    }
}

#[derive(Serialize)]
struct Told<'a> {
    topic: &'a TopicName,
    message: &'a RawValue,
    published_at: String,
}

fn event(topic: &TopicName, heard: &Heard) -> Event {
    match heard {
        Heard::Message(kept) => told(topic, &kept.message, kept.published_at).id(kept.id.to_string()),
        Heard::Passing(passing) => told(topic, &passing.message, passing.published_at),
        Heard::Gap { missed, until } => {
            let data = json!({ "missed": missed }).to_string();
            // Who comes again with it is not told the same once more.
            Event::default().event("gap").id(until.to_string()).data(data)
        }
    }
}

fn told(topic: &TopicName, message: &str, published_at: DateTime<Utc>) -> Event {
    let published_at = published_at.to_rfc3339_opts(SecondsFormat::Millis, true);
    // What is published has been checked.
    let message: &RawValue = serde_json::from_str(message).unwrap_or(RawValue::NULL);
    let data = serde_json::to_string(&Told { topic, message, published_at }).unwrap_or_default();
    // Between JSON's tokens there may be line breaks, which would end the line of an event.
    Event::default().data(data.replace(['\r', '\n'], " "))
}
