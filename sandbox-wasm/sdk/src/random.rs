//! `random`: drawn from the execution's seed, so that a replay draws the same.

use rhai::{Array, Blob, Dynamic, Engine, Module};

use crate::{Result, convert, host, invalid, require_run};

/// Most bytes or characters one call may draw.
const COUNT_MAX: i64 = 64 << 10;
/// 62 characters that survive URLs, file names and double clicks.
const ALPHANUMERIC: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("int", |from: i64, to: i64| {
        if from > to {
            return Err(invalid(format!("random::int({from}, {to}): the first is greater")));
        }
        require_run()?;
        Ok(int(from, to))
    });
    // 53 random bits, the precision of a float below 1.
    module.set_native_fn("float", || {
        require_run()?;
        Ok((next_u64() >> 11) as f64 / (1u64 << 53) as f64)
    });
    module.set_native_fn("bytes", |count: i64| -> Result<Blob> {
        let mut bytes = vec![0; checked(count)?];
        require_run()?;
        host::fill_random(&mut bytes);
        Ok(bytes)
    });
    module.set_native_fn("string", |count: i64| string(count, ALPHANUMERIC));
    module.set_native_fn("string", string);
    module.set_native_fn("choice", |items: Array| choice(items));
    module.set_native_fn("shuffle", |items: Array| shuffle(items));
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

fn checked(count: i64) -> Result<usize> {
    let error = || invalid(format!("a call draws 0 to {COUNT_MAX}, not {count}"));
    usize::try_from(count).ok().filter(|_| count <= COUNT_MAX).ok_or_else(error)
}

fn string(count: i64, alphabet: &str) -> Result<String> {
    let count = checked(count)?;
    let letters: Vec<char> = alphabet.chars().collect();
    if letters.is_empty() {
        return Err(invalid("an alphabet has at least one character"));
    }
    require_run()?;
    Ok((0..count).map(|_| letters[below(letters.len())]).collect())
}

/// One element, or `()` of none.
fn choice(mut items: Array) -> Result<Dynamic> {
    require_run()?;
    Ok(if items.is_empty() { Dynamic::UNIT } else { items.swap_remove(below(items.len())) })
}

/// Fisher and Yates: each order is equally likely.
fn shuffle(mut items: Array) -> Result<Array> {
    require_run()?;
    for last in (1..items.len()).rev() {
        items.swap(last, below(last + 1));
    }
    Ok(items)
}

fn below(count: usize) -> usize {
    int(0, count as i64 - 1) as usize
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
