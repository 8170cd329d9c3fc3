//! `secrets`: values that are kept sealed. Reading is what the script is there for; changing them is
//! managing the app, and asks who the execution runs for.

use shared::call::{CallCode, CallError, HostCall, Reply};
use shared::host_call::secrets::{Existed, SecretName, SecretNames, SecretValue, SetSecret};

use super::{Services, args, begin, note, require};
use crate::auth::Capability;
use crate::data::{Access, Told, failed};
use crate::secrets::{self, PutError};
use crate::store;
use crate::vault::VaultError;

pub(super) async fn get(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let SecretName { name } = args(call)?;
    let value = value(services, call, name).await?;
    Ok(Reply::success(&SecretValue { value: value.as_ref().map(|value| value.as_str()) }))
}

/// The value of a secret for this execution, whose log will not show it.
pub(super) async fn value(
    services: &Services,
    call: &HostCall,
    name: &str,
) -> Result<Option<zeroize::Zeroizing<String>>, CallError> {
    if is_no_name(name) {
        return Ok(None);
    }
    let app = call.context.app();
    let mut conn = services.data.acquire(&Access::of_script(call)).await?;
    let secret = store::secrets::sealed_by_name(&mut conn, app, name).await;
    let Some(secret) = conn.answered(secret).map_err(|error| failed(&error))? else { return Ok(None) };
    let opened = services.vault.unseal_row(secrets::place(app, name), &secret.sealed, &secret.key);
    let opened = opened.map_err(|error| vault_failed(&error))?;
    let value = String::from_utf8(opened.to_vec()).map(zeroize::Zeroizing::new);
    let value = value.map_err(|_| vault_failed(&VaultError::Unopenable))?;
    call.context.confidential.add(&value)?;
    Ok(Some(value))
}

pub(super) async fn set(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let SetSecret { name, value } = args(call)?;
    let name: shared::name::SecretName =
        name.parse().map_err(|error: shared::name::InvalidName| CallError::invalid(error.to_string()))?;
    secrets::check_length(value).map_err(put_failed)?;
    let app = call.context.app();
    let mut tx = services.data.begin(&Access::of_script(call)).await?;
    let principal = require(services, &mut tx, call, Capability::WriteSecrets).await?;
    begin(call)?;
    call.context.confidential.add(value)?;
    secrets::put(&mut tx, &services.vault, app, &name, value).await.map_err(put_failed)?;
    note(&mut tx, call, &principal, "secret.set", name.as_str()).await?;
    tx.commit(Told::default()).await?;
    Ok(Reply::success(&()))
}

pub(super) async fn delete(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let SecretName { name } = args(call)?;
    let app = call.context.app();
    let mut tx = services.data.begin(&Access::of_script(call)).await?;
    let principal = require(services, &mut tx, call, Capability::WriteSecrets).await?;
    if is_no_name(name) {
        return Ok(Reply::success(&Existed { existed: false }));
    }
    begin(call)?;
    let existed = store::secrets::delete(&mut tx, app, name).await.map_err(|error| failed(&error))?;
    if existed {
        note(&mut tx, call, &principal, "secret.delete", name).await?;
    }
    tx.commit(Told::default()).await?;
    Ok(Reply::success(&Existed { existed }))
}

pub(super) async fn list(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let () = args(call)?;
    let mut conn = services.data.acquire(&Access::of_script(call)).await?;
    let names = store::secrets::names(&mut conn, call.context.app()).await;
    let names = conn.answered(names).map_err(|error| failed(&error))?;
    let json = serde_json::to_string(&names).expect("texts are JSON");
    Ok(Reply::success(&SecretNames { json: &json }))
}

/// What cannot be the name of a secret is none's; the database need not be asked, nor understand it.
fn is_no_name(text: &str) -> bool {
    text.parse::<shared::name::SecretName>().is_err()
}

fn put_failed(error: PutError) -> CallError {
    match error {
        PutError::Vault(error) => vault_failed(&error),
        PutError::TooMany => CallError::new(CallCode::BudgetExhausted, error.to_string()),
        PutError::Length => CallError::invalid(error.to_string()),
    }
}

pub(super) fn vault_failed(error: &VaultError) -> CallError {
    match error {
        VaultError::Database(error) => failed(error),
        VaultError::OtherMaster => {
            tracing::error!(%error, "an app's first key was not made");
            CallError::new(CallCode::Unavailable, "the change of the server's secret key is not finished")
        }
        VaultError::NoEntropy(_) | VaultError::Unopenable => {
            tracing::error!(%error, "a secret could not be opened or sealed");
            CallError::new(CallCode::Internal, "the platform failed")
        }
    }
}
