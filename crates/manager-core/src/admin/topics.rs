//! Topics of an app that are registered: whether somebody outside may listen to them.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::fault::Code;
use shared::limits::TOPICS_MAX;
use shared::manifest::ManifestTopic;
use shared::name::TopicName;
use shared::topic::TopicAuth;
use sqlx::postgres::PgConnection;

use super::page::{Items, PageParams};
use super::precondition::{Preconditions, Resource, Tagged};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, access, apps};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::store;
use crate::store::apps::App;
use crate::store::topics::{NAME_KEY, Topic};

/// What changes of a topic; it keeps its name.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TopicPatch {
    external: Option<bool>,
    auth_mode: Option<TopicAuth>,
    description: Option<String>,
}

impl Resource for Topic {
    fn state(&self) -> &impl Serialize {
        self
    }
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<Topic>>, ApiError> {
    let page = params.page::<TopicName>()?;
    let mut conn = admin.database.acquire().await?;
    let rows = store::topics::page(&mut conn, app.id, page.after.as_ref(), page.rows()).await?;
    Ok(JsonBody(page.items(rows, |topic| topic.name.to_string())))
}

pub(super) async fn create(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Json(body): Json<ManifestTopic>,
) -> Result<(StatusCode, Tagged<Topic>), ApiError> {
    let wanted = checked(body)?;
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    if store::topics::count(&mut tx, app.id).await? >= TOPICS_MAX as i64 {
        return Err(ApiError::invalid(format!("an app has at most {TOPICS_MAX} topics")));
    }
    store::topics::create(&mut tx, app.id, &wanted).await.map_err(|error| taken(error, &wanted.name))?;
    let topic = find(&mut tx, &app, &wanted.name).await?;
    let entry = Entry::new(&principal, "topic.create", &topic.name).on(app.id).after(&topic);
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    Ok((StatusCode::CREATED, Tagged(topic)))
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    app: App,
    Path((_, name)): Path<(String, String)>,
) -> Result<Tagged<Topic>, ApiError> {
    let mut conn = admin.database.acquire().await?;
    Ok(Tagged(find(&mut conn, &app, &parse(&name)?).await?))
}

pub(super) async fn update(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, name)): Path<(String, String)>,
    preconditions: Preconditions,
    Json(body): Json<TopicPatch>,
) -> Result<Tagged<Topic>, ApiError> {
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let old = find(&mut tx, &app, &parse(&name)?).await?;
    preconditions.check(Some(&old))?;
    let wanted = checked(ManifestTopic {
        name: old.name.clone(),
        external: body.external.unwrap_or(old.external),
        auth_mode: body.auth_mode.unwrap_or(old.auth_mode),
        description: body.description.unwrap_or_else(|| old.description.clone()),
    })?;
    store::topics::update(&mut tx, app.id, &wanted).await?;
    let topic = find(&mut tx, &app, &old.name).await?;
    let entry = Entry::new(&principal, "topic.update", &topic.name).on(app.id).before(&old).after(&topic);
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    Ok(Tagged(topic))
}

/// Makes the topic an internal one. What its triggers get does not change.
pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, name)): Path<(String, String)>,
    preconditions: Preconditions,
) -> Result<StatusCode, ApiError> {
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let old = find(&mut tx, &app, &parse(&name)?).await?;
    preconditions.check(Some(&old))?;
    store::topics::delete(&mut tx, app.id, &old.name).await?;
    let entry = Entry::new(&principal, "topic.delete", &old.name).on(app.id).before(&old);
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the types do not say.
pub(super) fn checked(topic: ManifestTopic) -> Result<ManifestTopic, ApiError> {
    Ok(ManifestTopic { description: apps::description(topic.description)?, ..topic })
}

async fn find(conn: &mut PgConnection, app: &App, name: &TopicName) -> Result<Topic, ApiError> {
    store::topics::by_name(conn, app.id, name).await?.ok_or_else(no_topic)
}

/// What cannot be a name is no topic's name.
fn parse(name: &str) -> Result<TopicName, ApiError> {
    name.parse().map_err(|_| no_topic())
}

fn no_topic() -> ApiError {
    ApiError::not_found("the app has not registered such a topic")
}

fn taken(error: sqlx::Error, name: &TopicName) -> ApiError {
    if store::violates(&error, NAME_KEY) {
        let detail = format!("the app has registered the topic {name} already");
        return ApiError::new(Code::Conflict, detail).with("field", "name");
    }
    error.into()
}
