//! Destinations that this process has noted already, so that the usual request writes nothing.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use shared::id::AppId;

/// Remembered at most, about 60 bytes each; what is forgotten is noted again, to no effect.
const REMEMBERED_MAX: usize = 50_000;

#[derive(Debug, Default)]
pub(crate) struct Destinations(Mutex<HashSet<(AppId, String)>>);

impl Destinations {
    /// Those of the given that are not known to be noted.
    pub(crate) fn news(&self, app: AppId, visited: &[String]) -> Vec<String> {
        let known = self.known();
        visited
            .iter()
            .filter(|destination| !known.contains(&(app, (*destination).clone())))
            .cloned()
            .collect()
    }

    /// These are noted now.
    pub(crate) fn remember(&self, app: AppId, noted: Vec<String>) {
        let mut known = self.known();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.extend(noted.into_iter().map(|destination| (app, destination)));
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<(AppId, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_news_until_it_has_been_noted() {
        let destinations = Destinations::default();
        let (app, other) = (AppId::new(), AppId::new());
        let visited = ["a.example.com:443".to_owned(), "b.example.com:443".to_owned()];
        // It could not be written, so it is news still.
        for _ in 0..2 {
            assert_eq!(destinations.news(app, &visited), visited);
        }
        destinations.remember(app, visited[..1].to_vec());
        assert_eq!(destinations.news(app, &visited), visited[1..]);
        assert_eq!(destinations.news(other, &visited), visited);
    }
}
