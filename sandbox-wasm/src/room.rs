//! Values of a length that a script names, in place of Rhai's own functions that make them.
//!
//! Rhai asks for the room whatever the length is. Where no address reaches so far, that is a panic, which ends the
//! guest; here it is the error of a text that is too long. How much of the memory that there is an execution may have
//! stays the worker's to say.

use rhai::{Array, Blob, Dynamic, Engine, EvalAltResult, FuncRegistration, INT, Position};

type Result<T> = std::result::Result<T, Box<EvalAltResult>>;

pub(crate) fn register(engine: &mut Engine) {
    engine.register_fn("blob", |len: INT| blob(len, 0));
    engine.register_fn("blob", blob);
    engine.register_fn("to_array", to_array);
    // As Rhai has it: they take no constants.
    let function = |name: &'static str| FuncRegistration::new(name).with_purity(false);
    function("pad").register_into_engine(engine, pad_blob);
    function("pad").register_into_engine(engine, pad_array);
}

fn blob(len: INT, value: INT) -> Result<Blob> {
    let mut blob = Blob::new();
    pad_blob(&mut blob, len, value)?;
    Ok(blob)
}

/// Of the value, the lowest byte counts.
fn pad_blob(blob: &mut Blob, len: INT, value: INT) -> Result<()> {
    pad(blob, len, value as u8)
}

fn pad_array(array: &mut Array, len: INT, item: Dynamic) -> Result<()> {
    pad(array, len, item)
}

fn to_array(blob: &mut Blob) -> Result<Array> {
    let mut array = Array::new();
    array.try_reserve_exact(blob.len()).map_err(|_| too_large())?;
    array.extend(blob.iter().map(|byte| Dynamic::from_int((*byte).into())));
    Ok(array)
}

fn pad<T: Clone>(values: &mut Vec<T>, len: INT, value: T) -> Result<()> {
    if len <= values.len() as INT {
        return Ok(());
    }
    let len = usize::try_from(len).map_err(|_| too_large())?;
    values.try_reserve(len - values.len()).map_err(|_| too_large())?;
    values.resize(len, value);
    Ok(())
}

fn too_large() -> Box<EvalAltResult> {
    EvalAltResult::ErrorDataTooLarge("Size of array/BLOB".to_owned(), Position::NONE).into()
}
