//! Calls of the admin API about triggers, queues and dead letters.

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

    pub(crate) fn run_trigger(&self, app: &str, id: &str, body: &Value) -> Result<Value, Failure> {
        self.post(&format!("{}:run", trigger(app, id)), body)
    }

    pub(crate) fn take_trigger_over(&self, app: &str, id: &str) -> Result<Value, Failure> {
        self.post(&format!("{}:take-over", trigger(app, id)), &json!({}))
    }

    pub(crate) fn delete_trigger(&self, app: &str, id: &str) -> Result<Value, Failure> {
        self.delete(&trigger(app, id))
    }

    pub(crate) fn queues(&self, app: &str) -> Result<Value, Failure> {
        self.list(&format!("/apps/{app}/queues"), &[], usize::MAX)
    }

    pub(crate) fn queue_messages(&self, app: &str, queue: &str, limit: usize) -> Result<Value, Failure> {
        self.list(&format!("/apps/{app}/queues/{queue}/messages"), &[], limit)
    }

    pub(crate) fn send_message(&self, app: &str, queue: &str, message: &Value) -> Result<Value, Failure> {
        self.post(&format!("/apps/{app}/queues/{queue}/messages"), message)
    }

    /// `pause`, `resume`, `purge` or `redrive`.
    pub(crate) fn queue_verb(&self, app: &str, queue: &str, verb: &str) -> Result<Value, Failure> {
        self.post(&format!("/apps/{app}/queues/{queue}:{verb}"), &json!({}))
    }
}

fn trigger(app: &str, id: &str) -> String {
    format!("/apps/{app}/triggers/{}", segment(id))
}
