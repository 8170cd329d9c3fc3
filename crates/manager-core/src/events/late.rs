//! The pool, for those who are made before it: it needs them to start.

use std::fmt;
use std::sync::{Arc, OnceLock};

use shared::ports::Invoke;

/// A handle that is empty until the pool has started, before which no script can ask for anything.
#[derive(Clone, Default)]
pub(crate) struct LateInvoke(Arc<OnceLock<Arc<dyn Invoke>>>);

impl LateInvoke {
    /// Only the first one counts.
    pub(crate) fn set(&self, invoke: Arc<dyn Invoke>) {
        let _ = self.0.set(invoke);
    }

    pub(crate) fn get(&self) -> Option<&Arc<dyn Invoke>> {
        self.0.get()
    }
}

impl fmt::Debug for LateInvoke {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateInvoke").finish_non_exhaustive()
    }
}
