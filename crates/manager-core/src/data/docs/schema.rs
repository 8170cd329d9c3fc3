//! What the documents of a collection must be like, where people say so: JSON Schema, 2020-12.
//!
//! A schema is a stranger's too, and it runs here: it refers to nothing outside itself and not to itself, its
//! patterns take linear time, and how much work it is with a document is known before it is done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;
use shared::call::{CallCode, CallError};
use shared::host_call::docs::{Create, Mode, Update};
use shared::id::AppId;
use shared::limits::{DOC_SCHEMA_BYTES_MAX, DOC_SCHEMA_NODES_MAX};
use sqlx::postgres::PgConnection;
use tokio::sync::Semaphore;

use super::super::{Access, Data, failed};
use super::Write;
use crate::store::docs::schemas::{self, Versioned};

/// Nodes of the schema times bytes of the document: what a comparison may be. About a tenth of a second.
const WORK_MAX: usize = 4 << 20;
/// A comparison of no more than that is done at once; others take turns, on threads that may be busy.
const AT_ONCE: usize = 256 << 10;
const TURNS: usize = 2;
/// Compiled patterns.
const PATTERN_BYTES_MAX: usize = 256 << 10;
/// Compiled schemas in memory.
const KEPT_MAX: usize = 1_000;
/// References behind each other.
const DEPTH_MAX: usize = 64;

/// A schema that no document can be compared with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadSchema(String);

/// A schema, ready for use.
#[derive(Debug)]
pub(crate) struct Schema {
    validator: Validator,
    nodes: usize,
}

impl Schema {
    pub(crate) fn compile(schema: &Value) -> Result<Self, BadSchema> {
        if schema.to_string().len() > DOC_SCHEMA_BYTES_MAX {
            return Err(BadSchema(format!("a schema has {DOC_SCHEMA_BYTES_MAX} bytes of JSON at most")));
        }
        if !schema.is_object() {
            return Err(BadSchema("a schema is an object".to_owned()));
        }
        let mut nodes = 0;
        weigh(schema, schema, 0, &mut nodes)?;
        let patterns =
            PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
        let options = jsonschema::options().with_draft(Draft::Draft202012).with_pattern_options(patterns);
        let validator = options.offline().build(schema);
        let validator =
            validator.map_err(|error| BadSchema(error.to_string().chars().take(500).collect()))?;
        Ok(Self { validator, nodes })
    }

    /// What is wrong with a document, where it does not fit. The message quotes nothing of it.
    fn complaint(&self, document: &Value) -> Option<String> {
        let error = self.validator.validate(document).err()?;
        let place = error.instance_path().to_string();
        let place = if place.is_empty() { "the document".to_owned() } else { place };
        Some(format!("{place}: {}", error.masked_with("it")))
    }
}

/// Counts what a document is compared with, each reference as what it leads to.
fn weigh(root: &Value, schema: &Value, depth: usize, nodes: &mut usize) -> Result<(), BadSchema> {
    *nodes += 1;
    if *nodes > DOC_SCHEMA_NODES_MAX || depth > DEPTH_MAX {
        let message = format!("the schema is over {DOC_SCHEMA_NODES_MAX} parts, or refers to itself");
        return Err(BadSchema(message));
    }
    match schema {
        Value::Object(members) => {
            for (name, value) in members {
                match (name.as_str(), value) {
                    ("$ref", Value::String(reference)) => {
                        let target = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
                        let target = target.ok_or_else(|| {
                            let shown: String = reference.chars().take(80).collect();
                            BadSchema(format!(
                                "$ref {shown:?} is no part of the schema, such as #/$defs/name"
                            ))
                        })?;
                        weigh(root, target, depth + 1, nodes)?;
                    }
                    (
                        "$dynamicRef" | "$recursiveRef" | "$id" | "$schema" | "$anchor" | "$dynamicAnchor",
                        _,
                    ) if !is_harmless(depth, name, value) => {
                        return Err(BadSchema(format!("{name} is not known here")));
                    }
                    _ => weigh(root, value, depth + 1, nodes)?,
                }
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| weigh(root, item, depth + 1, nodes)),
        _ => Ok(()),
    }
}

/// At the top a schema may say what it is called and of which version it is.
fn is_harmless(depth: usize, name: &str, value: &Value) -> bool {
    let is_draft = || value.as_str().is_some_and(|text| text.contains("json-schema.org/draft/2020-12/"));
    depth == 0 && (name == "$schema" && is_draft()) || !value.is_string()
}

/// Schemas by app and collection, each with its version.
type Kept = HashMap<(AppId, String), (i64, Arc<Schema>)>;

/// The schemas that were compiled, and turns at comparing.
#[derive(Debug)]
pub(crate) struct Schemas {
    kept: Mutex<Kept>,
    turns: Semaphore,
}

impl Default for Schemas {
    fn default() -> Self {
        Self { kept: Mutex::default(), turns: Semaphore::new(TURNS) }
    }
}

impl Schemas {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A schema of this version, if it was compiled.
    fn find(&self, app: AppId, collection: &str, version: i64) -> Option<Arc<Schema>> {
        let key = (app, collection.to_owned());
        self.kept().get(&key).filter(|(kept, _)| *kept == version).map(|(_, schema)| Arc::clone(schema))
    }

    /// Makes a schema ready and remembers it.
    fn keep(&self, app: AppId, collection: &str, found: &Versioned) -> Result<Arc<Schema>, CallError> {
        let schema = Schema::compile(&found.schema).map_err(|error| {
            tracing::error!(%error, app.id = %app, "a schema that was accepted cannot be used");
            CallError::new(CallCode::Internal, "the collection's schema cannot be used")
        })?;
        let schema = Arc::new(schema);
        let mut kept = self.kept();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert((app, collection.to_owned()), (found.version, Arc::clone(&schema)));
        Ok(schema)
    }

    /// Refuses a document that is not as it must be.
    async fn compare(&self, schema: Arc<Schema>, data: &str) -> Result<(), CallError> {
        let work = schema.nodes * data.len();
        if work > WORK_MAX {
            let message = "the document is too long for a schema with so many parts";
            return Err(CallError::new(CallCode::TooLarge, message));
        }
        let document: Value =
            serde_json::from_str(data).map_err(|error| CallError::invalid(error.to_string()))?;
        let complaint = if work <= AT_ONCE {
            schema.complaint(&document)
        } else {
            let _turn = self.turns.acquire().await;
            let comparing = tokio::task::spawn_blocking(move || schema.complaint(&document));
            comparing.await.map_err(|_| CallError::new(CallCode::Internal, "the platform failed"))?
        };
        complaint.map_or(Ok(()), |complaint| {
            Err(CallError::invalid(format!("the document does not fit its collection's schema: {complaint}")))
        })
    }
}

/// The version of its collection's schema that a document was compared with before its change began, if it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Compared(Option<i64>);

impl Data {
    /// Whether documents of a collection must be like something.
    pub(super) fn has_schema(&self, app: AppId, collection: &str) -> bool {
        self.snapshot.schema_version(app, collection).is_some()
    }

    /// Compares what a change writes with its collection's schema, before a connection is taken for the change: one
    /// that has a connection and its locks waits for nothing else. What a patch makes of a document shows only then;
    /// its schema is made ready.
    pub(crate) async fn compare_ahead(
        &self,
        access: &Access<'_>,
        write: &Write<'_>,
    ) -> Result<Compared, CallError> {
        let (collection, data) = match *write {
            Write::Create(Create { collection, data }) => (collection, Some(data)),
            Write::Update(Update { collection, data, mode, .. }) => {
                (collection, (mode == Mode::Replace).then_some(data))
            }
            Write::Delete(_) => return Ok(Compared::default()),
        };
        let Some(version) = self.snapshot.schema_version(access.app, collection) else {
            return Ok(Compared::default());
        };
        let (version, schema) = match self.schemas.find(access.app, collection, version) {
            Some(schema) => (version, schema),
            None => {
                let mut conn = self.acquire(access).await?;
                let found = schemas::current(&mut conn, access.app, collection).await;
                let found = conn.answered(found).map_err(|error| failed(&error))?;
                // It was removed just now.
                let Some(found) = found else { return Ok(Compared::default()) };
                (found.version, self.schemas.keep(access.app, collection, &found)?)
            }
        };
        let Some(data) = data else { return Ok(Compared::default()) };
        self.schemas.compare(schema, data).await?;
        Ok(Compared(Some(version)))
    }

    /// Refuses a document that is not as its collection's must be now, unless it was compared with that already. What
    /// has to be read is read by the connection of the change.
    pub(super) async fn check_schema(
        &self,
        conn: &mut PgConnection,
        (app, collection): (AppId, &str),
        data: &str,
        compared: Compared,
    ) -> Result<(), CallError> {
        let Some(version) = self.snapshot.schema_version(app, collection) else { return Ok(()) };
        if compared == Compared(Some(version)) {
            return Ok(());
        }
        let schema = match self.schemas.find(app, collection, version) {
            Some(schema) => schema,
            None => {
                let found = schemas::current(conn, app, collection).await.map_err(|error| failed(&error))?;
                let Some(found) = found else { return Ok(()) };
                self.schemas.keep(app, collection, &found)?
            }
        };
        self.schemas.compare(schema, data).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_fits_or_its_owner_is_told_where_it_does_not() {
        let schema = Schema::compile(&json!({
            "type": "object",
            "required": ["total"],
            "properties": { "total": { "$ref": "#/$defs/amount" }, "mail": { "pattern": "^[a-z]+@" } },
            "$defs": { "amount": { "type": "number", "minimum": 0 } },
        }))
        .unwrap();
        assert_eq!(schema.complaint(&json!({ "total": 1, "mail": "ada@x" })), None);
        for (document, place) in [
            (json!({}), "the document"),
            (json!({ "total": -1 }), "/total"),
            (json!({ "total": 1, "mail": "SECRET" }), "/mail"),
        ] {
            let complaint = schema.complaint(&document).unwrap();
            assert!(complaint.starts_with(place), "{complaint}");
            assert!(!complaint.contains("SECRET"), "{complaint}");
        }
    }

    /// Each would fetch, never end, or take exponential time.
    #[test]
    fn a_schema_that_costs_more_than_it_says_is_refused() {
        let mut doubling = json!({ "$defs": { "a0": { "type": "string" } }, "$ref": "#/$defs/a20" });
        for n in 1..=20 {
            let reference = json!({ "$ref": format!("#/$defs/a{}", n - 1) });
            doubling["$defs"][format!("a{n}")] = json!({ "allOf": [reference, reference] });
        }
        for bad in [
            json!(true),
            json!({ "$ref": "https://example.com/schema" }),
            json!({ "$ref": "file:///etc/passwd" }),
            json!({ "$ref": "#" }),
            json!({ "properties": { "a": { "$ref": "#/properties/a" } } }),
            json!({ "$dynamicRef": "#a" }),
            json!({ "properties": { "a": { "$id": "http://a/", "$ref": "#/$defs/a" } } }),
            json!({ "$schema": "http://json-schema.org/draft-04/schema#" }),
            json!({ "pattern": "(a" }),
            json!({ "pattern": "(a{1000}){1000}" }),
            json!({ "pattern": "(a)\\1" }),
            json!({ "type": "no such" }),
            json!({ "enum": vec![0; DOC_SCHEMA_NODES_MAX] }),
            doubling,
        ] {
            assert!(Schema::compile(&bad).is_err(), "{bad}");
        }
        assert!(
            Schema::compile(&json!({ "$schema": "https://json-schema.org/draft/2020-12/schema" })).is_ok()
        );
    }
}
