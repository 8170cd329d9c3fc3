//! The maps of options that SDK functions take last: read by name, and nothing left over.

use rhai::{Dynamic, ImmutableString, Map};

use crate::{Result, failure};

/// Longest time an option can say, in milliseconds: beyond it a script has mistaken the unit.
const SECONDS_MAX: f64 = 1e10;

pub(crate) struct Options<'a> {
    function: &'static str,
    map: &'a Map,
    known: Vec<&'static str>,
}

impl<'a> Options<'a> {
    pub(crate) fn new(function: &'static str, map: &'a Map) -> Self {
        Self { function, map, known: Vec::new() }
    }

    /// An option that is there and is not `()`.
    pub(crate) fn value(&mut self, name: &'static str) -> Option<&'a Dynamic> {
        self.known.push(name);
        self.map.get(name).filter(|value| !value.is_unit())
    }

    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<ImmutableString>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.as_immutable_string_ref() {
            Ok(text) => Ok(Some(text.clone())),
            Err(_) => Err(self.wrong(name, "a string")),
        }
    }

    pub(crate) fn whole(&mut self, name: &'static str) -> Result<Option<i64>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        value.as_int().map(Some).map_err(|_| self.wrong(name, "a whole number"))
    }

    /// The version that what is written must have. `()` is what a misspelt member gives: taken for no condition, it
    /// would have the write done whatever is there.
    pub(crate) fn if_version(&mut self) -> Result<Option<u64>> {
        if self.map.get("if_version").is_some_and(Dynamic::is_unit) {
            let message = format!(
                "{}: if_version is (): give the version that was read, or leave it out to write whatever is there; \
                 kv has if_absent for what must not be there yet",
                self.function
            );
            return Err(failure("invalid_argument", message));
        }
        Ok(self.whole("if_version")?.map(|version| version as u64))
    }

    pub(crate) fn flag(&mut self, name: &'static str) -> Result<Option<bool>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        value.as_bool().map(Some).map_err(|_| self.wrong(name, "true or false"))
    }

    /// A time in seconds, as milliseconds.
    pub(crate) fn seconds(&mut self, name: &'static str) -> Result<Option<u64>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let seconds = match (value.as_int(), value.as_float()) {
            (Ok(whole), _) => whole as f64,
            (_, Ok(float)) => float,
            _ => return Err(self.wrong(name, "a number of seconds")),
        };
        if !(seconds > 0.0 && seconds <= SECONDS_MAX) {
            return Err(self.wrong(name, "a number of seconds above 0"));
        }
        Ok(Some(((seconds * 1000.0) as u64).max(1)))
    }

    /// Refuses what was not asked for: it is misspelt.
    pub(crate) fn finish(self) -> Result<()> {
        match self.map.keys().find(|name| !self.known.contains(&name.as_str())) {
            Some(name) => {
                let message =
                    format!("{} has no option {name:?}; it has {}", self.function, self.known.join(", "));
                Err(failure("invalid_argument", message))
            }
            None => Ok(()),
        }
    }

    fn wrong(&self, name: &str, wanted: &str) -> Box<rhai::EvalAltResult> {
        failure("invalid_argument", format!("{}: {name} must be {wanted}", self.function))
    }
}
