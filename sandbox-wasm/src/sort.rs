//! Sorting, in place of Rhai's own.
//!
//! Rhai leaves it to the standard library, which may panic where an order contradicts itself: among numbers of which
//! one is NaN, or by a comparer that is wrong. A panic ends the guest, and no script can catch that. This takes every
//! order for what it is worth. What a comparer throws is passed on, and the array is as it was.

use std::cmp::Ordering;
use std::mem;

use rhai::{Array, Dynamic, Engine, EvalAltResult, FnPtr, FuncRegistration, NativeCallContext, Position};

type Result<T> = std::result::Result<T, Box<EvalAltResult>>;

pub(crate) fn register(engine: &mut Engine) {
    // As Rhai has it: none of them takes a constant.
    let function = |name: &'static str| FuncRegistration::new(name).with_purity(false);
    function("sort").register_into_engine(engine, sort);
    function("sort_desc").register_into_engine(engine, sort_desc);
    function("order").register_into_engine(engine, order);
    function("order_desc").register_into_engine(engine, order_desc);
    function("sort").register_into_engine(engine, sort_by_name);
    for name in ["sort", "sort_by"] {
        function(name).register_into_engine(engine, sort_by);
    }
    for name in ["order", "order_by"] {
        function(name).register_into_engine(engine, order_by);
    }
}

fn sort(array: &mut Array) -> Result<()> {
    sort_by_kind(array, Ordering::is_gt)
}

fn sort_desc(array: &mut Array) -> Result<()> {
    sort_by_kind(array, Ordering::is_lt)
}

fn order(array: &mut Array) -> Result<Array> {
    let mut copy = array.clone();
    sort(&mut copy)?;
    Ok(copy)
}

fn order_desc(array: &mut Array) -> Result<Array> {
    let mut copy = array.clone();
    sort_desc(&mut copy)?;
    Ok(copy)
}

fn sort_by(context: NativeCallContext<'_>, array: &mut Array, comparer: FnPtr) -> Result<()> {
    arrange(array, &mut |a: &Dynamic, b: &Dynamic| {
        let answer = comparer.call_raw(&context, None, [a.clone(), b.clone()])?;
        // True means that they are in order; what is no boolean either means nothing.
        Ok(answer.as_int().map_or_else(|_| answer.as_bool() == Ok(false), |sign| sign > 0))
    })
}

fn sort_by_name(context: NativeCallContext<'_>, array: &mut Array, comparer: &str) -> Result<()> {
    sort_by(context, array, FnPtr::new(comparer)?)
}

fn order_by(context: NativeCallContext<'_>, array: &mut Array, comparer: FnPtr) -> Result<Array> {
    let mut copy = array.clone();
    sort_by(context, &mut copy, comparer)?;
    Ok(copy)
}

fn sort_by_kind(array: &mut Array, is_wrong: fn(Ordering) -> bool) -> Result<()> {
    if array.len() < 2 {
        return Ok(());
    }
    let compare = comparison(array)?;
    arrange(array, &mut |a: &Dynamic, b: &Dynamic| Ok(is_wrong(compare(a, b))))
}

/// Values that have an order of their own.
struct Kind {
    is: fn(&Dynamic) -> bool,
    compare: fn(&Dynamic, &Dynamic) -> Ordering,
}

const KINDS: [Kind; 6] = [
    Kind { is: Dynamic::is_int, compare: |a, b| a.as_int().cmp(&b.as_int()) },
    Kind { is: Dynamic::is_float, compare: compare_floats },
    Kind { is: Dynamic::is_string, compare: compare_texts },
    Kind { is: Dynamic::is_char, compare: |a, b| a.as_char().cmp(&b.as_char()) },
    Kind { is: Dynamic::is_bool, compare: |a, b| a.as_bool().cmp(&b.as_bool()) },
    Kind { is: Dynamic::is_unit, compare: |_, _| Ordering::Equal },
];

/// How values are compared that are all of one kind; others are not, and Rhai says the same of them.
fn comparison(values: &[Dynamic]) -> Result<fn(&Dynamic, &Dynamic) -> Ordering> {
    if let Some(kind) = KINDS.iter().find(|kind| values.iter().all(kind.is)) {
        return Ok(kind.compare);
    }
    let is_mixed = values.windows(2).any(|pair| pair[0].type_id() != pair[1].type_id());
    let what =
        if is_mixed { "different types" } else { values.first().map_or("no type", Dynamic::type_name) };
    let message = format!("elements of {what} cannot be sorted");
    Err(EvalAltResult::ErrorFunctionNotFound(message, Position::NONE).into())
}

/// NaN comes after all numbers. Its sign says nothing: processors differ in which one they give.
fn compare_floats(a: &Dynamic, b: &Dynamic) -> Ordering {
    let (a, b) = (a.as_float().unwrap_or(f64::NAN), b.as_float().unwrap_or(f64::NAN));
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

fn compare_texts(a: &Dynamic, b: &Dynamic) -> Ordering {
    match (a.as_immutable_string_ref(), b.as_immutable_string_ref()) {
        (Ok(a), Ok(b)) => a.as_str().cmp(b.as_str()),
        _ => Ordering::Equal,
    }
}

/// Sorts by merging longer and longer parts. `is_after` says whether the first of two belongs after the second, which
/// it is not where they are equal: these stay as they are. What is moved about are indexes until all is said, because
/// `is_after` may fail.
fn arrange(array: &mut Array, is_after: &mut dyn FnMut(&Dynamic, &Dynamic) -> Result<bool>) -> Result<()> {
    let mut order: Vec<u32> = (0..array.len() as u32).collect();
    let mut merged = Vec::with_capacity(order.len());
    let mut width = 1;
    while width < order.len() {
        for pair in order.chunks(2 * width) {
            merge(array, pair.split_at(width.min(pair.len())), &mut merged, is_after)?;
        }
        mem::swap(&mut order, &mut merged);
        merged.clear();
        width *= 2;
    }
    permute(array, &mut order);
    Ok(())
}

/// Puts at each place the value that stood where `order` says, which names each place once. A second array would take
/// twice as much memory as both lists of indexes.
fn permute(values: &mut [Dynamic], order: &mut [u32]) {
    for start in 0..order.len() {
        // Round the cycle that begins here. Places that are done name themselves, so this ends at once if it was done.
        let mut place = start;
        loop {
            let from = mem::replace(&mut order[place], place as u32) as usize;
            if from == start {
                break;
            }
            values.swap(place, from);
            place = from;
        }
    }
}

/// Appends both parts to `merged`, as one that is in order.
fn merge(
    values: &[Dynamic],
    (mut left, mut right): (&[u32], &[u32]),
    merged: &mut Vec<u32>,
    is_after: &mut dyn FnMut(&Dynamic, &Dynamic) -> Result<bool>,
) -> Result<()> {
    let mut is_after = |a: u32, b: u32| is_after(&values[a as usize], &values[b as usize]);
    // Long parts may follow each other as they are, which is seen by one comparison.
    if let ([_, .., last], [first, ..]) = (left, right)
        && !is_after(*last, *first)?
    {
        merged.extend_from_slice(left);
        left = &[];
    }
    while let ([first, others @ ..], [second, rest @ ..]) = (left, right) {
        if is_after(*first, *second)? {
            merged.push(*second);
            right = rest;
        } else {
            merged.push(*first);
            left = others;
        }
    }
    merged.extend_from_slice(left);
    merged.extend_from_slice(right);
    Ok(())
}
