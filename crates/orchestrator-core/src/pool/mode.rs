//! How far apart tenants are kept: the one setting `PICLOUD_ISOLATION`.

use std::fmt;
use std::str::FromStr;

use shared::wire::worker::Layers;

/// Who may follow whom in a worker, and whether there are walls around it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Any app in any worker. For an instance whose scripts are all one person's.
    Shared,
    /// A worker serves the apps of one owner as long as it lives. With one owner this is `Shared`.
    #[default]
    Pinned,
    /// A worker serves one app, one execution at a time, and is replaced often.
    Strict,
    /// `Shared`, without walls. For finding out what they cost, and for machines that cannot have
    /// the filter of system calls; never for scripts of strangers.
    Off,
}

/// `strict` is chosen for scripts of people who are after each other's data: whoever takes over a worker
/// must find neither files, nor a network, nor other processes, nor a user who is worth anything.
const STRICT: Layers = Layers::SYSTEM_CALL_FILTER
    .and(Layers::EMPTY_ROOT)
    .and(Layers::NETWORK_NAMESPACE)
    .and(Layers::PROCESS_NAMESPACE)
    .and(Layers::USER_NAMESPACE);

/// A word that is no mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an isolation mode is shared, pinned, strict or off")]
pub struct UnknownMode;

impl Mode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Pinned => "pinned",
            Self::Strict => "strict",
            Self::Off => "off",
        }
    }

    /// Whether a tenant's first request needs a worker that has served nobody else.
    pub const fn parts_tenants(self) -> bool {
        matches!(self, Self::Pinned | Self::Strict)
    }

    /// Layers without which no worker gets work.
    pub const fn needs(self) -> Layers {
        match self {
            Self::Strict => STRICT,
            Self::Shared | Self::Pinned => Layers::SYSTEM_CALL_FILTER,
            Self::Off => Layers::NONE,
        }
    }

    /// Most executions that one app may have at a time, those aside that its scripts call: one in each slot of the workers
    /// that are always there. In strict isolation a worker has one slot, and an app no more workers than that.
    pub fn app_slots(self, workers: usize, slots_per_worker: u16) -> usize {
        match self {
            Self::Strict => workers,
            Self::Shared | Self::Pinned | Self::Off => workers * usize::from(slots_per_worker),
        }
    }

    pub const fn has_walls(self) -> bool {
        !matches!(self, Self::Off)
    }
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        [Self::Shared, Self::Pinned, Self::Strict, Self::Off]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or(UnknownMode)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
