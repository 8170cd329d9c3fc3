//! What scripts keep: `kv` through the whole product, beside the same statements behind a bare axum
//! handler.

use serde_json::json;

use super::Bench;
use super::hello::micros;
use crate::baseline::Baseline;
use crate::load::{Measured, Request};
use crate::report::{Bound, Report, median};

const MANY: usize = 64;
/// What one call may cost over the bare statement: a frame each way, two switches of context.
const CALL_US: f64 = 60.0;

/// Scripts with the paths they answer at; the baseline answers at the same.
const SCRIPTS: [(&str, &str); 5] = [
    ("get", "kv::collection(\"bench\").get(\"picloud\")"),
    ("gets", "let c = kv::collection(\"bench\"); let v = (); for n in 0..100 { v = c.get(`k${n}`); } v"),
    (
        "numbers",
        "let c = kv::collection(\"bench\"); let n = random::int(0, 1000000000000); \
         for i in 1..100 { c.get(`k${n + i}`); } c.get(\"picloud\")",
    ),
    (
        "strange",
        "let c = kv::collection(\"bench\"); \
         for i in 1..100 { c.get(`k${random::int(0, 1000000000000)}`); } c.get(\"picloud\")",
    ),
    ("getset", "let c = kv::collection(\"bench\"); let v = c.get(\"picloud\"); c.set(\"picloud\", v); v"),
];

/// Writes what they read.
const KEEP: &str = "let c = kv::collection(\"bench\"); c.set(\"picloud\", \"value\"); \
                    for n in 0..100 { c.set(`k${n}`, \"value\"); }";

/// One contestant's turns at one script.
struct Pair {
    axum: Measured,
    picloud: Measured,
}

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    report.heading("What scripts keep: kv beside the same statements behind bare axum");
    bench.admin.deploy("bench-keep", KEEP, &json!({}))?;
    bench.admin.test("bench-keep")?;
    for (name, source) in SCRIPTS {
        bench.admin.deploy(&format!("bench-{name}"), source, &json!({}))?;
        bench.admin.route(&format!("/bench/data/{name}"), &format!("bench-{name}"))?;
    }
    let axum = Baseline::on_database(&bench.picloud.database()?.url())?;

    let hello = rounds(bench, report, "hello", 1, |bench| {
        let turn = |address| Ok::<_, anyhow::Error>(bench.turn(address, &bench.hello, 1, || ())?.0);
        Ok(Pair { axum: turn(bench.axum.address)?, picloud: turn(bench.picloud.address)? })
    })?;
    let at = |name: &str, connections| {
        let request = Request::get(&format!("/bench/data/{name}"), "\"value\"");
        rounds(bench, report, name, connections, |bench| {
            let turn = |address| Ok::<_, anyhow::Error>(bench.turn(address, &request, connections, || ())?.0);
            Ok(Pair { axum: turn(axum.address)?, picloud: turn(bench.picloud.address)? })
        })
    };
    let (get, gets) = (at("get", 1)?, at("gets", 1)?);
    let (numbers, strange) = (at("numbers", 1)?, at("strange", 1)?);
    let getset = at("getset", MANY)?;

    // What the read adds to hello, for each; then what it adds more in PiCloud.
    let added = |pick: fn(&Pair) -> &Measured| p50_of(&get, pick) - p50_of(&hello, pick);
    let over = added(|pair| &pair.picloud) - added(|pair| &pair.axum);
    let ratio_of = |pairs: &[Pair]| median(pairs.iter().map(|pair| p50(&pair.picloud) / p50(&pair.axum)));
    let (ratio, numbered, unforeseen) = (ratio_of(&gets), ratio_of(&numbers), ratio_of(&strange));
    let share = median(getset.iter().map(|pair| pair.picloud.per_second() / pair.axum.per_second()));
    report.goal("kv.get: p50 over a bare select", over, Bound::AtMost(CALL_US), "µs");
    report.goal("100 kv.get in a row: p50 / bare selects", ratio, Bound::AtMost(1.3), "×");
    report.goal("100 kv.get of new keys by number: p50 / bare selects", numbered, Bound::AtMost(1.3), "×");
    report.line(format_args!("  of new keys at random: {unforeseen:.2} × (no goal)"));
    report.goal(
        format!("kv get + set, {MANY} connections: rate / bare axum"),
        share,
        Bound::AtLeast(0.5),
        "×",
    );
    report.keep("kv_get_over_select_us", json!(over));
    report.keep("kv_gets_ratio", json!(ratio));
    report.keep("kv_gets_numbered_ratio", json!(numbered));
    report.keep("kv_gets_random_ratio", json!(unforeseen));
    report.keep("kv_getset_share", json!(share));
    Ok(())
}

/// Turns alternate, so that what else the machine does meets both alike.
fn rounds(
    bench: &Bench,
    report: &Report,
    name: &str,
    connections: usize,
    turn: impl Fn(&Bench) -> anyhow::Result<Pair>,
) -> anyhow::Result<Vec<Pair>> {
    let pairs = (0..bench.plan.rounds).map(|_| turn(bench)).collect::<anyhow::Result<Vec<_>>>()?;
    let rate = |pick: fn(&Pair) -> &Measured| median(pairs.iter().map(|pair| pick(pair).per_second()));
    let axum: fn(&Pair) -> &Measured = |pair| &pair.axum;
    let picloud: fn(&Pair) -> &Measured = |pair| &pair.picloud;
    report.line(format_args!(
        "  {name:<7} {connections:>2} conn   axum {:>8.0}/s ({:>7.1} µs)   PiCloud {:>8.0}/s ({:>7.1} µs)",
        rate(axum),
        p50_of(&pairs, axum),
        rate(picloud),
        p50_of(&pairs, picloud),
    ));
    Ok(pairs)
}

fn p50_of(pairs: &[Pair], pick: fn(&Pair) -> &Measured) -> f64 {
    median(pairs.iter().map(|pair| p50(pick(pair))))
}

fn p50(measured: &Measured) -> f64 {
    micros(measured.latency.percentile(50.0))
}
