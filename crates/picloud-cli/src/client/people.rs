//! Calls of the admin API about members, and about one's own keys and sessions.

use serde_json::{Value, json};

use super::{Client, segment};
use crate::failure::Failure;

impl Client {
    pub(crate) fn members(&self, app: &str) -> Result<Value, Failure> {
        self.list(&format!("/apps/{app}/members"), &[], usize::MAX)
    }

    pub(crate) fn add_member(&self, app: &str, user: &str, role: &str) -> Result<Value, Failure> {
        self.post(&format!("/apps/{app}/members"), &json!({ "user": user, "role": role }))
    }

    pub(crate) fn set_member(&self, app: &str, user: &str, role: &str) -> Result<Value, Failure> {
        let path = format!("/apps/{app}/members/{}", segment(user));
        self.patch(&path, &json!({ "role": role }))
    }

    pub(crate) fn delete_member(&self, app: &str, user: &str) -> Result<Value, Failure> {
        self.delete(&format!("/apps/{app}/members/{}", segment(user)))
    }

    pub(crate) fn keys(&self) -> Result<Value, Failure> {
        self.list("/api-keys", &[], usize::MAX)
    }

    pub(crate) fn create_key(&self, key: &Value) -> Result<Value, Failure> {
        self.post("/api-keys", key)
    }

    pub(crate) fn delete_key(&self, id: &str) -> Result<Value, Failure> {
        self.delete(&format!("/api-keys/{}", segment(id)))
    }

    pub(crate) fn sessions(&self) -> Result<Value, Failure> {
        self.list("/auth/sessions", &[], usize::MAX)
    }

    pub(crate) fn end_session(&self, id: &str) -> Result<Value, Failure> {
        self.delete(&format!("/auth/sessions/{}", segment(id)))
    }

    pub(crate) fn end_other_sessions(&self) -> Result<Value, Failure> {
        self.delete("/auth/sessions?keep_current=true")
    }
}
