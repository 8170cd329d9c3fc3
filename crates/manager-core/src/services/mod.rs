//! What scripts can ask for: all of it on one screen, one file for each capability.
//!
//! A service learns whose call it is from the call's context, and from nothing else: no function
//! here takes an app, and none believes a word of the arguments. What it then does is in `data`.

mod atomic;
mod docs;
mod kv;

use serde::Deserialize;
use shared::call::{CallError, HostCall, Reply};
use shared::host_call::HostOp;
use shared::ports::{BoxFuture, HostCalls};
use shared::wire::codec;

use crate::data::Data;

/// The services, as a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    data: Data,
}

impl HostCalls for Services {
    fn call(&self, call: HostCall) -> BoxFuture<'_, Reply> {
        Box::pin(async move { self.carry_out(&call).await.into() })
    }
}

impl Services {
    pub(crate) const fn new(data: Data) -> Self {
        Self { data }
    }

    async fn carry_out(&self, call: &HostCall) -> Result<Reply, CallError> {
        match call.op {
            HostOp::KvGet => kv::get(self, call).await,
            HostOp::KvSet => kv::set(self, call).await,
            HostOp::KvHas => kv::has(self, call).await,
            HostOp::KvDelete => kv::delete(self, call).await,
            HostOp::KvIncr => kv::incr(self, call).await,
            HostOp::KvList => kv::list(self, call).await,
            HostOp::KvGetMany => kv::get_many(self, call).await,
            HostOp::KvEntry => kv::entry(self, call).await,
            HostOp::DocsCreate => docs::create(self, call).await,
            HostOp::DocsGet => docs::get(self, call).await,
            HostOp::DocsFind => docs::find(self, call).await,
            HostOp::DocsUpdate => docs::update(self, call).await,
            HostOp::DocsDelete => docs::delete(self, call).await,
            HostOp::DocsCount => docs::count(self, call).await,
            HostOp::AtomicCommit => atomic::commit(self, call).await,
            // The pool keeps these itself.
            HostOp::Log => Err(CallError::invalid("nobody waits for the answer to that")),
        }
    }
}

/// The arguments of a call. The guest of this release encodes no others.
fn args<'a, T: Deserialize<'a>>(call: &'a HostCall) -> Result<T, CallError> {
    codec::decode_body(&call.args).map_err(|_| CallError::invalid("the arguments are not those of the call"))
}
