//! Static files of an app.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Request, State};
use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use shared::fault::Code;
use shared::limits::{ASSET_BYTES_MAX, ASSETS_BYTES_MAX, ASSETS_MAX};
use shared::path::PathSegments;
use shared::ports::Asset;
use shared::route::is_reserved;

use super::page::{Items, PageParams};
use super::precondition::{Preconditions, Resource, Tagged};
use super::problem::ApiError;
use super::read::{self, Params};
use super::{Admin, access};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::store;
use crate::store::apps::App;
use crate::store::assets::AssetRow;

const PATH_BYTES_MAX: usize = 1_024;
const CONTENT_TYPE_BYTES_MAX: usize = 200;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PathParam {
    /// As in the file's address: `/css/site.css`.
    path: String,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct PutAnswer {
    #[serde(flatten)]
    asset: AssetRow,
    /// False when it was there already, just so.
    is_changed: bool,
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<AssetRow>>, ApiError> {
    let page = params.page::<String>()?;
    let mut conn = admin.database.acquire().await?;
    let rows = store::assets::page(&mut conn, app.id, page.after.as_deref(), page.rows()).await?;
    Ok(JsonBody(page.items(rows, |asset| asset.path.clone())))
}

impl Resource for AssetRow {
    fn state(&self) -> &impl Serialize {
        self
    }
}

impl Resource for PutAnswer {
    fn state(&self) -> &impl Serialize {
        &self.asset
    }
}

/// The body is the file as it is; its type is that of the request, or what the name says.
pub(super) async fn put(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Params(PathParam { path }): Params<PathParam>,
    preconditions: Preconditions,
    request: Request,
) -> Result<Tagged<PutAnswer>, ApiError> {
    check_path(&path)?;
    let content_type = content_type(request.headers(), &path)?;
    let content = read::body(request, ASSET_BYTES_MAX).await?;
    let asset = Asset { content_type, hash: Sha256::digest(&content).into(), content };
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    preconditions.check(store::assets::by_path(&mut tx, app.id, &path).await?.as_ref())?;
    let (count, bytes) = store::assets::others(&mut tx, app.id, &path).await?;
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(asset.content.len() as u64);
    if u64::try_from(count).unwrap_or(u64::MAX) >= ASSETS_MAX || bytes > ASSETS_BYTES_MAX {
        let detail = format!(
            "the files of an app may be {ASSETS_MAX}, and {ASSETS_BYTES_MAX} bytes together; remove some first"
        );
        return Err(ApiError::new(Code::Conflict, detail));
    }
    let (asset, is_changed) = store::assets::put(&mut tx, app.id, &path, &asset).await?;
    if is_changed {
        let entry = Entry::new(&principal, "asset.put", &asset.path).on(app.id).after(&asset);
        audit::append(&mut tx, entry).await?;
        admin.assets.publish(&admin.snapshot, tx).await?;
    }
    Ok(Tagged(PutAnswer { asset, is_changed }))
}

pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Params(PathParam { path }): Params<PathParam>,
    preconditions: Preconditions,
) -> Result<StatusCode, ApiError> {
    check_path(&path)?;
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let missing = || ApiError::not_found("the app has no such file");
    let old = store::assets::by_path(&mut tx, app.id, &path).await?.ok_or_else(missing)?;
    preconditions.check(Some(&old))?;
    store::assets::delete(&mut tx, app.id, &path).await?;
    let entry = Entry::new(&principal, "asset.delete", &path).on(app.id).before(&old);
    audit::append(&mut tx, entry).await?;
    admin.assets.publish(&admin.snapshot, tx).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A file is where a request can ask for it, and nowhere else.
fn check_path(path: &str) -> Result<(), ApiError> {
    let invalid = |detail: &'static str| Err(ApiError::invalid(detail).with("field", "path"));
    if path.len() > PATH_BYTES_MAX || path.contains('%') || path.chars().any(char::is_control) {
        return invalid("a path has at most 1,024 bytes, no '%' and no control characters");
    }
    if path.ends_with('/')
        || PathSegments::new(path).and_then(|segments| segments.file()).as_deref() != Some(path)
    {
        return invalid("a path begins with '/' and names a file, without empty, '.' or '..' segments");
    }
    if is_reserved(path) {
        return invalid("this path is kept for the platform itself");
    }
    Ok(())
}

/// What the request says, or else what the name does.
pub(super) fn content_type(headers: &HeaderMap, path: &str) -> Result<String, ApiError> {
    let given = headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str).transpose();
    let wrong =
        || ApiError::invalid("content-type is no media type such as text/css").with("field", "content-type");
    match given.map_err(|_| wrong())? {
        // What senders say who do not know.
        None | Some("application/octet-stream" | "application/x-www-form-urlencoded") => {
            let guess = mime_guess::from_path(path).first_or_octet_stream();
            let is_text = guess.type_() == mime_guess::mime::TEXT || guess.subtype() == "javascript";
            Ok(if is_text { format!("{guess}; charset=utf-8") } else { guess.to_string() })
        }
        Some(text) if text.contains('/') && text.len() <= CONTENT_TYPE_BYTES_MAX => Ok(text.to_owned()),
        Some(_) => Err(wrong()),
    }
}
