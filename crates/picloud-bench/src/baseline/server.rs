//! The baselines' servers: axum as its documentation starts it, with tokio's default threads.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::native::{Answer, Native, Request};
use super::{Kind, database};
use crate::measure::HELLO;

pub(super) fn serve(kind: Kind, database: Option<&str>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let router = match kind {
        Kind::Database => runtime.block_on(database::router(database.unwrap_or_default()))?,
        Kind::Axum => Router::new()
            .route("/bench/hello/{name}", get(|| async { "Hello, world!" }))
            .route("/bench/file", put(store)),
        Kind::Native => Router::new()
            .route("/bench/hello/{name}", get(run_script))
            .with_state(Arc::new(Native::compile(HELLO)?)),
    };
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
        end_with_parent();
        axum::serve(listener, router).await?;
        Ok(())
    })
}

/// The bench holds the other end of standard input, and lets go of it however it ends.
fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}

/// Writes a body to the disk as it comes.
async fn store(body: Body) -> Result<(), StatusCode> {
    let stored = async {
        let mut file = tokio::fs::File::from_std(tempfile::tempfile()?);
        let mut body = body;
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(std::io::Error::other)?.into_data() {
                file.write_all(&data).await?;
            }
        }
        file.sync_all().await
    };
    stored.await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

async fn run_script(
    State(native): State<Arc<Native>>,
    method: Method,
    uri: Uri,
    Path(params): Path<BTreeMap<String, String>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let request = Request { method, uri, params, query, headers };
    match tokio::task::spawn_blocking(move || native.answer(&request)).await {
        Ok(Ok(answer)) => answer.into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, self.body).into_response();
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::try_from(value)) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}
