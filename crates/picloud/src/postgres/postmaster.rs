//! The server process and the thread that keeps it.

use std::process::Command;
use std::sync::mpsc;
use std::thread;

use anyhow::Context;
use executor_core::jail::run_in_short_stretches;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;

/// A spawned server. Dropped while it runs, it is told to stop.
#[derive(Debug)]
pub(super) struct Postmaster {
    pid: Pid,
    /// How it ended, once it has.
    ended: watch::Receiver<Option<String>>,
}

impl Postmaster {
    /// Spawns the server from a thread of its own, which then waits for its end. The parent-death
    /// signal is sent when the *thread* that spawned ends, so it must not be one of a pool.
    pub(super) fn spawn(mut command: Command) -> anyhow::Result<Self> {
        let (report_spawned, spawned) = mpsc::channel();
        let (report_ended, ended) = watch::channel(None);
        let keep = move || {
            run_in_short_stretches();
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => {
                    let _ = report_spawned.send(Err(error));
                    return;
                }
            };
            let _ = report_spawned.send(Ok(child.id()));
            let how = match child.wait() {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            };
            report_ended.send_replace(Some(how));
        };
        thread::Builder::new().name("postgres-keeper".into()).spawn(keep).context("cannot start a thread")?;
        let id = spawned.recv().context("the thread that starts PostgreSQL ended")?;
        let id = id.context("cannot start PostgreSQL")?;
        Ok(Self { pid: Pid::from_raw(id.try_into().context("process id out of range")?), ended })
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Resolves with how the server ended, as soon as it has.
    pub(super) async fn exited(&self) -> String {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(how) => how.clone().unwrap_or_default(),
            Err(_) => "the thread that watched it ended".to_owned(),
        }
    }

    /// Signals the server unless it has ended.
    pub(super) fn signal(&self, signal: Signal) {
        if self.ended.borrow().is_none() {
            // It may end at this very moment; then there is nobody left to tell.
            let _ = kill(self.pid, signal);
        }
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        self.signal(Signal::SIGINT);
    }
}
