//! What the scripts of a plan ask for beyond what is live: to be seen before it is applied, and not only when
//! a version waits.

use shared::capabilities::Capabilities;
use sqlx::postgres::PgConnection;

use crate::deploy::beyond;
use crate::plan::{Change, Current, Step, Wanted};

/// Notes with each deploy among the changes what is new, and whether that would wait for an approval.
pub(super) async fn note_wants(
    conn: &mut PgConnection,
    current: &Current,
    wanted: &Wanted,
    changes: &mut [Change],
) -> sqlx::Result<()> {
    for change in changes {
        let Step::Deploy(name) = &change.step else { continue };
        let live = current.scripts.get(name).map(|current| &current.script);
        let capabilities = Capabilities::of(&wanted.scripts[name].bundle);
        let more = beyond(conn, live, &capabilities).await?;
        if current.app.requires_approval {
            change.unapproved.clone_from(&more);
        }
        if live.is_some() {
            change.wants_more = more;
        }
    }
    Ok(())
}
