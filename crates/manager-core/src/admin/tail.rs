//! Following an app's logs: server-sent events as executions end.
//!
//! `log` is one line, `execution` an execution that ended, `gap` says how many executions passed
//! unseen because the reader was too slow.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use chrono::{DateTime, Utc};
use futures_util::stream::{self, Stream};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use shared::fault::Code;
use shared::id::AppId;
use shared::invocation::ExecutionRecord;

use super::executions::Execution;
use super::problem::ApiError;
use super::{Admin, access};
use crate::auth::{Capability, Principal};
use crate::recorder::{self, TailEvent, TailReader, TooManyTails};
use crate::store::apps::App;

/// How often a reader is asked for their right again, while there is something to read.
const ASK_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn follow(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let reader = admin.recorder.tail().map_err(|error: TooManyTails| {
        ApiError::new(Code::TooManyRequests, error.to_string()).retry_after(10)
    })?;
    let tail = Tail { admin, principal, asked: Instant::now(), reader, app: app.id, ready: VecDeque::new() };
    let events = stream::unfold(tail, |mut tail| async {
        let event = tail.next().await?;
        Some((Ok(event), tail))
    });
    // The comments keep proxies from closing a quiet connection.
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

struct Tail {
    admin: Arc<Admin>,
    principal: Principal,
    /// When it was last found that the reader may read.
    asked: Instant,
    reader: TailReader,
    app: AppId,
    /// Events of the last execution that are not sent yet.
    ready: VecDeque<Event>,
}

impl Tail {
    async fn next(&mut self) -> Option<Event> {
        while self.ready.is_empty() {
            let seen = self.reader.next(self.app).await?;
            if !self.may_still_read().await {
                return None;
            }
            match seen {
                TailEvent::Ended(record) => self.ready = events_of(&record),
                TailEvent::Gap(missed) => return Some(event("gap", &json!({ "missed": missed }))),
            }
        }
        self.ready.pop_front()
    }

    /// The gate let the reader in once, and a stream has no end: who was taken out of the app or logged
    /// out must not read on.
    async fn may_still_read(&mut self) -> bool {
        if self.asked.elapsed() < ASK_EVERY {
            return true;
        }
        self.asked = Instant::now();
        let still = async {
            let mut conn = self.admin.database.acquire().await?;
            access::still(&mut conn, &self.principal, self.app, Capability::ReadApp).await
        };
        // Who cannot be asked about does not read on either; a reader that is cut off asks again.
        still.await.unwrap_or(false)
    }
}

#[derive(Serialize)]
struct Line<'a> {
    execution: String,
    /// When the execution began: lines have no time of their own.
    started_at: DateTime<Utc>,
    script: &'a str,
    version: u32,
    #[serde(flatten)]
    line: LineParts,
}

#[derive(Serialize, serde::Deserialize)]
struct LineParts {
    level: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

fn events_of(record: &ExecutionRecord) -> VecDeque<Event> {
    let row = recorder::row(record);
    let lines: Vec<LineParts> = serde_json::from_str(row.logs.get()).unwrap_or_default();
    let mut events: VecDeque<_> = lines
        .into_iter()
        .map(|line| {
            let script = record.target.name.as_str();
            event(
                "log",
                &Line {
                    execution: record.id.to_string(),
                    started_at: row.started_at,
                    script,
                    version: record.target.version,
                    line,
                },
            )
        })
        .collect();
    events.push_back(event("execution", &Execution::without_logs(row)));
    events
}

fn event(kind: &str, data: &impl Serialize) -> Event {
    // JSON text has no line breaks of its own, which an event's data could not hold as one line.
    Event::default().event(kind).data(serde_json::to_string(data).unwrap_or_default())
}
