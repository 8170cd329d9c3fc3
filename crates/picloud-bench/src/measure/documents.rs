//! Documents that a script finds among many, beside the same question in hand-written SQL behind bare axum.

use serde_json::json;

use super::Bench;
use super::hello::micros;
use crate::baseline::Baseline;
use crate::load::{Measured, Request};
use crate::report::{Bound, Report, median};

const SCRIPT: &str =
    "docs::collection(\"bench\").find(#{ group: 77, \"$sort\": \"n\", \"$limit\": 20 }).len()";

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let documents = bench.plan.documents;
    report.heading(format_args!("Twenty of {documents} documents, by an index"));
    bench.picloud.database()?.fill_docs(documents)?;
    bench.admin.index("bench", &["group", "n"])?;
    bench.admin.deploy("bench-find", SCRIPT, &json!({}))?;
    bench.admin.route("/bench/data/find", "bench-find")?;
    let axum = Baseline::on_database(&bench.picloud.database()?.url())?;
    let request = Request::get("/bench/data/find", "20");
    let mut ratios = Vec::new();
    for _ in 0..bench.plan.rounds {
        let turn = |address| Ok::<_, anyhow::Error>(bench.turn(address, &request, 1, || ())?.0);
        let (bare, picloud) = (p50(&turn(axum.address)?), p50(&turn(bench.picloud.address)?));
        report.line(format_args!("  axum {bare:.1} µs, PiCloud {picloud:.1} µs"));
        ratios.push(picloud / bare);
    }
    let ratio = median(ratios.iter().copied());
    report.goal("docs.find: p50 / hand-written SQL", ratio, Bound::AtMost(2.0), "×");
    report.keep("docs_find", json!({ "documents": documents, "ratios": ratios }));
    Ok(())
}

fn p50(measured: &Measured) -> f64 {
    micros(measured.latency.percentile(50.0))
}
