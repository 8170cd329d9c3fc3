//! The files that an app's scripts keep, streamed both ways.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::body::HttpBody;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use chrono::{DateTime, Utc};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::fault::Code;
use shared::limits::FILE_BYTES_MAX;
use uuid::Uuid;

use super::page::{Items, PageParams};
use super::problem::ApiError;
use super::read::Params;
use super::{Admin, assets, content};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::data::files::unclaimed::Unclaimed;
use crate::data::files::{Labels, Write};
use crate::data::{Access, Told};
use crate::store::apps::App;
use crate::store::files::FileRow;

#[derive(Serialize, JsonSchema)]
pub(super) struct FilesCollection {
    name: String,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct StoredFile {
    id: Uuid,
    name: String,
    content_type: String,
    size: u64,
    /// SHA-256 of the content, in hexadecimal digits.
    checksum: String,
    /// Another one after each change.
    version: u64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NameParam {
    /// The file's name.
    #[schemars(length(min = 1, max = 255))]
    name: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewNameParam {
    /// The file's new name; the old one unless given.
    #[schemars(length(min = 1, max = 255))]
    name: Option<String>,
}

pub(super) async fn collections(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<FilesCollection>>, ApiError> {
    let page = params.page::<String>()?;
    let after = page.after.as_deref().unwrap_or_default();
    let names = admin.data.file_collections(&Access::of_person(&app), after, page.rows()).await?;
    Ok(JsonBody(page.items(names, String::clone).map(|name| FilesCollection { name })))
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    app: App,
    Path((_, collection)): Path<(String, String)>,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<StoredFile>>, ApiError> {
    let page = params.page::<Uuid>()?;
    let after = page.after.map(|id| id.to_string()).unwrap_or_default();
    let found = admin.data.file_list(&Access::of_person(&app), &collection, &after, page.limit()).await?;
    let last = found.files.last().filter(|_| found.has_more).map(|file| file.id.to_string());
    Ok(JsonBody(Items::up_to(found.files.into_iter().map(view).collect(), last.as_deref())))
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    app: App,
    Path((_, collection, id)): Path<(String, String, String)>,
) -> Result<JsonBody<StoredFile>, ApiError> {
    let row = admin.data.file_head(&Access::of_person(&app), &collection, &id).await?;
    row.map(|row| JsonBody(view(row))).ok_or_else(missing)
}

/// The body is the content; its type is that of the request, or what the name says.
pub(super) async fn create(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, collection)): Path<(String, String)>,
    Params(NameParam { name }): Params<NameParam>,
    request: Request,
) -> Result<(StatusCode, JsonBody<StoredFile>), ApiError> {
    let content_type = assets::content_type(request.headers(), &name)?;
    let content = receive(&admin, &app, request).await?;
    let labels = Labels { name: Some(&name), content_type: Some(&content_type) };
    let write = Write::Create { collection: &collection, labels, content };
    let row = change(&admin, &principal, &app, "files.create", (&collection, &write)).await?;
    Ok((StatusCode::CREATED, JsonBody(view(row))))
}

/// The body is the new content.
pub(super) async fn replace(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, collection, id)): Path<(String, String, String)>,
    Params(NewNameParam { name }): Params<NewNameParam>,
    request: Request,
) -> Result<JsonBody<StoredFile>, ApiError> {
    let content_type = content_type(request.headers())?.map(ToOwned::to_owned);
    let content = Some(receive(&admin, &app, request).await?);
    let labels = Labels { name: name.as_deref(), content_type: content_type.as_deref() };
    let write = Write::Update { collection: &collection, id: &id, labels, content };
    Ok(JsonBody(view(change(&admin, &principal, &app, "files.update", (&collection, &write)).await?)))
}

pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, collection, id)): Path<(String, String, String)>,
) -> Result<StatusCode, ApiError> {
    let write = Write::Delete { collection: &collection, id: &id };
    change(&admin, &principal, &app, "files.delete", (&collection, &write)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn download(
    State(admin): State<Arc<Admin>>,
    app: App,
    Path((_, collection, id)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<content::Content, ApiError> {
    let row = admin.data.file_head(&Access::of_person(&app), &collection, &id).await?;
    content::answer(&admin, &row.ok_or_else(missing)?, &headers)
}

/// `GET /api/v1/files/{token}`: a link that a script gave out. Whoever has it may have the file.
pub(super) async fn linked(
    State(admin): State<Arc<Admin>>,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let row = admin.data.file_behind(&token).await?;
    let row = row.ok_or_else(|| ApiError::not_found("this link leads nowhere, or no longer"))?;
    Ok(content::answer(&admin, &row, &headers)?.0)
}

/// Takes in a body as it comes.
async fn receive(admin: &Admin, app: &App, request: Request) -> Result<Unclaimed, ApiError> {
    let mut body = request.into_body();
    if body.size_hint().lower() > FILE_BYTES_MAX {
        return Err(ApiError::new(Code::BodyTooLarge, format!("a file has {FILE_BYTES_MAX} bytes at most")));
    }
    let mut upload = admin.data.upload(&Access::of_person(app)).await?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::new(Code::BadRequest, "the body ended too early"))?;
        if let Some(data) = frame.data_ref() {
            upload.write(data).await?;
        }
    }
    Ok(upload.finish().await?)
}

fn content_type(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let given = headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str).transpose();
    given.map_err(|_| ApiError::invalid("content-type is no media type").with("field", "content-type"))
}

/// A change by a person, with its line in the audit log; answers the file.
async fn change(
    admin: &Admin,
    principal: &Principal,
    app: &App,
    action: &'static str,
    (collection, write): (&str, &Write<'_>),
) -> Result<FileRow, ApiError> {
    let access = Access::of_person(app);
    let mut tx = admin.data.begin(&access).await?;
    let mut told = Told::default();
    let wrote = admin.data.file_apply(&mut tx, &access, write, &mut told).await?;
    let id = wrote.file().ok_or_else(missing)?.id;
    let target = format!("{collection}/{id}");
    audit::append(&mut tx, Entry::new(principal, action, &target).on(app.id)).await?;
    write.claim(&wrote);
    tx.commit(told).await?;
    admin.data.file_done(app.id, wrote).ok_or_else(missing)
}

fn view(row: FileRow) -> StoredFile {
    StoredFile {
        id: row.id,
        name: row.name,
        content_type: row.content_type,
        size: row.size.cast_unsigned(),
        checksum: row.checksum.iter().map(|byte| format!("{byte:02x}")).collect(),
        version: row.version.cast_unsigned(),
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

fn missing() -> ApiError {
    ApiError::not_found("there is no such file")
}
