//! What scripts can ask for: all of it on one screen, one file for each capability.
//!
//! A service learns whose call it is from the call's context, and from nothing else: no function
//! here takes an app, and none believes a word of the arguments. What it then does is in `data`.

mod atomic;
mod captured;
mod dead_letters;
mod deeds;
mod docs;
mod email;
mod files;
mod http;
mod invoke;
mod kv;
mod pubsub;
mod queue;
mod secrets;
mod users;

use std::sync::Arc;

use serde::Deserialize;
use shared::call::{CallCode, CallError, HostCall, Reply};
use shared::host_call::HostOp;
use shared::name::Username;
use shared::ports::{BoxFuture, HostCalls};
use shared::wire::codec;
use sqlx::postgres::PgConnection;

use crate::admin::{Denials, Denied};
use crate::app_users::AppUsers;
use crate::audit::{self, Actor, Entry};
use crate::auth::{Capability, Denial, Origin, Place, Rule, Standing, allows};
use crate::budgets::Budgets;
use crate::data::rehearsal::Rehearsal;
use crate::data::uploads::Uploads;
use crate::data::{Access, Data, failed};
use crate::events::topics::Ephemeral;
use crate::events::{LateInvoke, Outbox};
use crate::mail::Mail;
use crate::outbound::{Destinations, Outbound};
use crate::snapshot::Snapshot;
use crate::store;
use crate::store::users::User;
use crate::vault::Vault;

/// The services, as a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    pub(crate) data: Data,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) outbox: Outbox,
    pub(crate) ephemeral: Ephemeral,
    pub(crate) invoke: LateInvoke,
    pub(crate) vault: Arc<Vault>,
    pub(crate) outbound: Outbound,
    pub(crate) destinations: Arc<Destinations>,
    pub(crate) mail: Mail,
    pub(crate) budgets: Budgets,
    /// Where the app's people find what a script was refused, and why.
    pub(crate) denials: Arc<Denials>,
    pub(crate) app_users: Arc<AppUsers>,
    pub(crate) uploads: Uploads,
    /// Where people reach this server, for links.
    pub(crate) public_url: Arc<str>,
}

impl HostCalls for Services {
    fn call(&self, call: HostCall) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            match Rehearsal::of(&call) {
                None => self.carry_out(&call).await.into(),
                Some(rehearsal) => self.try_out(&call, rehearsal).await.into(),
            }
        })
    }
}

impl Services {
    /// The same in a dry run, which takes all of it back.
    async fn try_out(&self, call: &HostCall, rehearsal: &Rehearsal) -> Result<Reply, CallError> {
        deeds::check(call.op)?;
        let reply = self.carry_out(call).await?;
        deeds::note(rehearsal, call, &reply)?;
        Ok(reply)
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
            HostOp::QueueSend => queue::send(self, call).await,
            HostOp::QueueStats => queue::stats(self, call).await,
            HostOp::PubsubPublish => pubsub::publish(self, call).await,
            HostOp::PubsubPublishEphemeral => pubsub::publish_ephemeral(self, call).await,
            HostOp::PubsubSubscriberToken => pubsub::subscriber_token(self, call).await,
            HostOp::Invoke => invoke::now(self, call).await,
            HostOp::InvokeAsync => invoke::later(self, call).await,
            HostOp::RetryWait => invoke::wait(call).await,
            HostOp::DeadLettersList => dead_letters::list(self, call).await,
            HostOp::DeadLettersGet => dead_letters::get(self, call).await,
            HostOp::DeadLettersReplay => dead_letters::replay(self, call).await,
            HostOp::DeadLettersResolve => dead_letters::resolve(self, call).await,
            HostOp::SecretsGet => secrets::get(self, call).await,
            HostOp::SecretsSet => secrets::set(self, call).await,
            HostOp::SecretsDelete => secrets::delete(self, call).await,
            HostOp::SecretsList => secrets::list(self, call).await,
            HostOp::HttpSend => http::send(self, call).await,
            HostOp::EmailSend => email::send(self, call).await,
            HostOp::FilesCreate => files::create(self, call).await,
            HostOp::FilesAppend => files::append(self, call).await,
            HostOp::FilesHead => files::head(self, call).await,
            HostOp::FilesRead => files::read(self, call).await,
            HostOp::FilesUpdate => files::update(self, call).await,
            HostOp::FilesDelete => files::delete(self, call).await,
            HostOp::FilesList => files::list(self, call).await,
            HostOp::FilesUrl => files::url(self, call).await,
            HostOp::UsersRegister => users::register(self, call).await,
            HostOp::UsersLogin => users::login(self, call).await,
            HostOp::UsersLogout => users::logout(self, call).await,
            HostOp::UsersMe => users::me(self, call).await,
            HostOp::UsersGet => users::get(self, call).await,
            HostOp::UsersList => users::list(self, call).await,
            HostOp::UsersUpdate => users::update(self, call).await,
            HostOp::UsersDelete => users::delete(self, call).await,
            HostOp::UsersVerification => users::verification(self, call).await,
            HostOp::UsersVerify => users::verify(self, call).await,
            HostOp::UsersReset => users::reset(self, call).await,
            HostOp::UsersResetPassword => users::reset_password(self, call).await,
            // The pool keeps these itself.
            HostOp::Log => Err(CallError::invalid("nobody waits for the answer to that")),
        }
    }
}

/// The arguments of a call. The guest of this release encodes no others, so whoever sends others is ended. Of lists
/// that are too long for their call there is the beginning, so that the call can say so.
fn args<'a, T: Deserialize<'a>>(call: &'a HostCall) -> Result<T, CallError> {
    codec::decode_body(&call.args)
        .map_err(|_| CallError::new(CallCode::Forged, "the arguments are not those of the call"))
}

/// Before the first lasting effect of a call.
fn begin(call: &HostCall) -> Result<(), CallError> {
    Access::of_script(call).begin()
}

/// The person the execution runs for, if they may do this to its app now. Who is refused, and why, the
/// app's people find among its denials.
async fn require(
    services: &Services,
    conn: &mut PgConnection,
    call: &HostCall,
    capability: Capability,
) -> Result<User, CallError> {
    let forbidden = |username: Option<Username>, denial: Denial| {
        let message = format!("{}; {}", denial.value, denial.remedy);
        services.denials.record(Denied::in_a_script(&call.context, username, capability, denial));
        CallError::new(CallCode::Forbidden, message)
    };
    let Some(user) = call.context.principal else {
        let needed = capability.as_str();
        let denial = Denial {
            rule: Rule::NobodyLoggedIn,
            value: format!("this needs somebody who may {needed}, and nobody is logged in"),
            remedy: "let the route ask for an API key (auth: api_key), or let a trigger run the script"
                .into(),
        };
        return Err(forbidden(None, denial));
    };
    let app = call.context.app();
    let found = async {
        let person = store::users::by_id(conn, user).await?;
        let role = store::members::role(conn, app, user).await?;
        Ok((person.filter(|person| person.disabled_at.is_none()), role))
    };
    let (person, role) = found.await.map_err(|error| failed(&error))?;
    let person = person.ok_or_else(|| {
        let denial = Denial {
            rule: Rule::NobodyLoggedIn,
            value: "the account that the script runs for is disabled or gone".into(),
            remedy: "let somebody else take the trigger over, or enable the account".into(),
        };
        forbidden(None, denial)
    })?;
    let standing = Standing { app, owner: call.context.target.owner, role };
    match allows(&person.user, capability, Place::App(standing)) {
        Ok(()) => Ok(person.user),
        Err(denial) => Err(forbidden(Some(person.user.username.clone()), denial)),
    }
}

/// Notes what a script did to its app for a person; the last statement of its transaction.
async fn note(
    conn: &mut PgConnection,
    call: &HostCall,
    user: &User,
    action: &'static str,
    target: &str,
) -> Result<(), CallError> {
    // Nothing of a dry run is to be told, and everybody would wait for the log until it ends.
    if Rehearsal::of(call).is_some() {
        return Ok(());
    }
    let context = &call.context;
    let origin = Origin { address: None, request_id: Arc::clone(&context.request_id) };
    let actor = Actor::person(user, &format!("script {}", context.target.name), &origin);
    let entry = Entry::new(actor, action, target).on(context.app());
    audit::append(conn, entry).await.map_err(|error| failed(&error))
}
