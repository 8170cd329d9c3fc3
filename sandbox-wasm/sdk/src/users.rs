//! `users`: accounts and sessions of the app's own users.

use rhai::{Array, Dynamic, Engine, ImmutableString, Map, Module};
use serde::Serialize;
use shared::host_call::HostOp;
use shared::host_call::users::{
    Existed, Found, Id, Issued, List, Login, Logout, Named, Register, ResetPassword, Token, Update,
};

use crate::options::Options;
use crate::{Result, convert, host, invalid};

/// Users of a page unless a script says otherwise.
const LIMIT_DEFAULT: u32 = 100;

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("register", |login: &str, password: &str| make(login, password, "{}"));
    module.set_native_fn("register", |login: &str, password: &str, profile: Map| {
        make(login, password, &convert::json_text(&profile.into())?)
    });
    module.set_native_fn("login", |login: &str, password: &str| {
        found(HostOp::UsersLogin, &Login { login, password })
    });
    module.set_native_fn("logout", || existed(HostOp::UsersLogout, &Logout { token: None }));
    module
        .set_native_fn("logout", |token: &str| existed(HostOp::UsersLogout, &Logout { token: Some(token) }));
    module.set_native_fn("me", |token: &str| found(HostOp::UsersMe, &Token { token }));
    module.set_native_fn("get", |id: &str| found(HostOp::UsersGet, &Id { id }));
    module.set_native_fn("list", || list(&Map::new()));
    module.set_native_fn("list", |options: Map| list(&options));
    module.set_native_fn("update", |id: &str, changes: Map| update(id, &changes));
    module.set_native_fn("delete", |id: &str| existed(HostOp::UsersDelete, &Id { id }));
    module.set_native_fn("verification", |id: &str| issued(HostOp::UsersVerification, &Id { id }));
    module.set_native_fn("verify", |token: &str| found(HostOp::UsersVerify, &Token { token }));
    module.set_native_fn("reset", |login: &str| issued(HostOp::UsersReset, &Named { login }));
    module.set_native_fn("reset_password", |token: &str, password: &str| {
        found(HostOp::UsersResetPassword, &ResetPassword { token, password })
    });
    engine.register_static_module("users", module.into());
}

fn make(login: &str, password: &str, profile: &str) -> Result<Dynamic> {
    found(HostOp::UsersRegister, &Register { login, password, profile })
}

fn list(options: &Map) -> Result<Dynamic> {
    let mut options = Options::new("users::list", options);
    let after = options.text("cursor")?.unwrap_or_default();
    let limit = options.whole("limit")?.map_or(LIMIT_DEFAULT, |limit| u32::try_from(limit).unwrap_or(0));
    options.finish()?;
    found(HostOp::UsersList, &List { limit, after: &after })
}

fn update(id: &str, changes: &Map) -> Result<Dynamic> {
    let mut changes = Options::new("users::update", changes);
    let (login, password) = (changes.text("login")?, changes.text("password")?);
    let profile = changes.value("profile").map(convert::json_text).transpose()?;
    let roles = changes.value("roles").map(words).transpose()?;
    let (verified, disabled) = (changes.flag("verified")?, changes.flag("disabled")?);
    changes.finish()?;
    let update = Update {
        id,
        login: login.as_deref(),
        password: password.as_deref(),
        profile: profile.as_deref(),
        roles: roles.as_ref().map(|roles| roles.iter().map(|role| role.as_str()).collect()),
        verified,
        disabled,
    };
    found(HostOp::UsersUpdate, &update)
}

fn words(roles: &Dynamic) -> Result<Vec<ImmutableString>> {
    let words = roles.read_lock::<Array>().and_then(|roles| {
        roles.iter().map(|role| role.as_immutable_string_ref().ok().map(|role| role.clone())).collect()
    });
    words.ok_or_else(|| invalid("users::update: roles must be an array of strings"))
}

fn found<T: Serialize>(op: HostOp, args: &T) -> Result<Dynamic> {
    let answer = host::call(op, args)?;
    answer.read::<Found<'_>>().json.map_or(Ok(Dynamic::UNIT), convert::from_json_text)
}

fn issued<T: Serialize>(op: HostOp, args: &T) -> Result<Dynamic> {
    let answer = host::call(op, args)?;
    Ok(answer.read::<Issued<'_>>().token.map_or(Dynamic::UNIT, |token| token.to_owned().into()))
}

fn existed<T: Serialize>(op: HostOp, args: &T) -> Result<bool> {
    let Existed { existed } = host::call(op, args)?.read();
    Ok(existed)
}
