//! The manager as the composition root sees it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use secrecy::SecretString;
use shared::name::Username;
use shared::ports::{
    Accept, AssetSource, Authenticate, BundleSource, HostCalls, IncidentSink, Invoke, Permits, RecordSink,
    RouteSource,
};
use sqlx::postgres::PgConnectOptions;

use crate::admin::{self, Admin, Beside, Denials, IsTls, Rates};
use crate::app_users::AppUsers;
use crate::assets::Assets;
use crate::auth::{Auth, LoginError};
use crate::bootstrap::{self, BootstrapError, FirstOwner};
use crate::budgets::Budgets;
use crate::bundles::Bundles;
use crate::callers::Callers;
use crate::data::docs::indexer::Indexer;
use crate::data::files::blobs::FileStorage;
use crate::data::files::orphans::OrphanSweep;
use crate::data::uploads::Uploads;
use crate::data::{Data, Room, Watch};
use crate::domains::Dns;
use crate::events::topics::Ephemeral;
use crate::events::webhooks::Webhooks;
use crate::events::{Acceptor, Dispatching, EventCounters, Keepers, LateInvoke};
use crate::incidents::Incidents;
use crate::mail::{Mail, MailServer};
use crate::oidc::{Oidc, OidcSettings};
use crate::outbound::{Addresses, Destinations, Outbound};
use crate::permits::{Gate, Ledger};
use crate::realtime::Hub;
use crate::recorder::{Recorder, RecorderCounters, Retention};
use crate::services::Services;
use crate::snapshot::Snapshot;
use crate::store::app_database::AppDatabase;
use crate::store::migrations::{self, OpenError};
use crate::store::{self, Database, DatabaseCounters};
use crate::tally::{ExecutionCounters, Tally};
use crate::vault::{MasterKeys, Vault};

/// What the manager needs to know besides its database.
#[derive(Debug, Clone)]
pub struct ManagerConfig {
    /// `blog` answers on `blog.<base domain>`.
    pub base_domain: String,
    /// Where people reach this server, without a slash at the end.
    pub public_url: String,
    pub retention: Retention,
    /// What the apps' secrets are sealed with.
    pub secret_keys: MasterKeys,
    /// What scripts may not reach besides what nobody may.
    pub addresses: Addresses,
    /// Where scripts' mails go; without it they cannot send any.
    pub mail_server: Option<MailServer>,
    /// DNS servers to ask who owns a domain; the machine's own where none are named.
    pub dns_servers: Vec<SocketAddr>,
    /// Requests to the admin API in a minute by one session or key.
    pub api_requests_per_minute: u32,
    /// Identity providers by which people may log in; checked by [`OidcSettings::check`].
    pub oidc: Vec<OidcSettings>,
    /// Where the content of files goes.
    pub files: FileStorage,
    /// When what is left of files is looked for there.
    pub orphans: OrphanSweep,
}

/// A password could not be compared.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct PasswordError(LoginError);

/// Dead letters that are to be looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenDeadLetters {
    pub count: u64,
    /// Age of the oldest, in seconds; 0 when there is none.
    pub oldest_s: u64,
}

/// Everything that is kept: apps, scripts, routes, people, executions. A cheap handle.
#[derive(Debug, Clone)]
pub struct Manager {
    database: Database,
    snapshot: Arc<Snapshot>,
    hub: Hub,
    auth: Arc<Auth>,
    recorder: Recorder,
    budgets: Budgets,
    incidents: Incidents,
    assets: Assets,
    data: Data,
    indexer: Indexer,
    outbound: Outbound,
    destinations: Arc<Destinations>,
    mail: Mail,
    app_users: Arc<AppUsers>,
    uploads: Uploads,
    tally: Arc<Tally>,
    events: Dispatching,
    denials: Arc<Denials>,
    keepers: Keepers,
    invoke: LateInvoke,
    vault: Arc<Vault>,
    config: Arc<ManagerConfig>,
}

impl Manager {
    /// Connects, brings the schema up to date, reads the routing table and starts the recorder.
    pub async fn open(options: PgConnectOptions, config: ManagerConfig) -> Result<Self, OpenError> {
        let database = migrations::open(options.clone()).await?;
        let vault = {
            let mut conn = database.acquire().await.map_err(OpenError::Load)?;
            let opened = Vault::open(&mut conn, config.secret_keys.clone()).await;
            Arc::new(opened.map_err(OpenError::Load)??)
        };
        let scripts = AppDatabase::open(&database, options).await.map_err(OpenError::Load)?;
        let budgets = Budgets::load(database.clone()).await.map_err(OpenError::Load)?;
        let room = Room::new(database.clone(), budgets.clone());
        let base_domain = config.base_domain.clone();
        let snapshot = Snapshot::load(database.clone(), base_domain, budgets.clone(), room.clone())
            .await
            .map_err(OpenError::Load)?;
        let (events, keepers) = (Dispatching::new(), Keepers::new());
        let watch = Watch::new(Arc::clone(&snapshot), events.outbox.clone());
        let files = (&config.files, config.orphans);
        let hub = Hub::start(database.clone());
        let doors = (watch, keepers.queues.clone(), hub.clone(), room);
        let data = Data::open((scripts, &database), files, Arc::clone(&vault), doors, Arc::clone(&snapshot))
            .map_err(OpenError::Files)?;
        let auth = Arc::new(Auth::new(database.clone()));
        Ok(Self {
            app_users: Arc::new(AppUsers::new(auth.passwords())),
            auth,
            recorder: Recorder::start(database.clone(), config.retention),
            budgets,
            incidents: Incidents::load(database.clone()).await.map_err(OpenError::Load)?,
            assets: Assets::new(database.clone()),
            data,
            indexer: Indexer::start(database.clone()),
            outbound: Outbound::new(config.addresses.clone(), config.dns_servers.clone()),
            destinations: Arc::default(),
            mail: Mail::new(config.mail_server.clone()),
            uploads: Uploads::default(),
            tally: Arc::default(),
            events,
            denials: Arc::default(),
            keepers,
            invoke: LateInvoke::default(),
            vault,
            database,
            snapshot,
            hub,
            config: Arc::new(config),
        })
    }

    /// Makes the first owner, and the app `default` with its hello script and routes, each when
    /// there is none. Answers the owner's name when they were made now.
    pub async fn bootstrap(&self, owner: FirstOwner) -> Result<Option<String>, BootstrapError> {
        let name = owner.username.to_string();
        let is_new = bootstrap::bootstrap(&self.database, &self.auth, &self.snapshot, owner).await?;
        Ok(is_new.then_some(name))
    }

    pub async fn has_owner(&self) -> Result<bool, sqlx::Error> {
        Ok(store::users::owner(&mut *self.database.acquire().await?).await?.is_some())
    }

    /// Whether this is the password of that person now, for who keeps it in a file until it is changed.
    pub async fn is_password(
        &self,
        username: &Username,
        password: SecretString,
    ) -> Result<bool, PasswordError> {
        self.auth.is_password(username, password).await.map_err(PasswordError)
    }

    pub fn routes(&self) -> Arc<dyn RouteSource> {
        Arc::clone(&self.snapshot) as Arc<dyn RouteSource>
    }

    pub fn bundles(&self) -> Arc<dyn BundleSource> {
        Arc::new(Bundles(self.database.clone()))
    }

    pub fn recorder(&self) -> Arc<dyn RecordSink> {
        let Self { budgets, recorder, tally, .. } = self;
        Arc::new(Ledger { budgets: budgets.clone(), recorder: recorder.clone(), tally: Arc::clone(tally) })
    }

    /// Who calls a route that asks for a credential.
    pub fn callers(&self) -> Arc<dyn Authenticate> {
        Arc::new(Callers {
            database: self.database.clone(),
            auth: Arc::clone(&self.auth),
            denials: Arc::clone(&self.denials),
        })
    }

    /// Static files of apps.
    pub fn assets(&self) -> Arc<dyn AssetSource> {
        Arc::new(self.assets.clone())
    }

    /// Takes requests that must not be lost.
    pub fn acceptor(&self) -> Arc<dyn Accept> {
        Arc::new(Acceptor::start(self.database.clone(), self.events.clone()))
    }

    /// Which scripts may run, by budget and quarantine.
    pub fn permits(&self) -> Arc<dyn Permits> {
        Arc::new(Gate { budgets: self.budgets.clone(), incidents: self.incidents.clone() })
    }

    /// What scripts ask for.
    pub fn calls(&self) -> Arc<dyn HostCalls> {
        Arc::new(Services {
            data: self.data.clone(),
            snapshot: Arc::clone(&self.snapshot),
            outbox: self.events.outbox.clone(),
            ephemeral: Ephemeral::new(self.invoke.clone()),
            invoke: self.invoke.clone(),
            vault: Arc::clone(&self.vault),
            outbound: self.outbound.clone(),
            destinations: Arc::clone(&self.destinations),
            mail: self.mail.clone(),
            budgets: self.budgets.clone(),
            denials: Arc::clone(&self.denials),
            app_users: Arc::clone(&self.app_users),
            uploads: self.uploads.clone(),
            public_url: self.config.public_url.as_str().into(),
        })
    }

    pub fn incidents(&self) -> Arc<dyn IncidentSink> {
        Arc::new(self.incidents.clone())
    }

    /// What the recorder wrote and what it could not.
    pub fn recorder_counters(&self) -> RecorderCounters {
        self.recorder.counters()
    }

    /// How executions ended since the start.
    pub fn execution_counters(&self) -> ExecutionCounters {
        self.tally.read()
    }

    /// How many connections to the database there are.
    pub fn database_counters(&self) -> DatabaseCounters {
        self.database.counters()
    }

    /// The admin API with its description, `/version`, `/api/v1/execute`, `/api/v1/hooks` and
    /// `/api/v1/errors`.
    pub fn admin_router(&self, invoke: Arc<dyn Invoke>) -> Router {
        self.admin_router_beside(invoke, &[])
    }

    /// The same, when the composition root serves more, which is to be described too.
    pub fn admin_router_beside(&self, invoke: Arc<dyn Invoke>, beside: &[Beside]) -> Router {
        let admin = Admin {
            database: self.database.clone(),
            snapshot: Arc::clone(&self.snapshot),
            hub: self.hub.clone(),
            auth: Arc::clone(&self.auth),
            recorder: self.recorder.clone(),
            denials: Arc::clone(&self.denials),
            rates: Rates::new(self.config.api_requests_per_minute),
            budgets: self.budgets.clone(),
            incidents: self.incidents.clone(),
            assets: self.assets.clone(),
            data: self.data.clone(),
            indexer: self.indexer.clone(),
            outbox: self.events.outbox.clone(),
            queues: self.keepers.queues.clone(),
            webhooks: Webhooks::new(Arc::clone(&self.vault), self.events.outbox.clone()),
            vault: Arc::clone(&self.vault),
            invoke,
            dns: Dns::new(self.config.dns_servers.clone()),
            oidc: Oidc::new(&self.config.oidc, &self.config.public_url),
            config: Arc::clone(&self.config),
        };
        admin::router(admin, beside)
    }

    /// Lets only those who run the instance through to a part of the admin API that is about the
    /// machine, which the manager knows nothing of.
    pub fn guarded(&self, router: Router) -> Router {
        admin::guarded(Arc::clone(&self.auth), self.is_tls(), router)
    }

    /// The same for parts that everybody may ask.
    pub fn open_to_all(&self, router: Router) -> Router {
        admin::open(self.is_tls(), router)
    }

    fn is_tls(&self) -> IsTls {
        IsTls::of(&self.config.public_url)
    }

    /// Begins to deliver events through the pool, which has so many slots.
    pub fn start_events(&self, invoke: Arc<dyn Invoke>, slots: usize) {
        let (database, snapshot) = (self.database.clone(), Arc::clone(&self.snapshot));
        // Scripts can ask for other scripts from now on.
        self.invoke.set(Arc::clone(&invoke));
        self.events.start(
            database,
            (snapshot, self.hub.clone()),
            invoke,
            self.recorder(),
            &self.keepers,
            slots,
        );
        self.keepers.start(&self.database, &self.snapshot, &self.events.outbox);
    }

    /// Starts no more events and waits for those that run.
    pub async fn stop_events(&self) {
        self.keepers.stop().await;
        self.events.stop().await;
    }

    /// What was delivered since the start.
    pub fn event_counters(&self) -> EventCounters {
        self.events.counters()
    }

    /// Dead letters of all apps that nobody has looked after; none while the database does not answer.
    pub async fn open_dead_letters(&self) -> Option<OpenDeadLetters> {
        let mut conn = self.database.acquire().await.ok()?;
        let (count, oldest) = store::dead_letters::unresolved(&mut conn).await.ok()?;
        let age = oldest.map_or(0, |oldest| (chrono::Utc::now() - oldest).num_seconds());
        Some(OpenDeadLetters { count: count.unsigned_abs(), oldest_s: age.unsigned_abs() })
    }

    /// Whether the database answers.
    pub async fn is_ready(&self) -> bool {
        self.database.is_answering().await
    }

    /// Ends the streams of who follows logs and who listens to topics, for which a drain would otherwise wait.
    pub fn end_streams(&self) {
        self.hub.end_streams();
        self.recorder.end_tails();
    }

    /// Writes the records that wait and lets go of the database.
    pub async fn close(&self) {
        self.recorder.close().await;
        self.incidents.close().await;
        self.budgets.close().await;
        self.indexer.end();
        self.hub.close();
        self.data.close().await;
        self.database.close().await;
    }
}
