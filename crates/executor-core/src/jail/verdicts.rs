//! What the filter says, of both architectures and on either: the kernel's program is run here, on
//! calls that are made up. That the kernel does the same is what the escape tests show, on the
//! architecture they run on.

use seccompiler::{BpfProgramRef, TargetArch};

use super::filter::program;
use super::rules::{Allowed, LOW_HALF, RULES, Test};

const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
/// By which the kernel tells a program whose call it is.
const X86_64: u32 = 0xc000_003e;
const AARCH64: u32 = 0xc000_00b7;
const I386: u32 = 0x4000_0003;
const ARM: u32 = 0x4000_0028;
/// x86-64 has a second set of numbers, with this bit.
const X32: i64 = 0x4000_0000;

struct Call {
    number: i64,
    architecture: u32,
    arguments: [u64; 6],
}

impl Call {
    /// `struct seccomp_data`, by words: number, architecture, the caller's address, the arguments.
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number.try_into().unwrap(),
            4 => self.architecture,
            8 | 12 => 0,
            offset => {
                let bytes: Vec<u8> = self.arguments.iter().flat_map(|value| value.to_le_bytes()).collect();
                let at = offset as usize - 16;
                u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
            }
        }
    }
}

/// Runs a program of the few instructions that filters are made of.
fn verdict(program: BpfProgramRef<'_>, call: &Call) -> u32 {
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let instruction = &program[at];
        at += 1;
        let branch = |is_taken| usize::from(if is_taken { instruction.jt } else { instruction.jf });
        match instruction.code {
            0x20 => accumulator = call.word(instruction.k),
            0x54 => accumulator &= instruction.k,
            0x05 => at += instruction.k as usize,
            0x15 => at += branch(accumulator == instruction.k),
            0x25 => at += branch(accumulator > instruction.k),
            0x35 => at += branch(accumulator >= instruction.k),
            0x06 => return instruction.k,
            other => panic!("instruction {other:#x} is not in the filters' vocabulary"),
        }
    }
}

fn good(rule: &Allowed) -> [u64; 6] {
    let mut arguments = [0; 6];
    for argument in rule.arguments {
        arguments[usize::from(argument.0)] = argument.1.good();
    }
    arguments
}

/// Every way in which this argument can be wrong by one bit, by all of them, and by all of either half.
fn bad(test: Test) -> Vec<u64> {
    let bits = test.checked_bits();
    let single = (0..64).map(|bit| 1_u64 << bit);
    let many = [u64::MAX, LOW_HALF, !LOW_HALF];
    single
        .chain(many)
        .map(|wrong| wrong & bits)
        .filter(|wrong| *wrong != 0)
        .map(|wrong| test.good() ^ wrong)
        .collect()
}

const ARCHITECTURES: [(TargetArch, u32, [u32; 3]); 2] =
    [(TargetArch::x86_64, X86_64, [I386, AARCH64, ARM]), (TargetArch::aarch64, AARCH64, [ARM, X86_64, I386])];

#[test]
fn calls_on_the_list_are_allowed_and_all_others_end_the_process_on_both_architectures() {
    for (target, architecture, _) in ARCHITECTURES {
        let program = program(RULES, target).unwrap();
        let mut allowed = 0;
        for number in (0..=1_000).flat_map(|number| [number, number | X32]) {
            let rule = RULES.iter().find(|rule| rule.number_on(target) == number);
            let call = Call { number, architecture, arguments: rule.map_or([0; 6], good) };
            let expected = if rule.is_some() { ALLOW } else { KILL_PROCESS };
            assert_eq!(verdict(&program, &call), expected, "{number} on {target:?}");
            allowed += usize::from(rule.is_some());
        }
        assert_eq!(allowed, RULES.len(), "no two rules are for one call");
    }
}

#[test]
fn every_wrong_bit_of_a_checked_argument_ends_the_process_on_both_architectures() {
    for (target, architecture, _) in ARCHITECTURES {
        let program = program(RULES, target).unwrap();
        for rule in RULES {
            for argument in rule.arguments {
                for wrong in bad(argument.1) {
                    let mut arguments = good(rule);
                    arguments[usize::from(argument.0)] = wrong;
                    let call = Call { number: rule.number_on(target), architecture, arguments };
                    let name = rule.name;
                    assert_eq!(
                        verdict(&program, &call),
                        KILL_PROCESS,
                        "{name} with {wrong:#x} on {target:?}"
                    );
                }
            }
        }
    }
}

/// What the kernel has beside ordinary memory, by numbers that are no other's on either architecture.
#[test]
fn memory_of_a_kind_that_no_worker_asks_for_ends_the_process_on_both_architectures() {
    const ORDINARY: u64 = 0x22;
    let kinds = [
        ("MAP_SHARED_VALIDATE", 0x03 ^ 0x02),
        ("MAP_DROPPABLE", 0x08 ^ 0x02),
        ("MAP_32BIT", 0x40),
        ("MAP_ABOVE4G", 0x80),
        ("MAP_GROWSDOWN", 0x100),
        ("MAP_LOCKED", 0x2000),
        ("MAP_POPULATE", 0x8000),
        ("MAP_STACK", 0x2_0000),
        ("MAP_HUGETLB", 0x4_0000),
        ("MAP_SYNC", 0x8_0000),
        ("MAP_FIXED_NOREPLACE", 0x10_0000),
        ("MAP_UNINITIALIZED", 0x400_0000),
        ("beyond the low half", 1 << 32),
    ];
    let accesses = [
        ("PROT_EXEC", 0x4),
        ("PROT_SEM", 0x8),
        ("PROT_BTI", 0x10),
        ("PROT_MTE", 0x20),
        ("PROT_GROWSDOWN", 0x100_0000),
        ("PROT_GROWSUP", 0x200_0000),
        ("beyond the low half", 1 << 32),
    ];
    for (target, architecture, _) in ARCHITECTURES {
        let program = program(RULES, target).unwrap();
        let verdict = |name: &str, access: u64, kind: u64| {
            let rule = RULES.iter().find(|rule| rule.name == name).unwrap();
            let arguments = [0, 4096, access, kind, u64::MAX, 0];
            verdict(&program, &Call { number: rule.number_on(target), architecture, arguments })
        };
        for access in 0..=3 {
            assert_eq!(verdict("mprotect", access, 0), ALLOW, "{access} on {target:?}");
            // MAP_NORESERVE, MAP_FIXED, and both.
            for kind in [0, 0x4000, 0x10, 0x4010] {
                assert_eq!(verdict("mmap", access, ORDINARY | kind), ALLOW, "{kind:#x} on {target:?}");
            }
        }
        for (name, bits) in kinds {
            assert_eq!(verdict("mmap", 3, ORDINARY ^ bits), KILL_PROCESS, "{name} on {target:?}");
        }
        for (name, bits) in accesses {
            for call in ["mmap", "mprotect"] {
                assert_eq!(verdict(call, 3 | bits, ORDINARY), KILL_PROCESS, "{call}, {name} on {target:?}");
            }
        }
    }
}

/// Whoever runs native code may have memory at such an address, and in it the address of another socket, an
/// end of the sleep or a signal mask.
#[test]
fn a_pointer_whose_low_half_is_0_is_not_none_on_both_architectures() {
    for (target, architecture, _) in ARCHITECTURES {
        let program = program(RULES, target).unwrap();
        for (name, index) in [("sendto", 4), ("ppoll", 2), ("ppoll", 3)] {
            let rule = RULES.iter().find(|rule| rule.name == name).unwrap();
            let mut call = Call { number: rule.number_on(target), architecture, arguments: good(rule) };
            assert_eq!(verdict(&program, &call), ALLOW, "{name} on {target:?}");
            call.arguments[index] = 0x3_0000_0000;
            assert_eq!(verdict(&program, &call), KILL_PROCESS, "{name}, {index} on {target:?}");
        }
    }
}

/// Compilers leave anything there.
#[test]
fn the_high_half_of_an_int_does_not_matter_on_both_architectures() {
    for (target, architecture, _) in ARCHITECTURES {
        let program = program(RULES, target).unwrap();
        for rule in RULES {
            for argument in rule.arguments.iter().filter(|argument| matches!(argument.1, Test::Int(_))) {
                let mut arguments = good(rule);
                arguments[usize::from(argument.0)] |= !LOW_HALF;
                let call = Call { number: rule.number_on(target), architecture, arguments };
                assert_eq!(verdict(&program, &call), ALLOW, "{} on {target:?}", rule.name);
            }
        }
    }
}

#[test]
fn a_call_by_another_architectures_door_ends_the_process() {
    for (target, _, others) in ARCHITECTURES {
        let program = program(RULES, target).unwrap();
        for architecture in others {
            for number in 0..=500 {
                let call = Call { number, architecture, arguments: [3, 0, 0, 0, 0, 0] };
                assert_eq!(verdict(&program, &call), KILL_PROCESS, "{number} by {architecture:#x}");
            }
        }
    }
}
