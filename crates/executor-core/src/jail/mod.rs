//! What a worker gives up before it touches anything a stranger wrote.
//!
//! The steps stand here in their order; each has a file, or shares one with its neighbours, and
//! `docs/jail.md` lists the same numbers. [`enter`] is everything that can be done at once, [`copy`] the same
//! for a copy of a process that has loaded the guest; [`Jail::lock`] is what must wait until it is loaded.

mod capabilities;
pub(crate) mod descriptors;
#[cfg(test)]
mod documented;
mod filter;
mod identity;
mod landlock;
mod memory;
mod namespaces;
mod priority;
mod process;
mod processes;
mod resources;
mod root;
mod rules;
mod segments;
mod speculation;
#[cfg(test)]
mod verdicts;

use std::fmt::Display;
use std::io::Write;
use std::ops::Range;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use shared::wire::worker::{Layers, WORKER_NAME};

pub(crate) use self::descriptors::Ends;
pub use self::filter::FilterError;
pub use self::landlock::version as landlock_version;
pub(crate) use self::priority::Priority;
pub use self::priority::run_in_short_stretches;
pub(crate) use self::process::call_it;
use self::processes::Side;
pub use self::rules::{Allowed, Argument, RULES, Test};
pub(crate) use self::segments::executable;

/// A step that failed. A worker that cannot take it does not start.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    #[error("step 1, die with the parent: {0}")]
    ParentDeath(#[source] Errno),
    #[error("step 1, die with the parent: it is already gone")]
    ParentGone,
    #[error("step 2, empty environment: {0} variables were passed")]
    Environment(usize),
    #[error("step 3, say which process is the worker: {0}")]
    Announce(#[source] std::io::Error),
    #[error("step 4, arrange descriptors: {0}")]
    Descriptors(#[source] Errno),
    #[error("step 9, drop capabilities: {0}")]
    Capabilities(#[source] Errno),
    #[error("step 10, no new privileges: {0}")]
    NoNewPrivileges(#[source] Errno),
    #[error("step 11, not dumpable: {0}")]
    Dumpable(#[source] Errno),
    #[error("step 13, limit {resource:?}: {errno}")]
    Limit {
        resource: &'static str,
        #[source]
        errno: Errno,
    },
    #[error("step 17, filter system calls: {0}")]
    Filter(#[from] FilterError),
}

/// Steps that have been taken, and those that may be: all of them, except in tests that show what
/// each layer does alone.
#[derive(Debug)]
pub struct Jail {
    wanted: Layers,
    held: Layers,
}

/// Steps 1 and 2, of a process that becomes a worker, or of which workers are copies.
pub(crate) fn arrive(parent: i32) -> Result<(), JailError> {
    process::die_with_parent()?; // 1: first, so that no failure below leaves an orphan
    process::check_parent(parent)?;
    process::check_environment()?; // 2: what exec was given; nothing can be taken back here
    Ok(())
}

/// Steps 1 to 11. Answers the jail, to be locked later, and the worker's one socket.
pub fn enter(parent: i32, wanted: Layers) -> Result<(Jail, OwnedFd), JailError> {
    arrive(parent)?;
    process::call_it(WORKER_NAME);
    let mut jail = Jail::new(wanted);
    processes::become_first(&mut jail)?; // 3: where ids do not matter yet, and while there is an output
    let socket = descriptors::arrange()?; // 4: before anything opens a descriptor of its own
    jail.withdraw()?;
    Ok((jail, socket))
}

/// What came of copying this process, and which of the two goes on.
pub(crate) enum Copied {
    /// The one that was there, and the other's id.
    Original(i32),
    /// The one that was there, alone.
    Refused(Errno),
    /// The other: a worker behind steps 1 to 11.
    Worker(Jail),
}

/// Steps 3 to 11 in a copy of this process, which has taken steps 1, 2 and 4. What has come for the copy takes the places
/// of what this process has: `socket` is the copy's then. An error is the copy's, and ends it.
pub(crate) fn copy(
    parent: i32,
    wanted: Layers,
    socket: &mut OwnedFd,
    ends: Ends,
) -> Result<Copied, JailError> {
    let mut jail = Jail::new(wanted);
    let lack = match processes::copy(&mut jail) {
        Ok(Side::Copy(lack)) => lack,
        Ok(Side::Original(worker)) => return Ok(Copied::Original(worker)),
        Err(errno) => return Ok(Copied::Refused(errno)),
    };
    // First of all, so that it complains in its own name.
    descriptors::replace(socket, ends)?;
    process::call_it(WORKER_NAME);
    processes::arrive(&jail, parent, lack)?;
    jail.withdraw()?;
    Ok(Copied::Worker(jail))
}

impl Jail {
    const fn new(wanted: Layers) -> Self {
        Self { wanted, held: Layers::NONE }
    }

    /// Steps 5 to 11.
    fn withdraw(&mut self) -> Result<(), JailError> {
        resources::be_first_to_go(); // 5: while there is a /proc, whose files are still this user's
        priority::allow_return(); // 5: with the rights that the next line gives up
        identity::take_own(self); // 5: before the user namespace, where ids can no longer change
        namespaces::leave(self); // 6: their rights come from step 5, or from a user namespace
        root::empty(self); // 7: needs the mount namespace, and the right to mount
        namespaces::leave_users(self); // 8: last of them, as it takes those rights away
        capabilities::drop_all(self)?; // 9: nothing below needs a right
        process::forbid_new_privileges(self)?; // 10: also what lets 12 and 17 be taken without rights
        process::forbid_dumps(self)?; // 11: after 5, which would have changed it
        process::die_with_parent() // again, since the kernel forgets it when a process changes its rights
    }

    /// Steps 12 to 17, once the guest is loaded: loading needs memory that becomes
    /// executable. `data_bytes` is the most writable memory the
    /// worker may have, `code` where the guest's is, `rules` the calls the filter lets through. Answers the
    /// layers that hold.
    pub fn lock(
        mut self,
        data_bytes: u64,
        code: Range<usize>,
        rules: &[Allowed],
    ) -> Result<Layers, JailError> {
        landlock::deny_all(&mut self); // 12: before 13, as it needs a descriptor for a moment
        resources::limit(&mut self, data_bytes)?; // 13: after everything that opens or maps
        speculation::forbid(&mut self); // 14: anywhere before 17; here, so that loading is not slowed
        memory::refuse_new_code(&mut self); // 15: after the last code was made
        memory::seal_code(&mut self, code); // 16: after the last code was moved
        filter::install(&mut self, rules)?; // 17: last, because it forbids all of the above
        Ok(self.held)
    }

    /// Takes a step that not every kernel and not every user can take. The worker goes on without;
    /// the parent hears of it and decides.
    fn attempt<E: Display>(&mut self, layer: Layers, step: impl FnOnce() -> Result<(), E>) {
        if !self.wanted.contains(layer) {
            return;
        }
        match step() {
            Ok(()) => self.held |= layer,
            Err(error) => complain(&format_args!("without {layer}: {error}")),
        }
    }

    /// Takes a step that every kernel and every user can take.
    fn require<E>(&mut self, layer: Layers, step: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        if self.wanted.contains(layer) {
            step()?;
            self.held |= layer;
        }
        Ok(())
    }
}

/// Writes one line to standard error, which the supervisor reads. A worker that cannot even do that
/// still has its exit code.
pub(crate) fn complain(error: &dyn Display) {
    let _ = writeln!(std::io::stderr(), "worker: {error}");
}
