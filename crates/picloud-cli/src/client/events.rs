//! Calls of the admin API about triggers.

use serde_json::{Value, json};

use super::{Client, segment};
use crate::failure::Failure;

impl Client {
    pub(crate) fn triggers(&self, app: &str) -> Result<Value, Failure> {
        self.list(&format!("/apps/{app}/triggers"), &[], usize::MAX)
    }

    pub(crate) fn trigger(&self, app: &str, id: &str) -> Result<Value, Failure> {
        self.get(&trigger(app, id))
    }

    pub(crate) fn create_trigger(&self, app: &str, body: &Value) -> Result<Value, Failure> {
        self.post(&format!("/apps/{app}/triggers"), body)
    }

    pub(crate) fn update_trigger(&self, app: &str, id: &str, change: &Value) -> Result<Value, Failure> {
        self.patch(&trigger(app, id), change)
    }

    pub(crate) fn take_trigger_over(&self, app: &str, id: &str) -> Result<Value, Failure> {
        self.post(&format!("{}:take-over", trigger(app, id)), &json!({}))
    }

    pub(crate) fn delete_trigger(&self, app: &str, id: &str) -> Result<Value, Failure> {
        self.delete(&trigger(app, id))
    }
}

fn trigger(app: &str, id: &str) -> String {
    format!("/apps/{app}/triggers/{}", segment(id))
}
