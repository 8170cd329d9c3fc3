//! Links by which anybody gets a file for a while: the file's place and the time, sealed by the app's key.
//! Who has the database alone can make none, and who has a link cannot make another of it.

use serde::{Deserialize, Serialize};
use shared::call::CallError;
use shared::limits::FILE_LINK_S_MAX;
use shared::wire::codec;
use uuid::Uuid;

use super::{Access, Data, FileRow, failed};
use crate::data::sealed_claim::now_s;
use crate::store;
use crate::store::app_database::Tenant;

/// What keeps links from opening elsewhere, and the other way round.
const OF: &str = "links to files";

/// What a link says behind its app's id. The order of the fields is part of every link that is out there.
#[derive(Debug, Serialize, Deserialize)]
struct Claim<'a> {
    collection: &'a str,
    id: [u8; 16],
    /// Seconds since the Unix epoch.
    expires_at_s: u64,
}

/// Longest text of a link: a claim with the longest name, sealed.
const TOKEN_BYTES_MAX: usize = 512;
/// Before a file's id, the last part of a link that leads nowhere: what is behind it is too short to be sealed.
const NOWHERE: &str = "dry-run-";

impl Data {
    /// The last part of a link to a file, valid for so long. In a dry run it leads nowhere: a link that opens would
    /// outlive the run, and nobody could take it back.
    pub(crate) async fn file_link(
        &self,
        access: &Access<'_>,
        (collection, id): (&str, Uuid),
        expires_s: u32,
    ) -> Result<String, CallError> {
        if !(1..=FILE_LINK_S_MAX).contains(&expires_s) {
            return Err(CallError::invalid(format!("expires may be 1 to {FILE_LINK_S_MAX} seconds")));
        }
        if access.rehearsal.is_some() {
            return Ok(format!("{NOWHERE}{id}"));
        }
        let claim = Claim { collection, id: id.into_bytes(), expires_at_s: now_s() + u64::from(expires_s) };
        self.seal_claim(access, OF, &claim).await
    }

    /// The file that a link leads to; nothing for what is no link, or no longer one.
    pub(crate) async fn file_behind(&self, token: &str) -> Result<Option<FileRow>, CallError> {
        let Some(shown) = self.shown(token, TOKEN_BYTES_MAX) else { return Ok(None) };
        let mut conn = self.acquire_for(Tenant::of_unknown_owner(shown.app)).await?;
        let Some(plain) = self.open_claim(&mut conn, &shown, OF).await? else { return Ok(None) };
        let Ok(claim) = codec::decode_body::<Claim<'_>>(&plain) else { return Ok(None) };
        if now_s() >= claim.expires_at_s {
            return Ok(None);
        }
        store::files::get(&mut conn, shown.app, claim.collection, Uuid::from_bytes(claim.id))
            .await
            .map_err(|error| failed(&error))
    }
}
