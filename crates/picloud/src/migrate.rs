//! `picloud migrate`: brings the schema up to date and ends, for who does that before the new release
//! serves. A server does the same when it starts.

use anyhow::Context;
use secrecy::ExposeSecret;

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::postgres::EmbeddedPostgres;

/// Applies what the database lacks; answers what to tell the operator.
pub async fn migrate(config: &Config) -> anyhow::Result<String> {
    let version = match &config.database_url {
        Some(url) => {
            let options =
                url.expose_secret().parse().context("DATABASE_URL is not an address of PostgreSQL")?;
            manager_core::migrate(options).await?
        }
        None => {
            let data = DataDir::open(&config.data_dir)?;
            let server = EmbeddedPostgres::start(&data).await?;
            let done = manager_core::migrate(server.connect_options()).await;
            server.stop().await?;
            done?
        }
    };
    Ok(format!("the database has schema {version}, the one of this release\n"))
}
