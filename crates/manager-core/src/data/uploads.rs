//! Contents that scripts send in pieces: how many there are at a time, and where each waits for its next piece.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::call::{CallCode, CallError, HostCall};
use shared::id::AppId;
use shared::limits::{APP_UPLOADS_MAX, FILE_UPLOADS_MAX, FILES_UPLOADS_MAX};

use super::files::upload::Upload;
use super::notes::ExecutionNotes;

/// How many contents the executions of each app send in pieces now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Uploads(Arc<Mutex<HashMap<AppId, usize>>>);

/// A place for a content that comes in pieces, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    uploads: Uploads,
    app: AppId,
}

impl Uploads {
    fn take(&self, app: AppId) -> Result<Place, CallError> {
        let mut taken = self.taken();
        let of_app = taken.get(&app).copied().unwrap_or_default();
        if of_app >= APP_UPLOADS_MAX {
            return Err(too_many("an app's executions send", APP_UPLOADS_MAX));
        }
        if taken.values().sum::<usize>() >= FILES_UPLOADS_MAX {
            return Err(too_many("all apps' executions together send", FILES_UPLOADS_MAX));
        }
        taken.insert(app, of_app + 1);
        Ok(Place { uploads: self.clone(), app })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<AppId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.uploads.taken();
        if let Some(of_app) = taken.get_mut(&self.app) {
            *of_app -= 1;
            if *of_app == 0 {
                taken.remove(&self.app);
            }
        }
    }
}

/// A content that has begun. Dropped before it is finished, it is removed.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) upload: Upload,
    pub(crate) place: Place,
}

/// Those of one execution that wait for their next piece, each under the number of the call that began it. Its calls
/// come one after the other, so none is begun while another is being looked for.
#[derive(Debug, Default)]
pub(crate) struct OpenUploads(Mutex<HashMap<u32, Begun>>);

impl OpenUploads {
    /// Those of the execution that makes the call.
    pub(crate) fn of(call: &HostCall) -> Result<&Self, CallError> {
        let notes = ExecutionNotes::of(call);
        notes.map(|notes| &notes.uploads).ok_or_else(|| {
            tracing::error!("something else is noted of the execution");
            CallError::new(CallCode::Internal, "the platform failed")
        })
    }

    /// A place for one more, which is to be [kept](Self::keep).
    pub(crate) fn begin(&self, uploads: &Uploads, app: AppId) -> Result<Place, CallError> {
        if self.open().len() >= FILE_UPLOADS_MAX {
            return Err(too_many("an execution sends", FILE_UPLOADS_MAX));
        }
        uploads.take(app)
    }

    pub(crate) fn keep(&self, number: u32, begun: Begun) {
        self.open().insert(number, begun);
    }

    pub(crate) fn take(&self, number: u32) -> Result<Begun, CallError> {
        let begun = self.open().remove(&number);
        begun.ok_or_else(|| CallError::invalid("there is no such upload"))
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u32, Begun>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_many(who: &str, most: usize) -> CallError {
    let message = format!("{who} {most} contents in pieces at a time; end one before the next is begun");
    CallError::new(CallCode::BudgetExhausted, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_app_does_not_take_all_places_and_all_apps_together_have_no_more_than_there_are() {
        let uploads = Uploads::default();
        let apps: Vec<AppId> = (0..=FILES_UPLOADS_MAX / APP_UPLOADS_MAX).map(|_| AppId::new()).collect();
        let (last, others) = apps.split_last().unwrap();
        let mut held = Vec::new();
        for app in others {
            held.extend((0..APP_UPLOADS_MAX).map(|_| uploads.take(*app).unwrap()));
            assert_eq!(uploads.take(*app).unwrap_err().code, CallCode::BudgetExhausted);
        }
        let refused = uploads.take(*last).unwrap_err();
        assert!(refused.message.contains("all apps"), "{refused}");
        drop(held);
        assert!(uploads.take(*last).is_ok());
        assert!(uploads.taken().is_empty(), "nothing is kept of who is gone");
    }
}
