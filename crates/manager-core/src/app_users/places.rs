//! Who waits for a hash of a password: few of each app and of all apps together, so that one app's flood
//! keeps neither the others out nor the people who administer the server.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use shared::id::AppId;

/// Passwords of one app that are computed or wait: two at a time take some 25 ms.
const OF_APP_MAX: usize = 4;
/// The same of all apps. Of the eighteen places there are, six are left for people.
const OF_ALL_MAX: usize = 12;

#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<AppId, usize>>);

/// A place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    places: &'a Places,
    app: AppId,
}

impl Places {
    /// Nothing when there are too many already.
    pub(super) fn take(&self, app: AppId) -> Option<Place<'_>> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= OF_ALL_MAX {
            return None;
        }
        let of_app = taken.entry(app).or_default();
        if *of_app >= OF_APP_MAX {
            return None;
        }
        *of_app += 1;
        Some(Place { places: self, app })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_app) = taken.get_mut(&self.app) {
            *of_app -= 1;
            if *of_app == 0 {
                taken.remove(&self.app);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_app_does_not_take_all_places_and_all_apps_leave_some() {
        let places = Places::default();
        let apps: Vec<AppId> = (0..4).map(|_| AppId::new()).collect();
        let mut held: Vec<_> = (0..OF_APP_MAX).map(|_| places.take(apps[0]).unwrap()).collect();
        assert!(places.take(apps[0]).is_none());
        held.extend(apps[1..3].iter().flat_map(|app| (0..OF_APP_MAX).map(|_| places.take(*app).unwrap())));
        assert!(places.take(apps[3]).is_none(), "all twelve are taken");
        drop(held);
        assert!(places.take(apps[0]).is_some());
        assert!(places.0.lock().unwrap().is_empty(), "nothing is kept of who is gone");
    }
}
