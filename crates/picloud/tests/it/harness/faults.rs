//! The table of faults that `make torture` prints.

use std::time::Duration;

/// What a fault did.
#[derive(Debug, Default, Clone)]
pub(crate) struct Fault {
    pub(crate) injected: usize,
    /// Events of which somebody was told that they are there.
    pub(crate) accepted: usize,
    /// Of these, those that never came to an end.
    pub(crate) lost: usize,
    /// Those that ran more than once.
    pub(crate) duplicated: usize,
    /// The longest.
    pub(crate) recovered_in: Duration,
}

impl Fault {
    pub(crate) fn head() {
        let [fault, injected, accepted] = ["fault", "injected", "accepted"];
        eprintln!(
            "\n| {fault:<42} | {injected} | {accepted} | lost | duplicated | recovered in |\n|{}|{}|{}|{}|{}|{}|",
            "-".repeat(44),
            "-".repeat(10),
            "-".repeat(10),
            "-".repeat(6),
            "-".repeat(12),
            "-".repeat(14),
        );
    }

    pub(crate) fn row(&self, name: &str) {
        let Self { injected, accepted, lost, duplicated, recovered_in } = self;
        eprintln!(
            "| {name:<42} | {injected:>8} | {accepted:>8} | {lost:>4} | {duplicated:>10} | {recovered_in:>12.2?} |"
        );
    }

    /// How often a fault is injected: a fifth of it when there is little time.
    pub(crate) fn times(whole: u32) -> u32 {
        match std::env::var_os("PICLOUD_TORTURE_QUICK") {
            Some(quick) if !quick.is_empty() => (whole / 5).max(1),
            _ => whole,
        }
    }
}
