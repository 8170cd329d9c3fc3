//! `queue`: messages for one consumer.

use chrono::Utc;
use shared::call::{CallError, HostCall, Reply};
use shared::host_call::queue::{Accepted, Named, Stats};

use super::{Services, args};
use crate::data::messages::queue_name;
use crate::data::{Access, failed};
use crate::store;

pub(super) async fn send(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let delivery = services.data.queue_send(&Access::of_script(call), &args(call)?).await?;
    Ok(Reply::success(&Accepted { id: delivery.to_bytes() }))
}

pub(super) async fn stats(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let queue = queue_name(args::<Named<'_>>(call)?.queue)?;
    let app = call.context.app();
    let consumer = services.snapshot.triggers().consumer(app, &queue).map(|consumer| consumer.id);
    let mut conn = services.data.acquire(&Access::of_script(call)).await?;
    let read = async {
        let level = store::queues::levels(&mut conn, app, Some(&queue)).await?.pop();
        let in_flight = match consumer {
            Some(consumer) => store::queues::in_flight(&mut conn, app, &[consumer]).await?,
            None => Vec::new(),
        };
        Ok((level, in_flight))
    };
    let read: sqlx::Result<_> = read.await;
    let (level, in_flight) = conn.answered(read).map_err(|error| failed(&error))?;
    let count = |number: i64| u64::try_from(number).unwrap_or_default();
    let oldest =
        level.as_ref().and_then(|level| level.oldest_at).map(|at| (Utc::now() - at).num_milliseconds());
    Ok(Reply::success(&Stats {
        ready: level.as_ref().map_or(0, |level| count(level.ready)),
        delayed: level.as_ref().map_or(0, |level| count(level.delayed)),
        in_flight: in_flight.first().map_or(0, |(_, number)| count(*number)),
        oldest_ms: oldest.map_or(0, count),
        is_paused: level.is_some_and(|level| level.is_paused),
    }))
}
