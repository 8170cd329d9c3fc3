//! The first owner: from the settings, or with a password made up once.

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use manager_core::{FirstOwner, Manager};
use secrecy::SecretString;
use shared::name::Username;

use crate::config::Config;
use crate::data_dir::DataDir;

/// The file with the made-up password.
const PASSWORD_FILE: &str = "initial-admin-password";

/// Where to find the first owner's password, when it was not chosen by the operator.
#[derive(Debug, PartialEq, Eq)]
pub struct InitialPassword {
    pub username: String,
    pub file: std::path::PathBuf,
}

/// Makes the first owner and the default app when they are missing.
pub async fn bootstrap(
    manager: &Manager,
    config: &Config,
    data: &DataDir,
) -> anyhow::Result<Option<InitialPassword>> {
    let password = match (&config.admin_password, manager.has_owner().await?) {
        (Some(password), _) => password.clone(),
        (None, true) => SecretString::default(),
        (None, false) => made_up_password(data)?.into(),
    };
    let username: Username = config.admin_username.parse().context("PICLOUD_ADMIN_USERNAME")?;
    let owner = FirstOwner { username: username.clone(), password };
    manager.bootstrap(owner).await.context("cannot make the first owner")?;
    forget_changed_password(manager, &username, data).await?;
    let file = data.path().join(PASSWORD_FILE);
    let is_made_up = config.admin_password.is_none() && file.exists();
    Ok(is_made_up.then(|| InitialPassword { username: config.admin_username.clone(), file }))
}

/// A password that was changed since is of no use to anybody who reads the file.
async fn forget_changed_password(
    manager: &Manager,
    username: &Username,
    data: &DataDir,
) -> anyhow::Result<()> {
    let Some(kept) = data.read(PASSWORD_FILE)? else { return Ok(()) };
    if !manager.is_password(username, kept.into()).await? {
        data.remove(PASSWORD_FILE)?;
    }
    Ok(())
}

/// 144 random bits.
pub fn random_password() -> anyhow::Result<String> {
    let mut bytes = [0; 18];
    getrandom::fill(&mut bytes).context("the system has no randomness")?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The password is written before it is used: a start that is cut off in between finds it again.
fn made_up_password(data: &DataDir) -> anyhow::Result<String> {
    if let Some(password) = data.read(PASSWORD_FILE)? {
        return Ok(password);
    }
    let password = random_password()?;
    data.write_private(PASSWORD_FILE, &password)?;
    Ok(password)
}
