//! `/metrics`: numbers for Prometheus, in the OpenMetrics text format.
//!
//! They are read when somebody asks and cost nothing between. Labels have values that are known
//! beforehand: no path, host, app or other text of users, so nobody can make the answer grow.
//! `docs/operation.md` says what each means.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use manager_core::{
    Beside, DatabaseCounters, EventCounters, ExecutionCounters, Manager, OpenDeadLetters, RecorderCounters,
};
use orchestrator_core::pool::{Pool, PoolStatus};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::process_status::{self, ProcessStatus};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// To be merged below the manager's guard: a scraper shows an API key with `instance:admin`.
pub fn router(manager: Manager, pool: Pool) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(Arc::new((manager, pool)))
}

/// The same for the API's document.
pub fn described() -> Beside {
    Beside {
        is_guarded: true,
        content_type: "application/openmetrics-text",
        ..Beside::text("/metrics", "system_metrics", "Numbers for Prometheus")
    }
}

async fn metrics(State(watched): State<Arc<(Manager, Pool)>>) -> Response {
    let (manager, pool) = &*watched;
    let numbers = Numbers {
        pool: pool.status(),
        executions: manager.execution_counters(),
        events: manager.event_counters(),
        dead_letters: manager.open_dead_letters().await,
        recorder: manager.recorder_counters(),
        database: manager.database_counters(),
        process: process_status::read(),
    };
    let mut registry = Registry::with_prefix("picloud");
    registry.register_collector(Box::new(numbers));
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[derive(Debug)]
struct Numbers {
    pool: PoolStatus,
    executions: ExecutionCounters,
    events: EventCounters,
    /// None while the database does not answer.
    dead_letters: Option<OpenDeadLetters>,
    recorder: RecorderCounters,
    database: DatabaseCounters,
    process: Option<ProcessStatus>,
}

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let to = &mut encoder;
        self.executions(to)?;
        self.workers(to)?;
        self.deliveries(to)?;
        self.records(to)?;
        self.connections(to)?;
        self.process.as_ref().map_or(Ok(()), |process| of_process(process, to))
    }
}

impl Numbers {
    fn deliveries(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let events = &self.events;
        counter(to, "delivery_attempts", "Attempts to deliver an event", events.started)?;
        counter(to, "deliveries_done", "Events that were delivered", events.done)?;
        counter(to, "deliveries_put_off", "Attempts after which another follows", events.put_off)?;
        counter(to, "deliveries_buried", "Events that became dead letters", events.buried)?;
        counter(to, "outbox_fetches", "Reads of the outbox", events.fetches)?;
        counter(to, "outbox_missed", "Rows that were another's when they were done", events.missed)?;
        gauge(to, "outbox_in_memory", "Events that the dispatcher has in memory", events.in_memory)?;
        gauge(to, "deliveries_running", "Attempts that run", events.running)?;
        let Some(open) = self.dead_letters else { return Ok(()) };
        gauge(to, "dead_letters", "Dead letters that nobody looked after", open.count)?;
        gauge(to, "dead_letters_oldest_seconds", "Age of the oldest of them", open.oldest_s)
    }

    fn executions(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Self { executions, pool, .. } = self;
        let mut ended =
            described_as(to, "executions", "Executions that ended, by status", MetricType::Counter)?;
        for (status, count) in &executions.ended {
            ConstCounter::new(*count).encode(ended.encode_family(&[("status", *status)])?)?;
        }
        counter(to, "execution_fuel", "Fuel that executions burnt", executions.fuel)?;
        let count = executions.durations.iter().map(|(_, count)| count).sum();
        let help = "Time from dispatch to result";
        let mut durations = described_as(to, "execution_duration_seconds", help, MetricType::Histogram)?;
        durations.encode_histogram::<NoLabelSet>(
            executions.duration_s,
            count,
            &executions.durations,
            None,
        )?;
        gauge(to, "executions_running", "Executions in workers", pool.executions_running as u64)?;
        gauge(to, "executions_queued", "Executions that wait for a slot", pool.executions_queued as u64)
    }

    fn workers(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let pool = &self.pool;
        gauge(to, "workers_ready", "Workers that take work", pool.workers_ready as u64)?;
        gauge(to, "workers_max", "Most workers at once, spares not counted", pool.workers_max as u64)?;
        counter(to, "workers_lost", "Workers that ended without having been asked to", pool.workers_lost)
    }

    fn records(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let RecorderCounters { written, shed, lost } = self.recorder;
        let mut records =
            described_as(to, "records", "Execution records, by what became of them", MetricType::Counter)?;
        for (fate, count) in [("written", written), ("shed", shed), ("lost", lost)] {
            ConstCounter::new(count).encode(records.encode_family(&[("fate", fate)])?)?;
        }
        Ok(())
    }

    fn connections(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let DatabaseCounters { open, idle, max } = self.database;
        gauge(to, "database_connections_open", "Connections to PostgreSQL", open.into())?;
        gauge(to, "database_connections_idle", "Those that nobody uses", idle.into())?;
        gauge(to, "database_connections_max", "Most connections", max.into())
    }
}

fn of_process(process: &ProcessStatus, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Processor time of this process, workers not counted";
    let cpu = described_as(to, "process_cpu_seconds", help, MetricType::Counter)?;
    ConstCounter::new(process.cpu_s).encode(cpu)?;
    let help = "Memory of this process, workers not counted";
    gauge(to, "process_resident_memory_bytes", help, process.resident_bytes)?;
    gauge(to, "process_open_fds", "Open descriptors", process.descriptors)?;
    gauge(to, "process_threads", "Threads", process.threads)
}

fn described_as<'a>(
    to: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    help: &str,
    kind: MetricType,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    to.encode_descriptor(name, help, None, kind)
}

fn counter(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstCounter::new(value).encode(described_as(to, name, help, MetricType::Counter)?)
}

fn gauge(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    ConstGauge::new(value).encode(described_as(to, name, help, MetricType::Gauge)?)
}
