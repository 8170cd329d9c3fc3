//! One operation of the document, and what handlers' arguments and answers say about it.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Extension, Path, Request, State};
use axum::response::sse::Sse;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde_json::{Map, Value, json};
use shared::fault::Code;

use super::schemas::Schemas;
use super::words::reason;
use crate::admin::gate::Caller;
use crate::admin::problem::ApiError;
use crate::admin::read::{Json, Params};
use crate::auth::{Principal, Standing};
use crate::store::apps::App;

/// What is known of an operation so far.
pub(in crate::admin) struct Operation<'a> {
    method: &'static str,
    schemas: &'a mut Schemas,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: BTreeMap<u16, Value>,
    problems: BTreeMap<u16, BTreeSet<&'static str>>,
}

/// Something a handler takes.
#[diagnostic::on_unimplemented(message = "`{Self}` does not say what it reads of a request")]
pub(in crate::admin) trait Argument {
    fn describe(operation: &mut Operation<'_>);
}

/// Something a handler answers.
#[diagnostic::on_unimplemented(message = "`{Self}` does not say what it looks like as an answer")]
pub(in crate::admin) trait Answer {
    fn describe(operation: &mut Operation<'_>);
}

impl<'a> Operation<'a> {
    pub(super) fn new(method: &'static str, schemas: &'a mut Schemas) -> Self {
        Self {
            method,
            schemas,
            parameters: Vec::new(),
            body: None,
            answers: BTreeMap::new(),
            problems: BTreeMap::new(),
        }
    }

    pub(in crate::admin) fn problem(&mut self, code: Code) {
        self.problems.entry(code.status()).or_default().insert(code.as_str());
    }

    pub(in crate::admin) fn problems(&mut self, codes: &[Code]) {
        codes.iter().for_each(|code| self.problem(*code));
    }

    pub(super) fn parameter(&mut self, parameter: Value) {
        self.parameters.push(parameter);
    }

    /// A header that a client may send.
    pub(in crate::admin) fn header(&mut self, name: &str, description: &str, pattern: &str) {
        self.parameter(json!({
            "name": name, "in": "header", "required": false, "description": description,
            "schema": { "type": "string", "minLength": 1, "pattern": pattern },
        }));
    }

    /// An answer with a body.
    pub(in crate::admin) fn answer(&mut self, status: u16, content_type: &str, schema: &Value) {
        self.answers.insert(
            status,
            json!({
                "description": reason(status),
                "headers": { "X-Request-Id": { "$ref": "#/components/headers/X-Request-Id" } },
                "content": { content_type: { "schema": schema } },
            }),
        );
    }

    /// Says that every answer so far carries this header.
    pub(in crate::admin) fn answer_header(&mut self, name: &str) {
        for answer in self.answers.values_mut() {
            answer["headers"][name] = json!({ "$ref": format!("#/components/headers/{name}") });
        }
    }

    /// An answer of a type.
    pub(in crate::admin) fn answer_json<T: JsonSchema>(&mut self, status: u16) {
        let schema = self.schemas.of_answer::<T>();
        self.answer(status, "application/json", &schema);
    }

    /// An answer that sends a browser elsewhere.
    pub(in crate::admin) fn answer_redirect(&mut self) {
        let status = StatusCode::SEE_OTHER.as_u16();
        let headers = json!({
            "X-Request-Id": { "$ref": "#/components/headers/X-Request-Id" },
            "Location": { "$ref": "#/components/headers/Location" },
        });
        self.answers.insert(status, json!({ "description": reason(status), "headers": headers }));
    }

    fn answer_empty(&mut self) {
        let status = StatusCode::NO_CONTENT.as_u16();
        let headers = json!({ "X-Request-Id": { "$ref": "#/components/headers/X-Request-Id" } });
        self.answers.insert(status, json!({ "description": reason(status), "headers": headers }));
    }

    /// A body that is read as this type.
    fn body<T: JsonSchema>(&mut self) {
        let schema = self.schemas.of_body::<T>();
        self.body =
            Some(json!({ "required": true, "content": { "application/json": { "schema": schema } } }));
    }

    fn query<T: JsonSchema>(&mut self) {
        let mut schema = self.schemas.of_request::<T>();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let Value::Object(properties) = schema["properties"].take() else { return };
        for (name, mut schema) in properties {
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            let mut parameter =
                json!({ "name": name, "in": "query", "required": required.contains(&json!(name)) });
            parameter["schema"] = without_null(schema);
            if let Some(description) = description {
                parameter["description"] = description;
            }
            self.parameter(parameter);
        }
    }

    pub(super) fn into_json(self) -> Map<String, Value> {
        let mut responses: Map<String, Value> =
            self.answers.into_iter().map(|(status, answer)| (status.to_string(), answer)).collect();
        for (status, codes) in self.problems {
            responses.insert(status.to_string(), self.schemas.problem(status, &codes));
        }
        let mut operation = Map::new();
        if !self.parameters.is_empty() {
            operation.insert("parameters".into(), self.parameters.into());
        }
        if let Some(body) = self.body {
            operation.insert("requestBody".into(), body);
        }
        operation.insert("responses".into(), responses.into());
        operation
    }
}

/// An absent parameter is left out: a query has no null.
fn without_null(mut schema: Value) -> Value {
    if let Some(types) = schema["type"].as_array()
        && let [one] = &types.iter().filter(|kind| *kind != "null").collect::<Vec<_>>()[..]
    {
        schema["type"] = (*one).clone();
    }
    schema
}

/// Arguments that a client has no part in, or that the table of endpoints says everything about.
macro_rules! silent {
    ($([$($parameter:ident)?] $argument:ty),+ $(,)?) => {$(
        impl$(<$parameter>)? Argument for $argument {
            fn describe(_: &mut Operation<'_>) {}
        }
    )+};
}

silent! {
    [T] State<T>, [T] Extension<T>, [T] Option<Extension<T>>, [T] Path<T>,
    [] Principal, [] Standing, [] App, [] Caller, [] HeaderMap,
}

impl<T: JsonSchema, const BYTES_MAX: usize> Argument for Json<T, BYTES_MAX> {
    fn describe(operation: &mut Operation<'_>) {
        operation.body::<T>();
        operation.problems(&[
            Code::BadRequest,
            Code::RequestTimeout,
            Code::BodyTooLarge,
            Code::UnsupportedMedia,
            Code::InvalidInput,
            Code::Overloaded,
        ]);
    }
}

/// A body that is taken as it is, whatever it is: also none, which is one without bytes.
impl Argument for Request {
    fn describe(operation: &mut Operation<'_>) {
        operation.body = Some(
            json!({ "required": false, "content": { "*/*": { "schema": { "type": "string", "format": "binary" } } } }),
        );
        operation.problems(&[Code::BadRequest, Code::RequestTimeout, Code::BodyTooLarge, Code::Overloaded]);
    }
}

impl<T: JsonSchema> Argument for Params<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.query::<T>();
        operation.problem(Code::InvalidInput);
    }
}

impl<A: Answer> Answer for Result<A, ApiError> {
    fn describe(operation: &mut Operation<'_>) {
        A::describe(operation);
    }
}

impl<T: JsonSchema> Answer for axum::Json<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.answer_json::<T>(200);
    }
}

/// A status that only the handler knows: a POST makes something new, a PUT new or anew.
impl<T: JsonSchema> Answer for (StatusCode, axum::Json<T>) {
    fn describe(operation: &mut Operation<'_>) {
        operation.answer_json::<T>(201);
        if operation.method == "PUT" {
            operation.answer_json::<T>(200);
        }
    }
}

/// The answer to a login: its other header is for the browser to keep to itself.
impl<A: Answer> Answer for (HeaderMap, A) {
    fn describe(operation: &mut Operation<'_>) {
        A::describe(operation);
        operation.answer_header("RateLimit");
        operation.answer_header("RateLimit-Policy");
    }
}

impl Answer for StatusCode {
    fn describe(operation: &mut Operation<'_>) {
        operation.answer_empty();
    }
}

impl Answer for (StatusCode, [(HeaderName, HeaderValue); 1]) {
    fn describe(operation: &mut Operation<'_>) {
        operation.answer_empty();
    }
}

impl<S> Answer for Sse<S> {
    fn describe(operation: &mut Operation<'_>) {
        operation.answer(200, "text/event-stream", &json!({ "type": "string" }));
    }
}
