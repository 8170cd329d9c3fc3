//! `secrets`: values that are kept sealed, and handles to them, whose values the guest never has.

use rhai::{Array, Dynamic, Engine, ImmutableString, Module};
use shared::host_call::HostOp;
use shared::host_call::http::SECRET_HERE;
use shared::host_call::secrets::{Existed, SecretName, SecretNames, SecretValue, SetSecret};

use crate::{Result, convert, failure, host, invalid};

/// Stands for a secret in a header: the parent puts the value there.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) name: ImmutableString,
    /// The text of the header, with `{}` where the value goes.
    pub(crate) around: ImmutableString,
}

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("get", |name: &str| get(name));
    module.set_native_fn("set", |name: &str, value: &str| {
        host::call(HostOp::SecretsSet, &SetSecret { name, value }).map(|_| ())
    });
    module.set_native_fn("delete", |name: &str| {
        let answer = host::call(HostOp::SecretsDelete, &SecretName { name })?;
        Ok(answer.read::<Existed>().existed)
    });
    module.set_native_fn("list", list);
    module.set_native_fn("handle", |name: ImmutableString| Ok(Handle { name, around: SECRET_HERE.into() }));
    module.set_native_fn("handle", |name: ImmutableString, around: ImmutableString| {
        if around.matches(SECRET_HERE).count() != 1 {
            return Err(invalid("the text has `{}` once, where the secret goes"));
        }
        Ok(Handle { name, around })
    });
    engine.register_static_module("secrets", module.into());
    engine.register_type_with_name::<Handle>("SecretHandle");
}

fn get(name: &str) -> Result<Dynamic> {
    let answer = host::call(HostOp::SecretsGet, &SecretName { name })?;
    Ok(answer.read::<SecretValue<'_>>().value.map_or(Dynamic::UNIT, |value| value.to_owned().into()))
}

fn list() -> Result<Array> {
    let answer = host::call(HostOp::SecretsList, &())?;
    let names = convert::parse_json(answer.read::<SecretNames<'_>>().json.as_bytes());
    let names = names.map_err(|error| failure("internal", error.to_string()))?;
    Ok(names.try_cast().unwrap_or_default())
}
