//! Where in their addresses workers have the guest's code: at one place in all of them, unless they are kept apart
//! strictly.
//!
//! Processors foretell where a branch goes by the branch's address. Twenty workers that have the same code at twenty
//! addresses push each other's branches out; at one address each finds what the others have taught (ADR 36). The place
//! is drawn for each start of the server, from randomness of its own: a worker that learns it knows nothing of where
//! its parent has anything.

/// A multiple of every size of huge page that the code can be on.
const STEP: u64 = 2 << 20;
/// The second of so many parts of the addresses that a process has. Neither the system's mappings, from the top
/// downwards, nor executables, at two thirds, come to it, and most of what lies between stays in one piece: on boards with
/// addresses of 39 bits the memories of all guests need that.
const PARTS: u64 = 16;

/// A place that a worker is likely to have free; it takes another where it is not.
pub(super) fn draw() -> u64 {
    let on_stack = 0u8;
    // The stack is at the top: 39, 47 or 48 bits, by processor and kernel.
    let all = ((&raw const on_stack).addr() as u64).next_power_of_two();
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("the system has randomness");
    within(all, u64::from_ne_bytes(random))
}

const fn within(all: u64, random: u64) -> u64 {
    let part = all / PARTS;
    part + random % (part / STEP) * STEP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_for_huge_pages_and_below_where_systems_put_things() {
        for bits in [39, 47, 48] {
            let all = 1u64 << bits;
            for random in [0, 1, u64::MAX / 3, u64::MAX] {
                let at = within(all, random);
                assert_eq!(at % STEP, 0);
                assert!((all / 16..all / 8).contains(&at), "{at:#x} of {bits} bits");
            }
        }
    }

    #[test]
    fn attack_the_place_is_another_for_each_server() {
        let places: std::collections::HashSet<_> = (0..8).map(|_| draw()).collect();
        assert!(places.len() > 4, "{places:x?}");
    }
}
