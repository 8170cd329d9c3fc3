//! Compiles queries to SQL. Every value of a query is a parameter. The app, the limit, and names that are letters,
//! digits and underscores stand in the text of the statement: an index is of one app, one collection and certain
//! members, and a plan that is made once for all values finds it, and sees that it is worth it, only by what is
//! written there. Other names are parameters, and each search by them is planned anew, which takes longer than the
//! search.
//!
//! What is searched is `app_docs`, the documents of the connection's app: declared indexes serve there, and under the
//! policy of `docs` they would not.

use futures_util::TryStreamExt;
use serde_json::Value;
use shared::id::AppId;
use sqlx::QueryBuilder;
use sqlx::postgres::{PgConnection, Postgres};
use sqlx::types::Json;

use super::DocumentRow;
use crate::data::docs::cursor::Cursor;
use crate::data::docs::query::{Filter, Order, Path, Query, SortKey, Test};

/// Bytes of a page's documents; a page that would be longer is cut short.
const PAGE_BYTES_MAX: isize = 1 << 20;
/// Documents of a page that is read whole and cut short here, one document at a time: as many as are found unasked,
/// and 50 MiB at most. Longer ones are cut by the database, whose windows take two fifths as long as finding twenty
/// documents (181 and 125 µs).
const SHORT: u32 = 100;

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
    let is_short = query.limit <= SHORT;
    let mut sql = QueryBuilder::new(match is_short {
        true => "",
        // The windows are of the rows as they come, which is in their order.
        false => {
            "select id, data, version, created_at, updated_at, found from (
                 select id, data, version, created_at, updated_at, count(*) over () as found,
                        sum(octet_length(data)) over (rows unbounded preceding) as bytes
                 from ("
        }
    });
    sql.push("select id, data::text as data, version, created_at, updated_at from app_docs where ");
    push_scope(&mut sql, app, collection);
    sql.push(" and ");
    push_filter(&mut sql, &query.filter);
    if let Some(after) = after {
        sql.push(" and ");
        push_after(&mut sql, &query.sort, after);
    }
    push_order(&mut sql, &query.sort);
    sql.push(" limit ").push(i64::from(query.limit) + 1);
    // A cursor is behind what was skipped before the first page.
    if query.skip > 0 && after.is_none() {
        sql.push(" offset ").push_bind(i64::from(query.skip));
    }
    if is_short {
        return read_short(sql, conn).await;
    }
    sql.push(") page) page where bytes - octet_length(data) < ").push(PAGE_BYTES_MAX);
    let rows: Vec<ListedRow> = sql.build_query_as().fetch_all(conn).await?;
    let found = rows.first().map_or(0, |row| usize::try_from(row.found).unwrap_or(0));
    Ok(Listed { rows: rows.into_iter().map(|row| row.row).collect(), found })
}

/// Reads a page to its end, and keeps what has room in it.
async fn read_short(mut sql: QueryBuilder<Postgres>, conn: &mut PgConnection) -> sqlx::Result<Listed> {
    let mut found = sql.build_query_as().fetch(conn);
    let mut page = Listed { rows: Vec::new(), found: 0 };
    let mut room = PAGE_BYTES_MAX;
    while let Some(row) = found.try_next().await? {
        page.found += 1;
        if room > 0 {
            let row: DocumentRow = row;
            room -= row.data.len().cast_signed();
            page.rows.push(row);
        }
    }
    Ok(page)
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
    // An id is hexadecimal digits and hyphens.
    sql.push("app_id = '").push(app).push("'::uuid and collection = ");
    match is_plain(collection) {
        true => sql.push("'").push(collection).push("'"),
        false => sql.push_bind(collection.to_owned()),
    };
}

/// Whether a name can stand in a statement as it is, between any quotation marks.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The way to a member.
fn push_path(sql: &mut QueryBuilder<Postgres>, path: &Path) {
    if !path.0.is_empty() && path.0.iter().all(|name| is_plain(name)) {
        // In double quotes: without them `null` would be none.
        sql.push("'{\"").push(path.0.join("\",\"")).push("\"}'::text[]");
    } else {
        sql.push_bind(path.0.clone());
    }
}

/// A member, null where it is missing: the expression that indexes are of, too.
fn push_member(sql: &mut QueryBuilder<Postgres>, path: &Path) {
    sql.push("coalesce(data #> ");
    push_path(sql, path);
    sql.push(", 'null'::jsonb)");
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
            sql.push("data #> ");
            push_path(sql, path);
            sql.push(" is not null");
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
