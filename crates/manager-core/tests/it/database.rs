//! A database of its own for each test.

use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};

/// Dropped with the test, whether it passed or not.
pub(crate) struct TestDatabase {
    server: PgConnectOptions,
    name: String,
}

impl TestDatabase {
    pub(crate) async fn create() -> Self {
        let url = std::env::var("PICLOUD_TEST_DATABASE_URL")
            .expect("PICLOUD_TEST_DATABASE_URL names no PostgreSQL server: run them by make test");
        let server = PgConnectOptions::from_str(&url).unwrap();
        let name = format!("manager_{}", uuid::Uuid::now_v7().simple());
        run(&server, format!("create database {name}")).await;
        Self { server, name }
    }

    pub(crate) fn options(&self) -> PgConnectOptions {
        self.server.clone().database(&self.name)
    }

    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect_with(&self.options()).await.unwrap()
    }

    pub(crate) async fn execute(&self, sql: &str) {
        run(&self.options(), sql.to_owned()).await;
    }

    /// Makes the database refuse writes, or take them again; whoever is connected must come back.
    pub(crate) async fn set_read_only(&self, is_read_only: bool) {
        let name = &self.name;
        let alter = format!("alter database {name} set default_transaction_read_only = {is_read_only}");
        run(&self.server, alter).await;
        let end = format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'");
        run(&self.server, end).await;
    }

    pub(crate) async fn scalar<T>(&self, sql: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        let mut conn = self.connect().await;
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut conn).await.unwrap()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A thread of its own, because a test's runtime cannot be blocked on from within.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run(&server, format!("drop database if exists {name} with (force)")));
        });
        let _ = dropping.join();
    }
}

async fn run(options: &PgConnectOptions, sql: String) {
    let mut conn = PgConnection::connect_with(options).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}
