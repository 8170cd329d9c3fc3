//! Triggers of apps.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use shared::id::{AppId, ScriptId, TriggerId, UserId};
use shared::invocation::ScriptTarget;
use shared::name::{ScriptName, TriggerName, Username};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::types::Json;
use sqlx::{FromRow, Row};

use super::{columns, scripts};
use crate::auth::Standing;
use crate::events::triggers::{Kind, Registrant, RetryPolicy, Trigger, TriggerConfig, TriggerTable};
use crate::store::users::User;

/// Name of the constraint that keeps names of triggers unique.
pub(crate) const NAME_KEY: &str = "triggers_name_key";
/// Name of the index that lets a queue have one consumer.
pub(crate) const CONSUMER_KEY: &str = "triggers_one_consumer_idx";

/// The query of a [`StoredTrigger`], with what is to follow it.
macro_rules! select_triggers {
    ($rest:literal) => {
        concat!(
            "select t.id, t.name, t.kind, t.script_id, s.name as script, t.config, t.retry, t.is_enabled,
                    t.app_id, a.owner_id, u.id as user_id, u.username, u.role,
                    u.disabled_at is not null as is_disabled, m.role as app_role,
                    t.created_at, t.updated_at
             from triggers t
             join scripts s on s.app_id = t.app_id and s.id = t.script_id
             join apps a on a.id = t.app_id
             left join users u on u.id = t.registered_by
             left join app_members m on m.app_id = t.app_id and m.user_id = t.registered_by ",
            $rest
        )
    };
}

/// A trigger as the admin API shows it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct StoredTrigger {
    pub(crate) id: TriggerId,
    pub(crate) name: Option<TriggerName>,
    pub(crate) kind: Kind,
    pub(crate) script: ScriptName,
    #[serde(skip)]
    pub(crate) script_id: ScriptId,
    /// What there is depends on the kind.
    pub(crate) config: TriggerConfig,
    pub(crate) retry: RetryPolicy,
    pub(crate) enabled: bool,
    /// With whose rights it runs; absent when that account is gone.
    pub(crate) registered_by: Option<Username>,
    /// Why its events wait, when they do, for somebody to take it over.
    pub(crate) paused: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for StoredTrigger {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let kind = columns::parsed(row, "kind")?;
        let name: Option<String> = row.try_get("name")?;
        let registrant = registrant(row)?;
        Ok(Self {
            id: row.try_get("id")?,
            name: name.map(|_| columns::parsed(row, "name")).transpose()?,
            kind,
            script: columns::parsed(row, "script")?,
            script_id: row.try_get("script_id")?,
            config: config(row, kind)?,
            retry: columns::json(row, "retry")?,
            enabled: row.try_get("is_enabled")?,
            paused: Registrant::refusal(registrant.as_ref()),
            registered_by: registrant.map(|registrant| registrant.user.username),
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

/// Who stands behind the trigger, and how they stand to its app.
fn registrant(row: &PgRow) -> sqlx::Result<Option<Registrant>> {
    let Some(id) = row.try_get::<Option<UserId>, _>("user_id")? else { return Ok(None) };
    let role: Option<&str> = row.try_get("app_role")?;
    Ok(Some(Registrant {
        user: User { id, username: columns::parsed(row, "username")?, role: columns::parsed(row, "role")? },
        is_disabled: row.try_get("is_disabled")?,
        standing: Standing {
            app: row.try_get("app_id")?,
            owner: row.try_get("owner_id")?,
            role: role.map(|_| columns::parsed(row, "app_role")).transpose()?,
        },
    }))
}

fn config(row: &PgRow, kind: Kind) -> sqlx::Result<TriggerConfig> {
    let value: Value = columns::json(row, "config")?;
    TriggerConfig::parse(kind, &value).map_err(|error| columns::malformed("config", error))
}

/// What makes a trigger.
#[derive(Debug, Clone)]
pub(crate) struct TriggerSpec {
    pub(crate) name: Option<TriggerName>,
    pub(crate) script: ScriptId,
    pub(crate) config: TriggerConfig,
    pub(crate) retry: RetryPolicy,
    pub(crate) enabled: bool,
}

/// Whether there is a trigger of this id.
pub(crate) async fn exists(conn: &mut PgConnection, id: TriggerId) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select 1 from triggers where id = $1)").bind(id).fetch_one(conn).await
}

pub(crate) async fn by_id(
    conn: &mut PgConnection,
    app: AppId,
    id: TriggerId,
) -> sqlx::Result<Option<StoredTrigger>> {
    sqlx::query_as(select_triggers!("where t.app_id = $1 and t.id = $2"))
        .bind(app)
        .bind(id)
        .fetch_optional(conn)
        .await
}

/// Triggers of an app in the order in which they were made, those after `after`.
pub(crate) async fn page(
    conn: &mut PgConnection,
    app: AppId,
    kind: Option<Kind>,
    after: Option<TriggerId>,
    limit: i64,
) -> sqlx::Result<Vec<StoredTrigger>> {
    sqlx::query_as(select_triggers!(
        "where t.app_id = $1 and ($2::text is null or t.kind = $2) and ($3::uuid is null or t.id > $3)
         order by t.id
         limit $4"
    ))
    .bind(app)
    .bind(kind.map(Kind::as_str))
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// Every trigger of an app.
pub(crate) async fn of_app(conn: &mut PgConnection, app: AppId) -> sqlx::Result<Vec<StoredTrigger>> {
    sqlx::query_as(select_triggers!("where t.app_id = $1 order by t.id")).bind(app).fetch_all(conn).await
}

/// The triggers that run a script.
pub(crate) async fn of_script(
    conn: &mut PgConnection,
    app: AppId,
    script: ScriptId,
) -> sqlx::Result<Vec<StoredTrigger>> {
    sqlx::query_as(select_triggers!("where t.app_id = $1 and t.script_id = $2 order by t.id"))
        .bind(app)
        .bind(script)
        .fetch_all(conn)
        .await
}

pub(crate) async fn count(conn: &mut PgConnection, app: AppId) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from triggers where app_id = $1").bind(app).fetch_one(conn).await
}

/// Fails on [`NAME_KEY`] and [`CONSUMER_KEY`] when there is such a trigger.
pub(crate) async fn create(
    conn: &mut PgConnection,
    app: AppId,
    spec: &TriggerSpec,
    by: UserId,
) -> sqlx::Result<TriggerId> {
    let id = TriggerId::new();
    sqlx::query(
        "insert into triggers (app_id, id, name, kind, script_id, config, retry, is_enabled, registered_by)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(app)
    .bind(id)
    .bind(spec.name.as_ref().map(TriggerName::as_str))
    .bind(spec.config.kind().as_str())
    .bind(spec.script)
    .bind(Json(&spec.config))
    .bind(Json(&spec.retry))
    .bind(spec.enabled)
    .bind(by)
    .execute(conn)
    .await?;
    Ok(id)
}

/// Changes all but the kind, which a trigger keeps. Fails as [`create`] does.
pub(crate) async fn update(
    conn: &mut PgConnection,
    app: AppId,
    id: TriggerId,
    spec: &TriggerSpec,
) -> sqlx::Result<()> {
    sqlx::query(
        "update triggers
         set name = $3, script_id = $4, config = $5, retry = $6, is_enabled = $7, updated_at = now()
         where app_id = $1 and id = $2",
    )
    .bind(app)
    .bind(id)
    .bind(spec.name.as_ref().map(TriggerName::as_str))
    .bind(spec.script)
    .bind(Json(&spec.config))
    .bind(Json(&spec.retry))
    .bind(spec.enabled)
    .execute(conn)
    .await?;
    Ok(())
}

/// Puts somebody's rights behind a trigger.
pub(crate) async fn register(
    conn: &mut PgConnection,
    app: AppId,
    id: TriggerId,
    by: UserId,
) -> sqlx::Result<()> {
    sqlx::query(
        "update triggers
         set registered_by = $3, updated_at = now()
         where app_id = $1 and id = $2",
    )
    .bind(app)
    .bind(id)
    .bind(by)
    .execute(conn)
    .await?;
    Ok(())
}

/// False when there was no such trigger.
pub(crate) async fn delete(conn: &mut PgConnection, app: AppId, id: TriggerId) -> sqlx::Result<bool> {
    let done = sqlx::query("delete from triggers where app_id = $1 and id = $2")
        .bind(app)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Triggers of which events wait in the outbox.
pub(crate) async fn with_held_events(conn: &mut PgConnection) -> sqlx::Result<Vec<TriggerId>> {
    sqlx::query_scalar(
        "select distinct trigger_id
         from outbox
         where due_at = 'infinity' and trigger_id is not null",
    )
    .fetch_all(conn)
    .await
}

/// Every trigger of every app, with its script's live version.
pub(crate) async fn table(conn: &mut PgConnection) -> sqlx::Result<TriggerTable> {
    let rows = sqlx::query(concat!(
        "select t.app_id, t.id, t.kind, t.config, t.retry, t.is_enabled,
                u.id as user_id, u.username, u.role, u.disabled_at is not null as is_disabled,
                m.role as app_role, a.slug, a.owner_id, t.script_id, s.name, s.live_version, v.bundle_hash, v.limits,
                s.disabled_at is not null as is_script_disabled, ",
        scripts::may_invoke!(),
        " from triggers t
         join apps a on a.id = t.app_id
         left join users u on u.id = t.registered_by
         left join app_members m on m.app_id = t.app_id and m.user_id = t.registered_by
         join scripts s on s.app_id = t.app_id and s.id = t.script_id
         join script_versions v
           on v.app_id = s.app_id and v.script_id = s.id and v.number = s.live_version
         join bundles b on b.app_id = v.app_id and b.hash = v.bundle_hash
         order by t.app_id, t.id"
    ))
    .fetch_all(conn)
    .await?;
    let mut targets: HashMap<ScriptId, Arc<ScriptTarget>> = HashMap::new();
    let read = rows.iter().filter_map(|row| match trigger(row, &mut targets) {
        Ok(trigger) => Some(trigger),
        // One row that cannot be read must not take every other trigger down with it.
        Err(error) => {
            tracing::error!(%error, "a stored trigger is left out because it cannot be read");
            None
        }
    });
    Ok(TriggerTable::new(read))
}

fn trigger(row: &PgRow, targets: &mut HashMap<ScriptId, Arc<ScriptTarget>>) -> sqlx::Result<Trigger> {
    let script: ScriptId = row.try_get("script_id")?;
    let target = match targets.get(&script) {
        Some(target) => Arc::clone(target),
        None => {
            let target = Arc::new(scripts::target_of(row)?);
            targets.insert(script, Arc::clone(&target));
            target
        }
    };
    let registrant = registrant(row)?;
    Ok(Trigger {
        id: row.try_get("id")?,
        app: row.try_get("app_id")?,
        config: config(row, columns::parsed(row, "kind")?)?,
        retry: columns::json(row, "retry")?,
        target,
        is_script_disabled: row.try_get("is_script_disabled")?,
        is_enabled: row.try_get("is_enabled")?,
        paused: Registrant::refusal(registrant.as_ref()),
        registered_by: registrant.map(|registrant| registrant.user.id),
    })
}
