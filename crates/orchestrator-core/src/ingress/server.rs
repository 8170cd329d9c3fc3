//! The listener, and the way of a request from it to the platform or to an app's route.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT};
use http::request::Parts;
use http::{HeaderValue, Request, Response, Version};
use http_body_util::{Either, Full};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use ipnet::IpNet;
use shared::fault::Code;
use shared::host::normalized;
use shared::http::{AppHost, BodyRoom, ClientAddress, RequestId};
use shared::id::AppId;
use shared::invocation::Work;
use shared::limits::BODIES_BYTES_MIN;
use shared::ports::{Accept, AssetSource, Authenticate};
use shared::route::{DispatchMode, is_realtime, is_reserved};
use shared::trace::{TRACEPARENT, TraceContext};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;
use tracing::Instrument;

use super::answer::Answer;
use super::bodies::{Bodies, Lent, Room};
use super::body::Paced;
use super::gate::Gate;
use super::home::Home;
use super::problem::{Failure, missed, too_many};
use super::rate::Rates;
use super::request::Call;
use super::taking::Clock;
use super::trace::{Recording, Tracing, header_value};
use super::{accept, answer, assets, body, caller, connection, cors, request, response, trace};
use crate::pool::Pool;
use crate::routing::{Matched, Miss, Place, Router};

/// How long open connections get to finish when the server stops.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(30);

/// What the ingress is told by its operator.
#[derive(Debug, Clone, Default)]
pub struct IngressConfig {
    /// Proxies whose `X-Forwarded-For` and `X-Request-Id` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Recording of traces; off unless somebody listens.
    pub tracing: Option<Tracing>,
}

/// Everything a request to a script needs.
pub struct DataPlane {
    pub router: Router,
    pool: Pool,
    /// Knows who sends an API key.
    callers: Arc<dyn Authenticate>,
    assets: Arc<dyn AssetSource>,
    /// Takes requests that must not be lost.
    outbox: Arc<dyn Accept>,
    rates: Rates,
    bodies: Bodies,
    home: Home,
}

impl std::fmt::Debug for DataPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataPlane").finish_non_exhaustive()
    }
}

/// Serves until `shutdown` resolves, then lets open requests finish.
///
/// `platform` answers the reserved paths: admin API, health, version.
pub async fn serve<P, B>(
    listener: TcpListener,
    plane: Arc<DataPlane>,
    platform: P,
    config: IngressConfig,
    shutdown: impl Future<Output = ()>,
) where
    P: tower::Service<Request<Paced>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    P::Future: Send,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let ingress = Arc::new(Ingress { plane, platform, config });
    let builder = Arc::new(connection::builder());
    let gate = Gate::default();
    let graceful = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            },
            () = shutdown.as_mut() => break,
        };
        // A listener on `[::]` sees clients of IPv4 by their addresses in IPv6.
        let peer = peer.ip().to_canonical();
        let counted = (!request::is_trusted(peer, &ingress.config.trusted_proxies)).then_some(peer);
        let Some(admitted) = gate.admit(counted) else {
            continue;
        };
        let clock = Arc::new(connection::clock());
        let watched = graceful.watch(serve_one(&builder, &ingress, stream, peer, Arc::clone(&clock)));
        tokio::spawn(async move {
            // A client that breaks the protocol or leaves, or has to, is not worth a log line.
            tokio::select! {
                _ = watched => {}
                () = clock.stalled() => {}
            }
            drop(admitted);
        });
    }
    drop(listener);
    if tokio::time::timeout(SHUTDOWN_PATIENCE, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections are still open at the end of the drain; they are cut off");
    }
}

/// Out of descriptors is the one error that repeats at once; all others concern one connection.
async fn pause_after(error: &std::io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

fn serve_one<P, B>(
    builder: &Builder<TokioExecutor>,
    ingress: &Arc<Ingress<P>>,
    stream: TcpStream,
    peer: IpAddr,
    clock: Arc<Clock>,
) -> impl hyper_util::server::graceful::GracefulConnection<Error: std::fmt::Debug> + Send + 'static
where
    P: tower::Service<Request<Paced>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    P::Future: Send,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = connection::prepared(stream, &clock);
    let ingress = ingress.clone();
    let service = service_fn(move |request| {
        let (ingress, clock) = (ingress.clone(), clock.clone());
        async move { Ok::<_, Infallible>(ingress.handle(request, peer, &clock).await) }
    });
    builder.serve_connection(stream, service).into_owned()
}

struct Ingress<P> {
    plane: Arc<DataPlane>,
    platform: P,
    config: IngressConfig,
}

impl<P, B> Ingress<P>
where
    P: tower::Service<Request<Paced>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync,
    P::Future: Send,
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    async fn handle(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        clock: &Arc<Clock>,
    ) -> Response<Answer<Either<Full<Bytes>, B>>> {
        let trusted = &self.config.trusted_proxies;
        let request_id = request::request_id(request.headers(), peer, trusted);
        let client = request::client_address(request.headers(), peer, trusted);
        let mut request = request.map(Paced::new);
        let is_http1 = request.version() <= Version::HTTP_11;
        let rest = if is_http1 { request.body_mut().keep_rest() } else { None };
        let is_asked_for = rest.is_some() && request.headers().contains_key(EXPECT);
        let tracing = self.config.tracing.as_ref();
        let trace = trace::follow(request.headers_mut(), tracing);
        let recording = Recording::begin(tracing, trace, &request, &request_id);
        let mut room = self.plane.bodies.room(client);
        let answered = if is_reserved(request.uri().path()) {
            let trace = trace.unwrap_or_default();
            let span = tracing::info_span!("request", id = &*request_id, trace = trace.trace_id());
            match self.plane.home.check(&self.plane.router, &request) {
                Ok(()) => {
                    let asked = self.ask_platform(request, client, request_id.clone(), trace, &mut room);
                    asked.instrument(span).await
                }
                Err(failure) => failure.into_response(&request_id).map(Either::Left),
            }
        } else {
            let run = self.plane.run(request, client, request_id.clone(), recording.as_ref(), &mut room);
            let mut answered = run.await.unwrap_or_else(|failure| failure.into_response(&request_id));
            if let Some(trace) = trace {
                answered.headers_mut().insert(TRACEPARENT, header_value(trace));
            }
            answered.map(Either::Left)
        };
        let mut answered = answer::counted(answered, room, clock, &request_id);
        if let Some(recording) = recording {
            recording.end(answered.status());
        }
        if let Some(rest) = rest
            && !rest.read(is_asked_for).await
        {
            answered.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answered
    }

    async fn ask_platform(
        &self,
        mut request: Request<Paced>,
        client: IpAddr,
        request_id: Arc<str>,
        trace: TraceContext,
        room: &mut Room,
    ) -> Response<Either<Full<Bytes>, B>> {
        if is_realtime(request.uri().path())
            && let Some(app) = self.plane.app_of(&request)
        {
            request.extensions_mut().insert(AppHost(app));
        }
        request.extensions_mut().insert(ClientAddress(client));
        request.extensions_mut().insert(RequestId(request_id.clone()));
        let lent = Arc::new(Lent::of(room));
        request.extensions_mut().insert(BodyRoom(lent.clone()));
        let mut response = match self.platform.clone().oneshot(request).await {
            Ok(response) => response.map(Either::Right),
            Err(never) => match never {},
        };
        *room = lent.take_back();
        if let Ok(value) = request_id.parse() {
            response.headers_mut().insert(super::problem::REQUEST_ID.clone(), value);
        }
        response.headers_mut().insert(TRACEPARENT, header_value(trace));
        response
    }
}

impl DataPlane {
    /// `public_url` is where people reach the server itself.
    pub fn new(
        router: Router,
        pool: Pool,
        callers: Arc<dyn Authenticate>,
        assets: Arc<dyn AssetSource>,
        outbox: Arc<dyn Accept>,
        public_url: &str,
    ) -> Self {
        let home = Home::at(public_url);
        let (rates, bodies) = (Rates::default(), Bodies::new(BODIES_BYTES_MIN));
        Self { router, pool, callers, assets, outbox, rates, bodies, home }
    }

    /// Sets how many bytes of bodies may be in memory, those of requests until they are answered and those of answers until
    /// they are taken; [`BODIES_BYTES_MIN`] unless set.
    pub fn with_body_memory(self, bytes: u64) -> Self {
        Self { bodies: Bodies::new(bytes), ..self }
    }

    /// Whether a normalised host is that of the server itself.
    pub fn is_own_host(&self, name: &str) -> bool {
        self.home.is_host(name)
    }

    /// The app on whose host a request came.
    fn app_of<B>(&self, request: &Request<B>) -> Option<AppId> {
        match self.router.host(&normalized(request::host(request).ok()?))? {
            Place::App { host, .. } => Some(host.app),
            Place::Moved(_) => None,
        }
    }

    /// Host → app → route → script, and back.
    async fn run(
        &self,
        request: Request<Paced>,
        client: IpAddr,
        request_id: Arc<str>,
        recording: Option<&Recording<'_>>,
        room: &mut Room,
    ) -> Result<Response<Full<Bytes>>, Failure> {
        let given = request::host(&request)?;
        let name = normalized(given);
        let place = self.router.host(&name).ok_or_else(|| {
            let name: String = name.chars().take(80).collect();
            Failure::new(Code::UnknownHost, format!("no app answers on host {name:?}"))
        })?;
        request::check_uri(&request)?;
        let (host, param) = match place {
            Place::App { host, param } => (host, param),
            Place::Moved(to) => return Ok(response::moved(&to, given, request.uri(), &request_id)),
        };
        room.set_app(host.app);
        let name = name.into_owned();
        let (parts, incoming) = request.into_parts();
        let path = parts.uri.path();
        if let Some(method) = cors::preflight(&parts.method, &parts.headers)
            && let Ok(Matched { route, .. }) = host.routes.find(method, &name, path)
            && let Some(policy) = &route.policy.cors
        {
            return Ok(cors::allow(policy, method, &parts.headers));
        }
        let matched = match host.routes.find(parts.method.as_str(), &name, path) {
            Ok(matched) => matched,
            Err(miss) => {
                let is_file_wanted = miss == Miss::NoRoute && host.has_assets;
                if is_file_wanted
                    && let Some(file) = assets::find(&*self.assets, host.app, &parts, &request_id).await?
                {
                    return Ok(file);
                }
                return Err(missed(miss));
            }
        };
        let params = param.iter().map(|(name, label)| (name.as_str(), label.as_str()));
        let params: Vec<_> = params.chain(matched.route.host_param(&name)).collect();
        let arrival = Arrival { parts: &parts, client, params: &params, request_id: &request_id, recording };
        let mut answered = match self.call(&matched, &arrival, incoming, room).await {
            Ok(response) => response,
            Err(failure) => failure.into_response(&request_id),
        };
        response::apply(&matched.route.policy, &parts, &mut answered);
        Ok(answered)
    }

    /// Runs a route's script for a caller whom the route lets in.
    async fn call(
        &self,
        matched: &Matched<'_>,
        arrival: &Arrival<'_>,
        incoming: Paced,
        room: &mut Room,
    ) -> Result<Response<Full<Bytes>>, Failure> {
        let Arrival { parts, client, params: host_params, request_id, recording } = *arrival;
        let route = matched.route;
        if route.is_disabled {
            let detail = "the script behind this address is switched off by its people";
            return Err(Failure::new(Code::ScriptDisabled, detail));
        }
        // Before the credential: guesses are counted too.
        if let Some(limit) = route.policy.rate_limit {
            self.rates.count(route.id, limit, client).map_err(|seconds| too_many(limit, seconds))?;
        }
        let app = route.target.app;
        let caller = caller::identify(&*self.callers, app, &route.policy, parts).await?;
        let body = body::read(incoming, route.body_bytes_max, room).await?;
        let call = Call { parts, body: &body, client, caller: caller.as_ref(), host_params };
        if route.dispatch != DispatchMode::Sync {
            return accept::accept(&*self.outbox, &self.home, matched, &call, request_id).await;
        }
        let invocation = request::invocation(matched, &call, Arc::clone(request_id));
        // The script's copy is what takes its room from here on.
        drop(body);
        let trace = invocation.trace.as_deref().copied();
        let result = self.pool.work(Work::Run(invocation)).await;
        room.clear();
        if let Some(recording) = recording {
            recording.ran(trace, &route.target, &result);
        }
        Ok(response::answer(result, request_id))
    }
}

/// A request that has found its route, without its body.
#[derive(Clone, Copy)]
struct Arrival<'a> {
    parts: &'a Parts,
    client: IpAddr,
    params: &'a [(&'a str, &'a str)],
    request_id: &'a Arc<str>,
    recording: Option<&'a Recording<'a>>,
}
