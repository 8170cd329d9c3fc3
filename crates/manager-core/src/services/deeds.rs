//! What a script would do, as a dry run tells it: one entry for each call that changes something.

use serde_json::Value;
use shared::call::{CallCode, CallError, HostCall};
use shared::host_call::HostOp;
use shared::host_call::atomic::{Commit, Op};
use shared::host_call::docs::{self, Mode};
use shared::host_call::{dead_letters, email, files, http, invoke, kv, pubsub, queue};

use super::args;
use crate::data::rehearsal::{Deed, Rehearsal};

/// Longest value that is shown.
const VALUE_BYTES_MAX: usize = 4 << 10;

/// Notes what a call has done, which was done for the rest of the dry run.
pub(super) fn note(rehearsal: &Rehearsal, call: &HostCall) -> Result<(), CallError> {
    match call.op {
        HostOp::AtomicCommit => {
            let Commit { ops } = args(call)?;
            ops.iter().filter_map(of_op).for_each(|deed| rehearsal.note(discreet(call, deed)));
        }
        _ => of_call(call)?.into_iter().for_each(|deed| rehearsal.note(discreet(call, deed))),
    }
    Ok(())
}

/// The same without the secrets that the execution has used. What is no JSON any more without them is not shown.
fn discreet(call: &HostCall, deed: Deed) -> Deed {
    let confidential = &call.context.confidential;
    let redacted = |value: Value| serde_json::from_str(&confidential.redacted(&value.to_string())).ok();
    Deed {
        call: deed.call,
        target: confidential.redacted(&deed.target).into_owned(),
        value: deed.value.and_then(redacted),
    }
}

/// Refuses what has effects that could not be taken back.
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
            | HostOp::SecretsGet
            | HostOp::SecretsList
            | HostOp::UsersMe
            | HostOp::UsersGet
            | HostOp::UsersList
            | HostOp::HttpSend
            | HostOp::EmailSend
    );
    if can_be_tried {
        return Ok(());
    }
    let message = format!("{} cannot be tried in a dry run", op.as_str());
    Err(CallError::new(CallCode::Unavailable, message))
}

fn of_call(call: &HostCall) -> Result<Option<Deed>, CallError> {
    let op = match call.op {
        HostOp::KvSet => Op::KvSet(args(call)?),
        HostOp::KvDelete => Op::KvDelete(args(call)?),
        HostOp::KvIncr => Op::KvIncr(args(call)?),
        HostOp::DocsCreate => Op::DocsCreate(args(call)?),
        HostOp::DocsUpdate => Op::DocsUpdate(args(call)?),
        HostOp::DocsDelete => Op::DocsDelete(args(call)?),
        HostOp::QueueSend => Op::QueueSend(args(call)?),
        HostOp::PubsubPublish => Op::PubsubPublish(args(call)?),
        HostOp::FilesCreate => {
            let files::Create { collection, name, .. } = args(call)?;
            return Ok(Some(deed("files.create", format!("{collection}/{name}"), None)));
        }
        HostOp::FilesUpdate => {
            let files::Update { collection, id, .. } = args(call)?;
            return Ok(Some(deed("files.update", format!("{collection}/{id}"), None)));
        }
        HostOp::FilesDelete => {
            let files::Id { collection, id } = args(call)?;
            return Ok(Some(deed("files.delete", format!("{collection}/{id}"), None)));
        }
        HostOp::HttpSend => {
            let http::Request { method, url, .. } = args(call)?;
            return Ok(Some(deed("http.send", format!("{method} {url}"), None)));
        }
        HostOp::EmailSend => return Ok(Some(of_mail(&args(call)?))),
        _ => return of_event(call),
    };
    Ok(of_op(&op))
}

/// To whom, and about what.
fn of_mail(mail: &email::Send<'_>) -> Deed {
    let recipients: Vec<_> = [&mail.to, &mail.cc, &mail.bcc].into_iter().flatten().copied().collect();
    let value = serde_json::json!({ "subject": mail.subject });
    Deed { call: "email.send", target: recipients.join(", "), value: Some(value) }
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
