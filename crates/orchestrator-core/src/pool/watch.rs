//! Scripts that ran in workers that misbehaved, and apps whose source was compiled there. Which of them was the
//! reason cannot be seen from outside, so each gets workers of its own for a while: whose worker misbehaves then has
//! nobody else to blame. Pure bookkeeping; the caller has the clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use shared::id::{AppId, ScriptId, UserId};
use shared::incident::Suspect;

use super::job::Job;
use super::tenancy::Tenant;

/// As long as incidents count towards quarantine.
const WATCH: Duration = Duration::from_secs(60 * 60);
/// What is watched at the same time; beyond that what was watched for longest is let go. One
/// lost worker brings as many as it has slots.
const WATCHED_MAX: usize = 256;

/// Whoever is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Watched {
    Script(ScriptId),
    /// Whatever the app has compiled: the next source is as little to be trusted as the last.
    Compilations(AppId),
}

impl Watched {
    fn of(job: &Job) -> Self {
        job.script().map_or(Self::Compilations(job.app), Self::Script)
    }

    /// Whom its workers serve while it is watched, in any mode.
    const fn tenant(self) -> Tenant {
        match self {
            Self::Script(script) => Tenant::Script(script),
            Self::Compilations(app) => Tenant::App(app),
        }
    }
}

impl From<&Suspect> for Watched {
    fn from(suspect: &Suspect) -> Self {
        match suspect {
            Suspect::Execution { target, .. } => Self::Script(target.script),
            Suspect::Compilation(app) => Self::Compilations(*app),
        }
    }
}

/// Who has a share of workers together with others that are watched, each of which is a tenant of its own: all of one
/// owner, or all there are where owners are not kept apart. Many are no way around a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Circle(Option<UserId>);

impl Circle {
    /// That of a job which runs apart from what it usually runs with.
    pub(super) fn of(job: &Job) -> Option<Self> {
        (job.tenant != job.usual).then(|| Self(job.owner()))
    }
}

#[derive(Debug, Default)]
pub(super) struct Watch {
    since: HashMap<Watched, Instant>,
}

impl Watch {
    /// Whom the worker is to serve that runs this job, if the job is watched.
    pub(super) fn tenant(&self, job: &Job, now: Instant) -> Option<Tenant> {
        // No look-up where nothing ever happened: this is asked for every request.
        if self.since.is_empty() {
            return None;
        }
        Some(Watched::of(job)).filter(|who| self.is_watched(*who, now)).map(Watched::tenant)
    }

    fn is_watched(&self, who: Watched, now: Instant) -> bool {
        self.since.get(&who).is_some_and(|since| now < *since + WATCH)
    }

    /// Watches from now on.
    pub(super) fn add(&mut self, who: Watched, now: Instant) {
        self.since.retain(|_, since| now < *since + WATCH);
        if self.since.len() >= WATCHED_MAX && !self.since.contains_key(&who) {
            let first = self.since.iter().min_by_key(|(_, since)| **since).map(|(first, _)| *first);
            self.since.remove(&first.unwrap_or(who));
        }
        self.since.insert(who, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script() -> Watched {
        Watched::Script(ScriptId::new())
    }

    #[test]
    fn a_script_is_watched_for_an_hour_after_its_last_incident() {
        let (mut watch, script, start) = (Watch::default(), script(), Instant::now());
        assert!(!watch.is_watched(script, start));
        watch.add(script, start);
        watch.add(script, start + WATCH / 2);
        assert!(watch.is_watched(script, start + WATCH));
        assert!(!watch.is_watched(script, start + 2 * WATCH));
        assert!(!watch.is_watched(Watched::Script(ScriptId::new()), start));
    }

    #[test]
    fn who_makes_many_scripts_misbehave_fills_no_memory() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let first = script();
        watch.add(first, start);
        for number in 1..=WATCHED_MAX as u64 {
            watch.add(script(), start + Duration::from_millis(number));
        }
        assert_eq!(watch.since.len(), WATCHED_MAX);
        assert!(!watch.is_watched(first, start), "the first one goes first");
    }
}
