//! What scripts can ask for: all of it on one screen, one file for each capability.
//!
//! A service learns whose call it is from the call's context, and from nothing else: no function
//! here takes an app, and none believes a word of the arguments.

mod kv;

use serde::Deserialize;
use shared::call::{CallCode, CallError, HostCall, Reply};
use shared::host_call::HostOp;
use shared::ports::{BoxFuture, HostCalls};
use shared::wire::codec;

use crate::store::{self, Database};

/// The services, as a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    database: Database,
}

impl HostCalls for Services {
    fn call(&self, call: HostCall) -> BoxFuture<'_, Reply> {
        Box::pin(async move { self.carry_out(&call).await.into() })
    }
}

impl Services {
    pub(crate) const fn new(database: Database) -> Self {
        Self { database }
    }

    async fn carry_out(&self, call: &HostCall) -> Result<Reply, CallError> {
        match call.op {
            HostOp::KvGet => kv::get(self, call).await,
            HostOp::KvSet => kv::set(self, call).await,
            // The pool keeps these itself.
            HostOp::Log => Err(CallError::invalid("nobody waits for the answer to that")),
        }
    }

    pub(crate) async fn close(&self) {
        self.database.close().await;
    }
}

/// The arguments of a call. The guest of this release encodes no others.
fn args<'a, T: Deserialize<'a>>(call: &'a HostCall) -> Result<T, CallError> {
    codec::decode_body(&call.args).map_err(|_| CallError::invalid("the arguments are not those of the call"))
}

/// Before the first lasting effect of a call.
fn begin(call: &HostCall) -> Result<(), CallError> {
    if call.stage.begin() {
        return Ok(());
    }
    Err(CallError::new(CallCode::Unavailable, "the execution is over"))
}

/// What a script is told of a failure of the database.
fn database_failed(error: &sqlx::Error) -> CallError {
    if store::is_outage(error) {
        tracing::warn!(%error, "a script's call failed with the database");
        return CallError::new(CallCode::Unavailable, "the database cannot be reached now");
    }
    tracing::error!(%error, "a script's call failed");
    CallError::new(CallCode::Internal, "the platform failed")
}
