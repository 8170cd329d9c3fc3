//! The document as a whole.

use schemars::JsonSchema;
use serde_json::{Map, Value, json};
use shared::fault::Code;

use super::operation::Operation;
use super::schemas::{self, Schemas};
use super::words;
use crate::admin::endpoints::{self, Endpoint, Needs};
use crate::admin::{guard, hooks, idempotency};

/// An operation that the composition root serves beside the manager, in its words.
#[derive(Debug, Clone)]
pub struct Beside {
    pub path: &'static str,
    /// Names it for programs: a resource and what is done with it, such as `system_workers`.
    pub id: &'static str,
    pub summary: &'static str,
    /// Whether it asks for a credential of somebody who runs the instance.
    pub is_guarded: bool,
    pub content_type: &'static str,
    /// JSON Schema of the answer.
    pub schema: Value,
    /// Further statuses with the same form, such as 503 for what is not ready.
    pub also: &'static [u16],
}

impl Beside {
    /// An answer in JSON of this type, which is described whole.
    pub fn json<T: JsonSchema>(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self {
            path,
            id,
            summary,
            is_guarded: true,
            content_type: "application/json",
            schema: schemas::whole::<T>(),
            also: &[],
        }
    }

    /// A text for everybody.
    pub fn text(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self {
            path,
            id,
            summary,
            is_guarded: false,
            content_type: "text/plain",
            schema: json!({ "type": "string" }),
            also: &[],
        }
    }
}

/// What is wrong with an address before anybody looks at what it names.
const OF_ANY_ADDRESS: [Code; 2] = [Code::BadRequest, Code::UriTooLong];

/// The OpenAPI document: the table of endpoints, what the manager serves besides, and `beside`.
pub fn openapi(beside: &[Beside]) -> Value {
    let mut schemas = Schemas::default();
    let mut paths: Map<String, Value> = Map::new();
    let mut add = |path: String, method: &str, operation: Map<String, Value>| {
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[method.to_ascii_lowercase()] = operation.into();
    };
    for endpoint in endpoints::table() {
        let operation = of_endpoint(&endpoint, &mut schemas);
        add(format!("/api/v1/admin{}", endpoint.path), endpoint.method, operation);
    }
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        add("/api/v1/execute/{script_id}".to_owned(), method, execute(method, &mut schemas));
    }
    add(hooks::PATH.to_owned(), "POST", hook(&mut schemas));
    for extra in words::public_pages().iter().chain(beside) {
        add(extra.path.to_owned(), "GET", of_extra(extra, &mut schemas));
    }
    let (mut schemas, problems) = schemas.into_named();
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    schemas.insert("ProblemCode".into(), json!({ "type": "string", "enum": codes }));
    schemas.insert("Problem".into(), words::problem_schema());
    json!({
        "openapi": "3.1.1",
        "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
        "info": {
            "title": "PiCloud",
            "version": env!("CARGO_PKG_VERSION"),
            "description": words::INTRODUCTION,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": problems,
            "headers": words::headers(),
            "securitySchemes": words::security_schemes(),
        },
    })
}

fn of_endpoint(endpoint: &Endpoint, schemas: &mut Schemas) -> Map<String, Value> {
    let mut operation = Operation::new(endpoint.method, schemas);
    let places = places(endpoint.path);
    for place in &places {
        operation.parameter(json!({
            "name": place, "in": "path", "required": true, "description": words::place(place),
            "schema": { "type": "string", "minLength": 1 },
        }));
    }
    (endpoint.describe)(&mut operation);
    if !places.is_empty() {
        operation.problem(Code::NotFound);
    }
    if endpoint.method != "GET" {
        operation.problem(Code::Conflict);
    }
    if endpoint.method == "POST" && endpoint.needs != Needs::Nothing {
        idempotency::describe(&mut operation);
    }
    operation.problems(&OF_ANY_ADDRESS);
    operation.problems(&[Code::TooManyRequests, Code::Internal, Code::Unavailable]);
    operation.answer_header("RateLimit");
    operation.answer_header("RateLimit-Policy");
    let id = endpoint.id();
    operation.problems(words::problems(&id));
    if let Needs::Right(_) = endpoint.needs {
        operation.problems(&[Code::Unauthenticated, Code::Forbidden]);
    }
    let mut json = operation.into_json();
    json.insert("operationId".into(), id.as_str().into());
    json.insert("summary".into(), words::summary(&id).into());
    json.insert("tags".into(), json!([id.split_once('_').map_or(id.as_str(), |(tag, _)| tag)]));
    json.insert("security".into(), security(endpoint.needs != Needs::Nothing));
    if let Needs::Right(capability) = endpoint.needs {
        json.insert("x-capability".into(), capability.as_str().into());
    }
    json
}

/// A script's answer may be anything, so only the problems of the platform have a form.
fn execute(method: &'static str, schemas: &mut Schemas) -> Map<String, Value> {
    let mut operation = Operation::new(method, schemas);
    operation.parameter(json!({
        "name": "script_id", "in": "path", "required": true, "description": "A script's id.",
        "schema": { "type": "string", "format": "uuid" },
    }));
    let mut json = operation.into_json();
    let any = |description: &str| json!({ "description": description, "content": { "*/*": {} } });
    json.insert(
        "responses".into(),
        json!({ "default": any("What the script answers, or a problem in its place.") }),
    );
    json.insert("operationId".into(), format!("execute_{}", method.to_ascii_lowercase()).into());
    json.insert("summary".into(), "Run a script with this very request, without a route".into());
    json.insert("tags".into(), json!(["execute"]));
    json.insert("security".into(), security(true));
    json.insert("x-capability".into(), "invoke_scripts".into());
    json
}

/// What its sender sends is the sender's affair.
fn hook(schemas: &mut Schemas) -> Map<String, Value> {
    let mut operation = Operation::new("POST", schemas);
    operation.parameter(json!({
        "name": "trigger_id", "in": "path", "required": true, "description": "The id of a trigger of the kind webhook.",
        "schema": { "type": "string", "format": "uuid" },
    }));
    hooks::describe(&mut operation);
    operation.problems(&OF_ANY_ADDRESS);
    let mut json = operation.into_json();
    json.insert("operationId".into(), "webhooks_receive".into());
    json.insert("summary".into(), "Where a trigger of the kind webhook takes signed requests".into());
    json.insert("tags".into(), json!(["webhooks"]));
    json.insert("security".into(), security(false));
    json
}

fn of_extra(extra: &Beside, schemas: &mut Schemas) -> Map<String, Value> {
    let mut operation = Operation::new("GET", schemas);
    for place in places(extra.path) {
        operation.parameter(json!({
            "name": place, "in": "path", "required": true, "description": words::place(place),
            "schema": { "type": "string", "minLength": 1 },
        }));
        operation.problem(Code::NotFound);
    }
    operation.problems(&OF_ANY_ADDRESS);
    if extra.is_guarded {
        operation.problems(&[Code::Unauthenticated, Code::Forbidden, Code::Internal, Code::Unavailable]);
    }
    operation.answer(200, extra.content_type, &extra.schema);
    extra.also.iter().for_each(|status| operation.answer(*status, extra.content_type, &extra.schema));
    let mut json = operation.into_json();
    json.insert("operationId".into(), extra.id.into());
    json.insert("summary".into(), extra.summary.into());
    json.insert("tags".into(), json!([extra.id.split_once('_').map_or(extra.id, |(tag, _)| tag)]));
    json.insert("security".into(), security(extra.is_guarded));
    if extra.is_guarded {
        json.insert("x-capability".into(), guard::NEEDS.as_str().into());
    }
    json
}

fn security(is_needed: bool) -> Value {
    if is_needed { json!([{ "bearer": [] }, { "cookie": [] }]) } else { json!([]) }
}

/// The names between braces.
fn places(path: &'static str) -> Vec<&'static str> {
    path.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name).collect()
}
