//! Step 16: the kernel kills the worker at the first system call that is not on the list.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use shared::wire::worker::Layers;

use super::rules::{Allowed, Argument, Test};
use super::{Jail, JailError};

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: TargetArch = TargetArch::aarch64;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the list of system calls is for x86-64 and aarch64");

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    #[error("the rules make no program: {0}")]
    Rules(#[from] BackendError),
    #[error("the kernel does not take it: {0}")]
    Install(#[from] seccompiler::Error),
}

/// Calls of another architecture, 32-bit ones for example, have other numbers: the program looks at
/// the architecture first and kills as well.
pub(super) fn install(jail: &mut Jail, rules: &[Allowed]) -> Result<(), JailError> {
    let install = || {
        let program = program(rules)?;
        seccompiler::apply_filter(&program)?;
        Ok(())
    };
    jail.require(Layers::SYSTEM_CALL_FILTER, install).map_err(|error: FilterError| error.into())
}

fn program(rules: &[Allowed]) -> Result<BpfProgram, FilterError> {
    let by_number: BTreeMap<i64, Vec<SeccompRule>> = rules
        .iter()
        .map(|allowed| Ok((allowed.number, conditions(allowed.arguments)?)))
        .collect::<Result<_, BackendError>>()?;
    let filter =
        SeccompFilter::new(by_number, SeccompAction::KillProcess, SeccompAction::Allow, ARCHITECTURE)?;
    Ok(filter.try_into()?)
}

/// One rule that needs all of its conditions; none at all, which allows the call whatever its
/// arguments, when there are no conditions.
fn conditions(arguments: &[Argument]) -> Result<Vec<SeccompRule>, BackendError> {
    if arguments.is_empty() {
        return Ok(Vec::new());
    }
    let conditions = arguments.iter().map(|Argument(index, test)| {
        let (operator, value) = match *test {
            Test::Is(value) => (SeccompCmpOp::Eq, value),
            Test::OwnProcess => (SeccompCmpOp::Eq, u64::from(std::process::id())),
            Test::Bits { of, set } => (SeccompCmpOp::MaskedEq(of), set),
        };
        SeccompCondition::new(*index, SeccompCmpArgLen::Dword, operator, value)
    });
    Ok(vec![SeccompRule::new(conditions.collect::<Result<_, _>>()?)?])
}

#[cfg(test)]
mod tests {
    use super::super::rules::RULES;
    use super::*;

    #[test]
    fn the_rules_make_a_program_and_name_no_call_twice() {
        assert!(program(RULES).is_ok());
        let mut numbers: Vec<_> = RULES.iter().map(|allowed| allowed.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), RULES.len());
    }
}
