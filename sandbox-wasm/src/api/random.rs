//! `random::int float bytes uuid`: drawn from the execution's seed, so that a replay draws the same.

use rhai::{Blob, Engine, Module};

use super::{failure, require_run};
use crate::{convert, host};

/// Most bytes one call may draw.
const BYTES_MAX: i64 = 64 << 10;

pub(super) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("int", |from: i64, to: i64| {
        if from > to {
            return Err(failure(
                "invalid_argument",
                format!("random::int({from}, {to}): the first is greater"),
            ));
        }
        require_run()?;
        Ok(int(from, to))
    });
    // 53 random bits, the precision of a float below 1.
    module.set_native_fn("float", || {
        require_run()?;
        Ok((next_u64() >> 11) as f64 / (1u64 << 53) as f64)
    });
    module.set_native_fn("bytes", |count: i64| -> super::Result<Blob> {
        if !(0..=BYTES_MAX).contains(&count) {
            return Err(failure(
                "invalid_argument",
                format!("random::bytes takes 0 to {BYTES_MAX}, not {count}"),
            ));
        }
        require_run()?;
        let mut bytes = vec![0; count as usize];
        host::fill_random(&mut bytes);
        Ok(bytes)
    });
    module.set_native_fn("uuid", || {
        require_run()?;
        let mut bytes = [0; 16];
        host::fill_random(&mut bytes);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Ok(convert::uuid_text(bytes))
    });
    engine.register_static_module("random", module.into());
}

/// Uniform in `from..=to`, by rejection: a plain remainder would favour small values.
fn int(from: i64, to: i64) -> i64 {
    let span = to.wrapping_sub(from) as u64;
    let Some(count) = span.checked_add(1) else {
        return next_u64() as i64;
    };
    let limit = u64::MAX - u64::MAX % count;
    loop {
        let drawn = next_u64();
        if drawn < limit {
            return from.wrapping_add((drawn % count) as i64);
        }
    }
}

fn next_u64() -> u64 {
    let mut bytes = [0; 8];
    host::fill_random(&mut bytes);
    u64::from_le_bytes(bytes)
}
