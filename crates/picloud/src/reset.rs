//! `picloud admin reset-password`: for who runs the machine. What it takes is the database: the one of
//! `DATABASE_URL`, the private one of a server that runs, or the private one started for the purpose.

use std::io::Read;

use anyhow::Context;
use manager_core::PasswordReset;
use secrecy::ExposeSecret;
use shared::name::Username;

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::owner;
use crate::postgres::{self, EmbeddedPostgres};

/// More than any password has, so that a wrong file is not read whole.
const INPUT_BYTES_MAX: u64 = 64 << 10;

/// Sets the password; answers what to tell the operator.
pub async fn reset_password(
    config: &Config,
    username: Username,
    given: Option<String>,
    removes_second_factor: bool,
) -> anyhow::Result<String> {
    let password = match &given {
        Some(password) => password.clone(),
        None => owner::random_password()?,
    };
    let text = match &given {
        Some(_) => format!("{username} has the new password, and no session any more.\n"),
        None => format!("{username} has no session any more, and the password\n{password}\n"),
    };
    let reset = PasswordReset { username, password: password.into(), removes_second_factor };
    if let Some(url) = &config.database_url {
        let options = url.expose_secret().parse().context("DATABASE_URL is not an address of PostgreSQL")?;
        manager_core::reset_password(options, reset).await?;
        return Ok(text);
    }
    anyhow::ensure!(
        config.data_dir.exists(),
        "{} does not exist: set PICLOUD_DATA_DIR to the server's data directory",
        config.data_dir.display()
    );
    match DataDir::open(&config.data_dir) {
        Ok(data) => {
            let server = EmbeddedPostgres::start(&data).await?;
            let done = manager_core::reset_password(server.connect_options(), reset).await;
            server.stop().await?;
            done?;
        }
        // Another picloud has it, and its database.
        Err(held) => {
            let options = postgres::running(&config.data_dir).context(held.to_string())?;
            manager_core::reset_password(options, reset).await?;
        }
    }
    Ok(text)
}

/// The first line of what is piped in.
pub fn password_from(input: impl Read) -> anyhow::Result<String> {
    let mut text = String::new();
    input.take(INPUT_BYTES_MAX).read_to_string(&mut text).context("cannot read the password")?;
    let line = text.lines().next().unwrap_or_default();
    anyhow::ensure!(!line.is_empty(), "standard input has no password");
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_the_first_line() {
        assert_eq!(password_from(&b"correct horse\nrest"[..]).unwrap(), "correct horse");
        assert!(password_from(&b"\n"[..]).is_err() && password_from(&b"\xff"[..]).is_err());
    }
}
