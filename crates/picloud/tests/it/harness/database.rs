//! A database of its own for each server.

use std::str::FromStr;

use manager_core::{RowSecurity, row_security};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};

/// Dropped with the server, whether its tests passed or not.
pub(crate) struct TestDatabase {
    server: String,
    name: String,
}

impl TestDatabase {
    pub(crate) fn create() -> Self {
        let server = std::env::var("PICLOUD_TEST_DATABASE_URL")
            .expect("PICLOUD_TEST_DATABASE_URL names no PostgreSQL server: run them by make test");
        Self::create_on(server)
    }

    /// On a server of one's own, which must outlive it.
    pub(crate) fn create_on(server: String) -> Self {
        let name = format!("picloud_{}", uuid::Uuid::now_v7().simple());
        run(&server, format!("create database {name}"));
        Self { server, name }
    }

    /// The one text that a statement gives.
    pub(crate) fn query(&self, sql: &str) -> String {
        let options = PgConnectOptions::from_str(&self.url()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut conn = PgConnection::connect_with(&options).await.unwrap();
            sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut conn).await.unwrap()
        })
    }

    /// Carries out statements.
    pub(crate) fn execute(&self, sql: &str) {
        run(&self.url(), sql.to_owned());
    }

    /// A session in which this was carried out, and which holds what it took until it is dropped.
    pub(crate) fn session(&self, sql: &str) -> Session {
        let options = PgConnectOptions::from_str(&self.url()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let conn = runtime.block_on(async {
            let mut conn = PgConnection::connect_with(&options).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut conn).await.unwrap();
            conn
        });
        Session { runtime, conn: Some(conn) }
    }

    /// Fails unless the second wall between apps is up: the role under which scripts' calls are carried out is no
    /// superuser's, bypasses no policy and owns no table.
    pub(crate) fn assert_has_wall(&self) {
        let options = PgConnectOptions::from_str(&self.url()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let state = runtime.block_on(row_security(&options)).unwrap();
        assert_eq!(state, RowSecurity::Holds, "the tests' user must be a superuser, or a member of the role");
    }

    /// As `DATABASE_URL` takes it.
    pub(crate) fn url(&self) -> String {
        let (address, options) = match self.server.split_once('?') {
            Some((address, options)) => (address, format!("?{options}")),
            None => (self.server.as_str(), String::new()),
        };
        let (host, _) = address.rsplit_once('/').unwrap();
        format!("{host}/{}{options}", self.name)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        run(&self.server, format!("drop database if exists {} with (force)", self.name));
    }
}

/// A connection of a test's own.
pub(crate) struct Session {
    runtime: tokio::runtime::Runtime,
    conn: Option<PgConnection>,
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            let _ = self.runtime.block_on(conn.close());
        }
    }
}

fn run(url: &str, sql: String) {
    let options = PgConnectOptions::from_str(url).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut conn = PgConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
    });
}
