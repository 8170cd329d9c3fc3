//! Who may share a worker with whom, and which worker a job goes to. Pure: it looks at workers and
//! answers; the caller acts.

use std::time::{Duration, Instant};

use shared::id::{AppId, ScriptId, UserId};

use super::job::{Job, Task};
use super::mode::Mode;

/// Whom a worker serves, from its first job to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Tenant {
    Anyone,
    Owner(UserId),
    App(AppId),
    /// A script that is watched, in any mode: see [`super::watch`].
    Script(ScriptId),
}

impl Tenant {
    pub(super) const fn of(mode: Mode, owner: UserId, app: AppId) -> Self {
        match mode {
            Mode::Shared | Mode::Off => Self::Anyone,
            Mode::Pinned => Self::Owner(owner),
            Mode::Strict => Self::App(app),
        }
    }
}

impl Job {
    /// Whose it is, where workers are kept apart. In strict isolation nobody says it of a compilation.
    pub(super) fn owner(&self) -> Option<UserId> {
        match (self.usual, &self.task) {
            (Tenant::Owner(owner), _) => Some(owner),
            (Tenant::App(_), Task::Run(invocation)) => Some(invocation.target.owner),
            _ => None,
        }
    }
}

/// What of a worker matters for where a job goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Desk {
    /// Nobody yet, for a fresh one.
    pub(super) tenant: Option<Tenant>,
    /// Slots that a job like the one in question may take; none when the worker is about to leave.
    pub(super) room: usize,
    pub(super) is_idle: bool,
    /// Gets no new work, and leaves.
    pub(super) is_leaving: bool,
    pub(super) last_used: Instant,
}

/// A worker that its tenant could do without, as it has others, is taken from it after this long
/// without work.
const SURPLUS_AFTER: Duration = Duration::from_secs(1);

/// The worker for a job: the roomiest of its tenant's, but rather a fresh one than one that is at
/// work, until the tenant has `share` of them.
pub(super) fn place(desks: impl Iterator<Item = Desk>, tenant: Tenant, share: usize) -> Option<usize> {
    let (mut own, mut fresh, mut count) = (None::<(usize, Desk)>, None, 0);
    for (at, desk) in desks.enumerate() {
        match desk.tenant {
            None if desk.room > 0 => fresh = fresh.or(Some(at)),
            Some(its) if its == tenant && !desk.is_leaving => {
                count += 1;
                if desk.room > own.map_or(0, |(_, best)| best.room) {
                    own = Some((at, desk));
                }
            }
            _ => {}
        }
    }
    match own {
        Some((at, desk)) if desk.is_idle || count >= share => Some(at),
        own => fresh.or_else(|| own.map(|(at, _)| at)),
    }
}

/// The worker that has to go so that somebody without one gets one: the one idle for longest; when
/// all are at work, one of a tenant that has several.
pub(super) fn evict(desks: &[Desk]) -> Option<usize> {
    let staying = || desks.iter().enumerate().filter(|(_, desk)| !desk.is_leaving && desk.tenant.is_some());
    let idle = staying().filter(|(_, desk)| desk.is_idle).min_by_key(|(_, desk)| desk.last_used);
    let has_others = |desk: &Desk| staying().filter(|(_, other)| other.tenant == desk.tenant).count() > 1;
    idle.or_else(|| staying().find(|(_, desk)| has_others(desk))).map(|(at, _)| at)
}

/// A worker that its tenant does not miss, for a tenant that has all of its own at work.
pub(super) fn surplus(desks: &[Desk], for_whom: Tenant, now: Instant) -> Option<usize> {
    let is_others = |desk: &Desk| !desk.is_leaving && desk.tenant.is_some_and(|its| its != for_whom);
    desks.iter().position(|desk| {
        let has_others = || desks.iter().filter(|o| !o.is_leaving && o.tenant == desk.tenant).count() > 1;
        is_others(desk) && desk.is_idle && now >= desk.last_used + SURPLUS_AFTER && has_others()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Tenant {
        Tenant::Owner(UserId::new())
    }

    fn desk(tenant: Option<Tenant>, room: usize) -> Desk {
        Desk { tenant, room, is_idle: room == 15, is_leaving: false, last_used: Instant::now() }
    }

    fn place(desks: &[Desk], tenant: Tenant) -> Option<usize> {
        super::place(desks.iter().copied(), tenant, 2)
    }

    #[test]
    fn a_job_never_goes_to_another_tenants_worker() {
        let (a, b) = (owner(), owner());
        assert_eq!(place(&[desk(Some(a), 15), desk(Some(a), 3)], b), None);
        assert_eq!(place(&[desk(Some(a), 15), desk(Some(b), 1)], b), Some(1));
    }

    #[test]
    fn a_fresh_worker_is_taken_rather_than_a_busy_one_up_to_a_share() {
        let a = owner();
        assert_eq!(place(&[desk(Some(a), 15), desk(None, 15)], a), Some(0), "its own is idle");
        assert_eq!(place(&[desk(Some(a), 9), desk(None, 15)], a), Some(1));
        assert_eq!(
            place(&[desk(Some(a), 9), desk(Some(a), 10), desk(None, 15)], a),
            Some(1),
            "has its share"
        );
        assert_eq!(place(&[desk(Some(a), 9)], a), Some(0));
    }

    #[test]
    fn a_leaving_worker_gets_no_job() {
        let a = owner();
        let leaving = Desk { is_leaving: true, ..desk(Some(a), 0) };
        assert_eq!(place(&[leaving], a), None);
        assert_eq!(place(&[leaving, desk(None, 15)], a), Some(1));
    }

    #[test]
    fn the_worker_idle_for_longest_goes_first() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let idle = |seconds| Desk { last_used: at(seconds), ..desk(Some(owner()), 15) };
        assert_eq!(evict(&[idle(3), idle(1), idle(2)]), Some(1));
        let busy = Desk { is_idle: false, last_used: at(0), ..desk(Some(owner()), 15) };
        assert_eq!(evict(&[busy, idle(2)]), Some(1), "a busy one stays");
        assert_eq!(evict(&[busy, busy]), Some(0), "but not two of one tenant");
        assert_eq!(evict(&[busy, Desk { tenant: Some(owner()), ..busy }]), None);
        assert_eq!(evict(&[desk(None, 15)]), None, "a fresh one is what is wanted");
    }

    #[test]
    fn only_a_worker_that_is_not_missed_is_surplus() {
        let (a, b) = (owner(), owner());
        let later = Instant::now() + 2 * SURPLUS_AFTER;
        let (two, one) = ([desk(Some(a), 15), desk(Some(a), 15), desk(Some(b), 3)], [desk(Some(a), 15)]);
        assert_eq!(surplus(&two, b, later), Some(0));
        assert_eq!(surplus(&two, b, Instant::now()), None, "it was used just now");
        assert_eq!(surplus(&two, a, later), None);
        assert_eq!(surplus(&one, b, later), None);
    }

    #[test]
    fn the_mode_says_who_shares() {
        let (owner, one, two) = (UserId::new(), AppId::new(), AppId::new());
        assert_eq!(Tenant::of(Mode::Pinned, owner, one), Tenant::of(Mode::Pinned, owner, two));
        assert_ne!(Tenant::of(Mode::Pinned, owner, one), Tenant::of(Mode::Pinned, UserId::new(), one));
        assert_ne!(Tenant::of(Mode::Strict, owner, one), Tenant::of(Mode::Strict, owner, two));
        assert_eq!(Tenant::of(Mode::Shared, owner, one), Tenant::of(Mode::Shared, UserId::new(), two));
    }
}
