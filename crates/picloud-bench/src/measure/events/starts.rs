//! When scripts start that a request causes: what the client's clock says of the request, and what the
//! record of the execution says of the start. It is one machine, so it is one clock.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use serde_json::Value;
use ureq::Agent;

use crate::load::Histogram;
use crate::subject::{Database, Picloud};

/// An app of its own, which nobody else keeps busy.
pub(super) const APP: &str = "bench-starts";
const HOST: &str = "bench-starts.localhost";
pub(super) const PER_SECOND: u32 = 100;
/// Until the records of what has run are written.
const RECORDED_WITHIN: Duration = Duration::from_secs(10);
/// How often it is asked whether they are.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Sends an event at regular times for so long; answers how long each took to start.
pub(super) fn measure(picloud: &Picloud, database: &Database, window: Duration) -> anyhow::Result<Histogram> {
    let began = since_epoch()?;
    let sent = send(picloud.address, window)?;
    let asked = Instant::now();
    let starts = loop {
        let starts = database.event_starts(began.as_secs_f64())?;
        let is_whole = sent.iter().all(|(delivery, _)| starts.contains_key(delivery));
        if is_whole || asked.elapsed() >= RECORDED_WITHIN {
            break starts;
        }
        std::thread::sleep(LOOK_EVERY);
    };
    let mut times = Histogram::default();
    for (delivery, sent_us) in &sent {
        let Some(start_us) = starts.get(delivery) else { continue };
        times.add(Duration::from_micros(u64::try_from(start_us - sent_us).unwrap_or_default()));
    }
    // A busy platform keeps records of a thousand successes a second, whoever's they are; a twentieth is enough
    // for what the slowest twentieth is compared by.
    ensure!(
        times.count() >= sent.len() as u64 / 20,
        "{} of {} events were recorded",
        times.count(),
        sent.len()
    );
    Ok(times)
}

/// The deliveries, each with when it was asked for.
fn send(address: SocketAddr, window: Duration) -> anyhow::Result<Vec<(String, i64)>> {
    let agent: Agent = Agent::config_builder().timeout_global(Some(RECORDED_WITHIN)).build().into();
    let url = format!("http://{address}{}", super::PATH);
    let (began, pause) = (Instant::now(), Duration::from_secs(1) / PER_SECOND);
    let mut sent = Vec::new();
    while began.elapsed() < window {
        let turn = pause * u32::try_from(sent.len())?;
        std::thread::sleep(turn.saturating_sub(began.elapsed()));
        let at_us = i64::try_from(since_epoch()?.as_micros())?;
        let mut answer = agent.post(&url).header("host", HOST).send("{}").context("an event was refused")?;
        ensure!(answer.status() == 202, "an event was answered {}", answer.status());
        let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string()?)?;
        let delivery = answer["execution_id"].as_str().context("no id of an execution")?;
        sent.push((delivery.to_owned(), at_us));
    }
    Ok(sent)
}

fn since_epoch() -> anyhow::Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}
