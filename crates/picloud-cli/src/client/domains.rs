//! Calls of the admin API about domains.

use serde_json::{Value, json};

use super::{Client, force, segment};
use crate::failure::Failure;

impl Client {
    pub(crate) fn domains(&self, app: &str) -> Result<Value, Failure> {
        self.list(&format!("/apps/{app}/domains"), &[], usize::MAX)
    }

    pub(crate) fn create_domain(&self, app: &str, domain: &str) -> Result<Value, Failure> {
        self.post(&format!("/apps/{app}/domains"), &json!({ "domain": domain }))
    }

    pub(crate) fn verify_domain(&self, app: &str, id: &str, is_waived: bool) -> Result<Value, Failure> {
        let verb = if is_waived { "waive" } else { "verify" };
        self.post(&format!("/apps/{app}/domains/{}:{verb}", segment(id)), &json!({}))
    }

    pub(crate) fn delete_domain(&self, app: &str, id: &str, is_forced: bool) -> Result<Value, Failure> {
        self.delete(&format!("/apps/{app}/domains/{}{}", segment(id), force(is_forced)))
    }
}
