//! The jobs of one app that wait: a line for each tenant whose worker they wait for, which is nearly always one.
//!
//! A script that is watched runs in a worker of its own, which may have to be made first. What waits for it must not
//! hold up what runs elsewhere.

use std::collections::VecDeque;

use super::admission::Queued;
use super::tenancy::Tenant;

#[derive(Debug)]
pub(super) struct Lines<J> {
    /// None is empty; the one whose first job is next stands first.
    lines: Vec<(Tenant, VecDeque<J>)>,
}

impl<J> Default for Lines<J> {
    fn default() -> Self {
        Self { lines: Vec::new() }
    }
}

/// What goes first: makers' jobs, then nested ones, then load.
fn rank(job: &impl Queued) -> u8 {
    match (job.is_ahead(), job.is_nested()) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 2,
    }
}

impl<J: Queued> Lines<J> {
    pub(super) fn len(&self) -> usize {
        self.lines.iter().map(|(_, jobs)| jobs.len()).sum()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether somebody waits for this tenant's workers.
    pub(super) fn has(&self, tenant: Tenant) -> bool {
        self.lines.iter().any(|(whose, _)| *whose == tenant)
    }

    /// The first job of each line, in the order of their turns.
    pub(super) fn fronts(&self) -> impl Iterator<Item = &J> {
        self.lines.iter().filter_map(|(_, jobs)| jobs.front())
    }

    /// How many wait that go before load.
    pub(super) fn ahead(&self) -> usize {
        let ahead = |jobs: &VecDeque<J>| jobs.iter().take_while(|job| job.is_ahead()).count();
        self.lines.iter().map(|(_, jobs)| ahead(jobs)).sum()
    }

    pub(super) fn push(&mut self, job: J) {
        match self.lines.iter_mut().find(|(whose, _)| *whose == job.tenant()) {
            Some((_, jobs)) => {
                let at = jobs.partition_point(|other| rank(other) <= rank(&job));
                jobs.insert(at, job);
            }
            None => self.lines.push((job.tenant(), VecDeque::from([job]))),
        }
        self.sort();
    }

    /// Takes the first job of the line at this place among [`Self::fronts`].
    pub(super) fn pop(&mut self, line: usize) -> Option<J> {
        let job = self.lines.get_mut(line)?.1.pop_front();
        self.sort();
        job
    }

    pub(super) fn withdraw(&mut self, ticket: u64) -> Option<J> {
        let job = self.lines.iter_mut().find_map(|(_, jobs)| {
            let at = jobs.iter().position(|job| job.ticket() == ticket)?;
            jobs.remove(at)
        });
        self.sort();
        job
    }

    pub(super) fn take_all(&mut self) -> Vec<J> {
        let lines = std::mem::take(&mut self.lines);
        let mut jobs: Vec<J> = lines.into_iter().flat_map(|(_, jobs)| jobs).collect();
        jobs.sort_by_key(Queued::ticket);
        jobs
    }

    /// Lets each job be changed, also whose worker it waits for.
    pub(super) fn change(&mut self, change: impl FnMut(&mut J)) {
        let mut jobs = self.take_all();
        jobs.iter_mut().for_each(change);
        jobs.into_iter().for_each(|job| self.push(job));
    }

    fn sort(&mut self) {
        self.lines.retain(|(_, jobs)| !jobs.is_empty());
        self.lines.sort_by_key(|(_, jobs)| jobs.front().map(|job| (rank(job), job.ticket())));
    }
}
