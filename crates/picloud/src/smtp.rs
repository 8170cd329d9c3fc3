//! The mail server, as the settings have it.

use anyhow::{Context, bail};
use manager_core::{MailServer, MailSettings};
use secrecy::SecretString;

use crate::config::{number, parse};
use crate::settings::File;

pub(crate) fn server(
    file: &File,
    env: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<Option<MailServer>> {
    let text = |name: &str, file: &Option<String>| env(name).or_else(|| file.clone());
    let tls = text("PICLOUD_SMTP_TLS", &file.smtp_tls);
    let tls = tls.map(|word| parse("PICLOUD_SMTP_TLS", &word, "starttls, tls or none"));
    let settings = MailSettings {
        host: text("PICLOUD_SMTP_HOST", &file.smtp_host),
        port: number("PICLOUD_SMTP_PORT", env)?.or(file.smtp_port),
        tls: tls.transpose()?,
        username: text("PICLOUD_SMTP_USERNAME", &file.smtp_username),
        password: password(file, env)?,
        from: text("PICLOUD_SMTP_FROM", &file.smtp_from),
    };
    Ok(MailServer::of(settings)?)
}

fn password(file: &File, env: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<Option<SecretString>> {
    let said = env("PICLOUD_SMTP_PASSWORD").map(SecretString::from).or_else(|| file.smtp_password.clone());
    let path = env("PICLOUD_SMTP_PASSWORD_FILE").map(Into::into).or_else(|| file.smtp_password_file.clone());
    let Some(path) = path else { return Ok(said) };
    if said.is_some() {
        bail!("PICLOUD_SMTP_PASSWORD and PICLOUD_SMTP_PASSWORD_FILE are set; one of them is enough");
    }
    let secret = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read PICLOUD_SMTP_PASSWORD_FILE {}", path.display()))?;
    Ok(Some(secret.trim_end().into()))
}
