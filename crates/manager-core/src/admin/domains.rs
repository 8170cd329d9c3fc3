//! Hosts of an app's own: claimed, proven, let go.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::fault::Code;
use shared::host::HostPattern;
use shared::id::DomainId;
use sqlx::postgres::PgConnection;

use super::apps::DeleteParams;
use super::page::{Items, PageParams};
use super::precondition::{Preconditions, Resource, Tagged};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, access};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::domains::{self, DOMAINS_MAX, DnsError, NoEntropy, Record};
use crate::store;
use crate::store::apps::App;
use crate::store::domains::{Domain, Proof, SHAPE_KEY, VERIFIED_KEY};
use crate::store::routes::StoredRoute;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDomain {
    domain: String,
}

/// A claim, with what proves it.
#[derive(Serialize, JsonSchema)]
pub(super) struct DomainView {
    id: DomainId,
    domain: String,
    is_verified: bool,
    verified_at: Option<DateTime<Utc>>,
    verified_by: Option<String>,
    /// The record to make, as long as it has not been found.
    record: Option<RecordView>,
    created_at: DateTime<Utc>,
}

#[derive(Serialize, JsonSchema)]
struct RecordView {
    r#type: &'static str,
    name: String,
    value: String,
}

impl Resource for DomainView {
    fn state(&self) -> &impl Serialize {
        self
    }
}

impl From<Domain> for DomainView {
    fn from(domain: Domain) -> Self {
        let Record { name, value } = Record::of(&domain.pattern, &domain.token);
        let is_verified = domain.verified_at.is_some();
        Self {
            id: domain.id,
            domain: domain.pattern.to_string(),
            is_verified,
            verified_at: domain.verified_at,
            verified_by: domain.verified_by,
            record: (!is_verified).then_some(RecordView { r#type: "TXT", name, value }),
            created_at: domain.created_at,
        }
    }
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<DomainView>>, ApiError> {
    let page = params.page::<DomainId>()?;
    let mut conn = admin.database.acquire().await?;
    let rows = store::domains::page(&mut conn, app.id, page.after, page.rows()).await?;
    Ok(JsonBody(page.items(rows, |domain| domain.id.to_string()).map(DomainView::from)))
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    app: App,
    Path((_, id)): Path<(String, String)>,
) -> Result<Tagged<DomainView>, ApiError> {
    let mut conn = admin.database.acquire().await?;
    Ok(Tagged(find(&mut conn, &app, parse_id(&id)?).await?.into()))
}

pub(super) async fn create(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Json(body): Json<NewDomain>,
) -> Result<(StatusCode, Tagged<DomainView>), ApiError> {
    let invalid = |detail: String| ApiError::invalid(detail).with("field", "domain");
    let pattern: HostPattern = body.domain.parse().map_err(|error| invalid(format!("domain: {error}")))?;
    if let Some(reason) = domains::refusal(&pattern, &admin.config) {
        return Err(invalid(reason));
    }
    let token = domains::generate_token()?;
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    refuse_held(&mut tx, &app, &pattern).await?;
    if store::domains::count(&mut tx, app.id).await? >= DOMAINS_MAX {
        let detail = format!("the app has {DOMAINS_MAX} domains, which is the most; let go of one first");
        return Err(ApiError::new(Code::Conflict, detail));
    }
    let domain = store::domains::create(&mut tx, app.id, &pattern, &token).await;
    let domain = DomainView::from(domain.map_err(|error| taken(error, &pattern))?);
    let entry = Entry::new(&principal, "domain.create", &domain.domain).on(app.id).after(&domain);
    audit::append(&mut tx, entry).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Tagged(domain)))
}

/// Looks for the record; a claim that is proven takes effect at once.
pub(super) async fn verify(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, id)): Path<(String, String)>,
    preconditions: Preconditions,
) -> Result<Tagged<DomainView>, ApiError> {
    let id = parse_id(&id)?;
    // No connection is held while the DNS is asked.
    let domain = {
        let mut conn = admin.database.acquire().await?;
        find(&mut conn, &app, id).await?
    };
    if domain.verified_at.is_some() {
        let domain = DomainView::from(domain);
        preconditions.check(Some(&domain))?;
        return Ok(Tagged(domain));
    }
    let Record { name, value } = Record::of(&domain.pattern, &domain.token);
    let found = admin.dns.texts(&name).await?;
    if !found.contains(&value) {
        let shown: Vec<String> = found.iter().take(5).map(|text| text.chars().take(80).collect()).collect();
        let detail = match shown.is_empty() {
            true => format!(
                "there is no TXT record at {name}; it must say {value}; new records may take a while to be seen"
            ),
            false => format!("no TXT record at {name} says {value}"),
        };
        return Err(ApiError::new(Code::DomainUnproven, detail)
            .with("record", serde_json::json!({ "type": "TXT", "name": name, "value": value }))
            .with("found", shown));
    }
    settle(&admin, &principal, &app, id, Proof::Dns, &preconditions).await
}

/// Believes a claim without proof, on the word of somebody who owns the instance.
pub(super) async fn waive(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, id)): Path<(String, String)>,
    preconditions: Preconditions,
) -> Result<Tagged<DomainView>, ApiError> {
    settle(&admin, &principal, &app, parse_id(&id)?, Proof::Waiver, &preconditions).await
}

async fn settle(
    admin: &Arc<Admin>,
    principal: &Principal,
    app: &App,
    id: DomainId,
    proof: Proof,
    preconditions: &Preconditions,
) -> Result<Tagged<DomainView>, ApiError> {
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, app).await?;
    let before = find(&mut tx, app, id).await?;
    let (pattern, is_verified) = (before.pattern.clone(), before.verified_at.is_some());
    let before = DomainView::from(before);
    preconditions.check(Some(&before))?;
    if is_verified {
        return Ok(Tagged(before));
    }
    let verified = store::domains::verify(&mut tx, app.id, id, proof).await;
    let verified = verified.map_err(|error| taken(error, &pattern))?.ok_or_else(no_domain)?;
    let verified = DomainView::from(verified);
    let action = match proof {
        Proof::Dns => "domain.verify",
        Proof::Waiver => "domain.waive",
    };
    let entry = Entry::new(principal, action, &pattern).on(app.id).before(&before).after(&verified);
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    Ok(Tagged(verified))
}

pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, id)): Path<(String, String)>,
    preconditions: Preconditions,
    Params(params): Params<DeleteParams>,
) -> Result<StatusCode, ApiError> {
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let domain = find(&mut tx, &app, parse_id(&id)?).await?;
    preconditions.check(Some(&DomainView::from(domain.clone())))?;
    let orphans = orphans(&mut tx, &app, &domain).await?;
    if !orphans.is_empty() && !params.force {
        let shown: Vec<String> =
            orphans.iter().map(|route| format!("{}{}", route.host, route.path)).collect();
        let detail = format!(
            "routes are for hosts of the domain: {}; remove them first or repeat with ?force=true",
            shown.join(", ")
        );
        return Err(ApiError::new(Code::Conflict, detail).with("routes", shown));
    }
    for route in &orphans {
        store::routes::delete(&mut tx, app.id, route.id).await?;
    }
    store::domains::delete(&mut tx, app.id, domain.id).await?;
    let pattern = domain.pattern.clone();
    let entry =
        Entry::new(&principal, "domain.delete", &pattern).on(app.id).before(&DomainView::from(domain));
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Routes for hosts that would not lead to the app any more.
async fn orphans(conn: &mut PgConnection, app: &App, domain: &Domain) -> Result<Vec<StoredRoute>, ApiError> {
    let kept = store::domains::patterns(conn, app.id).await?;
    let kept: Vec<_> = kept.into_iter().filter(|pattern| *pattern != domain.pattern).collect();
    let mut routes = store::routes::for_hosts(conn, app.id).await?;
    routes.retain(|route| {
        route.hosts.as_ref().is_some_and(|host| {
            domain.pattern.covers(host) && !kept.iter().any(|pattern| pattern.covers(host))
        })
    });
    Ok(routes)
}

fn no_domain() -> ApiError {
    ApiError::not_found("the app has no such domain")
}

fn parse_id(text: &str) -> Result<DomainId, ApiError> {
    text.parse().map_err(|_| no_domain())
}

async fn find(conn: &mut PgConnection, app: &App, id: DomainId) -> Result<Domain, ApiError> {
    store::domains::by_id(conn, app.id, id).await?.ok_or_else(no_domain)
}

async fn refuse_held(conn: &mut PgConnection, app: &App, pattern: &HostPattern) -> Result<(), ApiError> {
    match store::domains::holder(conn, &pattern.shape()).await? {
        Some(holder) if holder != app.id => Err(held(pattern)),
        _ => Ok(()),
    }
}

/// Whose it is stays unsaid: that is for its people to know.
fn held(pattern: &HostPattern) -> ApiError {
    let detail = format!("another app has proven that {pattern} is its own");
    ApiError::new(Code::Conflict, detail).with("field", "domain")
}

fn taken(error: sqlx::Error, pattern: &HostPattern) -> ApiError {
    if store::violates(&error, VERIFIED_KEY) {
        return held(pattern);
    }
    if store::violates(&error, SHAPE_KEY) {
        let detail = format!("the app has claimed the hosts of {pattern} already");
        return ApiError::new(Code::Conflict, detail).with("field", "domain");
    }
    error.into()
}

impl From<NoEntropy> for ApiError {
    fn from(error: NoEntropy) -> Self {
        tracing::error!(%error, "a domain cannot be claimed");
        Self::new(Code::Unavailable, error.to_string()).retry_after(1)
    }
}

impl From<DnsError> for ApiError {
    fn from(error: DnsError) -> Self {
        let detail = format!("the DNS cannot be asked: {error}; try again soon");
        Self::new(Code::DnsUnavailable, detail).retry_after(5)
    }
}
