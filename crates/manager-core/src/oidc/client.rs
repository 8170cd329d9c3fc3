//! HTTP to identity providers, as `openidconnect` asks for it: no redirects, which could lead anywhere,
//! and nothing without an end.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use reqwest::redirect::Policy;

/// Somebody waits in a browser.
const PATIENCE: Duration = Duration::from_secs(10);
/// Descriptions and sets of keys have a few kilobytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Why a provider gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("the certificates of this machine cannot be used, or none are installed: {0}")]
    Setup(#[source] reqwest::Error),
    #[error("the provider cannot be reached: {0}")]
    Request(#[from] reqwest::Error),
    #[error("the provider's answer has more than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
}

/// A client for one provider.
#[derive(Debug, Clone)]
pub(super) struct Http(reqwest::Client);

impl Http {
    pub(super) fn new() -> Result<Self, HttpError> {
        // One process has one; whoever comes first sets it, and they all set the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().redirect(Policy::none()).timeout(PATIENCE).no_proxy();
        client.build().map(Self).map_err(HttpError::Setup)
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut answer = self.0.execute(request.try_into()?).await?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(HttpError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = HttpResponse::new(body);
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}
