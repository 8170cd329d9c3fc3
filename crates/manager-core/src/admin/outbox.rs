//! Events of an app that are not done, and answers that nobody waited for.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::State;
use shared::id::DeliveryId;

use super::Admin;
use super::page::{Items, PageParams};
use super::problem::ApiError;
use super::read::Params;
use crate::store;
use crate::store::abandoned::AbandonedRow;
use crate::store::apps::App;
use crate::store::outbox::OutboxRow;

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<OutboxRow>>, ApiError> {
    let page = params.page::<i64>()?;
    let mut conn = admin.database.acquire().await?;
    let rows = store::outbox::page(&mut conn, app.id, page.after, page.rows()).await?;
    Ok(JsonBody(page.items(rows, |row| row.id.to_string())))
}

pub(super) async fn abandoned(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<AbandonedRow>>, ApiError> {
    let page = params.page::<DeliveryId>()?;
    let mut conn = admin.database.acquire().await?;
    let rows = store::abandoned::page(&mut conn, app.id, page.after, page.rows()).await?;
    Ok(JsonBody(page.items(rows, |row| row.delivery_id.to_string())))
}
