//! What scripts do with `kv` and `docs`, written by hand: axum handlers that run the same statements, or such as
//! ask the same, on the same PostgreSQL, with as many connections and no wall around anything.

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use sqlx::PgConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use uuid::Uuid;

/// As many as PiCloud has for what scripts ask.
const CONNECTIONS_MAX: u32 = 12;
/// Reads of one request that reads often.
const READS: usize = 100;

#[derive(Clone)]
struct Table {
    pool: PgPool,
    app: Uuid,
}

pub(super) async fn router(url: &str) -> anyhow::Result<Router> {
    let options: PgConnectOptions = url.parse().context("the baseline needs the address of a database")?;
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .test_before_acquire(false)
        .connect_with(options)
        .await?;
    let app = sqlx::query_scalar(include_str!("app.sql")).fetch_one(&pool).await?;
    let table = Table { pool, app };
    write(&mut *table.pool.acquire().await?, table.app).await?;
    Ok(Router::new()
        .route("/bench/data/get", get(read_once))
        .route("/bench/data/gets", get(read_often))
        .route("/bench/data/numbers", get(read_often))
        .route("/bench/data/strange", get(read_often))
        .route("/bench/data/getset", get(read_and_write))
        .route("/bench/data/find", get(find))
        .with_state(table))
}

type Answer = Result<String, StatusCode>;

async fn read_once(State(table): State<Table>) -> Answer {
    let mut conn = table.pool.acquire().await.map_err(failed)?;
    read(&mut conn, table.app).await.map_err(failed)
}

async fn read_often(State(table): State<Table>) -> Answer {
    let mut conn = table.pool.acquire().await.map_err(failed)?;
    for _ in 1..READS {
        read(&mut conn, table.app).await.map_err(failed)?;
    }
    read(&mut conn, table.app).await.map_err(failed)
}

async fn read_and_write(State(table): State<Table>) -> Answer {
    let mut conn = table.pool.acquire().await.map_err(failed)?;
    let value = read(&mut conn, table.app).await.map_err(failed)?;
    write(&mut conn, table.app).await.map_err(failed)?;
    Ok(value)
}

/// Twenty documents of a group, in order; how many there are.
async fn find(State(table): State<Table>) -> Answer {
    let mut conn = table.pool.acquire().await.map_err(failed)?;
    let rows: Vec<(Uuid, String)> = sqlx::query_as(include_str!("docs_find.sql"))
        .bind(table.app)
        .fetch_all(&mut *conn)
        .await
        .map_err(failed)?;
    let documents = rows.iter().map(|(_, data)| serde_json::from_str(data));
    let documents: Vec<serde_json::Value> =
        documents.collect::<Result<_, _>>().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(documents.len().to_string())
}

async fn read(conn: &mut PgConnection, app: Uuid) -> sqlx::Result<String> {
    sqlx::query_scalar(include_str!("kv_get.sql")).bind(app).bind("bench").bind("axum").fetch_one(conn).await
}

async fn write(conn: &mut PgConnection, app: Uuid) -> sqlx::Result<i64> {
    sqlx::query_scalar(include_str!("kv_set.sql"))
        .bind(app)
        .bind("bench")
        .bind("axum")
        .bind("\"value\"")
        .fetch_one(conn)
        .await
}

fn failed(_: sqlx::Error) -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}
