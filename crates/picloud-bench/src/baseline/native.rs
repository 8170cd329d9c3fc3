//! Native Rhai without any wall: the same engine version, with the guest's settings, compiled to
//! machine code and run in our own process. Shared between threads, hence Rhai's `sync` feature.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow};
use axum::http::{HeaderMap, Method, Uri};
use rhai::packages::{Package, StandardPackage};
use rhai::{AST, Dynamic, Engine, Map, Scope};

/// A script, compiled once.
#[derive(Debug)]
pub(crate) struct Native {
    engine: Engine,
    ast: AST,
}

/// What the script's `ctx.request` is made of.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) params: BTreeMap<String, String>,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
}

/// The script's answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Native {
    /// Compiles a script with the limits that a deployed one has by default.
    pub(crate) fn compile(source: &str) -> anyhow::Result<Self> {
        let mut engine = Engine::new_raw();
        StandardPackage::new().register_into_engine(&mut engine);
        engine.disable_symbol("eval");
        engine.set_max_call_levels(64);
        engine.set_max_expr_depths(64, 64);
        engine.set_max_functions(10_000);
        engine.set_max_variables(100_000);
        engine.set_max_modules(64);
        let ast = engine.compile(source).map_err(|error| anyhow!("a script does not compile: {error}"))?;
        Ok(Self { engine, ast })
    }

    /// Runs the script without a request.
    pub(crate) fn run(&self) -> anyhow::Result<Dynamic> {
        let value = self.engine.eval_ast_with_scope(&mut Scope::new(), &self.ast);
        value.map_err(|error| anyhow!("a script failed: {error}"))
    }

    /// Runs the script for a request: builds `ctx`, evaluates, takes the answer apart.
    pub(super) fn answer(&self, request: &Request) -> anyhow::Result<Answer> {
        let mut scope = Scope::new();
        scope.push_constant_dynamic("ctx", context(request));
        let value = self.engine.eval_ast_with_scope::<Map>(&mut scope, &self.ast);
        let map = value.map_err(|error| anyhow!("a script failed: {error}"))?;
        let status = map.get("statusCode").and_then(|status| status.as_int().ok());
        let headers = map.get("headers").and_then(|headers| headers.read_lock::<Map>());
        let headers = headers.iter().flat_map(|map| map.iter());
        let body = map.get("body").and_then(|body| body.as_immutable_string_ref().ok());
        Ok(Answer {
            status: status.and_then(|status| u16::try_from(status).ok()).context("no status")?,
            headers: headers.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            body: body.context("no body")?.to_string(),
        })
    }
}

/// The guest's `ctx`, with the same keys.
fn context(request: &Request) -> Dynamic {
    let mut limits = Map::new();
    for (name, value) in
        [("fuel", 10_000_000_000_i64), ("memory_mb", 32), ("timeout_ms", 10_000), ("response_bytes", 1 << 20)]
    {
        limits.insert(name.into(), value.into());
    }
    let mut ctx = Map::new();
    for (name, text) in [
        ("sdk_version", "0.1"),
        ("execution_id", "00000000-0000-7000-8000-000000000000"),
        ("request_id", "00000000000070008000000000000000"),
        ("app", "default"),
        ("script", "bench-hello"),
        ("invocation_type", "http"),
    ] {
        ctx.insert(name.into(), text.into());
    }
    ctx.insert("version".into(), 1_i64.into());
    ctx.insert("trigger_depth".into(), 0_i64.into());
    ctx.insert("limits".into(), limits.into());
    ctx.insert("request".into(), request_map(request).into());
    Dynamic::from_map(ctx).into_shared()
}

fn request_map(request: &Request) -> Map {
    let mut headers = Map::new();
    for (name, value) in &request.headers {
        headers.insert(name.as_str().into(), String::from_utf8_lossy(value.as_bytes()).into_owned().into());
    }
    let mut params = Map::new();
    for (name, value) in &request.params {
        params.insert(name.as_str().into(), value.into());
    }
    let mut query = Map::new();
    for pair in request.query.as_deref().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        query.insert(name.into(), value.into());
    }
    let mut map = Map::new();
    for (name, text) in [
        ("method", request.method.as_str()),
        ("path", request.uri.path()),
        ("rest", ""),
        ("remote_ip", "127.0.0.1"),
        ("body_raw", ""),
    ] {
        map.insert(name.into(), text.into());
    }
    map.insert("params".into(), params.into());
    map.insert("query".into(), query.into());
    map.insert("headers".into(), headers.into());
    map.insert("body".into(), Dynamic::UNIT);
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::HELLO;

    #[test]
    fn the_hello_script_answers_natively_as_it_does_in_the_guest() {
        let request = Request {
            method: Method::GET,
            uri: Uri::from_static("/bench/hello/world"),
            params: BTreeMap::from([("name".to_owned(), "world".to_owned())]),
            query: None,
            headers: HeaderMap::new(),
        };
        let answer = Native::compile(HELLO).unwrap().answer(&request).unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "Hello, world!"));
        assert_eq!(answer.headers, [("content-type".to_owned(), "text/plain; charset=utf-8".to_owned())]);
    }
}
