//! Several changes, and messages about them, as one: all of them happen, or none.

use sha2::{Digest, Sha256};
use shared::call::{CallCode, CallError};
use shared::host_call::atomic::Op;
use shared::host_call::docs::Id;
use shared::id::DeliveryId;
use shared::limits::ATOMIC_OPS_MAX;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::docs::schema::Compared;
use super::{Access, Data, Told, docs, failed, kv, messages};
use crate::store;

/// What an operation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    Checked,
    Kv(kv::Wrote),
    Docs(docs::Wrote),
    Sent(DeliveryId),
    /// To so many.
    Published(u32),
}

impl Data {
    /// Carries out all operations in their order, or none of them.
    pub(crate) async fn commit(&self, access: &Access<'_>, ops: &[Op<'_>]) -> Result<Vec<Done>, CallError> {
        if ops.is_empty() || ops.len() > ATOMIC_OPS_MAX {
            return Err(CallError::invalid(format!("commit takes 1 to {ATOMIC_OPS_MAX} operations")));
        }
        ops.iter().try_for_each(check)?;
        access.take_rows(ops.len())?;
        let compared = self.compare_all_ahead(access, ops).await?;
        let _room = self.take_room(access, ops.iter().map(adds).sum()).await?;
        let mut tx = self.begin(access).await?;
        access.begin()?;
        // In one order for everybody, so that no two commits wait for each other.
        let mut names: Vec<i64> = ops.iter().filter_map(|op| self.lock_name(access, op)).collect();
        names.sort_unstable();
        names.dedup();
        store::locks::take(&mut tx, &names).await.map_err(|error| failed(&error))?;
        let mut done = Vec::with_capacity(ops.len());
        let mut told = Told::default();
        for op in ops.iter().zip(compared) {
            done.push(self.apply(&mut tx, access, op, &mut told).await?);
        }
        tx.commit(told).await?;
        Ok(done)
    }

    /// Compares the documents of all operations with their schemas, as far as that can be done ahead.
    async fn compare_all_ahead(
        &self,
        access: &Access<'_>,
        ops: &[Op<'_>],
    ) -> Result<Vec<Compared>, CallError> {
        let mut compared = Vec::with_capacity(ops.len());
        for op in ops {
            compared.push(match *op {
                Op::DocsCreate(create) => self.compare_ahead(access, &docs::Write::Create(create)).await?,
                Op::DocsUpdate(update) => self.compare_ahead(access, &docs::Write::Update(update)).await?,
                _ => Compared::default(),
            });
        }
        Ok(compared)
    }

    async fn apply(
        &self,
        conn: &mut PgConnection,
        access: &Access<'_>,
        (op, compared): (&Op<'_>, Compared),
        told: &mut Told,
    ) -> Result<Done, CallError> {
        match *op {
            Op::KvCheck(key, wanted) => {
                let found = store::kv::lock(conn, access.app, &key).await.map_err(|error| failed(&error))?;
                check_version("value", found, wanted)
            }
            Op::DocsCheck(Id { collection, id }, wanted) => {
                let found = match Uuid::parse_str(id) {
                    Ok(id) => store::docs::lock(conn, access.app, collection, id).await,
                    Err(_) => Ok(None),
                };
                check_version("document", found.map_err(|error| failed(&error))?, wanted)
            }
            Op::KvSet(set) => self.kv_op(conn, access, &kv::Write::Set(set), told).await,
            Op::KvDelete(key) => self.kv_op(conn, access, &kv::Write::Delete(key), told).await,
            Op::KvIncr(incr) => self.kv_op(conn, access, &kv::Write::Incr(incr), told).await,
            Op::DocsCreate(create) => {
                self.docs_op(conn, access, (&docs::Write::Create(create), compared), told).await
            }
            Op::DocsUpdate(update) => {
                self.docs_op(conn, access, (&docs::Write::Update(update), compared), told).await
            }
            Op::DocsDelete(id) => {
                self.docs_op(conn, access, (&docs::Write::Delete(id), compared), told).await
            }
            Op::QueueSend(send) => self.send_apply(conn, access, &send, told).await.map(Done::Sent),
            Op::PubsubPublish(publish) => {
                self.publish_apply(conn, access, &publish, told).await.map(Done::Published)
            }
        }
    }

    /// The lock of what an operation is about; none for what is new.
    fn lock_name(&self, access: &Access<'_>, op: &Op<'_>) -> Option<i64> {
        let (kind, collection, name) = match *op {
            Op::KvCheck(key, _) | Op::KvDelete(key) => ("kv", key.collection, key.key),
            Op::KvSet(set) => ("kv", set.collection, set.key),
            Op::KvIncr(incr) => ("kv", incr.collection, incr.key),
            Op::DocsCheck(id, _) | Op::DocsDelete(id) => ("docs", id.collection, id.id),
            Op::DocsUpdate(update) => ("docs", update.collection, update.id),
            // The word under which it is taken once.
            Op::QueueSend(send) => ("queue", send.queue, send.dedup?),
            // Its messages are numbered one after the other.
            Op::PubsubPublish(publish) => {
                let topic = messages::topic_name(publish.topic).ok()?;
                // A dry run writes none.
                let is_numbered = access.rehearsal.is_none() && self.is_external(access, &topic);
                is_numbered.then_some(("topic", publish.topic, ""))?
            }
            Op::DocsCreate(_) => return None,
        };
        Some(lock_of(access, kind, collection, name))
    }

    async fn kv_op(
        &self,
        conn: &mut PgConnection,
        access: &Access<'_>,
        write: &kv::Write<'_>,
        told: &mut Told,
    ) -> Result<Done, CallError> {
        self.kv_apply(conn, access, write, told).await.map(Done::Kv)
    }

    async fn docs_op(
        &self,
        conn: &mut PgConnection,
        access: &Access<'_>,
        write: (&docs::Write<'_>, Compared),
        told: &mut Told,
    ) -> Result<Done, CallError> {
        let is_conditional = matches!(write.0, docs::Write::Update(update) if update.if_version.is_some());
        let wrote = self.doc_apply(conn, access, write, told).await?;
        // By itself it would change nothing and say so; here the other operations would happen without it.
        if is_conditional && wrote == docs::Wrote::Updated(None) {
            return Err(of_another_version("document"));
        }
        Ok(Done::Docs(wrote))
    }
}

fn check(op: &Op<'_>) -> Result<(), CallError> {
    match *op {
        Op::KvCheck(key, _) | Op::KvDelete(key) => kv::check_write(&kv::Write::Delete(key)),
        Op::KvSet(set) => kv::check_write(&kv::Write::Set(set)),
        Op::KvIncr(incr) => kv::check_write(&kv::Write::Incr(incr)),
        Op::DocsCheck(id, _) | Op::DocsDelete(id) => docs::check_write(&docs::Write::Delete(id)),
        Op::DocsCreate(create) => docs::check_write(&docs::Write::Create(create)),
        Op::DocsUpdate(update) => docs::check_write(&docs::Write::Update(update)),
        Op::QueueSend(send) => messages::check_send(&send),
        Op::PubsubPublish(publish) => messages::check_publish(&publish).map(drop),
    }
}

/// Bytes that an operation adds to the app's values and documents.
fn adds(op: &Op<'_>) -> usize {
    match *op {
        Op::KvSet(set) => kv::Write::Set(set).adds(),
        Op::KvIncr(incr) => kv::Write::Incr(incr).adds(),
        Op::DocsCreate(create) => docs::Write::Create(create).adds(),
        Op::DocsUpdate(update) => docs::Write::Update(update).adds(),
        Op::KvCheck(..)
        | Op::KvDelete(_)
        | Op::DocsCheck(..)
        | Op::DocsDelete(_)
        | Op::QueueSend(_)
        | Op::PubsubPublish(_) => 0,
    }
}

fn check_version(what: &str, found: Option<i64>, wanted: Option<u64>) -> Result<Done, CallError> {
    if found.map(i64::cast_unsigned) == wanted {
        return Ok(Done::Checked);
    }
    Err(of_another_version(what))
}

fn of_another_version(what: &str) -> CallError {
    CallError::new(CallCode::Conflict, format!("a {what} is of another version, or gone"))
}

/// A number that hardly anything else has; who shares it waits a moment for nothing.
pub(super) fn lock_of(access: &Access<'_>, kind: &str, collection: &str, name: &str) -> i64 {
    let mut hash = Sha256::new();
    hash.update(access.app.to_bytes());
    for part in [kind, collection, name] {
        hash.update(part.as_bytes());
        // In no name.
        hash.update([0]);
    }
    let digest: [u8; 32] = hash.finalize().into();
    digest.first_chunk().copied().map_or(0, i64::from_le_bytes)
}
