//! `http`: requests to the world, with the app's secrets put in on the way.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, header};
use shared::allowance::Allowance;
use shared::call::{CallCode, CallError, HostCall, Reply};
use shared::host_call::http::{BEHIND_SECRET, Request, Response, SECRET_HERE};
use shared::http::{PairBlock, Pairs};
use shared::limits::{RESPONSE_HEADER_BYTES_MAX, RESPONSE_HEADERS_MAX};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{Services, args, begin, failed, secrets};
use crate::budgets::Sending;
use crate::data::Access;
use crate::data::rehearsal::Rehearsal;
use crate::outbound::{self, PATIENCE, Refused, Target};
use crate::store;

/// What the connection needs for itself, or what says who asks.
const REFUSED_HEADERS: [&str; 11] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "proxy-connection",
    "accept-encoding",
    "x-picloud-app",
];

/// Says in an answer that nobody was asked.
const DRY_RUN: HeaderName = HeaderName::from_static("x-picloud-dry-run");

pub(super) async fn send(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let request: Request<'_> = args(call)?;
    call.context.left.spend(Allowance::Requests, 1)?;
    let app = call.context.app();
    let rules = {
        let mut conn = services.data.acquire(&Access::of_script(call)).await?;
        let rules = store::egress::rules(&mut conn, app).await;
        conn.answered(rules).map_err(|error| failed(&error))?
    };
    let target = Target::parse(request.url, &rules).map_err(refused)?;
    let (headers, secret_headers) = headers(services, call, &request).await?;
    let outgoing = outbound::Request {
        method: method(request.method)?,
        headers,
        secret_headers,
        body: Bytes::copy_from_slice(request.body),
        follows: request.follows,
        deadline: deadline(call, request.timeout_ms),
    };
    if Rehearsal::of(call).is_some() {
        // What would be sent is noted, and answered as if all went well. The name is told to nobody either.
        services.outbound.check_unresolved(&target).map_err(refused)?;
        let headers = HeaderMap::from_iter([(DRY_RUN, HeaderValue::from_static("true"))]);
        let (status, url, body) = (StatusCode::OK, request.url.to_owned(), Vec::new());
        return Ok(reply(call, outbound::Response { status, headers, body, url }));
    }
    begin(call)?;
    let mut visited = Vec::new();
    let mut visit = |target: &Target| -> Result<(), Refused> {
        // Where a redirect leads is no request of its own.
        if visited.is_empty() {
            services.budgets.spend(&call.context.target, Sending::Request)?;
        }
        visited.push(target.authority());
        Ok(())
    };
    let sender = (call.context.target.owner, app);
    let answer = services.outbound.send(sender, &rules, target, outgoing, &mut visit).await;
    remember(services, call, &visited).await;
    Ok(reply(call, answer.map_err(refused)?))
}

fn method(text: &str) -> Result<Method, CallError> {
    match text {
        "GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD" | "OPTIONS" => {
            Ok(Method::from_bytes(text.as_bytes()).expect("these are methods"))
        }
        _ => Err(CallError::invalid("the method is none of GET, POST, PUT, PATCH, DELETE, HEAD and OPTIONS")),
    }
}

/// The earliest of what the script, the execution and the platform allow.
fn deadline(call: &HostCall, timeout_ms: u32) -> Instant {
    let asked = match timeout_ms {
        0 => PATIENCE,
        ms => std::time::Duration::from_millis(ms.into()),
    };
    (Instant::now() + asked).min(call.context.deadline.into())
}

/// The headers to send, and which of them hold a secret.
async fn headers(
    services: &Services,
    call: &HostCall,
    request: &Request<'_>,
) -> Result<(HeaderMap, Vec<HeaderName>), CallError> {
    let mut headers = HeaderMap::new();
    for pair in Pairs::new(request.headers) {
        let (name, value) = pair.map_err(|error| CallError::invalid(error.to_string()))?;
        add(&mut headers, name, value)?;
    }
    let mut secret = Vec::new();
    for pair in Pairs::new(request.secret_headers) {
        let (name, template) = pair.map_err(|error| CallError::invalid(error.to_string()))?;
        let value = filled(services, call, template).await?;
        secret.push(add(&mut headers, name, value.as_bytes())?);
    }
    complete(&mut headers, call, request.method);
    Ok((headers, secret))
}

fn add(headers: &mut HeaderMap, name: &[u8], value: &[u8]) -> Result<HeaderName, CallError> {
    let shown = || String::from_utf8_lossy(&name[..name.len().min(80)]).into_owned();
    let invalid = |what: &str| CallError::invalid(format!("the header {:?} {what}", shown()));
    let name = HeaderName::from_bytes(name).map_err(|_| invalid("has no valid name"))?;
    if REFUSED_HEADERS.contains(&name.as_str()) {
        return Err(invalid("is the platform's to set"));
    }
    let value = HeaderValue::from_bytes(value).map_err(|_| invalid("has a value with control characters"))?;
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() >= RESPONSE_HEADERS_MAX || bytes + value.len() > RESPONSE_HEADER_BYTES_MAX {
        return Err(invalid("is too much: there are too many or too long headers"));
    }
    headers.append(name.clone(), value);
    Ok(name)
}

/// The text around a secret, with the secret in it.
async fn filled(
    services: &Services,
    call: &HostCall,
    template: &[u8],
) -> Result<Zeroizing<String>, CallError> {
    let text = std::str::from_utf8(template).map_err(|error| CallError::invalid(error.to_string()))?;
    let parts = text.split_once(char::from(BEHIND_SECRET));
    let (name, around) = parts.ok_or_else(|| CallError::invalid("a header names no secret"))?;
    let value = secrets::value(services, call, name).await?;
    let value = value.ok_or_else(|| {
        CallError::new(
            CallCode::NotFound,
            format!("the app has no secret {name:?}; `pic secrets set` sets it"),
        )
    })?;
    Ok(Zeroizing::new(around.replacen(SECRET_HERE, &value, 1)))
}

/// What is said unless the script says it, and what is always said.
fn complete(headers: &mut HeaderMap, call: &HostCall, method: &str) {
    let context = &call.context;
    let mut set = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.entry(name).or_insert(value);
        }
    };
    set(header::USER_AGENT, concat!("PiCloud/", env!("CARGO_PKG_VERSION")).to_owned());
    // The execution's step of its caller's trace, or a step of a trace that the execution's id names.
    let trace = context.execution.as_uuid().as_u128();
    let own = || format!("00-{trace:032x}-{:016x}-00", u64::from(call.number) | 1 << 63);
    let traceparent = context.trace.map_or_else(own, |step| step.to_string());
    set(HeaderName::from_static(shared::trace::TRACEPARENT), traceparent);
    if matches!(method, "POST" | "PATCH") {
        // A repeated delivery makes the same calls again; who is asked can tell.
        let execution = || context.execution.to_string();
        let whose = context.delivery.map_or_else(execution, |delivery| delivery.id.to_string());
        let key = format!("{whose}-{}", call.number);
        set(HeaderName::from_static("idempotency-key"), key);
    }
    let app = HeaderValue::try_from(context.app().to_string()).expect("an id is a header's value");
    headers.insert(HeaderName::from_static("x-picloud-app"), app);
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate"));
}

/// Notes where the app has been for the first time. When that fails, the script has its answer all the same, and
/// the next request notes it.
async fn remember(services: &Services, call: &HostCall, visited: &[String]) {
    let app = call.context.app();
    let news = services.destinations.news(app, visited);
    if news.is_empty() {
        return;
    }
    let noted = async {
        let mut conn = services.data.acquire(&Access::of_script(call)).await?;
        let seen = store::egress::see(&mut conn, app, call.context.target.name.as_str(), &news).await;
        conn.answered(seen).map_err(|error| failed(&error))
    };
    match noted.await {
        Ok(is_full_now) => {
            if is_full_now {
                tracing::warn!(app.id = %app, "an app's list of destinations is full; more are only counted");
            }
            services.destinations.remember(app, news);
        }
        Err(error) => tracing::warn!(app.id = %app, %error, "where an app sends requests was not noted"),
    }
}

/// The answer as the script gets it, without the secrets that went out: a server may send back what
/// it was sent.
fn reply(call: &HostCall, answer: outbound::Response) -> Reply {
    let confidential = &call.context.confidential;
    let mut headers = PairBlock::default();
    for (name, value) in &answer.headers {
        headers.push(name.as_str().as_bytes(), &confidential.redacted_bytes(value.as_bytes()));
    }
    let body = confidential.redacted_bytes(&answer.body);
    let url = confidential.redacted(&answer.url);
    Reply::success(&Response {
        status: answer.status.as_u16(),
        url: &url,
        headers: headers.as_bytes(),
        body: &body,
    })
}

fn refused(error: Refused) -> CallError {
    let code = match &error {
        Refused::Url(_) => CallCode::InvalidArgument,
        Refused::Port(_) | Refused::Host(_) | Refused::Address(_) => CallCode::Forbidden,
        Refused::TooMany(_) | Refused::OverBudget(_) => CallCode::BudgetExhausted,
        Refused::TooLarge => CallCode::TooLarge,
        Refused::Name
        | Refused::Addresses
        | Refused::Redirects
        | Refused::Encoding
        | Refused::Timeout
        | Refused::Exchange(_) => CallCode::Unavailable,
    };
    CallError::new(code, error.to_string())
}
