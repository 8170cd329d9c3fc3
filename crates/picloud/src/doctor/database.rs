//! The database: a server that answers, or the programs for a private one.

use std::time::Duration;

use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};

use super::{Check, Verdict};
use crate::config::Config;
use crate::postgres;

const NAME: &str = "PostgreSQL";
/// A server that has not answered by then is not one to wait for on every request.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn check(config: &Config) -> Check {
    let Some(url) = &config.database_url else {
        return match postgres::installed(&config.data_dir) {
            Ok(version) => Check::new(
                NAME,
                Verdict::Holds,
                format!("version {version} is installed, for a private server"),
            ),
            Err(error) => Check::new(NAME, Verdict::Fails, format!("{error:#}")),
        };
    };
    let advice = "check DATABASE_URL, and that the server runs and lets this machine in";
    let Ok(options) = url.expose_secret().parse::<PgConnectOptions>() else {
        return Check::new(NAME, Verdict::Fails, "DATABASE_URL is not an address of PostgreSQL")
            .advise(advice);
    };
    match tokio::time::timeout(PATIENCE, version(&options)).await {
        Ok(Ok(version)) => Check::new(NAME, Verdict::Holds, format!("the server answers, version {version}")),
        Ok(Err(error)) => Check::new(NAME, Verdict::Fails, error.to_string()).advise(advice),
        Err(_) => {
            let found = format!("the server does not answer within {} s", PATIENCE.as_secs());
            Check::new(NAME, Verdict::Fails, found).advise(advice)
        }
    }
}

async fn version(options: &PgConnectOptions) -> Result<String, sqlx::Error> {
    let connection: PgConnection = options.connect().await?;
    let version = connection.server_version_num();
    connection.close().await?;
    // 15.18 is 150018.
    Ok(version.map_or_else(|| "unknown".to_owned(), |n| format!("{}.{}", n / 10_000, n % 10_000)))
}
