//! Destinations that this process has noted already, so that the usual request writes nothing.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use shared::id::AppId;

/// Remembered at most, about 60 bytes each; what is forgotten is noted again, to no effect.
const REMEMBERED_MAX: usize = 50_000;

#[derive(Debug, Default)]
pub(crate) struct Destinations(Mutex<HashSet<(AppId, String)>>);

impl Destinations {
    /// Those of the given that are not known yet; from now on they are.
    pub(crate) fn news(&self, app: AppId, visited: &[String]) -> Vec<String> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        visited.iter().filter(|destination| known.insert((app, (*destination).clone()))).cloned().collect()
    }
}
