//! What the pool asks before an execution and tells after it, put together for its ports.

use std::sync::Arc;

use shared::id::AppId;
use shared::invocation::{ExecutionRecord, Refusal, ScriptTarget};
use shared::ports::{Permits, RecordSink};

use crate::budgets::Budgets;
use crate::incidents::Incidents;
use crate::recorder::Recorder;
use crate::tally::Tally;

/// A script may run that is not quarantined and whose app is not gone and has budget left.
pub(crate) struct Gate {
    pub(crate) budgets: Budgets,
    pub(crate) incidents: Incidents,
}

impl Permits for Gate {
    fn permit(&self, target: &ScriptTarget) -> Result<(), Refusal> {
        self.incidents.permit(target)?;
        self.budgets.permit(target.app)
    }
}

/// Every execution is charged, also one whose record is shed later, and so is every compilation.
pub(crate) struct Ledger {
    pub(crate) budgets: Budgets,
    pub(crate) recorder: Recorder,
    pub(crate) tally: Arc<Tally>,
}

impl RecordSink for Ledger {
    fn record(&self, record: ExecutionRecord) {
        self.budgets.charge(&record);
        self.tally.count(&record);
        self.recorder.record(record);
    }

    fn compiled(&self, app: AppId, fuel: u64) {
        self.budgets.charge_compilation(app, fuel);
    }
}
