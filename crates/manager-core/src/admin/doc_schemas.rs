//! What the documents of collections must be like.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use shared::fault::Code;
use shared::limits::DOC_SCHEMAS_MAX;

use super::page::{Items, PageParams};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, access};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::data::docs::check_collection;
use crate::data::docs::schema::Schema;
use crate::store::apps::App;
use crate::store::docs::schemas::{self, DocSchema};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSchema {
    /// JSON Schema, 2020-12.
    schema: Value,
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<DocSchema>>, ApiError> {
    let page = params.page::<String>()?;
    let mut conn = admin.database.acquire().await?;
    let rows = schemas::page(&mut conn, app.id, page.after.as_deref(), page.rows()).await?;
    Ok(JsonBody(page.items(rows, |schema| schema.collection.clone())))
}

/// Documents that are there already stay as they are until they are changed.
pub(super) async fn put(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, collection)): Path<(String, String)>,
    Json(body): Json<NewSchema>,
) -> Result<JsonBody<DocSchema>, ApiError> {
    check_collection(&collection)?;
    Schema::compile(&body.schema)
        .map_err(|error| ApiError::invalid(format!("schema: {error}")).with("field", "schema"))?;
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let before = schemas::get(&mut tx, app.id, &collection).await?;
    let schema = schemas::put(&mut tx, app.id, &collection, &body.schema).await?;
    if schemas::count(&mut tx, app.id).await? > DOC_SCHEMAS_MAX {
        let detail = format!("an app has {DOC_SCHEMAS_MAX} schemas at most; remove one first");
        return Err(ApiError::new(Code::Conflict, detail));
    }
    let entry = Entry::new(&principal, "doc_schema.set", &collection).on(app.id).after(&schema);
    let entry = match &before {
        Some(before) => entry.before(before),
        None => entry,
    };
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    Ok(JsonBody(schema))
}

pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, collection)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    if !schemas::delete(&mut tx, app.id, &collection).await? {
        return Err(ApiError::not_found("the collection has no schema"));
    }
    audit::append(&mut tx, Entry::new(&principal, "doc_schema.delete", &collection).on(app.id)).await?;
    admin.snapshot.publish(tx).await?;
    Ok(StatusCode::NO_CONTENT)
}
