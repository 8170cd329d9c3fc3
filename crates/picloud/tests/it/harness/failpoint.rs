//! Failpoints around every commit of the platform, in the very binary that is shipped, which knows nothing
//! of them. The database holds a statement, or the commit of its transaction, until the platform has been
//! killed, and then goes on: a transaction whose client is gone is rolled back, and a commit is made, also that of
//! a statement which is a transaction by itself.

use super::{Disk, database::Session, eventually};

/// By which the held wait.
const LOCK: u32 = 4_242;

/// Where a transaction is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// Before its statement: nothing of it is there afterwards, unless it is all of its transaction.
    Statement,
    /// In its commit: all of it is there afterwards, and the platform never heard so.
    Commit,
}

/// A place where the platform can be killed.
pub(crate) struct Failpoint<'a> {
    disk: &'a Disk,
    table: &'static str,
    held: Session,
}

impl<'a> Failpoint<'a> {
    /// Holds whoever does this to rows of the table that are as `rows` says, in which `new` is the row that
    /// is written and `old` the one that was there.
    pub(crate) fn set(disk: &'a Disk, at: At, what: &str, table: &'static str, rows: &str) -> Self {
        let (kind, when, deferred) = match at {
            At::Statement => ("trigger", "before", ""),
            At::Commit => ("constraint trigger", "after", "deferrable initially deferred"),
        };
        let held = disk.session(&format!("select pg_advisory_lock({LOCK})"));
        disk.execute(&format!(
            "create function hold() returns trigger language plpgsql as $$
             begin
                 perform pg_advisory_xact_lock({LOCK});
                 if tg_op = 'DELETE' then return old; end if;
                 return new;
             end $$;
             create {kind} hold {when} {what} on {table} {deferred}
                 for each row when ({rows}) execute function hold();"
        ));
        Self { disk, table, held }
    }

    /// Waits until so many transactions are held.
    #[track_caller]
    pub(crate) fn is_reached_by(&self, transactions: usize) {
        let reached = || (self.held() >= transactions).then_some(());
        eventually("the failpoint is reached", reached);
    }

    /// How many transactions are held now.
    pub(crate) fn held(&self) -> usize {
        self.sessions("wait_event = 'advisory'")
    }

    /// Lets go of what is held, while the platform lives.
    pub(crate) fn release(self) {
        let Self { disk, table, held } = self;
        drop(held);
        disk.execute(&format!("drop trigger hold on {table}"));
    }

    /// Lets go of what is held, once the platform is dead, and waits until nothing of it is left.
    #[track_caller]
    pub(crate) fn remove(self) {
        let Self { disk, table, held } = self;
        drop(held);
        let is_over = || (sessions(disk, "true") == 0).then_some(());
        eventually("the database has ended what nobody waits for", is_over);
        disk.execute(&format!("drop trigger hold on {table}"));
    }

    fn sessions(&self, state: &str) -> usize {
        sessions(self.disk, state)
    }
}

/// Other sessions of the database in this state.
fn sessions(disk: &Disk, state: &str) -> usize {
    let sql = format!(
        "select count(*)::text from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid() and {state}"
    );
    disk.query(&sql).parse().unwrap()
}
