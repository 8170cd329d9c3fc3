//! PiCloud's admin API, as far as the bench needs it.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use ureq::{Agent, SendBody};

use crate::load::noise;

/// The app that a new PiCloud has; a bare IP address leads to it.
const APP: &str = "default";

#[derive(Debug, Clone)]
pub(crate) struct Admin {
    agent: Agent,
    base: String,
    token: String,
    app: String,
}

/// A million documents take a slow machine a while.
const INDEXED_WITHIN: Duration = Duration::from_secs(300);

/// What PiCloud recorded of an execution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Execution {
    pub(crate) queued_us: f64,
    pub(crate) duration_us: f64,
    pub(crate) fuel: f64,
}

/// A worker that takes work, as PiCloud shows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Worker {
    pub(crate) pid: u32,
    /// Executions in it.
    pub(crate) running: u32,
}

/// A run through the test-invoke call.
#[derive(Debug)]
pub(crate) struct TestRun {
    pub(crate) body: Value,
    pub(crate) execution: Execution,
}

pub(crate) fn is_ready(address: SocketAddr) -> bool {
    agent().get(format!("http://{address}/readyz")).call().is_ok_and(|response| response.status() == 200)
}

impl Admin {
    pub(crate) fn log_in(address: SocketAddr, username: &str, password: &str) -> anyhow::Result<Self> {
        let mut admin = Self {
            agent: agent(),
            base: format!("http://{address}/api/v1/admin"),
            token: String::new(),
            app: APP.to_owned(),
        };
        let answer =
            admin.send("POST", "/auth/login", &json!({ "username": username, "password": password }))?;
        answer["token"].as_str().context("logging in gave no token")?.clone_into(&mut admin.token);
        Ok(admin)
    }

    /// The same person at work on a new app.
    pub(crate) fn new_app(&self, slug: &str) -> anyhow::Result<Self> {
        self.send("POST", "/apps", &json!({ "slug": slug }))?;
        Ok(Self { app: slug.to_owned(), ..self.clone() })
    }

    pub(crate) fn deploy(&self, name: &str, source: &str, limits: &Value) -> anyhow::Result<()> {
        let body = json!({ "source": source, "limits": limits });
        self.send("PUT", &format!("/apps/{}/scripts/{name}", self.app), &body)?;
        Ok(())
    }

    pub(crate) fn route(&self, path: &str, script: &str) -> anyhow::Result<()> {
        self.send("POST", &format!("/apps/{}/routes", self.app), &json!({ "path": path, "script": script }))?;
        Ok(())
    }

    /// The same, for requests that are written down and done later.
    pub(crate) fn async_route(&self, path: &str, script: &str) -> anyhow::Result<()> {
        let route = json!({ "path": path, "script": script, "dispatch_mode": "async" });
        self.send("POST", &format!("/apps/{}/routes", self.app), &route)?;
        Ok(())
    }

    pub(crate) fn trigger(&self, kind: &str, script: &str, config: &Value) -> anyhow::Result<()> {
        let trigger = json!({ "kind": kind, "script": script, "config": config });
        self.send("POST", &format!("/apps/{}/triggers", self.app), &trigger)?;
        Ok(())
    }

    /// Has documents indexed by members, and waits until they are.
    pub(crate) fn index(&self, collection: &str, members: &[&str]) -> anyhow::Result<()> {
        let path = format!("/apps/{}/doc-indexes", self.app);
        self.send("POST", &path, &json!({ "collection": collection, "members": members }))?;
        let asked = Instant::now();
        loop {
            let state = self.send("GET", &path, &Value::Null)?["items"][0]["state"].take();
            if state == "ready" {
                return Ok(());
            }
            ensure!(state == "building" && asked.elapsed() < INDEXED_WITHIN, "the index is {state}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Stores a file of so many bytes; answers its address.
    pub(crate) fn upload(&self, collection: &str, bytes: u64) -> anyhow::Result<String> {
        let path = format!("/apps/{}/files/{collection}", self.app);
        let request = ureq::http::Request::post(format!("{}{path}?name=bench.bin", self.base))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/octet-stream")
            .header("content-length", bytes);
        let mut content = noise().take(bytes);
        let mut answer = self.agent.run(request.body(SendBody::from_reader(&mut content))?)?;
        let text = answer.body_mut().read_to_string()?;
        ensure!(answer.status() == 201, "the upload was answered {}: {text}", answer.status());
        let answer: Value = serde_json::from_str(&text)?;
        Ok(format!("{path}/{}", answer["id"].as_str().context("a file without id")?))
    }

    /// Reads a file to its end; answers how many bytes it has.
    pub(crate) fn download(&self, file: &str) -> anyhow::Result<u64> {
        let request = ureq::http::Request::get(format!("{}{file}/content", self.base))
            .header("authorization", format!("Bearer {}", self.token));
        let mut answer = self.agent.run(request.body(())?)?;
        ensure!(answer.status() == 200, "the download was answered {}", answer.status());
        Ok(std::io::copy(&mut answer.body_mut().as_reader(), &mut std::io::sink())?)
    }

    pub(crate) fn test(&self, name: &str) -> anyhow::Result<TestRun> {
        let mut answer =
            self.send("POST", &format!("/apps/{}/scripts/{name}/invoke", self.app), &json!({}))?;
        let status = &answer["execution"]["status"];
        ensure!(status == "ok", "the script {name} ended with {status}: {}", answer["execution"]["error"]);
        let execution = execution(&answer["execution"])?;
        Ok(TestRun { body: answer["body"].take(), execution })
    }

    pub(crate) fn make_person(&self, username: &str, password: &str) -> anyhow::Result<()> {
        self.send("POST", "/users", &json!({ "username": username, "password": password }))?;
        Ok(())
    }

    /// Reads the list of apps, which is a call like any other.
    pub(crate) fn apps(&self) -> anyhow::Result<()> {
        self.send("GET", "/apps", &Value::Null)?;
        Ok(())
    }

    /// The workers that take work: neither spares nor those that leave.
    pub(crate) fn workers(&self) -> anyhow::Result<Vec<Worker>> {
        let answer = self.send("GET", "/system/workers", &Value::Null)?;
        let items = answer["items"].as_array().context("no workers")?;
        items.iter().filter(|item| item["state"] != "leaving").map(worker).collect()
    }

    /// The newest executions of a script.
    pub(crate) fn executions(&self, name: &str) -> anyhow::Result<Vec<Execution>> {
        let path = format!("/apps/{}/executions?script={name}&limit=100", self.app);
        let answer = self.send("GET", &path, &Value::Null)?;
        answer["items"].as_array().context("no items")?.iter().map(execution).collect()
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        let call = format!("{method} {path}");
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        let sent = if body.is_null() {
            self.agent.run(request.body(())?)
        } else {
            let request = request.header("content-type", "application/json");
            self.agent.run(request.body(body.to_string())?)
        };
        let mut response = sent.with_context(|| format!("{call} failed"))?;
        let text = response.body_mut().read_to_string()?;
        ensure!(response.status().is_success(), "{call} answered {}: {text}", response.status());
        serde_json::from_str(&text).with_context(|| format!("{call} did not answer JSON"))
    }
}

/// Tries to log in with a wrong password, as if from that address; answers the status.
pub(crate) fn attempt(address: SocketAddr, username: &str, from: Ipv4Addr) -> anyhow::Result<u16> {
    let body = json!({ "username": username, "password": "not the right one" });
    let request = ureq::http::Request::post(format!("http://{address}/api/v1/admin/auth/login"))
        .header("content-type", "application/json")
        .header("x-forwarded-for", from.to_string());
    let answer = agent().run(request.body(body.to_string())?).context("an attempt to log in failed")?;
    Ok(answer.status().as_u16())
}

/// Connections are not kept: an open one would be work for a PiCloud that is to be idle.
fn agent() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(120)))
        .max_idle_connections(0)
        .build();
    config.into()
}

fn worker(value: &Value) -> anyhow::Result<Worker> {
    let number = |name: &str| -> anyhow::Result<u32> {
        let number = value[name].as_u64().with_context(|| format!("a worker has no {name}"))?;
        Ok(number.try_into()?)
    };
    Ok(Worker { pid: number("pid")?, running: number("running")? })
}

fn execution(value: &Value) -> anyhow::Result<Execution> {
    let number = |name: &str| value[name].as_f64().with_context(|| format!("an execution has no {name}"));
    Ok(Execution {
        queued_us: number("queued_ms")? * 1e3,
        duration_us: number("duration_ms")? * 1e3,
        fuel: number("fuel")?,
    })
}
