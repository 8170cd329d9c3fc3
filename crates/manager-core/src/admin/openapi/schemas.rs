//! JSON Schemas of what the API reads and answers. What is answered has named parts that clients can
//! share; what is read is whole in one place, because a type may read otherwise than it writes.

use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::words;

pub(super) struct Schemas {
    answers: SchemaGenerator,
    requests: SchemaGenerator,
    bodies: Map<String, Value>,
    problems: Map<String, Value>,
}

/// Where the document keeps its schemas.
const PLACE: &str = "/components/schemas";

impl Default for Schemas {
    fn default() -> Self {
        let settings = |change: fn(&mut SchemaSettings)| {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.meta_schema = None;
                settings.definitions_path = PLACE.into();
                change(settings);
            })
        };
        Self {
            answers: settings(|_| ()).for_serialize().into_generator(),
            requests: settings(|settings| settings.inline_subschemas = true)
                .for_deserialize()
                .into_generator(),
            bodies: Map::new(),
            problems: Map::new(),
        }
    }
}

impl Schemas {
    /// The schema of an answer: a reference when it has a name.
    pub(super) fn of_answer<T: JsonSchema>(&mut self) -> Value {
        self.answers.subschema_for::<T>().to_value()
    }

    /// The schema of what is read, whole.
    pub(super) fn of_request<T: JsonSchema>(&mut self) -> Value {
        self.requests.subschema_for::<T>().to_value()
    }

    /// The schema of a body, by reference.
    pub(super) fn of_body<T: JsonSchema>(&mut self) -> Value {
        let name = format!("{}Request", T::schema_name());
        let schema = self.of_request::<T>();
        let reference = json!({ "$ref": format!("#{PLACE}/{name}") });
        self.bodies.insert(name, schema);
        reference
    }

    /// The answer to what goes wrong with one of these codes, by reference: many operations share it.
    pub(super) fn problem(&mut self, status: u16, codes: &BTreeSet<&'static str>) -> Value {
        let shared: Vec<_> = codes.iter().copied().collect();
        let name = format!("{status}_{}", shared.join("."));
        let reference = json!({ "$ref": format!("#/components/responses/{name}") });
        self.problems.entry(name).or_insert_with(|| words::problem(status, codes));
        reference
    }

    /// Every schema and every response that has a name.
    pub(super) fn into_named(mut self) -> (Map<String, Value>, Map<String, Value>) {
        let mut named = self.answers.take_definitions(true);
        named.append(&mut self.bodies);
        (named, self.problems)
    }
}

/// The schema of an answer, with nothing elsewhere.
pub(super) fn whole<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.meta_schema = None;
        settings.inline_subschemas = true;
    });
    settings.for_serialize().into_generator().subschema_for::<T>().to_value()
}
