//! The shapes of the admin API that `pic` reads. Fields it does not show are not named here, so a
//! newer server may add some.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use shared::capabilities::Capabilities;
use shared::limits::LimitsPatch;
use shared::route::{RateLimit, RatePer};

use crate::commands::routes::wire_method;
use crate::failure::Failure;

#[derive(Debug, Deserialize)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct App {
    pub(crate) slug: String,
    #[serde(default)]
    pub(crate) name: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Script {
    pub(crate) name: String,
    pub(crate) kind: String,
    /// The live version.
    pub(crate) version: Option<u32>,
    #[serde(default = "yes")]
    pub(crate) is_enabled: bool,
    #[serde(default)]
    pub(crate) quarantined_at: Option<String>,
    #[serde(default)]
    pub(crate) warnings: Vec<Value>,
    #[serde(default)]
    pub(crate) description: Option<String>,
    /// Scripts that contain this module and got a new version with it.
    #[serde(default)]
    pub(crate) rebundled: Vec<Rebundled>,
    #[serde(default)]
    pub(crate) capabilities: Capabilities,
    /// What it asks for and the version before did not.
    #[serde(default)]
    pub(crate) wants_more: Vec<String>,
    /// The version that was deployed, when somebody has to approve it first.
    #[serde(default)]
    pub(crate) awaiting: Option<Awaiting>,
}

/// A version that is kept and not live.
#[derive(Debug, Deserialize)]
pub(crate) struct Awaiting {
    pub(crate) version: u32,
    pub(crate) unapproved: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Rebundled {
    pub(crate) name: String,
    pub(crate) version: u32,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Version {
    pub(crate) version: u32,
    #[serde(default)]
    pub(crate) bundle_hash: String,
    #[serde(default)]
    pub(crate) created_at: Value,
    #[serde(default)]
    pub(crate) is_live: bool,
    #[serde(default)]
    pub(crate) capabilities: Option<Capabilities>,
    #[serde(default)]
    pub(crate) unapproved: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Route {
    pub(crate) id: String,
    pub(crate) method: Option<String>,
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) script: String,
    #[serde(default)]
    pub(crate) dispatch_mode: Option<String>,
    #[serde(default)]
    pub(crate) host: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Execution {
    pub(crate) id: String,
    pub(crate) script: String,
    #[serde(default)]
    pub(crate) version: u32,
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) started_at: Value,
    #[serde(default)]
    pub(crate) duration_ms: f64,
    #[serde(default)]
    pub(crate) fuel: u64,
    #[serde(default)]
    pub(crate) peak_memory_bytes: u64,
    #[serde(default)]
    pub(crate) error: Option<ScriptError>,
    /// Absent in lists of servers that keep lists short.
    #[serde(default)]
    pub(crate) logs: Option<Vec<LogLine>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum ScriptError {
    Text(String),
    Placed {
        message: String,
        #[serde(default)]
        script: String,
        #[serde(default)]
        line: u32,
        #[serde(default)]
        column: u32,
    },
}

#[derive(Debug, Deserialize)]
pub(crate) struct LogLine {
    pub(crate) level: String,
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) data: Value,
}

/// What came of a test run.
#[derive(Debug, Deserialize)]
pub(crate) struct Invoked {
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// Parsed when it is JSON, a string when it is text, else `{base64}`.
    #[serde(default)]
    pub(crate) body: Value,
    pub(crate) execution: Execution,
    /// There after a dry run.
    pub(crate) dry_run: Option<Would>,
}

/// What a script would have done.
#[derive(Debug, Deserialize)]
pub(crate) struct Would {
    pub(crate) deeds: Vec<Deed>,
    pub(crate) more: usize,
    /// Of the deeds, those whose value had no room.
    #[serde(default)]
    pub(crate) without_value: usize,
    pub(crate) events: usize,
    #[serde(default)]
    pub(crate) budget: Vec<Share>,
}

/// What a run takes of a budget.
#[derive(Debug, Deserialize)]
pub(crate) struct Share {
    pub(crate) name: String,
    pub(crate) share: f64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Deed {
    pub(crate) call: String,
    pub(crate) target: String,
    pub(crate) value: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct LoggedIn {
    pub(crate) token: String,
    #[serde(default)]
    pub(crate) expires_at: Value,
}

#[derive(Debug, Serialize)]
pub(crate) struct PutScript<'a> {
    pub(crate) source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limits: Option<LimitsPatch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct NewRoute<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<&'a str>,
    pub(crate) path: &'a str,
    pub(crate) script: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dispatch_mode: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<&'a str>,
    #[serde(flatten)]
    pub(crate) policy: RoutePolicyArgs,
}

/// What a route asks besides its address, and adds to the answer; see docs/routes.md.
#[derive(Debug, Clone, Default, Serialize, clap::Args)]
pub(crate) struct RoutePolicyArgs {
    /// Largest body of a request in bytes.
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    body_limit_bytes: Option<u32>,
    /// Who may call: everybody, who has an API key that may run the app's scripts, or users of the app who
    /// are logged in.
    #[arg(long, value_parser = ["none", "api_key", "user"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<String>,
    /// How often one client may call, as in `100/60`: requests in so many seconds.
    #[arg(long, value_name = "REQUESTS/SECONDS", value_parser = rate_limit)]
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit: Option<RateLimit>,
    /// Origin whose pages may call, such as `https://app.example.com`; may be given several times.
    #[arg(long = "cors-origin", value_name = "ORIGIN")]
    #[serde(rename = "cors", serialize_with = "cors", skip_serializing_if = "Vec::is_empty")]
    cors_origins: Vec<String>,
    /// How long good answers may be kept, as in `public, max-age=60`.
    #[arg(long, value_name = "HEADER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<String>,
}

fn rate_limit(text: &str) -> Result<RateLimit, &'static str> {
    let (requests, per_s) = text.split_once('/').ok_or("a rate is requests and seconds, as in 100/60")?;
    let number = |text: &str| text.trim().parse().map_err(|_| "a rate is two numbers, as in 100/60");
    Ok(RateLimit { requests: number(requests)?, per_s: number(per_s)?, by: RatePer::Client })
}

fn cors<S: Serializer>(origins: &[String], to: S) -> Result<S::Ok, S::Error> {
    json!({ "origins": origins }).serialize(to)
}

impl Route {
    /// The method as people say it; a route without one answers all.
    pub(crate) fn method(&self) -> &str {
        wire_method(self.method.as_deref()).unwrap_or("ANY")
    }
}

impl ScriptError {
    /// Message and, where known, `script:line:column`.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Placed { message, script, line, column } if *line > 0 => {
                let script = if script.is_empty() { "script" } else { script };
                format!("{message} ({script}:{line}:{column})")
            }
            Self::Text(message) | Self::Placed { message, .. } => message.clone(),
        }
    }
}

impl LogLine {
    /// The second argument of the log call as JSON text, if there was one.
    pub(crate) fn data(&self) -> Option<String> {
        match &self.data {
            Value::Null => None,
            Value::String(text) if text.is_empty() => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

/// What a server means that does not know of the field.
const fn yes() -> bool {
    true
}

/// Reads an answer as `T`; one that does not fit comes from a server of another age.
pub(crate) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Failure> {
    T::deserialize(value).map_err(Failure::UnexpectedAnswer)
}
