//! The pool's way to bundles. Keeping the hot ones in memory is the pool's business.

use std::sync::Arc;

use shared::ports::{BoxFuture, BundleSource, BundleUnavailable};
use shared::script::{Bundle, BundleHash};

use crate::store::{self, Database};

#[derive(Debug)]
pub(crate) struct Bundles(pub(crate) Database);

impl Bundles {
    async fn read(&self, hash: BundleHash) -> sqlx::Result<Option<Bundle>> {
        store::bundles::by_hash(&mut *self.0.acquire().await?, hash).await
    }
}

impl BundleSource for Bundles {
    fn bundle(&self, hash: BundleHash) -> BoxFuture<'_, Result<Arc<Bundle>, BundleUnavailable>> {
        Box::pin(async move {
            match self.read(hash).await {
                // A row that was tampered with or damaged must not run in the place of what was deployed.
                Ok(Some(bundle)) if bundle.hash() == hash => Ok(Arc::new(bundle)),
                Ok(Some(_)) => {
                    tracing::error!(bundle.hash = %hash, "a stored bundle's content is not that of its hash");
                    Err(BundleUnavailable(hash))
                }
                Ok(None) => {
                    tracing::error!(bundle.hash = %hash, "a bundle that a script refers to is not stored");
                    Err(BundleUnavailable(hash))
                }
                Err(error) => {
                    tracing::error!(bundle.hash = %hash, %error, "a bundle could not be read");
                    Err(BundleUnavailable(hash))
                }
            }
        })
    }
}
