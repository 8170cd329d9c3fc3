//! `regex`: search and replace without backtracking. One search is linear in the text, whatever the pattern; many
//! that each look at all that is left, as those of `find_all` may, are quadratic together, and fuel ends them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use regex_lite::{Captures, Regex, RegexBuilder};
use rhai::{Array, Dynamic, Engine, ImmutableString, Map, Module};

use crate::{Result, failure};

/// Memory that a compiled pattern may take. Searching takes time in proportion to it.
const COMPILED_BYTES_MAX: usize = 256 << 10;
/// Text of a pattern: it is parsed before its compiled size is known.
const PATTERN_BYTES_MAX: usize = 16 << 10;
/// Groups within groups.
const NESTING_MAX: u32 = 64;
/// Compiled patterns that an execution keeps. More than it has in a loop would be a mistake.
const CACHED_MAX: usize = 32;

thread_local! {
    /// What the execution has compiled; gone with its memory.
    static COMPILED: RefCell<BTreeMap<ImmutableString, Rc<Regex>>> = const { RefCell::new(BTreeMap::new()) };
}

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("is_match", |pattern: ImmutableString, text: &str| {
        Ok(compiled(pattern)?.is_match(text))
    });
    module.set_native_fn("find", |pattern: ImmutableString, text: &str| {
        Ok(compiled(pattern)?.find(text).map_or(Dynamic::UNIT, |found| found.as_str().to_owned().into()))
    });
    module.set_native_fn("find_all", |pattern: ImmutableString, text: &str| {
        Ok(compiled(pattern)?
            .find_iter(text)
            .map(|found| found.as_str().to_owned().into())
            .collect::<Array>())
    });
    module.set_native_fn("replace", |pattern: ImmutableString, text: &str, by: &str| {
        Ok(compiled(pattern)?.replace(text, by).into_owned())
    });
    module.set_native_fn("replace_all", |pattern: ImmutableString, text: &str, by: &str| {
        Ok(compiled(pattern)?.replace_all(text, by).into_owned())
    });
    module.set_native_fn("split", |pattern: ImmutableString, text: &str| {
        Ok(compiled(pattern)?.split(text).map(|piece| piece.to_owned().into()).collect::<Array>())
    });
    module.set_native_fn("captures", |pattern: ImmutableString, text: &str| {
        let regex = compiled(pattern)?;
        Ok(regex.captures(text).map_or(Dynamic::UNIT, |captures| groups(&regex, &captures).into()))
    });
    engine.register_static_module("regex", module.into());
}

/// Each group under its number and, where it has one, its name. One that took no part is `()`.
fn groups(regex: &Regex, captures: &Captures<'_>) -> Map {
    let mut map = Map::new();
    for (index, name) in regex.capture_names().enumerate() {
        let value = captures.get(index).map_or(Dynamic::UNIT, |group| group.as_str().to_owned().into());
        if let Some(name) = name {
            map.insert(name.into(), value.clone());
        }
        map.insert(index.to_string().into(), value);
    }
    map
}

fn compiled(pattern: ImmutableString) -> Result<Rc<Regex>> {
    COMPILED.with_borrow_mut(|known| {
        if let Some(regex) = known.get(&pattern) {
            return Ok(Rc::clone(regex));
        }
        let regex = Rc::new(compile(&pattern)?);
        if known.len() == CACHED_MAX {
            known.clear();
        }
        known.insert(pattern, Rc::clone(&regex));
        Ok(regex)
    })
}

fn compile(pattern: &str) -> Result<Regex> {
    if pattern.len() > PATTERN_BYTES_MAX {
        let message = format!("a pattern has at most {PATTERN_BYTES_MAX} bytes, not {}", pattern.len());
        return Err(failure("invalid_pattern", message));
    }
    let mut builder = RegexBuilder::new(pattern);
    builder.size_limit(COMPILED_BYTES_MAX).nest_limit(NESTING_MAX);
    builder.build().map_err(|error| failure("invalid_pattern", error.to_string()))
}
