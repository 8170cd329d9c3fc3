//! What the composition root adds to the API's document, and the document as it is kept in `docs/`.

use manager_core::Beside;

use crate::{health, metrics, system};

/// Everything that is served beside the manager.
pub fn described() -> Vec<Beside> {
    system::described().into_iter().chain(health::described()).chain([metrics::described()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kept_document_is_the_one_that_is_served() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let served = serde_json::to_string_pretty(&manager_core::openapi(&described())).unwrap() + "\n";
        if std::env::var_os("PICLOUD_WRITE_DOCS").is_some() {
            std::fs::write(page, &served).unwrap();
        }
        let kept = std::fs::read_to_string(page).unwrap_or_default();
        assert!(kept == served, "docs/openapi.json is stale: run this test with PICLOUD_WRITE_DOCS=1");
    }
}
