//! The private PostgreSQL against the machine's real binaries.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use picloud::data_dir::DataDir;
use picloud::postgres::EmbeddedPostgres;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection, Row};
use tempfile::TempDir;

/// For the child process of the test that kills it.
const CHILD_DATA_DIR: &str = "PICLOUD_TEST_CHILD_DATA_DIR";

/// A data directory that another user can pass through, as PiCloud makes them for root.
fn data_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
    dir
}

async fn start(dir: &Path) -> EmbeddedPostgres {
    try_start(dir).await.unwrap()
}

async fn try_start(dir: &Path) -> anyhow::Result<EmbeddedPostgres> {
    EmbeddedPostgres::start(&DataDir::open(dir)?).await
}

async fn connect(options: &PgConnectOptions) -> PgConnection {
    options.connect().await.unwrap()
}

async fn setting(connection: &mut PgConnection, name: &str) -> String {
    sqlx::query("select current_setting($1)").bind(name).fetch_one(connection).await.unwrap().get(0)
}

#[tokio::test]
async fn another_program_of_the_operator_reaches_a_server_that_runs() {
    let dir = data_dir();
    assert!(picloud::postgres::running(dir.path()).is_err());
    let postgres = start(dir.path()).await;
    let mut connection = connect(&picloud::postgres::running(dir.path()).unwrap()).await;
    let names: (String, String) = sqlx::query_as("select current_user::text, current_database()::text")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(names, ("picloud".to_owned(), "picloud".to_owned()));
    drop(connection);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn data_survives_a_stop_and_a_start() {
    let dir = data_dir();
    let postgres = start(dir.path()).await;
    let mut connection = connect(&postgres.connect_options()).await;
    sqlx::raw_sql("create table kept (word text); insert into kept values ('still here')")
        .execute(&mut connection)
        .await
        .unwrap();
    drop(connection);
    postgres.stop().await.unwrap();
    assert!(!dir.path().join("postgres/postmaster.pid").exists(), "a clean stop leaves no pid file");

    let postgres = start(dir.path()).await;
    let mut connection = connect(&postgres.connect_options()).await;
    let word: String =
        sqlx::query("select word from kept").fetch_one(&mut connection).await.unwrap().get("word");
    assert_eq!(word, "still here");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn the_server_is_private_durable_and_unprivileged() {
    let dir = data_dir();
    let postgres = start(dir.path()).await;
    let options = postgres.connect_options();
    let mut connection = connect(&options).await;
    for (name, value) in [
        ("listen_addresses", ""),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("data_checksums", "on"),
        ("server_encoding", "UTF8"),
        ("is_superuser", "off"),
        ("max_connections", "32"),
    ] {
        assert_eq!(setting(&mut connection, name).await, value, "{name}");
    }

    // Its user may work under the role that sees one app's rows.
    let wall = manager_core::row_security(&options).await.unwrap();
    assert_eq!(wall, manager_core::RowSecurity::Holds);

    // One who can reach the socket still needs the password.
    assert!(options.clone().password("wrong").connect().await.is_err());
    let socket = options.get_socket().unwrap();
    assert_eq!(std::fs::metadata(socket).unwrap().permissions().mode() & 0o777, 0o700);
    let password = std::fs::metadata(dir.path().join("postgres-password")).unwrap();
    assert_eq!(password.permissions().mode() & 0o777, 0o600);
    assert_eq!(password.uid(), geteuid().as_raw());

    let process = std::fs::metadata(format!("/proc/{}", postgres.pid())).unwrap();
    assert_ne!(process.uid(), 0);
    let status = std::fs::read_to_string(format!("/proc/{}/status", postgres.pid())).unwrap();
    if geteuid().is_root() {
        assert!(status.lines().any(|line| line.trim_end() == "Groups:"), "supplementary groups are dropped");
    }
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_is_noticed_and_the_next_start_recovers() {
    let dir = data_dir();
    let postgres = start(dir.path()).await;
    let mut connection = connect(&postgres.connect_options()).await;
    sqlx::raw_sql("create table kept (n int); insert into kept values (7)")
        .execute(&mut connection)
        .await
        .unwrap();
    kill(Pid::from_raw(postgres.pid()), Signal::SIGKILL).unwrap();
    let how = postgres.died().await;
    assert!(how.contains("signal: 9"), "{how}");
    drop(postgres);

    let postgres = start(dir.path()).await;
    let mut connection = connect(&postgres.connect_options()).await;
    let n: i32 = sqlx::query("select n from kept").fetch_one(&mut connection).await.unwrap().get(0);
    assert_eq!(n, 7);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_left_running_is_stopped_by_the_next_start() {
    let dir = data_dir();
    let postgres = start(dir.path()).await;
    let left = postgres.pid();
    // Stopped, it cannot follow the request of the drop below, as if PiCloud had been killed.
    kill(Pid::from_raw(left), Signal::SIGSTOP).unwrap();
    drop(postgres);
    let starting = tokio::spawn({
        let path = dir.path().to_owned();
        async move { try_start(&path).await }
    });
    kill(Pid::from_raw(left), Signal::SIGCONT).unwrap();
    let postgres = starting.await.unwrap().unwrap();
    assert_ne!(postgres.pid(), left);
    connect(&postgres.connect_options()).await;
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_start_on_the_same_data_is_refused() {
    let dir = data_dir();
    let postgres = start(dir.path()).await;
    let error = try_start(dir.path()).await.unwrap_err().to_string();
    assert!(error.contains("another picloud"), "{error}");
    connect(&postgres.connect_options()).await;
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_lost_password_is_named_rather_than_replaced() {
    let dir = data_dir();
    start(dir.path()).await.stop().await.unwrap();
    std::fs::remove_file(dir.path().join("postgres-password")).unwrap();
    let error = try_start(dir.path()).await.unwrap_err().to_string();
    assert!(error.contains("postgres-password is missing"), "{error}");
}

#[tokio::test]
async fn an_interrupted_first_start_is_begun_anew() {
    let dir = data_dir();
    let unfinished = dir.path().join("postgres.new");
    std::fs::create_dir(&unfinished).unwrap();
    std::fs::write(unfinished.join("PG_VERSION"), "9").unwrap();
    let postgres = start(dir.path()).await;
    connect(&postgres.connect_options()).await;
    postgres.stop().await.unwrap();
    assert!(!unfinished.exists());
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_still_works() {
    let dir = data_dir();
    let deep = dir.path().join("a, \"b\"").join("d".repeat(120));
    let postgres = start(&deep).await;
    let options = postgres.connect_options();
    connect(&options).await;
    postgres.stop().await.unwrap();
    std::fs::remove_dir_all(options.get_socket().unwrap()).unwrap();
}

#[tokio::test]
async fn data_that_its_user_cannot_reach_is_kept_elsewhere() {
    if !geteuid().is_root() {
        eprintln!("skipped: only root keeps data as another user");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    let data = dir.path().join("data");
    let postgres = start(&data).await;
    let elsewhere = std::fs::read_link(data.join("postgres")).unwrap();
    let socket = postgres.connect_options().get_socket().unwrap().clone();
    connect(&postgres.connect_options()).await;
    postgres.stop().await.unwrap();

    let postgres = start(&data).await;
    connect(&postgres.connect_options()).await;
    postgres.stop().await.unwrap();
    assert!(elsewhere.starts_with("/var/lib/picloud"), "{}", elsewhere.display());
    std::fs::remove_dir_all(elsewhere).unwrap();
    std::fs::remove_dir_all(socket).unwrap();
    // Only if nothing else is kept there.
    let _ = std::fs::remove_dir("/var/lib/picloud");
}

#[tokio::test]
async fn the_server_does_not_outlive_a_killed_picloud() {
    if !Path::new("/usr/bin/setpriv").exists() {
        eprintln!("skipped: no setpriv on this machine");
        return;
    }
    let dir = data_dir();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_gets_killed", "--ignored", "--nocapture"])
        .env(CHILD_DATA_DIR, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The first line may begin with the test's own name.
    let url = lines
        .map_while(Result::ok)
        .find_map(|line| Some(format!("postgres:{}", line.split_once("postgres:")?.1)));
    let mut connection = connect(&url.unwrap().parse().unwrap()).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let shutdown = sqlx::query("select pg_sleep(60)").execute(&mut connection);
    let error = tokio::time::timeout(Duration::from_secs(30), shutdown).await.unwrap().unwrap_err();
    // "terminating connection due to administrator command": it was asked to stop. If it had stopped
    // before the statement was sent, the connection is simply gone.
    let code = error.as_database_error().and_then(|error| error.code());
    let is_gone = matches!(error, sqlx::Error::Io(_));
    assert!(is_gone || code.as_deref() == Some("57P01"), "{error}");

    let postgres = start(dir.path()).await;
    connect(&postgres.connect_options()).await;
    postgres.stop().await.unwrap();
}

/// Not a test: the process that `the_server_does_not_outlive_a_killed_picloud` kills.
#[tokio::test]
#[ignore = "run as a child of another test"]
async fn child_that_gets_killed() {
    let Some(dir) = std::env::var_os(CHILD_DATA_DIR) else { return };
    let postgres = start(Path::new(&dir)).await;
    println!("{}", postgres.connect_options().to_url_lossy());
    postgres.died().await;
}
