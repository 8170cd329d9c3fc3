//! Faults that tests put back, to see that the simulator finds them. Outside of tests there are none.

/// A mistake somebody could make here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// A row is removed when it is started.
    RemovesBeforeTheEnd,
    /// A row that is handed over runs at once, although others of its key are before it.
    RunsOutOfOrder,
    /// A fetch that began before a row was done brings it back.
    ForgetsWhatIsOver,
    /// A fetch looks no further back than the one before.
    ReadsWithoutOverlap,
    /// What another owner has taken over goes on here.
    KeepsWhatIsForeign,
    /// What could not be written is not written again.
    DropsFailedBatches,
    /// Having found no free worker counts as an attempt.
    CountsOverload,
    /// What may have ended the platform runs without being written down.
    RunsSuspectsUnmarked,
    /// There is more, and nobody looks.
    StopsWhenFull,
    /// There is more of one app, and it is looked for behind what was found of another.
    ReadsOnTooFar,
    /// What will be due is not remembered.
    ForgetsTheNextDue,
    /// A row is tried until it succeeds.
    RetriesForEver,
    /// A handler of dead letters is tried again.
    RetriesHandlers,
    /// A shard that was lost is worked on.
    IgnoresLoss,
    /// More runs at once than there is room for.
    IgnoresCapacity,
    /// A row that was handed over late is as it was when it was written.
    TrustsLateHandOvers,
}

#[cfg(test)]
std::thread_local! {
    static PUT_BACK: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Puts a fault back, in this thread.
#[cfg(test)]
pub(super) fn put_back(bug: Option<Bug>) {
    PUT_BACK.set(bug);
}

/// Whether a fault is there.
#[cfg(test)]
pub(super) fn has(bug: Bug) -> bool {
    PUT_BACK.get() == Some(bug)
}

/// Whether a fault is there.
#[cfg(not(test))]
pub(super) const fn has(_: Bug) -> bool {
    false
}
