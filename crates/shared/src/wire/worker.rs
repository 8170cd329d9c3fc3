//! How a worker process begins and ends, and which walls stand around it meanwhile.

use std::ffi::CStr;
use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use serde::{Deserialize, Serialize};

/// The first argument that makes the binary a worker. It is not listed in the help: only the
/// supervisor starts workers.
pub const WORKER_ARG: &str = "__worker";

/// The argument after the parent's process id that makes it no worker but a zygote: it loads the guest and waits, and
/// workers are copies of it. What follows is for them.
pub const ZYGOTE_ARG: &str = "zygote";

/// What the kernel calls a worker, in `ps` and in `/proc/PID/comm`. Its arguments are its zygote's.
pub const WORKER_NAME: &CStr = c"picloud-worker";

/// What the kernel calls a zygote.
pub const ZYGOTE_NAME: &CStr = c"picloud-zygote";

/// What a zygote answers, as the bytes of an `i32`, once it has loaded the guest. After that it answers each message, of one
/// byte with the descriptors of a worker's socket and standard error, with the new worker's process id, or with the number
/// of an error below zero.
pub const ZYGOTE_READY: i32 = 0;

/// The last argument of a worker that puts up no walls, because its operator wants none.
pub const WITHOUT_WALLS_ARG: &str = "without-walls";

/// The last argument of a worker that puts up every wall, those too that slow it down.
pub const STRICT_ARG: &str = "strict";

/// The descriptor of a worker's end of the socketpair once it has arranged itself. The supervisor
/// hands it over as standard input.
pub const SOCKET_FD: i32 = 3;

macro_rules! exits {
    ($($(#[$doc:meta])* $variant:ident = $code:literal $text:literal,)+) => {
        /// Exit code of a worker process, shared with its supervisor.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum WorkerExit {
            $($(#[$doc])* $variant = $code,)+
        }

        impl WorkerExit {
            pub const fn from_code(code: i32) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)+
                    _ => None,
                }
            }

            pub const fn describe(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

exits! {
    /// The parent asked for it, or closed its end.
    Clean = 0 "ended as asked",
    /// The command line was not the supervisor's.
    Usage = 64 "was not started by a supervisor",
    /// A jail step failed; the step is on standard error.
    Jail = 65 "could not lock itself down",
    /// The guest module could not be loaded or instantiated.
    Guest = 66 "could not load the guest",
    /// The parent sent something that is not the protocol.
    Protocol = 67 "did not understand its parent",
    /// The socket failed.
    Socket = 68 "lost its socket",
    /// A fault in its own code; its words are on standard error.
    Panic = 69 "failed in its own code",
}

macro_rules! layers {
    ($($(#[$doc:meta])* $constant:ident = $bit:literal $name:literal,)+) => {
        /// Walls around a worker, as a set. `docs/jail.md` says what each of them stops.
        #[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct Layers(u32);

        impl Layers {
            pub const NONE: Self = Self(0);
            $($(#[$doc])* pub const $constant: Self = Self(1 << $bit);)+
            pub const ALL: Self = Self(0 $(| 1 << $bit)+);

            /// Each layer with its name, in the order in which a worker puts them up.
            pub const NAMED: &[(Self, &str)] = &[$((Self::$constant, $name),)+];
        }
    };
}

layers! {
    /// The worker is the only process it can see or name.
    PROCESS_NAMESPACE = 17 "process-namespace",
    /// A user id that nobody else has; only a parent with the right to change ids can give one.
    OWN_USER = 0 "own-user",
    MOUNT_NAMESPACE = 1 "mount-namespace",
    NETWORK_NAMESPACE = 2 "network-namespace",
    IPC_NAMESPACE = 3 "ipc-namespace",
    UTS_NAMESPACE = 4 "uts-namespace",
    CGROUP_NAMESPACE = 5 "cgroup-namespace",
    /// Nothing is below `/`, and nothing can be made there.
    EMPTY_ROOT = 6 "empty-root",
    USER_NAMESPACE = 7 "user-namespace",
    /// No program can give capabilities back.
    EMPTY_BOUNDING_SET = 8 "empty-bounding-set",
    NO_CAPABILITIES = 9 "no-capabilities",
    NO_NEW_PRIVILEGES = 10 "no-new-privileges",
    NOT_DUMPABLE = 11 "not-dumpable",
    LANDLOCK = 12 "landlock",
    LIMITS = 13 "limits",
    /// No memory becomes executable any more.
    NO_NEW_CODE = 14 "no-new-code",
    /// The memory that is executable cannot be changed, moved or unmapped.
    SEALED_CODE = 15 "sealed-code",
    SYSTEM_CALL_FILTER = 16 "system-call-filter",
    /// The processor does not run ahead where that can be switched off.
    NO_SPECULATION = 18 "no-speculation",
    /// No other program runs at the same time on the core that it runs on.
    OWN_CORE = 19 "own-core",
}

impl Layers {
    pub const fn bits(self) -> u32 {
        self.0
    }

    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What every worker puts up. The rest costs time, and is for those who ask for it.
    pub const USUAL: Self = Self::ALL.without(Self::NO_SPECULATION.and(Self::OWN_CORE));

    /// Both sets, where a constant is needed.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this set and not in the other.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The layer of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(_, known)| *known == name).map(|(layer, _)| *layer)
    }

    /// The names of the layers in this set. Bits that this version does not know have none.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMED.iter().filter(move |(layer, _)| self.contains(*layer)).map(|(_, name)| *name)
    }
}

impl BitOr for Layers {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Layers {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.names().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            f.write_str(name)?;
        }
        Ok(())
    }
}
