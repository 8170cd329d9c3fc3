//! Step 17: the kernel kills the worker at the first system call that is not on the list.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use shared::wire::worker::Layers;

use super::rules::{Allowed, Argument, NATIVE, Test};
use super::{Jail, JailError};

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
        let program = program(rules, NATIVE)?;
        seccompiler::apply_filter(&program)?;
        Ok(())
    };
    jail.require(Layers::SYSTEM_CALL_FILTER, install).map_err(|error: FilterError| error.into())
}

pub(super) fn program(rules: &[Allowed], architecture: TargetArch) -> Result<BpfProgram, FilterError> {
    let by_number: BTreeMap<i64, Vec<SeccompRule>> = rules
        .iter()
        .map(|allowed| Ok((allowed.number_on(architecture), conditions(allowed.arguments)?)))
        .collect::<Result<_, BackendError>>()?;
    let filter =
        SeccompFilter::new(by_number, SeccompAction::KillProcess, SeccompAction::Allow, architecture)?;
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
            Test::Int(_) | Test::Null => (SeccompCmpOp::Eq, test.good()),
            Test::Bits { of, set } => (SeccompCmpOp::MaskedEq(of), set),
        };
        let width = if test.is_wide() { SeccompCmpArgLen::Qword } else { SeccompCmpArgLen::Dword };
        SeccompCondition::new(*index, width, operator, value)
    });
    Ok(vec![SeccompRule::new(conditions.collect::<Result<_, _>>()?)?])
}
