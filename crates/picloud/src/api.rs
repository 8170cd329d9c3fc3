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
    fn every_operation_has_a_row_among_the_permissions() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/permissions.md");
        let page = std::fs::read_to_string(page).unwrap();
        let document = manager_core::openapi(&described());
        for (path, methods) in document["paths"].as_object().unwrap() {
            let short = path.strip_prefix("/api/v1/admin").unwrap_or(path);
            for method in methods.as_object().unwrap().keys().map(|method| method.to_ascii_uppercase()) {
                let rows = [format!("{method} {short}"), format!("{method} {path}"), format!("ANY {path}")];
                let is_there = rows.iter().any(|row| page.contains(&format!("\n| `{row}` |")));
                assert!(is_there, "docs/permissions.md has no row for {method} {path}");
            }
        }
    }

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
