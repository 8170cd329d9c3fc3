//! `atomic`: several changes, and messages about them, as one.

use shared::call::{CallError, HostCall, Reply};
use shared::host_call::atomic::{Commit, Committed, Done};

use super::{Services, args};
use crate::data::atomic::Done as Came;
use crate::data::{Access, docs, kv};

pub(super) async fn commit(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let Commit { ops } = args(call)?;
    let came = services.data.commit(&Access::of_script(call), &ops).await?;
    let ids: Vec<Option<String>> = came.iter().map(id).collect();
    let done = came.iter().zip(&ids).map(|(came, id)| done(*came, id.as_deref())).collect();
    Ok(Reply::success(&Committed { done }))
}

fn id(came: &Came) -> Option<String> {
    match came {
        Came::Docs(docs::Wrote::Created(id)) => Some(id.to_string()),
        Came::Sent(delivery) => Some(delivery.to_string()),
        _ => None,
    }
}

fn done(came: Came, id: Option<&str>) -> Done<'_> {
    match came {
        Came::Kv(kv::Wrote::Version(version)) => Done::Version(version),
        Came::Kv(kv::Wrote::Removed(existed)) | Came::Docs(docs::Wrote::Deleted(existed)) => {
            Done::Existed(existed)
        }
        Came::Kv(kv::Wrote::Sum(sum)) => Done::Sum(sum.value),
        Came::Docs(docs::Wrote::Updated(Some(version))) => Done::Version(version.cast_unsigned()),
        Came::Docs(docs::Wrote::Created(_)) | Came::Sent(_) => id.map_or(Done::Nothing, Done::Id),
        Came::Published(receivers) => Done::Receivers(receivers),
        Came::Checked | Came::Docs(docs::Wrote::Updated(None)) => Done::Nothing,
    }
}
