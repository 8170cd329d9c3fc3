//! The database `picloud` and its owner, created on the first start.

use std::path::Path;

use anyhow::Context;
use manager_core::ROW_SECURITY_ROLE;
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};

use super::cluster::{Cluster, SUPERUSER};
use super::settings::PORT;

/// Database and role have the same name.
const NAME: &str = "picloud";
const IS_ROLE: &str = "select 1 from pg_roles where rolname = $1";
const IS_DATABASE: &str = "select 1 from pg_database where datname = $1";

/// Makes sure that the database exists, and says how to connect to it as its owner. The owner is
/// no superuser: a hole in PiCloud's SQL must not become a shell on the machine. It may make no roles
/// either, so the one that scripts' calls are carried out under is made here.
pub(super) async fn ensure(cluster: &Cluster) -> anyhow::Result<PgConnectOptions> {
    let owner_password = owner_password(&cluster.password);
    let superuser = options(cluster, SUPERUSER, &cluster.password).database("postgres");
    let mut connection = superuser.connect().await.with_context(|| {
        format!(
            "cannot connect to the private PostgreSQL with the password in {}",
            cluster.password_file.display()
        )
    })?;
    // The password is hexadecimal digits, so it needs no quoting.
    let create_role = format!("create role {NAME} login password '{owner_password}'");
    create_if_missing(&mut connection, (IS_ROLE, NAME), create_role).await?;
    let create_role = format!("create role {ROW_SECURITY_ROLE} nologin; grant {ROW_SECURITY_ROLE} to {NAME}");
    create_if_missing(&mut connection, (IS_ROLE, ROW_SECURITY_ROLE), create_role).await?;
    let create_database = format!("create database {NAME} owner {NAME}");
    create_if_missing(&mut connection, (IS_DATABASE, NAME), create_database).await?;
    Ok(options(cluster, NAME, &owner_password).database(NAME))
}

/// How to connect to the database of a server that another process runs.
pub(super) fn of_running(socket_dir: &str, port: u16, superuser_password: &str) -> PgConnectOptions {
    let password = owner_password(superuser_password);
    reached_by(socket_dir.as_ref(), port, NAME, &password).database(NAME)
}

async fn create_if_missing(
    connection: &mut PgConnection,
    (exists, name): (&'static str, &str),
    create: String,
) -> anyhow::Result<()> {
    if sqlx::query(exists).bind(name).fetch_optional(&mut *connection).await?.is_none() {
        sqlx::raw_sql(AssertSqlSafe(create)).execute(connection).await?;
    }
    Ok(())
}

fn options(cluster: &Cluster, username: &str, password: &str) -> PgConnectOptions {
    reached_by(&cluster.socket_dir, PORT, username, password)
}

fn reached_by(socket_dir: &Path, port: u16, username: &str, password: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(port)
        .username(username)
        .password(password)
        .ssl_mode(PgSslMode::Disable)
        .application_name("picloud")
}

/// The owner's password follows from the superuser's, so that one secret is enough; the other way
/// round nothing follows.
fn owner_password(superuser_password: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"picloud database owner\0");
    hasher.update(superuser_password.as_bytes());
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
