//! The documents that an app's scripts keep.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::host_call::docs::{Create, Find, Id, Mode, Update};
use uuid::Uuid;

use super::Admin;
use super::page::{Items, PageParams};
use super::problem::ApiError;
use super::read::{Json, Params};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::data::docs::{Write, Wrote, check_write};
use crate::data::{Access, Told};
use crate::store::apps::App;
use crate::store::docs::DocumentRow;

#[derive(Serialize, JsonSchema)]
pub(super) struct DocsCollection {
    name: String,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Document {
    id: Uuid,
    data: Value,
    /// Another one after each change.
    version: u64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct DocumentMade {
    id: Uuid,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct DocumentWritten {
    version: u64,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FindParams {
    /// A filter as scripts write it, as JSON.
    filter: Option<String>,
    /// A member to sort by, with `-` in front for the greatest first; several with commas between.
    sort: Option<String>,
    /// Most items of the page; there are fewer when they are long.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateBody {
    data: Map<String, Value>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateBody {
    data: Map<String, Value>,
    /// Change the document only if it is of this version.
    if_version: Option<u64>,
}

pub(super) async fn collections(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<DocsCollection>>, ApiError> {
    let page = params.page::<String>()?;
    let after = page.after.as_deref().unwrap_or_default();
    let names = admin.data.doc_collections(&Access::of_person(&app), after, page.rows()).await?;
    Ok(JsonBody(page.items(names, String::clone).map(|name| DocsCollection { name })))
}

pub(super) async fn find(
    State(admin): State<Arc<Admin>>,
    app: App,
    Path((_, collection)): Path<(String, String)>,
    Params(params): Params<FindParams>,
) -> Result<JsonBody<Items<Document>>, ApiError> {
    let mut query = match params.filter.as_deref().map(serde_json::from_str) {
        None => Map::new(),
        Some(Ok(Value::Object(filter))) => filter,
        Some(_) => return Err(ApiError::invalid("filter is an object as JSON").with("field", "filter")),
    };
    let limit = params.limit.unwrap_or(50);
    if !(1..=200).contains(&limit) {
        return Err(ApiError::invalid(format!("limit is {limit}; it may be 1 to 200")));
    }
    query.insert("$limit".into(), limit.into());
    if let Some(sort) = &params.sort {
        query.insert("$sort".into(), sort.split(',').map(Value::from).collect());
    }
    let query = Value::Object(query).to_string();
    let cursor = params.cursor.as_deref().unwrap_or_default();
    let find = Find { collection: &collection, query: &query, cursor };
    let page = admin.data.doc_find(&Access::of_person(&app), &find).await?;
    Ok(JsonBody(Items::until(page.documents.into_iter().map(view).collect(), page.cursor)))
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    app: App,
    Path((_, collection, id)): Path<(String, String, String)>,
) -> Result<JsonBody<Document>, ApiError> {
    let id = Id { collection: &collection, id: &id };
    let row = admin.data.doc_get(&Access::of_person(&app), &id).await?;
    row.map(|row| JsonBody(view(row))).ok_or_else(missing)
}

pub(super) async fn create(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, collection)): Path<(String, String)>,
    Json(body): Json<CreateBody>,
) -> Result<(StatusCode, JsonBody<DocumentMade>), ApiError> {
    let data = Value::Object(body.data).to_string();
    let write = Write::Create(Create { collection: &collection, data: &data });
    match change(&admin, &principal, &app, "docs.create", &write).await? {
        Wrote::Created(id) => Ok((StatusCode::CREATED, JsonBody(DocumentMade { id }))),
        Wrote::Updated(_) | Wrote::Deleted(_) => Err(missing()),
    }
}

pub(super) async fn replace(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, collection, id)): Path<(String, String, String)>,
    Json(body): Json<UpdateBody>,
) -> Result<JsonBody<DocumentWritten>, ApiError> {
    update(&admin, &principal, &app, (&collection, &id), body, Mode::Replace).await
}

/// Members of `data` are set; those that are null are removed.
pub(super) async fn patch(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, collection, id)): Path<(String, String, String)>,
    Json(body): Json<UpdateBody>,
) -> Result<JsonBody<DocumentWritten>, ApiError> {
    update(&admin, &principal, &app, (&collection, &id), body, Mode::Merge).await
}

async fn update(
    admin: &Admin,
    principal: &Principal,
    app: &App,
    (collection, id): (&str, &str),
    body: UpdateBody,
    mode: Mode,
) -> Result<JsonBody<DocumentWritten>, ApiError> {
    let data = Value::Object(body.data).to_string();
    let write = Write::Update(Update { collection, id, data: &data, mode, if_version: body.if_version });
    match change(admin, principal, app, "docs.update", &write).await? {
        Wrote::Updated(Some(version)) => Ok(JsonBody(DocumentWritten { version: version.cast_unsigned() })),
        _ => Err(missing()),
    }
}

pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, collection, id)): Path<(String, String, String)>,
) -> Result<StatusCode, ApiError> {
    let write = Write::Delete(Id { collection: &collection, id: &id });
    match change(&admin, &principal, &app, "docs.delete", &write).await? {
        Wrote::Deleted(true) => Ok(StatusCode::NO_CONTENT),
        _ => Err(missing()),
    }
}

/// A change by a person, with its line in the audit log; the data is nobody's business there.
async fn change(
    admin: &Admin,
    principal: &Principal,
    app: &App,
    action: &'static str,
    write: &Write<'_>,
) -> Result<Wrote, ApiError> {
    check_write(write)?;
    let mut tx = admin.database.begin().await?;
    let mut told = Told::default();
    let wrote = admin.data.doc_apply(&mut tx, &Access::of_person(app), write, &mut told).await?;
    if matches!(wrote, Wrote::Updated(None) | Wrote::Deleted(false)) {
        return Err(missing());
    }
    let target = match (write, wrote) {
        (Write::Create(create), Wrote::Created(id)) => format!("{}/{id}", create.collection),
        (Write::Create(create), _) => create.collection.to_owned(),
        (Write::Update(update), _) => format!("{}/{}", update.collection, update.id),
        (Write::Delete(id), _) => format!("{}/{}", id.collection, id.id),
    };
    audit::append(&mut tx, Entry::new(principal, action, &target).on(app.id)).await?;
    tx.commit().await?;
    told.hand_over();
    Ok(wrote)
}

fn view(row: DocumentRow) -> Document {
    Document {
        id: row.id,
        data: serde_json::from_str(&row.data).unwrap_or_default(),
        version: row.version.cast_unsigned(),
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

fn missing() -> ApiError {
    ApiError::not_found("there is no such document")
}
