//! The example apps of `docs/examples/`, each applied by `pic` to a real server and used. The tests of each are
//! in its folder.

#[path = "../../../../docs/examples/guestbook/test.rs"]
mod guestbook;
#[path = "../../../../docs/examples/url-shortener/test.rs"]
mod url_shortener;
#[path = "../../../../docs/examples/webhook-relay/test.rs"]
mod webhook_relay;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Reply, TestApp, TestServer};
use crate::pic::Person;

/// An app that was made of an example's folder.
struct Example {
    server: Arc<TestServer>,
    slug: String,
}

impl Example {
    /// Applies the folder as somebody would at a terminal.
    fn apply(name: &str) -> Self {
        Self::prepared(name, TestServer::shared(), |_| {})
    }

    /// The same, after what its README says is to be done before.
    fn prepared(name: &str, server: Arc<TestServer>, prepare: impl FnOnce(&TestApp<'_>)) -> Self {
        let slug = server.app().slug;
        prepare(&server.existing_app(&slug));
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/examples/");
        let args = ["apply", &format!("{folder}{name}"), "--app", &slug];
        Person::logged_in(&server).pic(&args, "").is(0);
        Self { server, slug }
    }

    fn app(&self) -> TestApp<'_> {
        self.server.existing_app(&self.slug)
    }

    /// A key whose holder may call the app's scripts.
    fn key(&self) -> String {
        let body = json!({ "name": "example", "scopes": ["script:invoke"], "app": self.slug });
        self.server.admin("POST", "/api-keys", &body).is(201).json()["key"].as_str().unwrap().to_owned()
    }
}

fn send(app: &TestApp<'_>, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    app.client().send(method, &app.host, path, headers, &body)
}
