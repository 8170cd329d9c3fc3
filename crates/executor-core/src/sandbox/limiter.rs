//! The memory cap of an execution.

use wasmtime::{ResourceLimiter, Result};

/// Raised when a guest wants more memory than its cap.
#[derive(Debug, thiserror::Error)]
#[error("the memory limit of the execution is reached")]
pub(crate) struct MemoryExceeded;

#[derive(Debug, Default)]
pub(crate) struct Limiter {
    pub(crate) memory_bytes: usize,
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        // The memory a guest starts with is not growth: it is the same for every script.
        if current == 0 || desired <= self.memory_bytes {
            return Ok(true);
        }
        // A trap rather than a refusal: no guest code runs after it, so none can misread it.
        Err(MemoryExceeded.into())
    }

    fn table_growing(&mut self, current: usize, _desired: usize, _maximum: Option<usize>) -> Result<bool> {
        Ok(current == 0)
    }
}
