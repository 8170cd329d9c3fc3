//! The database: a server that answers, or the programs for a private one; and whether it keeps apps apart, too.

use std::path::Path;
use std::time::Duration;

use manager_core::{ROW_SECURITY_ROLE, RowSecurity, row_security};
use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};

use super::{Check, Verdict};
use crate::config::Config;
use crate::postgres::{self, NotInstalled, OLDEST_MAJOR};

const NAME: &str = "PostgreSQL";
const ROW_SECURITY: &str = "row security";
/// A server that has not answered by then is not one to wait for on every request.
const PATIENCE: Duration = Duration::from_secs(5);

const WHAT_IS_SAID: &str = "mend what is said there, or set DATABASE_URL to use a server elsewhere";
const ADVICE: &str = "check DATABASE_URL, and that the server runs and lets this machine in";

/// `running` is the database of a server that runs, which may be a private one.
pub(super) async fn checks(config: &Config, running: Option<&PgConnectOptions>) -> Vec<Check> {
    match (running, &config.database_url) {
        (Some(options), _) => ask(options).await,
        (None, None) => private(&config.data_dir),
        (None, Some(url)) => match url.expose_secret().parse::<PgConnectOptions>() {
            Ok(options) => ask(&options).await,
            Err(_) => {
                let found = "DATABASE_URL is not an address of PostgreSQL";
                vec![Check::new(NAME, Verdict::Fails, found).advise(ADVICE)]
            }
        },
    }
}

/// There is nobody to ask: the private server runs only while PiCloud does, and answers nobody else.
fn private(data_dir: &Path) -> Vec<Check> {
    match postgres::installed(data_dir) {
        Ok(version) => {
            let found = format!("version {version} is installed, for a private server");
            let unknown =
                "not asked: GET /api/v1/admin/system/isolation says whether it holds while PiCloud runs";
            vec![Check::new(NAME, Verdict::Holds, found), Check::new(ROW_SECURITY, Verdict::Note, unknown)]
        }
        Err(error) => {
            let (found, remedy) = match error.downcast::<NotInstalled>() {
                Ok(NotInstalled { found, remedy }) => (found, remedy),
                Err(error) => (format!("{error:#}"), WHAT_IS_SAID.to_owned()),
            };
            vec![Check::new(NAME, Verdict::Fails, found).advise(remedy)]
        }
    }
}

async fn ask(options: &PgConnectOptions) -> Vec<Check> {
    let asking = async { Ok::<_, sqlx::Error>((version(options).await?, row_security(options).await?)) };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(Ok((version, state))) => vec![server(version), wall(state, options.get_username())],
        Ok(Err(error)) => vec![Check::new(NAME, Verdict::Fails, error.to_string()).advise(ADVICE)],
        Err(_) => {
            let found = format!("the server does not answer within {} s", PATIENCE.as_secs());
            vec![Check::new(NAME, Verdict::Fails, found).advise(ADVICE)]
        }
    }
}

/// As the server says it: 15.18 is 150018.
async fn version(options: &PgConnectOptions) -> Result<Option<u32>, sqlx::Error> {
    let connection: PgConnection = options.connect().await?;
    let version = connection.server_version_num();
    connection.close().await?;
    Ok(version)
}

fn server(version: Option<u32>) -> Check {
    let Some(version) = version else {
        return Check::new(NAME, Verdict::Note, "the server answers, and does not say its version");
    };
    let (major, minor) = (version / 10_000, version % 10_000);
    let found = format!("the server answers, version {major}.{minor}");
    if major < OLDEST_MAJOR {
        return Check::new(NAME, Verdict::Fails, found)
            .advise(format!("PiCloud needs PostgreSQL {OLDEST_MAJOR} or newer"));
    }
    Check::new(NAME, Verdict::Holds, found)
}

const HOLDS: &str = "a statement for one app sees no other's rows, whatever it says";

/// What the database itself puts between apps, for its user.
fn wall(state: RowSecurity, user: &str) -> Check {
    let role = ROW_SECURITY_ROLE;
    let enter = format!("grant {role} to {user};");
    match state {
        RowSecurity::Holds => Check::new(ROW_SECURITY, Verdict::Holds, HOLDS),
        RowSecurity::NoRole { can_be_made: true } => {
            Check::new(ROW_SECURITY, Verdict::Note, format!("the role {role} is made by the next start"))
        }
        RowSecurity::NoRole { can_be_made: false } => {
            let found = format!("does not hold: there is no role {role}, and {user} may not make it");
            Check::new(ROW_SECURITY, Verdict::Degraded, found)
                .advise(format!("as a superuser: create role {role}; {enter} then start PiCloud again"))
        }
        RowSecurity::NotAllowed => {
            let found = format!("does not hold: {user} may not use the role {role}, or owns no tables");
            Check::new(ROW_SECURITY, Verdict::Degraded, found).advise(format!(
                "as a superuser: {enter} let {user} own the tables; then start PiCloud again"
            ))
        }
        RowSecurity::Bypassed => Check::new(
            ROW_SECURITY,
            Verdict::Degraded,
            format!("does not hold: the role {role} bypasses it"),
        )
        .advise(format!(
            "as a superuser: alter role {role} nosuperuser nobypassrls; it must not own the tables, nor be \
                     a member of who does; then start PiCloud again"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::chown;

    use nix::unistd::geteuid;

    use super::*;

    /// As after an upgrade of the machine, which replaces its PostgreSQL by a newer one.
    #[test]
    fn a_private_database_that_no_installed_version_can_serve_fails_with_what_helps() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = dir.path().join("postgres");
        fs::create_dir(&cluster).unwrap();
        fs::write(cluster.join("PG_VERSION"), "9.6\n").unwrap();
        if geteuid().is_root() {
            // A server of root's own is refused for another reason.
            chown(&cluster, Some(65_534), None).unwrap();
        }
        let [check] = <[Check; 1]>::try_from(private(dir.path())).unwrap();
        assert_eq!(check.verdict, Verdict::Fails);
        assert!(check.found.contains("made by PostgreSQL 9"), "{}", check.found);
        assert!(check.advice.is_some_and(|advice| advice.contains("pg_upgrade")));
    }

    #[test]
    fn a_server_that_is_too_old_fails_with_the_version_that_it_takes() {
        for (version, verdict) in [
            (Some(150_018), Verdict::Holds),
            (Some(140_000), Verdict::Holds),
            (Some(130_022), Verdict::Fails),
            (Some(90_624), Verdict::Fails),
            (None, Verdict::Note),
        ] {
            let check = server(version);
            assert_eq!(check.verdict, verdict, "{}", check.found);
            assert_eq!(check.advice.is_some_and(|advice| advice.contains("14")), verdict == Verdict::Fails);
        }
    }

    #[test]
    fn where_the_wall_is_missing_the_operator_is_told_what_puts_it_up() {
        for state in
            [RowSecurity::NoRole { can_be_made: false }, RowSecurity::NotAllowed, RowSecurity::Bypassed]
        {
            let check = wall(state, "cloud");
            assert_eq!(check.verdict, Verdict::Degraded, "{state:?}");
            assert!(check.found.starts_with("does not hold: "), "{}", check.found);
            assert!(check.advice.is_some_and(|advice| advice.contains(ROW_SECURITY_ROLE)), "{state:?}");
        }
        assert_eq!(wall(RowSecurity::Holds, "cloud").verdict, Verdict::Holds);
        assert_eq!(wall(RowSecurity::NoRole { can_be_made: true }, "cloud").verdict, Verdict::Note);
    }
}
