//! Where an app's scripts may send requests, and where they have been.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::host::HostPattern;

use super::page::{Items, PageParams};
use super::precondition::{Preconditions, Resource, Tagged};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, access};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::outbound::Rules;
use crate::store;
use crate::store::apps::App;
use crate::store::egress::{Destination, PassedOver};

/// Hosts of one list, at most.
const HOSTS_MAX: usize = 1_000;
/// Further ports, at most.
const PORTS_MAX: usize = 100;

/// What an app may reach. Private addresses are refused whatever it says.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EgressRules {
    /// Hosts that may be reached, such as `api.example.com` or `*.example.com`; null for all.
    allow: Option<Vec<String>>,
    /// Hosts that may not.
    #[serde(default)]
    deny: Vec<String>,
    /// Ports besides 80, 443, 8080 and 8443.
    #[serde(default)]
    ports: Vec<u16>,
}

impl Resource for EgressRules {
    fn state(&self) -> &impl Serialize {
        self
    }
}

impl From<Rules> for EgressRules {
    fn from(rules: Rules) -> Self {
        let texts = |patterns: Vec<HostPattern>| patterns.iter().map(ToString::to_string).collect();
        Self { allow: rules.allow.map(texts), deny: texts(rules.deny), ports: rules.ports }
    }
}

/// A page of the hosts where an app's scripts have been.
#[derive(Serialize, JsonSchema)]
pub(super) struct Destinations {
    #[serde(flatten)]
    page: Items<Destination>,
    /// What no page has, because there is no room for it; null when there was for all.
    passed_over: Option<PassedOver>,
}

pub(super) async fn show(State(admin): State<Arc<Admin>>, app: App) -> Result<Tagged<EgressRules>, ApiError> {
    let mut conn = admin.database.acquire().await?;
    Ok(Tagged(store::egress::rules(&mut conn, app.id).await?.into()))
}

pub(super) async fn set(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    preconditions: Preconditions,
    Json(body): Json<EgressRules>,
) -> Result<Tagged<EgressRules>, ApiError> {
    let rules = checked(body)?;
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let before = EgressRules::from(store::egress::rules(&mut tx, app.id).await?);
    preconditions.check(Some(&before))?;
    store::egress::set_rules(&mut tx, app.id, &rules).await?;
    let after = EgressRules::from(rules);
    let entry =
        Entry::new(&principal, "egress.set", app.slug.as_str()).on(app.id).before(&before).after(&after);
    audit::append(&mut tx, entry).await?;
    tx.commit().await?;
    Ok(Tagged(after))
}

pub(super) async fn destinations(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Destinations>, ApiError> {
    let page = params.page::<String>()?;
    let mut conn = admin.database.acquire().await?;
    let rows = store::egress::page(&mut conn, app.id, page.after.as_deref(), page.rows()).await?;
    let passed_over = store::egress::passed_over(&mut conn, app.id).await?;
    Ok(JsonBody(Destinations { page: page.items(rows, |seen| seen.destination.clone()), passed_over }))
}

fn checked(body: EgressRules) -> Result<Rules, ApiError> {
    let allow = body.allow.map(|texts| patterns("allow", &texts)).transpose()?;
    let deny = patterns("deny", &body.deny)?;
    if body.ports.len() > PORTS_MAX || body.ports.contains(&0) {
        let detail = format!("ports: at most {PORTS_MAX}, each from 1 to 65535");
        return Err(ApiError::invalid(detail).with("field", "ports"));
    }
    Ok(Rules { allow, deny, ports: body.ports })
}

fn patterns(field: &'static str, texts: &[String]) -> Result<Vec<HostPattern>, ApiError> {
    if texts.len() > HOSTS_MAX {
        return Err(ApiError::invalid(format!("{field}: at most {HOSTS_MAX} hosts")).with("field", field));
    }
    let parse = |text: &String| {
        text.parse().map_err(|error| {
            let text: String = text.chars().take(80).collect();
            ApiError::invalid(format!("{field}: {text:?}: {error}")).with("field", field)
        })
    };
    texts.iter().map(parse).collect()
}
