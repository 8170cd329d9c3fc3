//! Traces for a collector: OTLP over HTTP, as protobuf. The library batches, sends from a thread of its
//! own and sheds what a slow collector does not take; without an endpoint none of it exists.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor};
use orchestrator_core::ingress::Tracing;
use secrecy::{ExposeSecret, SecretString};
use shared::ports::SpanSink;
use shared::trace::{Attribute, Span};

/// Where traces go, and how many.
#[derive(Debug, Clone)]
pub struct Otlp {
    /// Base address of the collector; `/v1/traces` comes behind it.
    pub endpoint: String,
    /// `name=value` between commas; they may hold a token.
    pub headers: Option<SecretString>,
    /// Of the traces that begin here, so many in a hundred.
    pub sample_percent: u8,
}

/// A collector that has not taken a batch by then gets the next one.
const EXPORT_PATIENCE: Duration = Duration::from_secs(10);
/// How long the end of the process waits for the last batch.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(3);

/// Sends spans to a collector.
#[derive(Debug)]
pub struct Collector {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    sample_percent: u8,
}

impl Collector {
    /// Starts the thread that sends. Not within an async runtime, which its client would block.
    fn start(otlp: &Otlp) -> anyhow::Result<Self> {
        // One process has one; whoever comes first sets it, and they all set the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::blocking::Client::builder()
            .no_proxy()
            .timeout(EXPORT_PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("no client for PICLOUD_OTLP_ENDPOINT can be made")?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", otlp.endpoint.trim_end_matches('/')))
            .with_headers(headers(otlp.headers.as_ref())?)
            .with_http_client(client)
            .build()
            .context("PICLOUD_OTLP_ENDPOINT cannot be used")?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        processor
            .set_resource(&Resource::builder().with_service_name("picloud").with_attribute(version).build());
        Ok(Self {
            processor,
            scope: InstrumentationScope::builder("picloud").build(),
            sample_percent: otlp.sample_percent,
        })
    }

    /// The same from within a runtime.
    pub async fn open(otlp: Otlp) -> anyhow::Result<Arc<Self>> {
        let started = tokio::task::spawn_blocking(move || Self::start(&otlp));
        Ok(Arc::new(started.await.context("the thread for traces could not be started")??))
    }

    /// What the ingress is told about recording.
    pub fn tracing(self: &Arc<Self>) -> Tracing {
        Tracing { sink: Arc::<Self>::clone(self), sample_percent: self.sample_percent }
    }

    /// Sends what waits.
    pub async fn close(self: Arc<Self>) {
        let closing =
            tokio::task::spawn_blocking(move || self.processor.shutdown_with_timeout(SHUTDOWN_PATIENCE));
        match closing.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last traces could not be sent"),
            Err(error) => tracing::warn!(%error, "the thread for traces did not end"),
        }
    }
}

impl SpanSink for Collector {
    fn ended(&self, span: Span<'_>) {
        self.processor.on_end(data(&span, &self.scope));
    }
}

fn data(span: &Span<'_>, scope: &InstrumentationScope) -> SpanData {
    let context = span.context;
    let id = |id: u64| SpanId::from_bytes(id.to_be_bytes());
    let trace = TraceId::from_bytes(context.trace.to_be_bytes());
    let flags = if context.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    let attributes = span.attributes.iter().map(|(name, value)| {
        let value = match *value {
            Attribute::Text(text) => Value::from(text.to_owned()),
            Attribute::Number(number) => Value::I64(number),
        };
        KeyValue::new(*name, value)
    });
    SpanData {
        span_context: SpanContext::new(trace, id(context.span), flags, false, TraceState::default()),
        parent_span_id: id(context.parent),
        parent_span_is_remote: span.is_server && context.parent != 0,
        span_kind: if span.is_server { SpanKind::Server } else { SpanKind::Internal },
        name: Cow::Owned(span.name.to_owned()),
        start_time: span.started,
        end_time: span.started + span.took,
        attributes: attributes.collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: span.failure.map_or(Status::Unset, |failure| Status::error(failure.to_owned())),
        instrumentation_scope: scope.clone(),
    }
}

fn headers(text: Option<&SecretString>) -> anyhow::Result<HashMap<String, String>> {
    let text = text.map(|text| text.expose_secret().trim()).unwrap_or_default();
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    let pair = |pair: &str| {
        // Not shown: it may be a token.
        let (name, value) =
            pair.split_once('=').context("PICLOUD_OTLP_HEADERS takes name=value between commas")?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    pairs.map(pair).collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use shared::trace::TraceContext;

    use super::*;

    #[test]
    fn a_span_keeps_the_ids_that_others_were_told() {
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::following(given.as_bytes()).unwrap();
        let span = Span {
            context,
            is_server: true,
            name: "GET",
            started: SystemTime::UNIX_EPOCH,
            took: Duration::from_millis(5),
            attributes: &[("picloud.app", Attribute::Text("blog")), ("picloud.fuel", Attribute::Number(7))],
            failure: Some("Bad Gateway"),
        };
        let data = data(&span, &InstrumentationScope::builder("test").build());
        let told = context.to_string();
        let ids = format!("00-{}-{}-01", data.span_context.trace_id(), data.span_context.span_id());
        assert_eq!((ids, data.parent_span_id.to_string()), (told, "00f067aa0ba902b7".to_owned()));
        assert!(data.parent_span_is_remote && data.span_context.is_sampled());
        assert_eq!(data.end_time.duration_since(data.start_time).unwrap(), Duration::from_millis(5));
        assert_eq!((data.attributes.len(), data.status), (2, Status::error("Bad Gateway")));
    }

    #[test]
    fn headers_are_read_and_never_shown() {
        let read = headers(Some(&"authorization=Basic YQ==, x-tenant = pi,".into())).unwrap();
        assert_eq!((read["authorization"].as_str(), read["x-tenant"].as_str()), ("Basic YQ==", "pi"));
        assert!(headers(None).unwrap().is_empty());
        let error = headers(Some(&"hush".into())).unwrap_err();
        assert!(!format!("{error:#}").contains("hush"));
    }
}
