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
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::Admin;
use super::page::{Items, PageParams};
use super::precondition::{Preconditions, Resource, Tagged};
use super::problem::ApiError;
use super::read::{Json, Params};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::data::docs::{Write, Wrote, check_write};
use crate::data::{Access, Told};
use crate::store;
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
    /// What is there now.
    #[serde(skip)]
    document: Document,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct DocumentWritten {
    version: u64,
    /// What is there now.
    #[serde(skip)]
    document: Document,
}

impl Resource for Document {
    fn state(&self) -> &impl Serialize {
        self
    }
}

impl Resource for DocumentMade {
    fn state(&self) -> &impl Serialize {
        self.document.state()
    }
}

impl Resource for DocumentWritten {
    fn state(&self) -> &impl Serialize {
        self.document.state()
    }
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
) -> Result<Tagged<Document>, ApiError> {
    let id = Id { collection: &collection, id: &id };
    let row = admin.data.doc_get(&Access::of_person(&app), &id).await?;
    row.map(|row| Tagged(view(row))).ok_or_else(missing)
}

pub(super) async fn create(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, collection)): Path<(String, String)>,
    Json(body): Json<CreateBody>,
) -> Result<(StatusCode, Tagged<DocumentMade>), ApiError> {
    let data = Value::Object(body.data).to_string();
    let write = Write::Create(Create { collection: &collection, data: &data });
    let made = change(&admin, (&principal, &app), &Preconditions::default(), "docs.create", &write).await?;
    let document = made.ok_or_else(missing)?;
    Ok((StatusCode::CREATED, Tagged(DocumentMade { id: document.id, document })))
}

pub(super) async fn replace(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, collection, id)): Path<(String, String, String)>,
    preconditions: Preconditions,
    Json(body): Json<UpdateBody>,
) -> Result<Tagged<DocumentWritten>, ApiError> {
    update(&admin, (&principal, &app), (&collection, &id), &preconditions, body, Mode::Replace).await
}

/// Members of `data` are set; those that are null are removed.
pub(super) async fn patch(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, collection, id)): Path<(String, String, String)>,
    preconditions: Preconditions,
    Json(body): Json<UpdateBody>,
) -> Result<Tagged<DocumentWritten>, ApiError> {
    update(&admin, (&principal, &app), (&collection, &id), &preconditions, body, Mode::Merge).await
}

async fn update(
    admin: &Admin,
    caller: (&Principal, &App),
    (collection, id): (&str, &str),
    preconditions: &Preconditions,
    body: UpdateBody,
    mode: Mode,
) -> Result<Tagged<DocumentWritten>, ApiError> {
    let data = Value::Object(body.data).to_string();
    let write = Write::Update(Update { collection, id, data: &data, mode, if_version: body.if_version });
    let changed = change(admin, caller, preconditions, "docs.update", &write).await?;
    let document = changed.ok_or_else(missing)?;
    Ok(Tagged(DocumentWritten { version: document.version, document }))
}

pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, collection, id)): Path<(String, String, String)>,
    preconditions: Preconditions,
) -> Result<StatusCode, ApiError> {
    let write = Write::Delete(Id { collection: &collection, id: &id });
    change(&admin, (&principal, &app), &preconditions, "docs.delete", &write).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A change by a person, with its line in the audit log; the data is nobody's business there. Answers
/// the document as it is then; one that is removed is no more.
async fn change(
    admin: &Admin,
    (principal, app): (&Principal, &App),
    preconditions: &Preconditions,
    action: &'static str,
    write: &Write<'_>,
) -> Result<Option<Document>, ApiError> {
    check_write(write)?;
    let access = Access::of_person(app);
    let compared = admin.data.compare_ahead(&access, write).await?;
    let _room = admin.data.take_room(&access, write.adds()).await?;
    let mut tx = admin.data.begin(&access).await?;
    let (collection, old) = match write {
        Write::Create(create) => (create.collection, None),
        Write::Update(update) => (update.collection, Some(update.id)),
        Write::Delete(id) => (id.collection, Some(id.id)),
    };
    if let Some(id) = old {
        let before = locked(&mut tx, app, collection, id).await?;
        preconditions.check(Some(&before))?;
    }
    let mut told = Told::default();
    let id = match admin.data.doc_apply(&mut tx, &access, (write, compared), &mut told).await? {
        Wrote::Created(id) => id.to_string(),
        Wrote::Updated(None) | Wrote::Deleted(false) => return Err(missing()),
        Wrote::Updated(Some(_)) | Wrote::Deleted(true) => old.unwrap_or_default().to_owned(),
    };
    let now = match id.parse() {
        Ok(id) => store::docs::get(&mut tx, app.id, collection, id).await?,
        Err(_) => None,
    };
    let target = format!("{collection}/{id}");
    audit::append(&mut tx, Entry::new(principal, action, &target).on(app.id)).await?;
    tx.commit(told).await?;
    Ok(now.map(view))
}

/// A document that nobody changes until the transaction ends.
async fn locked(
    conn: &mut PgConnection,
    app: &App,
    collection: &str,
    id: &str,
) -> Result<Document, ApiError> {
    let id: Uuid = id.parse().map_err(|_| missing())?;
    store::docs::lock(conn, app.id, collection, id).await?.ok_or_else(missing)?;
    store::docs::get(conn, app.id, collection, id).await?.map(view).ok_or_else(missing)
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
