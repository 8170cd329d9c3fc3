//! Calls as scripts make them, without a script.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shared::allowance::Left;
use shared::call::{CallContext, HostCall, Notes, Reply, Stage};
use shared::cause::Cause;
use shared::host_call::{CallFailure, HostOp};
use shared::id::{AppId, AppSessionId, ExecutionId, ScriptId, UserId};
use shared::invocation::ScriptTarget;
use shared::limits::ScriptLimits;
use shared::ports::HostCalls;
use shared::script::BundleHash;
use shared::wire::codec;

use crate::harness::TestApi;

/// An execution of a script of some app.
pub(crate) struct Script {
    calls: Arc<dyn HostCalls>,
    context: Arc<CallContext>,
}

/// What a call was answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer(Vec<u8>);

impl Answer {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn read<'a, T: Deserialize<'a>>(&'a self) -> T {
        codec::decode_body(&self.0).unwrap()
    }
}

impl Script {
    /// One of the app with this slug.
    pub(crate) async fn of(api: &TestApi, slug: &str) -> Self {
        let app = api.get(&format!("/apps/{slug}")).await.is(200)["id"].as_str().unwrap().parse().unwrap();
        Self::of_app(api, app, slug)
    }

    pub(crate) fn of_app(api: &TestApi, app: AppId, slug: &str) -> Self {
        let target = ScriptTarget {
            app,
            app_slug: slug.parse().unwrap(),
            // Each app somebody else's.
            owner: UserId::from_uuid(app.as_uuid()),
            script: ScriptId::new(),
            name: "script".parse().unwrap(),
            version: 1,
            bundle: BundleHash([0; 32]),
            limits: ScriptLimits::default(),
            may_invoke: true,
        };
        Self::of_target(api.manager.calls(), Arc::new(target))
    }

    /// Another execution of the same script.
    pub(crate) fn again(&self) -> Self {
        Self::of_target(Arc::clone(&self.calls), Arc::clone(&self.context.target))
    }

    fn of_target(calls: Arc<dyn HostCalls>, target: Arc<ScriptTarget>) -> Self {
        let execution = ExecutionId::new();
        let context = CallContext {
            execution,
            request_id: "r".into(),
            target,
            principal: None,
            session: None,
            client: None,
            cause: Cause::root(execution),
            delivery: None,
            trace: None,
            deadline: Instant::now() + Duration::from_secs(10),
            left: Left::default(),
            confidential: Arc::default(),
            companion: None,
            notes: Notes::default(),
        };
        Self { calls, context: Arc::new(context) }
    }

    /// The same script, run for somebody.
    pub(crate) fn on_behalf_of(mut self, person: UserId) -> Self {
        Arc::get_mut(&mut self.context).unwrap().principal = Some(person);
        self
    }

    /// The same script, run for a request from there.
    pub(crate) fn asked_by(mut self, client: IpAddr) -> Self {
        Arc::get_mut(&mut self.context).unwrap().client = Some(client);
        self
    }

    /// The same script, run for a user of the app who was let in by this session.
    pub(crate) fn in_session(mut self, session: Option<AppSessionId>) -> Self {
        Arc::get_mut(&mut self.context).unwrap().session = session;
        self
    }

    /// The same script, in an app of this owner's.
    pub(crate) fn owned_by(mut self, owner: UserId) -> Self {
        let target = &mut Arc::get_mut(&mut self.context).unwrap().target;
        Arc::get_mut(target).unwrap().owner = owner;
        self
    }

    /// The same script, of a version whose source does not name `invoke`.
    pub(crate) fn that_names_no_invoke(mut self) -> Self {
        let target = &mut Arc::get_mut(&mut self.context).unwrap().target;
        Arc::get_mut(target).unwrap().may_invoke = false;
        self
    }

    /// What the execution's records will not show.
    pub(crate) fn redacted(&self, text: &str) -> String {
        self.context.confidential.redacted(text).into_owned()
    }

    /// Makes a call; a failure is its code.
    pub(crate) async fn call<T: Serialize>(&self, op: HostOp, args: &T) -> Result<Answer, String> {
        self.call_at(op, args, Arc::default()).await
    }

    pub(crate) async fn call_at<T: Serialize>(
        &self,
        op: HostOp,
        args: &T,
        stage: Arc<Stage>,
    ) -> Result<Answer, String> {
        let mut bytes = Vec::new();
        codec::encode_body(&mut bytes, args);
        answered(self.call_with(op, bytes, stage).await)
    }

    /// The same as a call of another number: an execution's calls each have their own.
    pub(crate) async fn call_as<T: Serialize>(
        &self,
        number: u32,
        op: HostOp,
        args: &T,
    ) -> Result<Answer, String> {
        let (context, mut bytes) = (Arc::clone(&self.context), Vec::new());
        codec::encode_body(&mut bytes, args);
        let call = HostCall { context, number, op, args: bytes, stage: Arc::default() };
        answered(self.calls.call(call).await)
    }

    /// The same with arguments as they come.
    pub(crate) async fn call_bytes(&self, op: HostOp, args: Vec<u8>) -> Result<Answer, String> {
        answered(self.forge(op, args).await)
    }

    /// Makes a call with any bytes, as only a worker can that was taken over.
    pub(crate) async fn forge(&self, op: HostOp, args: Vec<u8>) -> Reply {
        self.call_with(op, args, Arc::default()).await
    }

    async fn call_with(&self, op: HostOp, args: Vec<u8>, stage: Arc<Stage>) -> Reply {
        self.calls.call(HostCall { context: self.context.clone(), number: 1, op, args, stage }).await
    }
}

fn answered(reply: Reply) -> Result<Answer, String> {
    if reply.status == 0 {
        return Ok(Answer(reply.body));
    }
    Err(codec::decode_body::<CallFailure<'_>>(&reply.body).unwrap().code.to_owned())
}
