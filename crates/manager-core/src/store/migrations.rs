//! Brings the schema up to date, and refuses one that a newer release made.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnectOptions;

use super::Database;
use crate::data::files::blobs::StorageError;
use crate::vault::WrongMasterKey;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the database could not be reached")]
    Connect(#[source] sqlx::Error),
    #[error(
        "the database was made by a newer PiCloud: it has schema {found}, this release knows {known}; \
         install the newer release again or restore a backup made with this one"
    )]
    NewerSchema { found: i64, known: i64 },
    #[error("schema {0} in the database is not the one this release was built with")]
    ForeignSchema(i64),
    #[error("the schema could not be brought up to date")]
    Migrate(#[source] MigrateError),
    #[error(transparent)]
    Files(StorageError),
    #[error("the routing table could not be read")]
    Load(#[source] sqlx::Error),
    #[error(transparent)]
    WrongMasterKey(#[from] WrongMasterKey),
}

/// Version of the newest migration this release knows.
pub(crate) fn latest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Applies what is missing and lets go of the database; answers the schema it has now.
pub async fn migrate(options: PgConnectOptions) -> Result<i64, OpenError> {
    open(options).await?.close().await;
    Ok(latest())
}

/// Connects and applies what is missing.
pub(crate) async fn open(options: PgConnectOptions) -> Result<Database, OpenError> {
    let database = Database::connect(options).await.map_err(OpenError::Connect)?;
    if let Err(error) = MIGRATIONS.run(&database.pool).await {
        // The connection may hold the lock of the migrations; closing it lets go.
        database.close().await;
        return Err(match error {
            MigrateError::VersionMissing(found) if found > latest() => {
                OpenError::NewerSchema { found, known: latest() }
            }
            MigrateError::VersionMissing(version) | MigrateError::VersionMismatch(version) => {
                OpenError::ForeignSchema(version)
            }
            other => OpenError::Migrate(other),
        });
    }
    Ok(database)
}
