//! What an operator costs.

use wasmparser::Operator;

/// Bytes that `memory.copy` and `memory.fill` move for one unit, as a power of two: they move some
/// 32 bytes in the time of an operator, less when the memory is not in the cache.
pub(crate) const BULK_SHIFT: i64 = 3;

/// Units of moving a few bytes, which the functions in [`crate::bulk`] do not count.
const BULK: u32 = 12;

/// Units of one operator: 1, or 0 if no instruction comes of it. wasmtime counts alike.
pub(crate) fn of(operator: &Operator<'_>) -> u32 {
    match operator {
        Operator::Nop
        | Operator::Drop
        | Operator::Block { .. }
        | Operator::Loop { .. }
        | Operator::Else
        | Operator::End
        | Operator::Return
        | Operator::Unreachable => 0,
        Operator::MemoryCopy { .. } | Operator::MemoryFill { .. } => BULK,
        _ => 1,
    }
}
