//! The seams between the cores. Nearly each is one method; in a split deployment the same traits are
//! implemented over the network and the cores do not change. A new port needs an ADR.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::call::{HostCall, Reply};
use crate::caller::Caller;
use crate::guest_abi::GuestHttp;
use crate::id::{AppId, DeliveryId, RouteId, UserId};
use crate::incident::Incident;
use crate::invocation::{ExecutionRecord, Refusal, ScriptTarget, Work, WorkResult};
use crate::route::RoutingTable;
use crate::script::{Bundle, BundleHash};
use crate::trace::Span;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Pool → services (ADR 0012): what a script asks for. See [`crate::call`].
pub trait HostCalls: Send + Sync {
    fn call(&self, call: HostCall) -> BoxFuture<'_, Reply>;
}

/// Dispatcher and admin API → pool.
pub trait Invoke: Send + Sync {
    fn invoke(&self, work: Work) -> BoxFuture<'_, WorkResult>;
}

/// Router ← store. The answer is the routing table as of the last commit; it must be cheap, since
/// it is asked for on every request.
pub trait RouteSource: Send + Sync {
    fn current(&self) -> Arc<RoutingTable>;
}

/// A bundle that should exist could not be had.
#[derive(Debug, thiserror::Error)]
#[error("bundle {0} could not be read")]
pub struct BundleUnavailable(pub BundleHash);

/// Pool ← store.
pub trait BundleSource: Send + Sync {
    fn bundle(&self, hash: BundleHash) -> BoxFuture<'_, Result<Arc<Bundle>, BundleUnavailable>>;
}

/// Pool → recorder (ADR 0003). Never blocks: the recorder sheds what it cannot keep up with.
pub trait RecordSink: Send + Sync {
    fn record(&self, record: ExecutionRecord);

    /// A compilation has ended that burnt so much in the app's name. It is no execution and leaves no record, so who
    /// keeps records alone has nothing to do.
    fn compiled(&self, _app: AppId, _fuel: u64) {}
}

/// Pool → manager (ADR 0008): whether a script may run now, by its app's budget and its own record.
/// Asked before every execution, and again when one has waited, with the pool's lock held: the answer must be in
/// memory, and whoever gives it must not use the pool meanwhile.
pub trait Permits: Send + Sync {
    fn permit(&self, target: &ScriptTarget) -> Result<(), Refusal>;
}

/// Pool → manager (ADR 0008): a worker misbehaved. Never blocks.
pub trait IncidentSink: Send + Sync {
    fn report(&self, incident: Incident);
}

/// Why a credential gets nobody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialRefused {
    #[error("the credential is not a live one")]
    Unknown,
    #[error("the credential may not run scripts of this app")]
    NotAllowed,
    /// Whether it is good cannot be found out now. Nobody becomes a stranger by that.
    #[error("the credential cannot be checked now")]
    Unavailable,
}

/// What a caller shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shown<'a> {
    /// A key of a person's program.
    ApiKey(&'a str),
    /// A token of a session of one of the app's own users.
    Session(&'a str),
}

impl fmt::Debug for Shown<'_> {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApiKey(_) => "ApiKey",
            Self::Session(_) => "Session",
        })
    }
}

/// Ingress → manager (ADR 0009): who shows this, if they may run scripts of the app.
pub trait Authenticate: Send + Sync {
    fn authenticate<'a>(
        &'a self,
        app: AppId,
        shown: Shown<'a>,
    ) -> BoxFuture<'a, Result<Caller, CredentialRefused>>;
}

/// A request whose script runs by way of the outbox.
#[derive(Debug)]
pub struct Arrived<'a> {
    pub route: RouteId,
    pub target: &'a ScriptTarget,
    pub request_id: &'a str,
    pub caller: Option<&'a Caller>,
    pub http: GuestHttp<'a>,
    /// Whether the caller waits for the answer.
    pub is_awaited: bool,
    /// A request with the same key is accepted once, with a digest of what it asks for.
    pub key: Option<(&'a [u8], [u8; 32])>,
}

/// What came of a request that was accepted.
#[derive(Debug)]
pub enum Accepted {
    /// It is written down and will run.
    Later { delivery: DeliveryId, is_repeated: bool },
    /// It ran, or was refused, and nobody will try again.
    Ended(Box<WorkResult>),
}

/// Why a request is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    #[error("the app has as many events waiting as it may have")]
    Full,
    #[error("the key was used for another request")]
    KeyReused,
    #[error("the request cannot be written down now")]
    Unavailable,
}

/// Ingress → manager (ADR 0020): takes a request that must not be lost.
pub trait Accept: Send + Sync {
    fn accept<'a>(&'a self, request: Arrived<'a>) -> BoxFuture<'a, Result<Accepted, NotAccepted>>;
}

/// A static file of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    pub content_type: String,
    /// SHA-256 of the content.
    pub hash: [u8; 32],
    pub content: Vec<u8>,
}

/// Whether there is such a file cannot be found out now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the file cannot be read now")]
pub struct AssetUnavailable;

/// Ingress → store (ADR 0010): the file at a decoded path of an app, when no route is there.
pub trait AssetSource: Send + Sync {
    fn asset<'a>(
        &'a self,
        app: AppId,
        path: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<Asset>>, AssetUnavailable>>;
}

/// A body finds no room in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("requests and answers take all the memory that they may have; try again in a second")]
pub struct NoRoom;

/// Admin API → ingress (ADR 0037): the room in memory for one request's body. It is given back when the request is
/// answered; where that never comes, because the client has left, when nobody has this any more.
pub trait HoldBody: fmt::Debug + Send + Sync {
    /// Makes room for so many bytes in all, out of this person's share, or out of the client's while nobody is known.
    fn hold(&self, person: Option<UserId>, bytes: usize) -> Result<(), NoRoom>;
}

/// Ingress → telemetry (ADR 0020): a step of a recorded trace has ended. Never blocks.
pub trait SpanSink: Send + Sync {
    fn ended(&self, span: Span<'_>);
}
