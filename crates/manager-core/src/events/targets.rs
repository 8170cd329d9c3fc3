//! Which code runs for an event: the script's live version as of the moment it is started, or the
//! version that the event names. Kept in memory until anything is deployed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use shared::id::ScriptId;
use shared::invocation::ScriptTarget;
use shared::ports::RouteSource;
use shared::route::RoutingTable;

use crate::snapshot::Snapshot;
use crate::store::{self, Database};

/// Scripts that are remembered; beyond it all are forgotten and looked up again.
const KNOWN_MAX: usize = 4_096;

/// Whether there is code to run.
#[derive(Debug, Clone)]
pub(super) enum Resolved {
    Target(Arc<ScriptTarget>),
    Missing,
    Disabled,
}

#[derive(Debug)]
pub(super) struct Targets {
    database: Database,
    snapshot: Arc<Snapshot>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The routing table that was current: every deploy makes another.
    table: Option<Arc<RoutingTable>>,
    targets: HashMap<(ScriptId, Option<u32>), Resolved>,
}

impl Targets {
    pub(super) fn new(database: Database, snapshot: Arc<Snapshot>) -> Self {
        Self { database, snapshot, known: Mutex::default() }
    }

    pub(super) async fn find(&self, script: ScriptId, version: Option<u32>) -> sqlx::Result<Resolved> {
        let table = self.snapshot.current();
        if let Some(found) = self.known(&table, script, version) {
            return Ok(found);
        }
        let mut conn = self.database.acquire().await?;
        let target = match version {
            None => store::scripts::target(&mut conn, script).await?,
            Some(version) => store::scripts::target_of_version(&mut conn, script, version).await?,
        };
        let found = match target {
            None => Resolved::Missing,
            Some(_) if !store::scripts::is_enabled(&mut conn, script).await? => Resolved::Disabled,
            Some(target) => Resolved::Target(Arc::new(target)),
        };
        drop(conn);
        // An event is not given up for what was so earlier: whether there is no code is looked up each time.
        let is_code = matches!(found, Resolved::Target(_));
        // What was read before a deploy must not be remembered after it.
        if is_code && Arc::ptr_eq(&self.snapshot.current(), &table) {
            let mut known = self.lock();
            if known.table.as_ref().is_some_and(|known| Arc::ptr_eq(known, &table)) {
                known.targets.insert((script, version), found.clone());
            }
        }
        Ok(found)
    }

    fn known(&self, table: &Arc<RoutingTable>, script: ScriptId, version: Option<u32>) -> Option<Resolved> {
        let mut known = self.lock();
        let is_current = known.table.as_ref().is_some_and(|known| Arc::ptr_eq(known, table));
        if !is_current || known.targets.len() >= KNOWN_MAX {
            *known = Known { table: Some(Arc::clone(table)), targets: HashMap::new() };
        }
        known.targets.get(&(script, version)).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
