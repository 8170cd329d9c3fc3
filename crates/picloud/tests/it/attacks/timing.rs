//! Scripts that want to learn by time what others do.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Target;
use crate::harness::{TestApp, TestServer};

/// How often it probes in one execution.
const PROBES: usize = 8;
/// Least that these take together: a clock that goes on by milliseconds would show it.
const PROBES_MS_MIN: f64 = 40.0;

/// Prime and probe: has memory that fills a cache at hand, lets others run while it waits for an answer, and takes
/// the time of going through that memory again.
const PROBE: &str = "
    let store = kv::collection(\"spy\");
    let lines = blob(1048576, 1);
    let times = [];
    for probe in 0..8 {
        store.get(\"nothing\");
        let begun = time::now_ms();
        let sum = 0;
        for round in 0..4 {
            let at = 0;
            while at < 1048576 { sum += lines[at]; at += 64; }
        }
        times.push(time::now_ms() - begun);
    }
    times
";

/// Looks at the clock without end, to see it go on, with few calls in between.
const WATCH: &str = "
    let store = kv::collection(\"spy\");
    let last = time::now_ms();
    let steps = 0;
    for calls in 0..20 {
        store.get(\"nothing\");
        for look in 0..5000 {
            let now = time::now_ms();
            if now != last { steps += 1; last = now; }
        }
    }
    steps
";

/// Writes all over a few megabytes, by which it pushes what others had there out of the caches.
const WORK: &str = "
    let b = blob(8000000, 1);
    let n = 0;
    while n < 200000 { b[n * 4099 % 8000000] = 2; n += 1; }
    n
";

/// The spy and its neighbour have different owners and share all workers, which is what suits a spy best.
#[test]
fn attack_51_learning_by_time_whether_another_tenant_is_at_work() {
    let target = Target::on("51", Arc::new(TestServer::start_with(&[("PICLOUD_ISOLATION", "shared")])));
    let (spy, neighbour) = (target.server.app(), target.server.app());
    let bob = json!({ "username": "bob", "password": "correct horse battery staple" });
    target.server.admin("POST", "/users", &bob).is(201);
    neighbour.admin("POST", ":assign", &json!({ "user": "bob" })).is(200);
    let limits = json!({ "fuel": 300_000_000_000_u64, "timeout_ms": 120_000 });
    spy.serve("probe", PROBE, &limits);
    neighbour.serve("work", WORK, &limits);

    let idle = probe(&spy);
    let beside: Vec<Seen> = std::thread::scope(|scope| {
        let work = || {
            for _ in 0..3 {
                neighbour.get("/work").is(200);
            }
        };
        // More at once than there are workers, so that the spy is beside them in each.
        let working = [(); 4].map(|()| scope.spawn(work));
        let mut seen = vec![probe(&spy)];
        while working.iter().any(|work| !work.is_finished()) {
            seen.push(probe(&spy));
        }
        seen
    });
    let told = format!("{}, and {} times beside others' work", idle.times, beside.len());
    target.row("going through memory", "takes no time that a script sees", &told);
    assert_eq!(idle.times, json!(vec![0; PROBES]), "the clock went on while the script computed");
    for seen in &beside {
        assert_eq!((&seen.times, &seen.fuel), (&idle.times, &idle.fuel), "beside a neighbour at work");
    }

    let steps = spy.run("watch", WATCH, &limits).is(200).json();
    target.row("100,000 looks, 20 calls", "no step of the clock", &steps.to_string());
    assert_eq!(steps, json!(0));
    target.ends_unharmed();
}

/// What a script sees of one execution, and what its owner is shown of it besides how long it took.
struct Seen {
    times: Value,
    fuel: Value,
}

/// One execution of the spy, of which the platform's own clock says that there was something to see.
fn probe(spy: &TestApp<'_>) -> Seen {
    let reply = spy.get("/probe");
    let times = reply.is(200).json();
    let execution = spy.execution_of(&reply);
    let took_ms = execution["duration_ms"].as_f64().unwrap();
    assert!(took_ms > PROBES_MS_MIN, "too quick to tell anything: {took_ms} ms");
    Seen { times, fuel: execution["fuel"].clone() }
}
