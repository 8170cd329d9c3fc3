//! What a worker's process may use up. The worker has the kernel limit it before it says hello, and its parent then
//! looks for each limit in `/proc/PID/limits`: both go by this table.

use crate::limits::{FRAME_FROM_WORKER_BYTES_MAX, FRAME_TO_WORKER_BYTES_MAX, MEMORY_MB_MAX};

/// What the kernel counts of a process (`setrlimit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessLimit {
    CoreFileBytes,
    /// One more than the highest number of a descriptor.
    Descriptors,
    /// How long a file may become by being written to.
    FileBytes,
    LockedBytes,
    MessageQueueBytes,
    /// Of its user, the process itself included.
    Processes,
    RealTimePriority,
    /// 20 less the lowest nice value that it may take.
    NicePriority,
    /// Memory that it may write to, without stacks.
    DataBytes,
    /// Of the stack of its only thread.
    StackBytes,
    /// Addresses that have something, whatever that is: reading alone makes the kernel keep tables of them.
    AddressBytes,
}

impl ProcessLimit {
    /// How its line in `/proc/PID/limits` begins.
    pub const fn line(self) -> &'static str {
        match self {
            Self::CoreFileBytes => "Max core file size",
            Self::Descriptors => "Max open files",
            Self::FileBytes => "Max file size",
            Self::LockedBytes => "Max locked memory",
            Self::MessageQueueBytes => "Max msgqueue size",
            Self::Processes => "Max processes",
            Self::RealTimePriority => "Max realtime priority",
            Self::NicePriority => "Max nice priority",
            Self::DataBytes => "Max data size",
            Self::StackBytes => "Max stack size",
            Self::AddressBytes => "Max address space",
        }
    }
}

/// How much of it a worker gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The same for every worker.
    Exactly(u64),
    /// Less where its parent has less to give.
    AtMost(u64),
    /// As much as its slots can need: [`data_bytes`].
    BySlots,
    /// As many as go with that, [`address_bytes`], or less where its parent has less to give.
    AddressesBySlots,
}

/// [`ProcessLimit::NicePriority`] of who may come back to nice value 0, and no further.
pub const NICE_0: u64 = 20;

/// Every limit of a worker, each for good: soft and hard are the same.
pub const PROCESS_LIMITS: &[(ProcessLimit, Bound)] = &[
    (ProcessLimit::CoreFileBytes, Bound::Exactly(0)),
    // 0 to 3 exist; no further one can be made.
    (ProcessLimit::Descriptors, Bound::Exactly(4)),
    (ProcessLimit::FileBytes, Bound::Exactly(0)),
    (ProcessLimit::LockedBytes, Bound::Exactly(0)),
    (ProcessLimit::MessageQueueBytes, Bound::Exactly(0)),
    // This one: no other can be made.
    (ProcessLimit::Processes, Bound::Exactly(1)),
    // A desktop lets its users go before everything else, and a worker would inherit it.
    (ProcessLimit::RealTimePriority, Bound::Exactly(0)),
    // Long before the others, at step 5, with the right to give it.
    (ProcessLimit::NicePriority, Bound::AtMost(NICE_0)),
    // What native code could fill; the guests' own limits are below it.
    (ProcessLimit::DataBytes, Bound::BySlots),
    // What Linux gives by itself. Guests run on stacks of their own.
    (ProcessLimit::StackBytes, Bound::AtMost(8 << 20)),
    // 4 KiB of tables for each 2 MiB that are read, which no other limit counts.
    (ProcessLimit::AddressBytes, Bound::AddressesBySlots),
];

/// What a worker has besides its slots: the program's data, its heap, bundles.
const COMMON_BYTES: u64 = 192 << 20;

/// Most writable memory a worker can need, in bytes: in every slot, and in the one more that the sandbox has,
/// the largest guest with the largest request and the largest answer.
pub fn data_bytes(slots: u16, image_cache_bytes: u64) -> u64 {
    COMMON_BYTES + image_cache_bytes + (u64::from(slots) + 1) * SLOT_BYTES
}

/// Writable memory of a slot.
const SLOT_BYTES: u64 =
    ((MEMORY_MB_MAX as u64) << 20) + FRAME_TO_WORKER_BYTES_MAX as u64 + FRAME_FROM_WORKER_BYTES_MAX as u64;

/// Addresses that the sandbox keeps for a slot: 4 GiB, which 32 bits can name, its guards, stacks and tables.
const RESERVED_BYTES: u64 = (4 << 30) + (64 << 20);

/// Most addresses a worker can need that may write to so much memory, in bytes.
pub const fn address_bytes(data_bytes: u64) -> u64 {
    data_bytes + data_bytes.div_ceil(SLOT_BYTES) * RESERVED_BYTES
}
