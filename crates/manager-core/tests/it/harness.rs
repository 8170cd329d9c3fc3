//! A manager on a database of its own, and a client that is logged in to it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use manager_core::{
    Addresses, EventRetention, FileStorage, FirstOwner, Manager, ManagerConfig, MasterKey, MasterKeys,
    OrphanSweep, Retention, RowSecurity, permissions_beside, row_security,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::cause::Cause;
use shared::guest_abi::InvocationType;
use shared::http::{AppHost, ClientAddress, RequestId};
use shared::id::{AppId, ExecutionId, ScriptId, UserId};
use shared::invocation::{ExecutionRecord, ExecutionStatus, ScriptTarget, Usage};
use shared::limits::ScriptLimits;
use shared::script::BundleHash;
use tokio::sync::OnceCell;
use tower::ServiceExt;

use crate::database::TestDatabase;
use crate::pool::FakePool;

/// Done when it was seen that the second wall between apps holds on this PostgreSQL.
static WALL: OnceCell<()> = OnceCell::const_new();
/// Makes each session's secret another one.
static SESSIONS: AtomicU64 = AtomicU64::new(0);

pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub(crate) const PASSWORD: &str = "correct horse battery staple";

pub(crate) struct TestApi {
    pub(crate) manager: Manager,
    pub(crate) pool: Arc<FakePool>,
    pub(crate) router: Router,
    pub(crate) database: Arc<TestDatabase>,
    pub(crate) token: String,
}

/// What an endpoint answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
    pub(crate) text: String,
}

impl Reply {
    /// Asserts that this is a problem of that code, complete and with the status of its code.
    #[track_caller]
    pub(crate) fn is_problem(&self, code: &str) -> &Value {
        assert_eq!(self.json["code"], code, "{self:?}");
        assert_eq!(self.json["status"], self.status.as_u16(), "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        for member in ["type", "title", "detail", "request_id", "fault", "retry"] {
            assert!(self.json[member].is_string(), "{member}: {self:?}");
        }
        &self.json
    }

    /// Asserts the status and gives the body.
    #[track_caller]
    pub(crate) fn is(&self, status: u16) -> &Value {
        assert_eq!(self.status, status, "{self:?}");
        &self.json
    }
}

pub(crate) fn config() -> ManagerConfig {
    let events = EventRetention {
        dead_letters_per_app: 10_000,
        dead_letter_bytes_per_app: 256 << 20,
        abandoned_per_app: 10_000,
    };
    let retention = Retention { age: DAY * 30, records_per_app: 100_000, events, every: DAY };
    ManagerConfig {
        base_domain: "localhost".into(),
        public_url: "http://127.0.0.1:8080".into(),
        retention,
        secret_keys: MasterKeys { current: MasterKey::generate().unwrap(), staged: None, keeper: None },
        addresses: Addresses::default(),
        mail_server: None,
        // Nobody answers there.
        dns_servers: vec!["127.0.0.1:1".parse().unwrap()],
        oidc: Vec::new(),
        // Tests ask faster than people.
        api_requests_per_minute: 1_000_000,
        files: FileStorage::Memory,
        orphans: OrphanSweep::default(),
    }
}

pub(crate) fn owner() -> FirstOwner {
    FirstOwner { username: "ada".parse().unwrap(), password: PASSWORD.into() }
}

/// The manager's part of the server, and at the addresses of the composition root's part answers that
/// say nothing, behind the manager's guard.
fn served(manager: &Manager, pool: &Arc<FakePool>) -> Router {
    let beside = permissions_beside().into_iter().map(|permission| permission.path);
    let beside = beside.chain(["/unknown-to-the-guard"]);
    let beside = beside.fold(Router::new(), |router, path| router.route(path, get(async || "")));
    manager.guarded(beside).fallback_service(manager.admin_router(pool.clone()))
}

/// Without the wall PiCloud works all the same, so every test would pass that does not look for it.
async fn holds(database: &TestDatabase) {
    let state = row_security(&database.options()).await.unwrap();
    assert_eq!(state, RowSecurity::Holds, "the tests' user must be a superuser, or a member of the role");
}

impl TestApi {
    /// A manager after its first start, with the owner logged in.
    pub(crate) async fn start() -> Self {
        Self::start_with(config()).await
    }

    pub(crate) async fn start_with(config: ManagerConfig) -> Self {
        let database = Arc::new(TestDatabase::create().await);
        let manager = Manager::open(database.options(), config).await.unwrap();
        WALL.get_or_init(|| holds(&database)).await;
        manager.bootstrap(owner()).await.unwrap();
        let pool = Arc::new(FakePool::default());
        let router = served(&manager, &pool);
        let mut api = Self { manager, pool, router, database, token: String::new() };
        let reply = api.login("ada", PASSWORD, None).await;
        api.token = reply.is(200)["token"].as_str().unwrap().to_owned();
        api
    }

    /// Stops the manager, which writes what it still has in memory, and starts another on what is kept.
    pub(crate) async fn restart(&mut self) {
        self.manager.close().await;
        self.manager = Manager::open(self.database.options(), config()).await.unwrap();
        self.router = served(&self.manager, &self.pool);
    }

    pub(crate) async fn login(&self, username: &str, password: &str, address: Option<IpAddr>) -> Reply {
        let body = json!({ "username": username, "password": password });
        let mut request = Request::post("/api/v1/admin/auth/login")
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        if let Some(address) = address {
            request.extensions_mut().insert(ClientAddress(address));
        }
        self.send(request).await
    }

    pub(crate) async fn send(&self, mut request: Request<Body>) -> Reply {
        request.extensions_mut().insert(RequestId("request-1".into()));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Reply { status: parts.status, headers: parts.headers, json, text }
    }

    /// The same API as seen by another person, who is made and logged in without the cost of a
    /// password.
    pub(crate) async fn person(&self, username: &str, role: &str) -> Self {
        let user = uuid::Uuid::now_v7();
        self.database
            .execute(&format!(
                "insert into users (id, username, password_hash, role) values ('{user}', '{username}', 'none', '{role}')"
            ))
            .await;
        self.with_token(self.session_of(user).await)
    }

    /// A new session of a person.
    pub(crate) async fn session_of(&self, user: uuid::Uuid) -> String {
        let number = SESSIONS.fetch_add(1, Relaxed).to_le_bytes();
        let secret = Sha256::new().chain_update(user.as_bytes()).chain_update(number).finalize();
        let hash: String = Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect();
        self.database
            .execute(&format!(
                "insert into sessions (id, user_id, token_hash, expires_at)
                 values (gen_random_uuid(), '{user}', '\\x{hash}', now() + interval '1 day')"
            ))
            .await;
        format!("pics_{}", URL_SAFE_NO_PAD.encode(secret))
    }

    pub(crate) fn with_token(&self, token: String) -> Self {
        let Self { manager, pool, router, database, .. } = self;
        let (manager, pool, router) = (manager.clone(), pool.clone(), router.clone());
        Self { manager, pool, router, database: database.clone(), token }
    }

    /// What somebody outside is answered who shows this token to listen to a topic. Who is let in leaves at once.
    pub(crate) async fn listen(&self, app: AppId, topic: &str, token: &str) -> StatusCode {
        let mut request = Request::get(format!("/realtime/topics/{topic}"))
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())
            .unwrap();
        request.extensions_mut().insert(AppHost(app));
        request.extensions_mut().insert(RequestId("request-1".into()));
        self.router.clone().oneshot(request).await.unwrap().status()
    }

    /// Sends a request and reads nothing of an answer that has no end.
    pub(crate) async fn send_head(&self, request: Request<Body>) -> Reply {
        let is_stream = request.uri().path().ends_with(":tail");
        if !is_stream {
            return self.send(request).await;
        }
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let is_event_stream =
            parts.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let body = if is_event_stream { Body::empty() } else { body };
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Reply { status: parts.status, headers: parts.headers, json, text }
    }

    /// A request to the admin API by the owner, `path` after `/api/v1/admin`.
    pub(crate) fn request(&self, method: &str, path: &str, body: Option<Value>) -> Request<Body> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1/admin{path}"))
            .header("authorization", format!("Bearer {}", self.token));
        let request = match body {
            Some(body) => {
                request.header("content-type", "application/json").body(Body::from(body.to_string()))
            }
            None => request.body(Body::empty()),
        };
        request.unwrap()
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        self.send(self.request(method, path, body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.call("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.call("POST", path, Some(body)).await
    }

    pub(crate) async fn deploy(&self, app: &str, name: &str, source: &str) -> Reply {
        self.call("PUT", &format!("/apps/{app}/scripts/{name}"), Some(json!({ "source": source }))).await
    }

    /// Every item of a list, read in pages of `limit`.
    pub(crate) async fn all_pages(&self, path: &str, limit: u32) -> Vec<Value> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let reply = self.get(&format!("{path}{separator}limit={limit}{cursor}")).await;
            let page = reply.is(200);
            let page_items = page["items"].as_array().unwrap();
            assert!(page_items.len() <= limit as usize);
            items.extend(page_items.iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }

    pub(crate) async fn app_id(&self, slug: &str) -> AppId {
        self.get(&format!("/apps/{slug}")).await.is(200)["id"].as_str().unwrap().parse().unwrap()
    }
}

/// A record of an execution in this app.
pub(crate) fn record(app: AppId, status: ExecutionStatus) -> ExecutionRecord {
    let target = ScriptTarget {
        app,
        app_slug: "default".parse().unwrap(),
        owner: UserId::new(),
        script: ScriptId::new(),
        name: "hello".parse().unwrap(),
        version: 1,
        bundle: BundleHash([7; 32]),
        limits: ScriptLimits::default(),
        may_invoke: true,
    };
    let id = ExecutionId::new();
    ExecutionRecord {
        id,
        request_id: "request-1".into(),
        target: Arc::new(target),
        invocation_type: InvocationType::Http,
        cause: Cause::root(id),
        delivery: None,
        status,
        http_status: Some(200),
        started_at_us: 1_700_000_000_000_000,
        usage: Usage {
            fuel: 5,
            load_fuel: 0,
            peak_memory_bytes: 6,
            host_calls: 7,
            duration_us: 8_500,
            queued_us: 9,
        },
        failure: None,
        logs: Arc::default(),
    }
}
