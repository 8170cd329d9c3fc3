//! Requests of scripts to the world. Whatever a script asks for, only public addresses are spoken to,
//! and each hop of a redirect is looked at as if it were the first.
//!
//! A name is looked up once; the addresses are checked, and the connection goes to what was checked:
//! no second lookup can give another answer.

mod address;
mod body;
mod clients;
mod resolve;
mod seen;
mod target;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{Method, StatusCode};
use shared::id::{AppId, UserId};
use shared::limits::{OUTBOUND_CONCURRENT_MAX, OUTBOUND_PER_MINUTE_MAX};
use tokio::time::{Instant, timeout_at};

pub use self::address::Addresses;
pub(crate) use self::address::Category;
use self::clients::Clients;
use self::resolve::{ADDRESSES_MAX, Names};
pub(crate) use self::seen::Destinations;
pub(crate) use self::target::{Rules, Target};
use crate::budgets::Spent;
use crate::shares::{Exhausted, Shares};

/// Longest wait for all of an exchange, redirects included.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Redirects that are followed; more is a loop or a game.
const REDIRECTS_MAX: usize = 5;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the address is refused: {0}")]
    Url(&'static str),
    #[error("port {0} is refused: it is no port of the web, and the app has not been given it")]
    Port(u16),
    #[error("the host {0} is not among those that the app may reach")]
    Host(String),
    #[error("the destination is refused: {0}")]
    Address(Category),
    #[error("the host's name cannot be resolved")]
    Name,
    #[error("the host's name has over {ADDRESSES_MAX} addresses")]
    Addresses,
    #[error("{0}")]
    TooMany(&'static str),
    #[error(transparent)]
    OverBudget(#[from] Spent),
    #[error("too many redirects: {REDIRECTS_MAX} are followed")]
    Redirects,
    #[error("the answer is too large")]
    TooLarge,
    #[error("the answer is not encoded as it says")]
    Encoding,
    #[error("no answer came in time")]
    Timeout,
    #[error("the exchange failed: {0}")]
    Exchange(&'static str),
}

impl Refused {
    /// What a script is told of a failure on the way: never an address.
    fn exchange(error: &reqwest::Error) -> Self {
        tracing::debug!(%error, "an outbound request failed");
        if error.is_timeout() {
            return Self::Timeout;
        }
        Self::Exchange(if error.is_connect() {
            "no connection"
        } else {
            "the other side broke off or is no web server"
        })
    }
}

/// Is told of a destination, and lets it be spoken to or not.
pub(crate) type Visit<'a> = dyn FnMut(&Target) -> Result<(), Refused> + Send + 'a;

/// A request as a script makes it, with its secrets put in.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    /// Headers that hold a secret: for the first origin alone, as are credentials.
    pub(crate) secret_headers: Vec<HeaderName>,
    pub(crate) body: Bytes,
    pub(crate) follows: bool,
    pub(crate) deadline: Instant,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Where it came from in the end.
    pub(crate) url: String,
}

/// Everything that requests share; a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Outbound(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    addresses: Addresses,
    names: Names,
    clients: Clients,
    shares: Shares,
    /// [`PATIENCE`] but in tests.
    patience: Duration,
}

impl Outbound {
    pub(crate) fn new(addresses: Addresses, dns_servers: Vec<SocketAddr>) -> Self {
        Self(Arc::new(Shared {
            addresses,
            names: Names::new(dns_servers),
            clients: Clients::default(),
            shares: Shares::new(OUTBOUND_CONCURRENT_MAX, OUTBOUND_PER_MINUTE_MAX),
            patience: PATIENCE,
        }))
    }

    /// Carries a request out. `visit` is told of every destination before it is spoken to, and may refuse it.
    pub(crate) async fn send(
        &self,
        (owner, app): (UserId, AppId),
        rules: &Rules,
        mut target: Target,
        mut request: Request,
        visit: &mut Visit<'_>,
    ) -> Result<Response, Refused> {
        let deadline = request.deadline.min(Instant::now() + self.0.patience);
        let whole = async {
            let _pass = self.0.shares.pass(owner, app).await.map_err(too_many)?;
            for _ in 0..=REDIRECTS_MAX {
                let mut answer = self.hop(&target, &request, visit).await?;
                let Some(next) = redirected(&target, &request, &answer, rules)? else {
                    let body = body::read(&mut answer).await?;
                    let url = target.url.to_string();
                    let headers = std::mem::take(answer.headers_mut());
                    return Ok(Response { status: answer.status(), headers, body, url });
                };
                request.redirect(answer.status(), target.is_same_origin(&next));
                target = next;
            }
            Err(Refused::Redirects)
        };
        timeout_at(deadline, whole).await.unwrap_or(Err(Refused::Timeout))
    }

    /// Where a target is, if all of it may be asked.
    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, Refused> {
        self.check_name(target)?;
        let addresses = match target.literal {
            Some(ip) => vec![SocketAddr::new(ip, target.port)],
            None => self.0.names.addresses(&target.host, target.port).await?,
        };
        self.allowed(addresses)
    }

    /// Whether a target may be asked, as far as that can be told without its name being looked up: a lookup tells
    /// the name to somebody.
    pub(crate) fn check_unresolved(&self, target: &Target) -> Result<(), Refused> {
        self.check_name(target)?;
        let known = match target.literal {
            Some(ip) => Some(vec![SocketAddr::new(ip, target.port)]),
            None => resolve::local(&target.host, target.port),
        };
        known.map_or(Ok(()), |addresses| self.allowed(addresses).map(drop))
    }

    fn check_name(&self, target: &Target) -> Result<(), Refused> {
        let refusal = self.0.addresses.refusal_by_name(&target.host, target.port);
        refusal.map_or(Ok(()), |category| Err(Refused::Address(category)))
    }

    /// The same addresses, if all of them may be asked.
    fn allowed(&self, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
        // One bad address among good ones is how a check is got around: which one is used is chance.
        match addresses.iter().find_map(|address| self.0.addresses.refusal(*address)) {
            Some(category) => Err(Refused::Address(category)),
            None => Ok(addresses),
        }
    }

    async fn hop(
        &self,
        target: &Target,
        request: &Request,
        visit: &mut Visit<'_>,
    ) -> Result<reqwest::Response, Refused> {
        let addresses = self.addresses(target).await?;
        visit(target)?;
        let client = self.0.clients.to(target, addresses)?;
        let sent = client
            .request(request.method.clone(), target.url.clone())
            .headers(request.headers.clone())
            .body(request.body.clone())
            .send();
        sent.await.map_err(|error| Refused::exchange(&error))
    }
}

fn too_many(exhausted: Exhausted) -> Refused {
    Refused::TooMany(match exhausted {
        Exhausted::AtOnce => "too many requests of the app, or of its owner's apps, are under way",
        Exhausted::PerMinute => "the app, or its owner's apps, have made too many requests in this minute",
    })
}

/// Where an answer sends us on to.
fn redirected(
    target: &Target,
    request: &Request,
    answer: &reqwest::Response,
    rules: &Rules,
) -> Result<Option<Target>, Refused> {
    let is_redirect = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = answer.headers().get(header::LOCATION).filter(|_| is_redirect && request.follows);
    let Some(location) = location else { return Ok(None) };
    let location = location.to_str().map_err(|_| Refused::Url("a redirect cannot be read"))?;
    target.follow(location, rules).map(Some)
}

impl Request {
    /// Changes the request as a redirect asks; to another origin nothing secret goes along.
    fn redirect(&mut self, status: StatusCode, is_same_origin: bool) {
        let becomes_get = match status.as_u16() {
            301 | 302 => self.method == Method::POST,
            303 => self.method != Method::HEAD,
            _ => false,
        };
        if becomes_get {
            self.method = Method::GET;
            self.body = Bytes::new();
            for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE] {
                self.headers.remove(name);
            }
        }
        if !is_same_origin {
            for name in self.secret_headers.drain(..) {
                self.headers.remove(name);
            }
            for name in [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION] {
                self.headers.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::HeaderValue;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn request() -> Request {
        let mut headers = HeaderMap::new();
        for name in ["authorization", "cookie", "x-api-key", "x-plain", "content-type"] {
            headers.insert(name, HeaderValue::from_static("v"));
        }
        Request {
            method: Method::POST,
            headers,
            secret_headers: vec![HeaderName::from_static("x-api-key")],
            body: Bytes::from_static(b"body"),
            follows: true,
            deadline: Instant::now(),
        }
    }

    #[tokio::test]
    async fn attack_a_redirect_to_another_origin_gets_no_secret() {
        let mut same = request();
        same.redirect(StatusCode::TEMPORARY_REDIRECT, true);
        assert_eq!((same.headers.len(), same.method, same.body.len()), (5, Method::POST, 4));
        let mut other = request();
        other.redirect(StatusCode::TEMPORARY_REDIRECT, false);
        let left: Vec<_> = other.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-plain", "content-type"]);
    }

    #[tokio::test]
    async fn a_post_that_is_sent_elsewhere_becomes_a_get_without_a_body() {
        for (status, becomes_get) in [(301, true), (302, true), (303, true), (307, false), (308, false)] {
            let mut request = request();
            request.redirect(StatusCode::from_u16(status).unwrap(), true);
            assert_eq!(request.method == Method::GET, becomes_get, "{status}");
            assert_eq!(request.body.is_empty(), becomes_get, "{status}");
        }
    }

    #[tokio::test]
    async fn attack_a_listeners_name_is_refused_before_it_is_looked_up_and_in_a_dry_run() {
        let named_listeners = vec![("db".to_owned(), 8080)];
        let addresses = Addresses { named_listeners, ..Addresses::default() };
        let outbound = Outbound::new(addresses, Vec::new());
        for url in ["http://db:8080/", "http://DB.:8080/"] {
            let target = Target::parse(url, &Rules::default()).unwrap();
            let seen = [outbound.check_unresolved(&target), outbound.addresses(&target).await.map(drop)];
            assert!(
                seen.iter().all(|seen| matches!(seen, Err(Refused::Address(Category::Own)))),
                "{url}: {seen:?}"
            );
        }
        let other = Target::parse("http://db:8443/", &Rules::default()).unwrap();
        assert!(outbound.check_unresolved(&other).is_ok());
    }

    /// What comes does not move the deadline, which nobody but the platform has set here.
    #[tokio::test]
    async fn attack_a_server_that_drips_for_ever_is_given_up_when_patience_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dripped = Arc::new(AtomicUsize::new(0));
        let server = tokio::spawn({
            let dripped = Arc::clone(&dripped);
            async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                // An answer before the request would be no answer.
                stream.read_exact(&mut [0; 4]).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                while stream.write_all(b".").await.is_ok() {
                    dripped.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            }
        });
        let allow_private = vec!["127.0.0.0/8".parse().unwrap()];
        let addresses = Addresses { allow_private, ..Addresses::default() };
        let mut outbound = Outbound::new(addresses, Vec::new());
        assert_eq!(outbound.0.patience, Duration::from_secs(30));
        Arc::get_mut(&mut outbound.0).unwrap().patience = Duration::from_secs(3);
        let rules = Rules { ports: vec![address.port()], ..Rules::default() };
        let target = Target::parse(&format!("http://{address}/"), &rules).unwrap();
        let request = Request { deadline: Instant::now() + Duration::from_secs(60 * 60), ..request() };
        let sender = (UserId::new(), AppId::new());
        let sent = outbound.send(sender, &rules, target, request, &mut |_: &Target| Ok(())).await;
        assert!(matches!(sent, Err(Refused::Timeout)), "{sent:?}");
        assert!(dripped.load(Ordering::Relaxed) > 1, "nothing came");
        assert!(!server.is_finished(), "the server had not ended");
        server.abort();
    }
}
