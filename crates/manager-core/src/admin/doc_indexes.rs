//! Indexes of the documents that scripts keep: declared here, built beside everything else.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use shared::fault::Code;
use shared::limits::{DOC_INDEXES_ALL_MAX, DOC_INDEXES_MAX};
use uuid::Uuid;

use super::page::{Items, PageParams};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, access};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::data::docs::{check_collection, query};
use crate::store;
use crate::store::apps::App;
use crate::store::docs::indexes::{self, DocIndex};

/// Members of one index: as many as a query sorts by.
const MEMBERS_MAX: usize = 4;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewIndex {
    #[schemars(length(min = 1, max = 128))]
    collection: String,
    /// The members to index by, the first first; those of members with dots, as in filters.
    #[schemars(length(min = 1, max = 4))]
    members: Vec<String>,
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<DocIndex>>, ApiError> {
    let page = params.page::<Uuid>()?;
    let mut conn = admin.database.acquire().await?;
    let rows = indexes::page(&mut conn, app.id, page.after, page.rows()).await?;
    Ok(JsonBody(page.items(rows, |index| index.id.to_string())))
}

/// It is in the list as `building` until it is ready or has failed.
pub(super) async fn create(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Json(body): Json<NewIndex>,
) -> Result<(StatusCode, JsonBody<DocIndex>), ApiError> {
    check(&body)?;
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let index = indexes::insert(&mut tx, app.id, &body.collection, &body.members).await;
    let index = index.map_err(|error| match store::violates(&error, "doc_indexes_once") {
        true => ApiError::new(Code::Conflict, "the collection has this index"),
        false => error.into(),
    })?;
    let (own, all) = indexes::count(&mut tx, app.id).await?;
    if own > DOC_INDEXES_MAX || all > DOC_INDEXES_ALL_MAX {
        let detail = format!(
            "an app has {DOC_INDEXES_MAX} indexes of documents at most, and all apps {DOC_INDEXES_ALL_MAX}; \
             remove one first"
        );
        return Err(ApiError::new(Code::Conflict, detail));
    }
    let target = format!("{}: {}", index.collection, index.members.join(", "));
    let entry = Entry::new(&principal, "doc_index.create", &target).on(app.id).after(&index);
    audit::append(&mut tx, entry).await?;
    tx.commit().await?;
    admin.indexer.wake();
    Ok((StatusCode::CREATED, JsonBody(index)))
}

pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let missing = || ApiError::not_found("the app has no such index");
    let id = Uuid::parse_str(&id).map_err(|_| missing())?;
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let old = indexes::delete(&mut tx, app.id, id).await?.ok_or_else(missing)?;
    let target = format!("{}: {}", old.collection, old.members.join(", "));
    let entry = Entry::new(&principal, "doc_index.delete", &target).on(app.id).before(&old);
    audit::append(&mut tx, entry).await?;
    tx.commit().await?;
    admin.indexer.wake();
    Ok(StatusCode::NO_CONTENT)
}

fn check(index: &NewIndex) -> Result<(), ApiError> {
    check_collection(&index.collection)?;
    let members = &index.members;
    if !(1..=MEMBERS_MAX).contains(&members.len()) {
        let detail = format!("members: 1 to {MEMBERS_MAX}");
        return Err(ApiError::invalid(detail).with("field", "members"));
    }
    for (at, member) in members.iter().enumerate() {
        query::Path::parse(member)?;
        if members[..at].contains(member) {
            return Err(
                ApiError::invalid(format!("members: {member} is named twice")).with("field", "members")
            );
        }
    }
    Ok(())
}
