//! The routing table, the triggers and the topics in memory. A change of configuration is committed and shown here before
//! its caller is answered, so that what was deployed is what answers. Other nodes are told of the commit, and read it.
//!
//! An app that was there and is not any more is gone. Whoever reads that here has what is kept in memory of it forgotten,
//! on every node, and also where the commit could be shown only later.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use shared::id::{AppId, TriggerId};
use shared::ports::RouteSource;
use shared::route::RoutingTable;
use tokio::sync::watch;
use uuid::Uuid;

use crate::budgets::Budgets;
use crate::catch_up::{CatchUp, RETRY_FIRST};
use crate::data::Room;
use crate::events::triggers::{Trigger, TriggerTable};
use crate::realtime::ExternalTopics;
use crate::store::docs::schemas::Versions;
use crate::store::{self, Database, Tx};

#[derive(Debug)]
pub(crate) struct Snapshot {
    /// By which what this node told the others is known when it hears it itself.
    node: Uuid,
    database: Database,
    base_domain: String,
    table: ArcSwap<RoutingTable>,
    triggers: ArcSwap<TriggerTable>,
    schemas: ArcSwap<Versions>,
    topics: ArcSwap<ExternalTopics>,
    changed: watch::Sender<()>,
    budgets: Budgets,
    room: Room,
    /// One reads at a time, each after the one before, so that an older table never replaces a newer.
    reading: tokio::sync::Mutex<()>,
    catch_up: CatchUp,
}

impl Snapshot {
    /// Reads everything for the first time. Apps that are gone later are gone for the budgets and the room too.
    pub(crate) async fn load(
        database: Database,
        base_domain: String,
        budgets: Budgets,
        room: Room,
    ) -> sqlx::Result<Arc<Self>> {
        let snapshot = Arc::new(Self {
            node: Uuid::now_v7(),
            database,
            base_domain,
            table: ArcSwap::default(),
            triggers: ArcSwap::default(),
            schemas: ArcSwap::default(),
            topics: ArcSwap::default(),
            changed: watch::Sender::default(),
            budgets,
            room,
            reading: tokio::sync::Mutex::default(),
            catch_up: CatchUp::default(),
        });
        snapshot.reload().await?;
        Ok(snapshot)
    }

    /// The triggers as of the last commit.
    pub(crate) fn triggers(&self) -> Arc<TriggerTable> {
        self.triggers.load_full()
    }

    /// A trigger, looked for in the database when it is not known here: another node may have made it a moment ago.
    pub(crate) async fn trigger(&self, id: TriggerId) -> sqlx::Result<Option<Arc<Trigger>>> {
        let known = || self.triggers().get(id).cloned();
        if let Some(trigger) = known() {
            return Ok(Some(trigger));
        }
        if !store::triggers::exists(&mut *self.database.acquire().await?, id).await? {
            return Ok(None);
        }
        let _turn = self.reading.lock().await;
        // Whose turn was before this one's has perhaps read it.
        if known().is_none() {
            self.read().await?;
        }
        Ok(known())
    }

    /// Whether there is such an app, as of the last commit that is known here.
    pub(crate) fn has_app(&self, app: AppId) -> bool {
        // They are read in the order of their ids.
        self.table.load().apps.binary_search_by_key(&app, |routes| routes.app).is_ok()
    }

    /// Which version of a schema a collection's documents must fit, if they must fit any.
    pub(crate) fn schema_version(&self, app: AppId, collection: &str) -> Option<i64> {
        self.schemas.load().get(&app)?.get(collection).copied()
    }

    /// The topics to which somebody outside may listen, as of the last commit that is known here.
    pub(crate) fn topics(&self) -> Arc<ExternalTopics> {
        self.topics.load_full()
    }

    /// Tells of every change that is shown.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// A node has changed the configuration.
    pub(crate) fn heard(self: &Arc<Self>, by: &str) {
        // What this one changed it has shown already.
        if by != self.node.to_string() {
            self.refresh();
        }
    }

    /// Reads everything again, once for all who ask until it begins.
    pub(crate) fn refresh(self: &Arc<Self>) {
        self.catch_up(Duration::ZERO);
    }

    /// Commits a change of configuration and shows it to the router.
    ///
    /// It is done in a task of its own, because a caller that goes away between the two would
    /// leave a table that does not know of the commit.
    pub(crate) async fn publish(self: &Arc<Self>, mut change: Tx) -> sqlx::Result<()> {
        let snapshot = Arc::clone(self);
        let publishing = tokio::spawn(async move {
            let published = async {
                store::changes::tell(&mut change, snapshot.node).await?;
                change.commit().await?;
                snapshot.reload().await
            };
            let published = published.await;
            if published.is_err() {
                // A commit that failed may have happened all the same.
                snapshot.catch_up(RETRY_FIRST);
            }
            published
        });
        publishing.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }

    async fn reload(&self) -> sqlx::Result<()> {
        let _turn = self.reading.lock().await;
        self.read().await
    }

    /// Reads everything; only whose turn it is.
    async fn read(&self) -> sqlx::Result<()> {
        let mut tx = self.database.begin_snapshot().await?;
        let table = store::routing::table(&mut tx, &self.base_domain).await?;
        let triggers = store::triggers::table(&mut tx).await?;
        let schemas = store::docs::schemas::versions(&mut tx).await?;
        let topics = store::topics::external(&mut tx).await?;
        tx.commit().await?;
        self.triggers.store(Arc::new(triggers));
        self.schemas.store(Arc::new(schemas));
        self.topics.store(Arc::new(topics.into_iter().collect()));
        let before = self.table.swap(Arc::new(table));
        self.forget_gone(&before);
        self.changed.send_replace(());
        Ok(())
    }

    /// Forgets the apps that were in the table before and are not in the present one. One that is in neither may have been
    /// made by another node a moment ago.
    fn forget_gone(&self, before: &RoutingTable) {
        for app in before.apps.iter().map(|routes| routes.app).filter(|app| !self.has_app(*app)) {
            self.budgets.forget(app);
            self.room.forget(app);
        }
    }

    /// Reloads after this time, or as soon as the database lets it.
    fn catch_up(self: &Arc<Self>, after: Duration) {
        let snapshot = Arc::clone(self);
        self.catch_up.begin(after, "the routing table is behind the database", move || {
            let snapshot = Arc::clone(&snapshot);
            async move { snapshot.reload().await }
        });
    }
}

impl RouteSource for Snapshot {
    fn current(&self) -> Arc<RoutingTable> {
        self.table.load_full()
    }
}
