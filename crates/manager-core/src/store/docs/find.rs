//! Compiles queries to SQL. Every name and every value of a query is a parameter; the text of the
//! statement depends on the query's form alone. What is searched is `app_docs`, the documents of the
//! connection's app: declared indexes serve there, and under the policy of `docs` they would not.

use serde_json::Value;
use shared::id::AppId;
use sqlx::QueryBuilder;
use sqlx::postgres::{PgConnection, Postgres};
use sqlx::types::Json;

use super::DocumentRow;
use crate::data::docs::cursor::Cursor;
use crate::data::docs::query::{Filter, Order, Path, Query, SortKey, Test};

/// Bytes of a page's documents; a page that would be longer is cut short.
pub(crate) const PAGE_BYTES_MAX: i64 = 1 << 20;

/// A page's rows, and how many the page would have if it were not cut short by its bytes.
pub(crate) struct Listed {
    pub(crate) rows: Vec<DocumentRow>,
    pub(crate) found: usize,
}

#[derive(sqlx::FromRow)]
struct ListedRow {
    #[sqlx(flatten)]
    row: DocumentRow,
    found: i64,
}

/// The documents of a page, and one more if there are more.
pub(crate) async fn find(
    conn: &mut PgConnection,
    app: AppId,
    collection: &str,
    query: &Query,
    after: Option<&Cursor>,
) -> sqlx::Result<Listed> {
    let mut sql = QueryBuilder::new(
        // The window is of the rows as they come, which is in their order.
        "select id, data, version, created_at, updated_at, found from (
             select id, data, version, created_at, updated_at, count(*) over () as found,
                    sum(octet_length(data)) over (rows unbounded preceding) as bytes
             from (
                 select id, data::text as data, version, created_at, updated_at from app_docs where ",
    );
    push_scope(&mut sql, app, collection);
    sql.push(" and ");
    push_filter(&mut sql, &query.filter);
    if let Some(after) = after {
        sql.push(" and ");
        push_after(&mut sql, &query.sort, after);
    }
    push_order(&mut sql, &query.sort);
    sql.push(" limit ").push_bind(i64::from(query.limit) + 1);
    sql.push(" offset ").push_bind(i64::from(query.skip));
    sql.push(") page) page where bytes - octet_length(data) < ").push_bind(PAGE_BYTES_MAX);
    let rows: Vec<ListedRow> = sql.build_query_as().fetch_all(conn).await?;
    let found = rows.first().map_or(0, |row| usize::try_from(row.found).unwrap_or(0));
    Ok(Listed { rows: rows.into_iter().map(|row| row.row).collect(), found })
}

pub(crate) async fn count(
    conn: &mut PgConnection,
    app: AppId,
    collection: &str,
    filter: &Filter,
) -> sqlx::Result<i64> {
    let mut sql = QueryBuilder::new("select count(*) from app_docs where ");
    push_scope(&mut sql, app, collection);
    sql.push(" and ");
    push_filter(&mut sql, filter);
    sql.build_query_scalar().fetch_one(conn).await
}

fn push_scope(sql: &mut QueryBuilder<Postgres>, app: AppId, collection: &str) {
    sql.push("app_id = ").push_bind(app).push(" and collection = ").push_bind(collection);
}

/// A member, null where it is missing: the expression that indexes are of, too.
fn push_member(sql: &mut QueryBuilder<Postgres>, path: &Path) {
    sql.push("coalesce(data #> ").push_bind(&path.0[..]).push(", 'null'::jsonb)");
}

fn push_filter(sql: &mut QueryBuilder<Postgres>, filter: &Filter) {
    match filter {
        Filter::All(filters) => push_joined(sql, filters, " and ", "true"),
        Filter::Any(filters) => push_joined(sql, filters, " or ", "false"),
        Filter::Not(inner) => {
            sql.push("not ");
            push_filter(sql, inner);
        }
        Filter::Member(path, test) => push_test(sql, path, test),
    }
}

fn push_joined(
    sql: &mut QueryBuilder<Postgres>,
    filters: &[Filter],
    between: &'static str,
    none: &'static str,
) {
    sql.push("(");
    if filters.is_empty() {
        sql.push(none);
    }
    for (index, filter) in filters.iter().enumerate() {
        if index > 0 {
            sql.push(between);
        }
        push_filter(sql, filter);
    }
    sql.push(")");
}

fn push_test(sql: &mut QueryBuilder<Postgres>, path: &Path, test: &Test) {
    sql.push("(");
    match test {
        Test::Equal(value) => {
            push_member(sql, path);
            sql.push(" = ").push_bind(Json(value));
        }
        Test::OneOf(values) => {
            push_member(sql, path);
            let values: Vec<Json<&Value>> = values.iter().map(Json).collect();
            sql.push(" = any(").push_bind(values).push(")");
        }
        Test::Order(order, value) => push_comparison(sql, path, *order, value),
        Test::Exists => {
            sql.push("data #> ").push_bind(&path.0[..]).push(" is not null");
        }
        Test::Contains(value) => push_contains(sql, path, value),
    }
    sql.push(")");
}

/// Values of different types are neither greater nor less.
fn push_comparison(sql: &mut QueryBuilder<Postgres>, path: &Path, order: Order, value: &Value) {
    let type_name = match value {
        Value::Number(_) => "number",
        Value::String(_) => "string",
        _ => "boolean",
    };
    push_member(sql, path);
    sql.push(match order {
        Order::Greater => " > ",
        Order::GreaterOrEqual => " >= ",
        Order::Less => " < ",
        Order::LessOrEqual => " <= ",
    });
    sql.push_bind(Json(value)).push(" and jsonb_typeof(");
    push_member(sql, path);
    sql.push(") = ").push_bind(type_name);
}

fn push_contains(sql: &mut QueryBuilder<Postgres>, path: &Path, value: &Value) {
    sql.push("(jsonb_typeof(");
    push_member(sql, path);
    sql.push(") = 'array' and ");
    push_member(sql, path);
    sql.push(" @> ").push_bind(Json(Value::Array(vec![value.clone()]))).push(")");
    if let Value::String(part) = value {
        sql.push(" or (jsonb_typeof(");
        push_member(sql, path);
        sql.push(") = 'string' and strpos(");
        push_member(sql, path);
        sql.push(" #>> '{}', ").push_bind(part.as_str()).push(") > 0)");
    }
}

fn push_order(sql: &mut QueryBuilder<Postgres>, sort: &[SortKey]) {
    sql.push(" order by ");
    for key in sort {
        push_member(sql, &key.path);
        sql.push(if key.is_descending { " desc, " } else { ", " });
    }
    // Ids are given in the order in which documents are made.
    sql.push(if is_descending(sort) { "id desc" } else { "id" });
}

/// The direction in which documents go that are alike: the last member's, so that an index serves.
fn is_descending(sort: &[SortKey]) -> bool {
    sort.last().is_some_and(|key| key.is_descending)
}

/// What comes after a document: later in the first member, or alike in that and later in the second,
/// and so on to the id.
fn push_after(sql: &mut QueryBuilder<Postgres>, sort: &[SortKey], after: &Cursor) {
    sql.push("(");
    for alike in 0..=sort.len() {
        if alike > 0 {
            sql.push(" or ");
        }
        sql.push("(");
        for (key, value) in sort.iter().zip(&after.values).take(alike) {
            push_member(sql, &key.path);
            sql.push(" = ").push_bind(Json(value)).push(" and ");
        }
        match sort.get(alike).zip(after.values.get(alike)) {
            Some((key, value)) => {
                push_member(sql, &key.path);
                sql.push(if key.is_descending { " < " } else { " > " }).push_bind(Json(value));
            }
            None => {
                sql.push(if is_descending(sort) { "id < " } else { "id > " }).push_bind(after.id);
            }
        }
        sql.push(")");
    }
    sql.push(")");
}
