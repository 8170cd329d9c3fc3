//! What an app gives out as text to be shown again later: a claim, sealed by the app's key. It is kept nowhere. Who has the
//! database alone can make none, and who has one cannot make another of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use shared::call::{CallCode, CallError};
use shared::id::AppId;
use shared::wire::codec;
use sqlx::postgres::PgConnection;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Access, Data, Told, failed};
use crate::vault::{Place, SEALED_BYTES_MIN, VaultError};

const APP_BYTES: usize = 16;

/// Such a text as it was shown, of which nobody has yet found that the app made it.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) app: AppId,
    sealed: Vec<u8>,
}

/// Claims are in no table; what they are for keeps those of one kind from opening as another.
const fn place(app: AppId, of: &'static str) -> Place<'static> {
    Place { app, table: of, name: "" }
}

impl Data {
    pub(super) async fn seal_claim(
        &self,
        access: &Access<'_>,
        of: &'static str,
        claim: &impl Serialize,
    ) -> Result<String, CallError> {
        let mut plain = Vec::new();
        codec::encode_body(&mut plain, claim);
        // The app's first key may be made by this, so it is a transaction.
        let mut tx = self.begin(access).await?;
        let sealed = self.vault.seal(&mut tx, place(access.app, of), &plain).await.map_err(vault_failed)?;
        tx.commit(Told::default()).await?;
        let mut text = access.app.to_bytes().to_vec();
        text.extend_from_slice(&sealed);
        Ok(URL_SAFE_NO_PAD.encode(text))
    }

    /// Reads such a text; nothing for what cannot be one. Connections are shared fairly among apps, so for an app that there
    /// is not there is none.
    pub(super) fn shown(&self, text: &str, bytes_max: usize) -> Option<Shown> {
        if text.len() > bytes_max {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (app, sealed) = bytes.split_first_chunk::<APP_BYTES>()?;
        let app = AppId::from_uuid(Uuid::from_bytes(*app));
        let can_be = sealed.len() >= SEALED_BYTES_MIN && self.snapshot.has_app(app);
        can_be.then(|| Shown { app, sealed: sealed.to_vec() })
    }

    /// The claim, still encoded; nothing for what the app did not make.
    pub(super) async fn open_claim(
        &self,
        conn: &mut PgConnection,
        shown: &Shown,
        of: &'static str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, CallError> {
        match self.vault.unseal(conn, place(shown.app, of), &shown.sealed).await {
            Ok(plain) => Ok(Some(plain)),
            Err(VaultError::Unopenable) => Ok(None),
            Err(error) => Err(vault_failed(error)),
        }
    }
}

fn vault_failed(error: VaultError) -> CallError {
    match error {
        VaultError::Database(error) => failed(&error),
        error => {
            tracing::error!(%error, "what an app gives out could not be made or opened");
            CallError::new(CallCode::Internal, "the platform failed")
        }
    }
}

/// Seconds since the Unix epoch.
pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
