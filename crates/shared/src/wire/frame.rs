//! Frame kinds and bodies, in both directions. `docs/protocol.md` describes the conversation.

use serde::{Deserialize, Serialize};

use super::worker::Layers;

/// Version of everything in this file and of [`crate::guest_abi`]. Both sides must speak the same.
pub const PROTOCOL_VERSION: u16 = 5;

macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$vdoc])* $variant = $number,)+
        }

        impl $name {
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// Frames from the parent.
    ToWorker {
        /// Kind 0 is `Hello` in every version of the protocol.
        Hello = 0,
        /// A bundle and the handle by which later frames name it. No slot.
        AddBundle = 1,
        /// Forget a bundle; its handle may be used again. No slot.
        DropBundle = 2,
        /// Run a bundle in a slot.
        Execute = 3,
        /// Only compile a bundle in a slot.
        Compile = 4,
        /// The answer to a host call.
        HostReply = 5,
        /// End the slot's execution as soon as it can be interrupted.
        Cancel = 6,
        /// No more work will come; exit when every slot is idle. No slot.
        Stop = 7,
    }
}

kinds! {
    /// Frames from the worker.
    FromWorker {
        /// Kind 0 is `Hello` in every version of the protocol.
        Hello = 0,
        /// The slot's guest asks for something and waits.
        HostCall = 1,
        /// The slot's guest says something and goes on.
        Notice = 2,
        /// The slot's execution has ended.
        Done = 3,
    }
}

/// First frame to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloWorker {
    pub protocol: u16,
    pub slots: u16,
    /// Bytes of compiled script images to keep.
    pub image_cache_bytes: u64,
    /// Where the guest's code that comes with this frame is wanted, the same in all workers of a parent; 0: anywhere.
    pub code_at: u64,
}

/// First frame from a worker, once it is locked down and ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloParent {
    pub protocol: u16,
    /// Slots the worker really has: fewer where the address space is small.
    pub slots: u16,
    /// SHA-256 of the guest module.
    pub guest: [u8; 32],
    /// The walls the worker says it put up; the parent looks for itself.
    pub layers: Layers,
}

/// Body of [`ToWorker::AddBundle`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddBundle<'a> {
    pub handle: u32,
    /// A postcard [`crate::guest_abi::LoadRequest`].
    #[serde(with = "serde_bytes", borrow)]
    pub load: &'a [u8],
}

/// Body of [`ToWorker::DropBundle`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropBundle {
    pub handle: u32,
}

/// Body of [`ToWorker::Execute`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execute<'a> {
    pub handle: u32,
    pub fuel: u64,
    pub memory_bytes: u32,
    /// The worker ends an execution whose answer is longer.
    pub output_bytes: u32,
    pub timeout_ms: u32,
    /// What the guest's clock shows, in milliseconds since the Unix epoch.
    pub clock_ms: i64,
    /// Seed of everything random the guest sees.
    pub seed: [u8; 16],
    /// A postcard [`crate::guest_abi::GuestInput`].
    #[serde(with = "serde_bytes", borrow)]
    pub input: &'a [u8],
}

/// Body of [`ToWorker::Compile`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compile {
    pub handle: u32,
    pub timeout_ms: u32,
}

/// Body of [`ToWorker::HostReply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReply<'a> {
    /// 0 is success; anything else tells the guest that `body` is a [`crate::host_call::CallFailure`].
    pub status: u8,
    #[serde(with = "serde_bytes", borrow)]
    pub body: &'a [u8],
}

/// Body of [`FromWorker::HostCall`] and [`FromWorker::Notice`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCall<'a> {
    pub op: u16,
    #[serde(with = "serde_bytes", borrow)]
    pub args: &'a [u8],
}

/// How an execution ended, as the worker saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// The guest answered; `output` is a [`crate::guest_abi::GuestOutput`].
    Answered,
    /// The bundle compiled; nothing ran. `output` is a [`crate::guest_abi::LoadReply`].
    Compiled,
    /// The bundle does not compile; `output` is a [`crate::guest_abi::LoadReply`].
    Rejected,
    FuelExhausted,
    MemoryExceeded,
    Timeout,
    Cancelled,
    /// The guest's stack overflowed.
    StackOverflow,
    /// The guest ended in a trap that none of the above explains.
    Trapped,
    /// The answer is longer than `output_bytes`.
    OutputTooLarge,
}

/// Body of [`FromWorker::Done`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done<'a> {
    pub ending: Ending,
    /// What the script burnt: the same whether its image was at hand or not.
    pub fuel: u64,
    /// What loading the bundle burnt, when the image was not at hand.
    pub load_fuel: u64,
    pub peak_memory_bytes: u64,
    #[serde(with = "serde_bytes", borrow)]
    pub output: &'a [u8],
}
