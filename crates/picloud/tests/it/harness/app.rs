//! One app on a server: deploying to it, calling it, looking at what ran.

use serde_json::{Value, json};

use super::{Client, Reply, TestServer, eventually};

/// The default limits.
pub(crate) const NO_LIMITS: Value = Value::Null;

pub(crate) struct TestApp<'a> {
    pub(crate) server: &'a TestServer,
    pub(crate) slug: String,
    pub(crate) host: String,
}

impl<'a> TestApp<'a> {
    pub(super) fn new(server: &'a TestServer, slug: &str) -> Self {
        Self { server, slug: slug.to_owned(), host: format!("{slug}.localhost") }
    }

    /// Calls the admin API below this app.
    pub(crate) fn admin(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.server.admin(method, &format!("/apps/{}{path}", self.slug), body)
    }

    pub(crate) fn try_deploy(&self, name: &str, source: &str, limits: &Value) -> Reply {
        let mut body = json!({ "source": source });
        if !limits.is_null() {
            body["limits"] = limits.clone();
        }
        self.admin("PUT", &format!("/scripts/{name}"), &body)
    }

    #[track_caller]
    pub(crate) fn deploy(&self, name: &str, source: &str, limits: &Value) -> Value {
        let reply = self.try_deploy(name, source, limits);
        assert!(matches!(reply.status, 200 | 201), "{reply:?}\n{}", String::from_utf8_lossy(&reply.body));
        reply.json()
    }

    #[track_caller]
    pub(crate) fn route(&self, path: &str, script: &str) {
        self.admin("POST", "/routes", &json!({ "path": path, "script": script })).is(201);
    }

    /// Deploys a script and makes it answer on `/{name}`.
    #[track_caller]
    pub(crate) fn serve(&self, name: &str, source: &str, limits: &Value) {
        self.deploy(name, source, limits);
        self.route(&format!("/{name}"), name);
    }

    pub(crate) fn client(&self) -> &Client {
        &self.server.client
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.client().get(&self.host, path)
    }

    pub(crate) fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Reply {
        self.client().send("POST", &self.host, path, &[("content-type", content_type)], body)
    }

    /// Runs a source once and gives what a stranger gets.
    #[track_caller]
    pub(crate) fn run(&self, name: &str, source: &str, limits: &Value) -> Reply {
        self.serve(name, source, limits);
        self.get(&format!("/{name}"))
    }

    /// The record of the execution that gave this reply.
    pub(crate) fn execution_of(&self, reply: &Reply) -> Value {
        let request_id = reply.header("x-request-id").to_owned();
        let id = eventually("the execution is recorded", || {
            let list = self.admin("GET", "/executions?limit=200", &Value::Null).is(200).json();
            let items = list["items"].as_array().unwrap().clone();
            items.into_iter().find(|item| item["request_id"] == request_id.as_str())
        });
        let path = format!("/executions/{}", id["id"].as_str().unwrap());
        self.admin("GET", &path, &Value::Null).is(200).json()
    }
}
