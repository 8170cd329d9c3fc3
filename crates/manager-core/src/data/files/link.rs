//! Links by which anybody gets a file for a while: the file's place and the time, sealed by the app's key.
//! Who has the database alone can make none, and who has a link cannot make another of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use shared::call::{CallCode, CallError};
use shared::id::AppId;
use shared::limits::FILE_LINK_S_MAX;
use shared::wire::codec;
use uuid::Uuid;

use super::{Access, Data, FileRow, Told, failed};
use crate::store;
use crate::vault::{Place, SEALED_BYTES_MIN, VaultError};

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
const APP_BYTES: usize = 16;
/// Before a file's id, the last part of a link that leads nowhere: what is behind it is too short to be sealed.
const NOWHERE: &str = "dry-run-";

/// Links are in no table; the name keeps what is sealed here from opening elsewhere.
const fn place(app: AppId) -> Place<'static> {
    Place { app, table: "links to files", name: "" }
}

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
        let mut plain = Vec::new();
        codec::encode_body(&mut plain, &claim);
        // The app's first key may be made by this, so it is a transaction.
        let mut tx = self.begin(access).await?;
        let sealed = self.vault.seal(&mut tx, place(access.app), &plain).await.map_err(vault_failed)?;
        tx.commit(Told::default()).await?;
        let mut token = access.app.to_bytes().to_vec();
        token.extend_from_slice(&sealed);
        Ok(URL_SAFE_NO_PAD.encode(token))
    }

    /// The file that a link leads to; nothing for what is no link, or no longer one.
    pub(crate) async fn file_behind(&self, token: &str) -> Result<Option<FileRow>, CallError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Ok(None);
        }
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(token) else { return Ok(None) };
        let Some((app, sealed)) = bytes.split_first_chunk::<APP_BYTES>() else { return Ok(None) };
        let app = AppId::from_uuid(Uuid::from_bytes(*app));
        // Nobody has shown yet that the app has made this, and connections are shared fairly among apps: one that there
        // is not gets none.
        if sealed.len() < SEALED_BYTES_MIN || !self.snapshot.has_app(app) {
            return Ok(None);
        }
        let mut conn = self.acquire_for(app).await?;
        let plain = match self.vault.unseal(&mut conn, place(app), sealed).await {
            Ok(plain) => plain,
            Err(VaultError::Unopenable) => return Ok(None),
            Err(error) => return Err(vault_failed(error)),
        };
        let Ok(claim) = codec::decode_body::<Claim<'_>>(&plain) else { return Ok(None) };
        if now_s() >= claim.expires_at_s {
            return Ok(None);
        }
        store::files::get(&mut conn, app, claim.collection, Uuid::from_bytes(claim.id))
            .await
            .map_err(|error| failed(&error))
    }
}

fn vault_failed(error: VaultError) -> CallError {
    match error {
        VaultError::Database(error) => failed(&error),
        error => {
            tracing::error!(%error, "a link to a file could not be made or opened");
            CallError::new(CallCode::Internal, "the platform failed")
        }
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
