//! How a worker process begins and ends.

/// The first argument that makes the binary a worker. It is not listed in the help: only the
/// supervisor starts workers.
pub const WORKER_ARG: &str = "__worker";

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
}
