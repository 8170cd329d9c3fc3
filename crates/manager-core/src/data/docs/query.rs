//! The language of queries: from JSON to a tree that the store compiles.
//!
//! `{"age": {"$gte": 18}, "$or": [{"a.b": 1}, {"tags": {"$contains": "x"}}], "$sort": ["-age", "name"],
//! "$limit": 20}`. A member that is missing counts as null, except for `$exists`.

use serde_json::{Map, Value};
use shared::call::CallError;
use shared::json_scan;
use shared::limits::{DOCS_LIST_DEFAULT, DOCS_LIST_MAX};

/// Most documents that a query may pass over: each is read. Cursors do better.
const SKIP_MAX: u32 = 10_000;
/// Conditions of one query, and how deep they may be nested: far beyond what a person writes.
const CONDITIONS_MAX: usize = 64;
const DEPTH_MAX: usize = 8;
/// Members that a path may go through.
const PATH_MAX: usize = 8;
/// Values of an `$in`.
const VALUES_MAX: usize = 100;
/// Members to sort by.
const SORT_MAX: usize = 4;

/// A member of a document, by the names that lead to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path(pub(crate) Vec<String>);

/// What a document must be like.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Filter {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Member(Path, Test),
}

/// What a member must be like.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    Equal(Value),
    OneOf(Vec<Value>),
    /// Of the same type as the value, and greater or less.
    Order(Order, Value),
    Exists,
    /// A list with this element, or a text with this part.
    Contains(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SortKey {
    pub(crate) path: Path,
    pub(crate) is_descending: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Query {
    pub(crate) filter: Filter,
    pub(crate) sort: Vec<SortKey>,
    pub(crate) limit: u32,
    pub(crate) skip: u32,
}

impl Query {
    pub(crate) fn parse(text: &str) -> Result<Self, CallError> {
        json_scan::check(text).map_err(|error| CallError::invalid(error.to_string()))?;
        let Ok(Value::Object(members)) = serde_json::from_str(text) else {
            return Err(CallError::invalid("a filter is a map"));
        };
        let mut parser = Parser { conditions: 0 };
        let filter = parser.filter(members.iter().filter(|(name, _)| !is_option(name)), 0)?;
        Ok(Self {
            filter,
            sort: members.get("$sort").map_or(Ok(Vec::new()), sort)?,
            limit: number(&members, "$limit", 1, DOCS_LIST_MAX)?.unwrap_or(DOCS_LIST_DEFAULT),
            skip: number(&members, "$skip", 0, SKIP_MAX)?.unwrap_or(0),
        })
    }
}

fn is_option(name: &str) -> bool {
    matches!(name, "$sort" | "$limit" | "$skip")
}

fn number(members: &Map<String, Value>, name: &str, least: u32, most: u32) -> Result<Option<u32>, CallError> {
    let Some(value) = members.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    let number = number.filter(|number| (least..=most).contains(number));
    number.map(Some).ok_or_else(|| CallError::invalid(format!("{name} may be {least} to {most}")))
}

fn sort(value: &Value) -> Result<Vec<SortKey>, CallError> {
    let keys: Vec<&Value> = match value {
        Value::Null => Vec::new(),
        Value::Array(keys) => keys.iter().collect(),
        key => vec![key],
    };
    if keys.len() > SORT_MAX {
        return Err(CallError::invalid(format!("$sort takes {SORT_MAX} members at most")));
    }
    keys.into_iter().map(sort_key).collect()
}

/// `"name"`, `"-name"`, or `{"name": -1}`.
fn sort_key(value: &Value) -> Result<SortKey, CallError> {
    let wrong =
        || CallError::invalid("$sort takes \"name\", \"-name\", #{name: 1}, #{name: -1} or a list of these");
    match value {
        Value::String(text) => {
            let (is_descending, name) =
                text.strip_prefix('-').map_or((false, text.as_str()), |name| (true, name));
            Ok(SortKey { path: Path::parse(name)?, is_descending })
        }
        // The members of a map have no order of their own.
        Value::Object(members) if members.len() == 1 => {
            let (name, direction) = members.iter().next().ok_or_else(wrong)?;
            let is_descending = match direction.as_i64() {
                Some(1) => false,
                Some(-1) => true,
                _ => return Err(wrong()),
            };
            Ok(SortKey { path: Path::parse(name)?, is_descending })
        }
        _ => Err(wrong()),
    }
}

impl Path {
    pub(crate) fn parse(text: &str) -> Result<Self, CallError> {
        let names: Vec<String> = text.split('.').map(str::to_owned).collect();
        let is_wrong = |name: &String| name.is_empty() || name.contains('\0') || name.starts_with('$');
        if names.len() > PATH_MAX || text.len() > 256 || names.iter().any(is_wrong) {
            let message = format!("{text:?} is no member: one to {PATH_MAX} names with dots between them");
            return Err(CallError::invalid(message));
        }
        Ok(Self(names))
    }
}

struct Parser {
    conditions: usize,
}

impl Parser {
    fn filter<'a>(
        &mut self,
        members: impl Iterator<Item = (&'a String, &'a Value)>,
        depth: usize,
    ) -> Result<Filter, CallError> {
        let mut all = Vec::new();
        for (name, value) in members {
            all.push(match name.as_str() {
                "$and" => Filter::All(self.filters(name, value, depth)?),
                "$or" => Filter::Any(self.filters(name, value, depth)?),
                "$not" => Filter::Not(Box::new(self.nested(value, depth)?)),
                member => self.member(&Path::parse(member)?, value, depth)?,
            });
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Filter::All(all) })
    }

    fn filters(&mut self, name: &str, value: &Value, depth: usize) -> Result<Vec<Filter>, CallError> {
        let Value::Array(filters) = value else {
            return Err(CallError::invalid(format!("{name} takes a list of filters")));
        };
        filters.iter().map(|filter| self.nested(filter, depth)).collect()
    }

    fn nested(&mut self, value: &Value, depth: usize) -> Result<Filter, CallError> {
        let Value::Object(members) = value else {
            return Err(CallError::invalid("a filter is a map"));
        };
        self.filter(members.iter(), Self::deeper(depth)?)
    }

    fn deeper(depth: usize) -> Result<usize, CallError> {
        if depth == DEPTH_MAX {
            return Err(CallError::invalid(format!("a filter is nested {DEPTH_MAX} levels deep at most")));
        }
        Ok(depth + 1)
    }

    /// A value, or a map of operators.
    fn member(&mut self, path: &Path, value: &Value, depth: usize) -> Result<Filter, CallError> {
        let Value::Object(operators) = value else {
            return self.test(path, Test::Equal(value.clone()));
        };
        if !operators.keys().any(|name| name.starts_with('$')) {
            return self.test(path, Test::Equal(value.clone()));
        }
        let tests = operators.iter().map(|(name, operand)| self.operator(path, name, operand, depth));
        let mut all: Vec<Filter> = tests.collect::<Result<_, _>>()?;
        Ok(if all.len() == 1 { all.remove(0) } else { Filter::All(all) })
    }

    fn operator(
        &mut self,
        path: &Path,
        name: &str,
        operand: &Value,
        depth: usize,
    ) -> Result<Filter, CallError> {
        let value = operand.clone();
        let is_negated =
            matches!(name, "$ne" | "$nin") || (name == "$exists" && operand == &Value::Bool(false));
        let test = match name {
            "$eq" | "$ne" => Test::Equal(value),
            "$in" | "$nin" => Test::OneOf(list(name, operand)?),
            "$gt" => Test::Order(Order::Greater, ordered(name, value)?),
            "$gte" => Test::Order(Order::GreaterOrEqual, ordered(name, value)?),
            "$lt" => Test::Order(Order::Less, ordered(name, value)?),
            "$lte" => Test::Order(Order::LessOrEqual, ordered(name, value)?),
            "$exists" if operand.is_boolean() => Test::Exists,
            "$exists" => return Err(CallError::invalid("$exists takes true or false")),
            "$contains" if !(operand.is_array() || operand.is_object()) => Test::Contains(value),
            "$contains" => {
                return Err(CallError::invalid("$contains takes a text, a number, true, false or ()"));
            }
            "$not" if operand.is_object() => {
                let inner = self.member(path, operand, Self::deeper(depth)?)?;
                return Ok(Filter::Not(Box::new(inner)));
            }
            other => {
                let message = format!(
                    "there is no operator {other:?}; there are $eq $ne $gt $gte $lt $lte $in $nin $exists \
                     $contains $and $or $not"
                );
                return Err(CallError::invalid(message));
            }
        };
        let test = self.test(path, test)?;
        Ok(if is_negated { Filter::Not(Box::new(test)) } else { test })
    }

    fn test(&mut self, path: &Path, test: Test) -> Result<Filter, CallError> {
        self.conditions += 1;
        if self.conditions > CONDITIONS_MAX {
            return Err(CallError::invalid(format!("a query has {CONDITIONS_MAX} conditions at most")));
        }
        Ok(Filter::Member(path.clone(), test))
    }
}

fn list(name: &str, operand: &Value) -> Result<Vec<Value>, CallError> {
    match operand {
        Value::Array(values) if values.len() <= VALUES_MAX => Ok(values.clone()),
        _ => Err(CallError::invalid(format!("{name} takes a list of {VALUES_MAX} values at most"))),
    }
}

fn ordered(name: &str, operand: Value) -> Result<Value, CallError> {
    if operand.is_number() || operand.is_string() || operand.is_boolean() {
        return Ok(operand);
    }
    Err(CallError::invalid(format!("{name} takes a number, a text, true or false")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Query::parse(text).unwrap_err().message
    }

    #[test]
    fn members_and_operators_are_told_apart_and_all_must_hold() {
        let query =
            Query::parse(r#"{"a.b": 1, "c": {"$gt": 2, "$ne": 3}, "$limit": 5, "$sort": "-c"}"#).unwrap();
        let path = |text| Path::parse(text).unwrap();
        let expected = Filter::All(vec![
            Filter::Member(path("a.b"), Test::Equal(1.into())),
            Filter::All(vec![
                Filter::Member(path("c"), Test::Order(Order::Greater, 2.into())),
                Filter::Not(Box::new(Filter::Member(path("c"), Test::Equal(3.into())))),
            ]),
        ]);
        assert_eq!(query.filter, expected);
        assert_eq!(query.sort, [SortKey { path: path("c"), is_descending: true }]);
        assert_eq!((query.limit, query.skip), (5, 0));
        assert_eq!(Query::parse("{}").unwrap().filter, Filter::All(vec![]));
    }

    #[test]
    fn what_a_query_cannot_mean_is_refused_with_the_reason() {
        for text in [
            "[]",
            "1",
            "{",
            r#"{"a":{"$regex":"x"}}"#,
            r#"{"$where":"1"}"#,
            r#"{"a":{"$gt":[1]}}"#,
            r#"{"a":{"$gt":null}}"#,
            r#"{"a":{"$in":1}}"#,
            r#"{"a":{"$exists":1}}"#,
            r#"{"a":{"$contains":[1]}}"#,
            r#"{"":1}"#,
            r#"{"a..b":1}"#,
            r#"{"a.b.c.d.e.f.g.h.i":1}"#,
            r#"{"a\u0000":1}"#,
            r#"{"$or":{}}"#,
            r#"{"$or":[1]}"#,
            r#"{"$not":[]}"#,
            r#"{"a":{"$not":1}}"#,
            r#"{"a":{"$eq":1,"b":2}}"#,
            r#"{"$limit":0}"#,
            r#"{"$limit":"1"}"#,
            r#"{"$limit":1001}"#,
            r#"{"$skip":-1}"#,
            r#"{"$sort":{"a":1,"b":1}}"#,
            r#"{"$sort":{"a":2}}"#,
            r#"{"$sort":["a","b","c","d","e"]}"#,
        ] {
            assert!(!refusal(text).is_empty(), "{text}");
        }
        let deep = format!("{}{}{}", r#"{"$not":"#.repeat(9), "{}", "}".repeat(9));
        assert!(refusal(&deep).contains("8 levels"));
        let many = format!("{{\"$or\":[{}]}}", vec![r#"{"a":1}"#; 65].join(","));
        assert!(refusal(&many).contains("64 conditions"));
    }
}
