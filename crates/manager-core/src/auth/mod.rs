//! Who is calling and what they may do. Nothing here knows HTTP.

mod argon;
mod hashers;
mod keys;
mod login;
mod passwords;
mod principal;
mod rights;
pub(crate) mod second_factor;
mod sessions;
mod throttle;

pub(crate) use self::keys::{NewKey, generate as generate_key};
pub(crate) use self::login::{Auth, AuthenticateError, Login, LoginError, Passport};
pub use self::passwords::HashError;
pub(crate) use self::passwords::{Busy, Passwords, Verdict};
pub(crate) use self::principal::{Credential, Origin, Principal};
pub(crate) use self::rights::{Capability, Denial, Place, Rule, Scope, Standing, allows, can, outranks};
pub(crate) use self::sessions::{AppToken, NoEntropy, generate_invitation, stored_invitation};
