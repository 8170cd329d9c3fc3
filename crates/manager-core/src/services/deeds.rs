//! What a script would do, as a dry run tells it: one entry for each call that changes something.

use serde::Deserialize;
use serde_json::{Value, json};
use shared::call::{CallCode, CallError, HostCall, Reply};
use shared::host_call::HostOp;
use shared::host_call::atomic::{Commit, Committed, Done, Op};
use shared::host_call::docs::{self, Mode};
use shared::host_call::{dead_letters, files, invoke, kv, pubsub, queue, secrets, users};
use shared::wire::codec;

use super::{args, captured};
use crate::data::rehearsal::{Deed, Rehearsal};

/// Longest value that is shown.
const VALUE_BYTES_MAX: usize = 4 << 10;
/// What stands for a value that is not shown, however short it is.
pub(super) const HIDDEN: &str = "[secret]";

/// Notes what a call has done, which was done for the rest of the dry run. What is only counted, because the report is
/// full, is not searched for secrets.
pub(super) fn note(rehearsal: &Rehearsal, call: &HostCall, reply: &Reply) -> Result<(), CallError> {
    let is_full = rehearsal.is_full();
    let discreet = |deed| if is_full { deed } else { discreet(call, deed) };
    match call.op {
        HostOp::HttpSend | HostOp::EmailSend if is_full => {
            rehearsal.note(deed(call.op.as_str(), String::new(), None));
        }
        HostOp::AtomicCommit => {
            let Commit { ops } = args(call)?;
            let Committed { done } = answer(reply)?;
            let happened = ops.iter().zip(&done).filter(|(op, done)| did_something(op, done));
            happened.filter_map(|(op, _)| of_op(op)).for_each(|deed| rehearsal.note(discreet(deed)));
        }
        _ => of_call(call, reply)?.into_iter().for_each(|deed| rehearsal.note(discreet(deed))),
    }
    Ok(())
}

/// The same without the secrets that the execution has used. What is no JSON any more without them is not shown.
fn discreet(call: &HostCall, deed: Deed) -> Deed {
    let confidential = &call.context.confidential;
    Deed {
        call: deed.call,
        target: confidential.redacted(&deed.target).into_owned(),
        value: deed.value.and_then(|value| confidential.redacted_json(value)),
    }
}

/// Refuses what could not be taken back: every call that is not named here, so that a new one is refused until
/// somebody has thought of it.
pub(super) fn check(op: HostOp) -> Result<(), CallError> {
    let can_be_tried = matches!(
        op,
        HostOp::KvGet
            | HostOp::KvSet
            | HostOp::KvHas
            | HostOp::KvDelete
            | HostOp::KvIncr
            | HostOp::KvList
            | HostOp::KvGetMany
            | HostOp::KvEntry
            | HostOp::DocsCreate
            | HostOp::DocsGet
            | HostOp::DocsFind
            | HostOp::DocsUpdate
            | HostOp::DocsDelete
            | HostOp::DocsCount
            | HostOp::AtomicCommit
            | HostOp::QueueSend
            | HostOp::QueueStats
            | HostOp::PubsubPublish
            | HostOp::PubsubPublishEphemeral
            | HostOp::PubsubSubscriberToken
            | HostOp::Invoke
            | HostOp::InvokeAsync
            | HostOp::RetryWait
            | HostOp::DeadLettersList
            | HostOp::DeadLettersGet
            | HostOp::DeadLettersReplay
            | HostOp::DeadLettersResolve
            | HostOp::FilesCreate
            | HostOp::FilesAppend
            | HostOp::FilesHead
            | HostOp::FilesRead
            | HostOp::FilesUpdate
            | HostOp::FilesDelete
            | HostOp::FilesList
            | HostOp::FilesUrl
            | HostOp::SecretsGet
            | HostOp::SecretsSet
            | HostOp::SecretsDelete
            | HostOp::SecretsList
            | HostOp::UsersRegister
            | HostOp::UsersLogin
            | HostOp::UsersLogout
            | HostOp::UsersMe
            | HostOp::UsersGet
            | HostOp::UsersList
            | HostOp::UsersUpdate
            | HostOp::UsersDelete
            | HostOp::UsersVerification
            | HostOp::UsersVerify
            | HostOp::UsersReset
            | HostOp::UsersResetPassword
            | HostOp::HttpSend
            | HostOp::EmailSend
    );
    if can_be_tried {
        return Ok(());
    }
    let message = format!("{} cannot be tried in a dry run: it could not be taken back", op.as_str());
    Err(CallError::new(CallCode::Unavailable, message))
}

fn of_call(call: &HostCall, reply: &Reply) -> Result<Option<Deed>, CallError> {
    let op = match call.op {
        HostOp::KvSet => Op::KvSet(args(call)?),
        HostOp::KvDelete if answer::<kv::Existed>(reply)?.existed => Op::KvDelete(args(call)?),
        HostOp::KvIncr => Op::KvIncr(args(call)?),
        HostOp::DocsCreate => Op::DocsCreate(args(call)?),
        HostOp::DocsUpdate if answer::<docs::Updated>(reply)?.version.is_some() => {
            Op::DocsUpdate(args(call)?)
        }
        HostOp::DocsDelete if answer::<docs::Deleted>(reply)?.existed => Op::DocsDelete(args(call)?),
        HostOp::QueueSend => Op::QueueSend(args(call)?),
        HostOp::PubsubPublish => Op::PubsubPublish(args(call)?),
        HostOp::FilesCreate => {
            let files::Create { collection, name, .. } = args(call)?;
            return Ok(Some(deed("files.create", format!("{collection}/{name}"), None)));
        }
        HostOp::FilesUpdate if answer::<files::Found<'_>>(reply)?.file.is_some() => {
            let files::Update { collection, id, .. } = args(call)?;
            return Ok(Some(deed("files.update", format!("{collection}/{id}"), None)));
        }
        HostOp::FilesDelete if answer::<files::Deleted>(reply)?.existed => {
            let files::Id { collection, id } = args(call)?;
            return Ok(Some(deed("files.delete", format!("{collection}/{id}"), None)));
        }
        HostOp::HttpSend => return Ok(Some(captured::request(&call.context.confidential, &args(call)?))),
        HostOp::EmailSend => return Ok(Some(captured::mail(&call.context.confidential, &args(call)?))),
        _ => {
            return match of_event(call)? {
                None => of_answer(call, reply),
                deed => Ok(deed),
            };
        }
    };
    Ok(of_op(&op))
}

/// What other scripts would run for.
fn of_event(call: &HostCall) -> Result<Option<Deed>, CallError> {
    let name = call.op.as_str();
    Ok(Some(match call.op {
        HostOp::PubsubPublishEphemeral => {
            let pubsub::Publish { topic, message } = args(call)?;
            deed(name, topic.to_owned(), Some(message))
        }
        HostOp::InvokeAsync => {
            let invoke::InvokeAsync { script, args, .. } = args(call)?;
            deed(name, script.to_owned(), Some(args))
        }
        HostOp::DeadLettersReplay | HostOp::DeadLettersResolve => {
            deed(name, args::<dead_letters::One<'_>>(call)?.id.to_owned(), None)
        }
        _ => return Ok(None),
    }))
}

/// What a call comes to that may come to nothing, by its answer.
fn of_answer(call: &HostCall, reply: &Reply) -> Result<Option<Deed>, CallError> {
    let name = call.op.as_str();
    Ok(match call.op {
        HostOp::FilesUrl => {
            let files::Link { collection, id, expires_s } = args(call)?;
            let value = Some(json!({ "expires_s": expires_s }));
            let deed = Deed { call: name, target: format!("{collection}/{id}"), value };
            answer::<files::Linked<'_>>(reply)?.url.map(|_| deed)
        }
        HostOp::PubsubSubscriberToken => {
            let pubsub::SubscriberToken { topics, ttl_s } = args(call)?;
            let value = Some(json!({ "ttl_s": ttl_s }));
            Some(Deed { call: name, target: topics.join(", "), value })
        }
        HostOp::SecretsSet => {
            let secrets::SetSecret { name: secret, .. } = args(call)?;
            Some(deed(name, secret.to_owned(), None))
        }
        HostOp::SecretsDelete => {
            let secrets::SecretName { name: secret } = args(call)?;
            answer::<secrets::Existed>(reply)?.existed.then(|| deed(name, secret.to_owned(), None))
        }
        HostOp::UsersRegister => {
            let users::Register { login, profile, .. } = args(call)?;
            Some(deed(name, login.to_owned(), Some(profile)))
        }
        HostOp::UsersLogin => {
            let users::Login { login, .. } = args(call)?;
            answer::<users::Found<'_>>(reply)?.json.map(|_| deed(name, login.to_owned(), None))
        }
        HostOp::UsersReset => {
            let users::Named { login } = args(call)?;
            answer::<users::Issued<'_>>(reply)?.token.map(|_| deed(name, login.to_owned(), None))
        }
        HostOp::UsersVerify | HostOp::UsersResetPassword => {
            let user = answer::<users::Found<'_>>(reply)?.json;
            let user = user.and_then(|json| serde_json::from_str::<Value>(json).ok());
            user.map(|user| deed(name, user["id"].as_str().unwrap_or_default().to_owned(), None))
        }
        _ => return of_account(call, reply),
    })
}

/// The same of accounts that exist.
fn of_account(call: &HostCall, reply: &Reply) -> Result<Option<Deed>, CallError> {
    let name = call.op.as_str();
    Ok(match call.op {
        HostOp::UsersUpdate => Some(of_update(name, args(call)?)),
        HostOp::UsersVerification => {
            let users::Id { id } = args(call)?;
            Some(deed(name, id.to_owned(), None))
        }
        HostOp::UsersDelete => {
            let users::Id { id } = args(call)?;
            answer::<users::Existed>(reply)?.existed.then(|| deed(name, id.to_owned(), None))
        }
        HostOp::UsersLogout => {
            let users::Logout { token } = args(call)?;
            let whose = if token.is_some() { "session of the token" } else { "session of the request" };
            answer::<users::Existed>(reply)?.existed.then(|| deed(name, whose.to_owned(), None))
        }
        _ => None,
    })
}

/// What changes of a user; of a password, that it does.
fn of_update(call: &'static str, update: users::Update<'_>) -> Deed {
    let users::Update { id, login, password, profile, roles, verified, disabled } = update;
    let profile = profile.filter(|json| json.len() <= VALUE_BYTES_MAX);
    let fields = [
        ("login", login.map(Value::from)),
        ("password", password.map(|_| Value::from(HIDDEN))),
        ("profile", profile.and_then(|json| serde_json::from_str::<Value>(json).ok())),
        ("roles", roles.map(Value::from)),
        ("verified", verified.map(Value::from)),
        ("disabled", disabled.map(Value::from)),
    ];
    let given = fields.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?)));
    Deed { call, target: id.to_owned(), value: Some(Value::Object(given.collect())) }
}

/// Reads what a script was answered.
fn answer<'a, T: Deserialize<'a>>(reply: &'a Reply) -> Result<T, CallError> {
    codec::decode_body(&reply.body).map_err(|error| {
        tracing::error!(%error, "an answer to a script cannot be read");
        CallError::new(CallCode::Internal, "the platform failed")
    })
}

/// Whether there was what an operation of a commit was to change.
const fn did_something(op: &Op<'_>, done: &Done<'_>) -> bool {
    match op {
        Op::KvDelete(_) | Op::DocsDelete(_) => !matches!(done, Done::Existed(false)),
        Op::DocsUpdate(_) => !matches!(done, Done::Nothing),
        _ => true,
    }
}

fn of_op(op: &Op<'_>) -> Option<Deed> {
    let of_kv = |call, key: kv::Key<'_>, value| deed(call, format!("{}/{}", key.collection, key.key), value);
    let of_docs = |call, id: docs::Id<'_>, value| deed(call, format!("{}/{}", id.collection, id.id), value);
    Some(match *op {
        Op::KvCheck(..) | Op::DocsCheck(..) => return None,
        Op::KvSet(kv::Set { collection, key, value, .. }) => {
            of_kv("kv.set", kv::Key { collection, key }, Some(value))
        }
        Op::KvDelete(key) => of_kv("kv.delete", key, None),
        Op::KvIncr(kv::Incr { collection, key, by }) => {
            let key = kv::Key { collection, key };
            return Some(Deed { value: Some(by.into()), ..of_kv("kv.incr", key, None) });
        }
        Op::DocsCreate(docs::Create { collection, data }) => {
            deed("docs.create", collection.to_owned(), Some(data))
        }
        Op::DocsUpdate(docs::Update { collection, id, data, mode, .. }) => {
            let call = if mode == Mode::Merge { "docs.patch" } else { "docs.update" };
            of_docs(call, docs::Id { collection, id }, Some(data))
        }
        Op::DocsDelete(id) => of_docs("docs.delete", id, None),
        Op::QueueSend(queue::Send { queue, message, .. }) => {
            deed("queue.send", queue.to_owned(), Some(message))
        }
        Op::PubsubPublish(pubsub::Publish { topic, message }) => {
            deed("pubsub.publish", topic.to_owned(), Some(message))
        }
    })
}

fn deed(call: &'static str, target: String, json: Option<&str>) -> Deed {
    let value = json.filter(|json| json.len() <= VALUE_BYTES_MAX);
    Deed { call, target, value: value.and_then(|json| serde_json::from_str(json).ok()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_scripts_ask_for_can_be_tried() {
        for op in HostOp::ALL.iter().copied().filter(|op| !op.is_one_way()) {
            assert_eq!(check(op), Ok(()), "{}", op.as_str());
        }
    }

    #[test]
    fn attack_a_password_that_is_changed_is_not_told() {
        let update =
            users::Update { id: "u", password: Some("p4ss"), verified: Some(true), ..Default::default() };
        let expected = json!({ "password": "[secret]", "verified": true });
        assert_eq!(of_update("users.update", update).value, Some(expected));
    }
}
