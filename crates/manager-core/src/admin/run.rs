//! What every run outside a route needs: the script's live version, and the pool's answer.

use std::sync::Arc;

use shared::id::ScriptId;
use shared::invocation::{Invocation, Outcome, Refusal, ScriptTarget, Work, WorkResult};
use sqlx::postgres::PgConnection;

use super::problem::ApiError;
use super::{Admin, outcome};
use crate::store;

pub(super) async fn live_target(
    conn: &mut PgConnection,
    script: ScriptId,
) -> Result<Arc<ScriptTarget>, ApiError> {
    let target = store::scripts::target(conn, script).await?;
    target.map(Arc::new).ok_or_else(|| ApiError::not_found("there is no such script"))
}

pub(super) async fn run(admin: &Admin, invocation: Invocation) -> Result<Outcome, ApiError> {
    match admin.invoke.invoke(Work::Run(invocation)).await {
        WorkResult::Ran(outcome) => Ok(outcome),
        WorkResult::Refused(refusal) => Err(outcome::refused(refusal)),
        WorkResult::Compiled { .. } | WorkResult::Rejected(_) | WorkResult::NotCompiled(_) => {
            tracing::error!("a run was answered as if it had been a compilation");
            Err(outcome::refused(Refusal::Overloaded))
        }
    }
}
