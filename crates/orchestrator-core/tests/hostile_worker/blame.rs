//! Who is blamed for a lost worker, and what the others in it are told.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use orchestrator_core::pool::{Mode, PoolConfig};
use shared::invocation::{ExecutionStatus, Refusal, WorkResult};
use shared::limits::KILL_GRACE_MS;

use crate::parent::{Farm, Tenant, beside, eventually, invocation, invocation_within, program};
use crate::tenancy::futures;

const LIMITS: &str = include_str!("../../../../docs/limits.md");

fn shared(slots: u16) -> PoolConfig {
    PoolConfig::new(program(), 1, slots).isolated(Mode::Shared)
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn neighbours_are_told_apart() {
    let farm = Farm::start(shared(4)).await;
    let (evil, good) = (Tenant::new(), Tenant::new());
    let wait = farm.work(invocation(&good, "silence"));
    let crash = async {
        eventually("the other runs", || farm.pool.status().executions_running == 1).await;
        farm.run(&evil, "crash").await
    };
    tokio::join!(wait, crash);
    let mut first = farm.suspects(2).await;
    first.sort_unstable();
    let mut both = [(evil.script, false), (good.script, false)];
    both.sort_unstable();
    assert_eq!(first, both, "it cannot be seen which of them it was");

    let (crashed, answered) = tokio::join!(farm.run(&evil, "crash"), farm.run(&good, "honest"));
    assert_eq!(crashed.status, ExecutionStatus::WorkerLost);
    assert_eq!(answered.status, ExecutionStatus::Ok, "it is out of reach now");
    assert_eq!(farm.suspects(3).await[2..], [(evil.script, true)]);
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn a_watched_script_runs_alone() {
    let farm = Farm::start(shared(4)).await;
    let (watched, other) = (Tenant::new(), Tenant::new());
    farm.run(&watched, "crash").await;
    farm.suspects(1).await;
    let (own, others) = tokio::join!(farm.pid(&watched), farm.pid(&other));
    assert_ne!(own, others);
    assert_eq!(farm.pid(&watched).await, own, "it keeps its worker");
    assert_ne!(farm.pid(&other).await, own);
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn who_runs_alone_is_blamed_from_the_first_time() {
    let farm = Farm::start(shared(4)).await;
    let evil = Tenant::new();
    for _ in 0..3 {
        farm.run(&evil, "crash").await;
    }
    assert_eq!(farm.suspects(3).await, [(evil.script, true); 3], "three times are three");
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn who_ran_often_is_blamed_once() {
    let farm = Farm::start(PoolConfig { app_slots_max: Some(3), ..shared(4) }).await;
    eventually("the worker is there", || farm.pool.status().workers_ready == 1).await;
    let unlucky = Tenant::new();
    let waiting = futures([(); 2].iter().map(|()| farm.work(invocation_within(15_000, &unlucky, "silence"))));
    let crash = async {
        eventually("two run", || farm.pool.status().executions_running == 2).await;
        farm.run(&unlucky, "crash").await
    };
    let (lost, crashed) = tokio::join!(waiting, crash);
    assert_eq!(crashed.status, ExecutionStatus::WorkerLost);
    let is_lost =
        |ran: &WorkResult| matches!(ran, WorkResult::Ran(ran) if ran.status == ExecutionStatus::WorkerLost);
    assert!(lost.iter().all(is_lost), "all three were in one worker: {lost:?}");
    farm.suspects(1).await;
    farm.run(&unlucky, "crash").await;
    assert_eq!(farm.suspects(2).await, [(unlucky.script, true); 2], "two workers were lost");
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn what_waits_stays_where_it_is() {
    let farm = Farm::start(PoolConfig { app_slots_max: Some(1), ..shared(4) }).await;
    eventually("the worker is there", || farm.pool.status().workers_ready == 1).await;
    let (app, other) = (Tenant::new(), Tenant::new());
    let status = || farm.pool.status();
    let killed = farm.work(invocation_within(15_000, &app, "silence"));
    let first = async {
        eventually("one runs", || status().executions_running == 1).await;
        farm.work(invocation(&app, "call-for-ever")).await
    };
    let second = async {
        eventually("one waits", || status().executions_queued == 1).await;
        farm.pid(&app).await
    };
    let operator = async {
        eventually("two wait", || status().executions_queued == 2).await;
        let worker = farm.pool.workers()[0].pid;
        kill(Pid::from_raw(i32::try_from(worker).unwrap()), Signal::SIGKILL).unwrap();
    };
    let (_, _, apps, ()) = tokio::join!(killed, first, second, operator);
    assert_eq!(farm.pid(&other).await, apps, "they share a worker as before");
    assert_eq!(farm.pid(&app).await, apps);
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn whoever_ran_before_may_be_the_reason() {
    let farm = Farm::start(shared(4)).await;
    let (before, after) = (Tenant::new(), Tenant::new());
    assert_eq!(farm.pid(&before).await, farm.pid(&after).await);
    farm.run(&after, "crash").await;
    assert_eq!(farm.suspects(1).await, [(after.script, false)]);
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn what_waits_is_set_apart() {
    let farm = Farm::start(PoolConfig { app_slots_max: Some(1), ..shared(4) }).await;
    eventually("the worker is there", || farm.pool.status().workers_ready == 1).await;
    let (evil, good) = (Tenant::new(), Tenant::new());
    let attacks = futures([(); 6].iter().map(|()| farm.work(invocation(&evil, "crash"))));
    let neighbour = async {
        eventually("the first worker is lost", || farm.pool.status().workers_lost > 0).await;
        farm.run(&good, "silence").await
    };
    let (attacks, neighbour) = tokio::join!(attacks, neighbour);
    assert_eq!(neighbour.status, ExecutionStatus::Timeout, "no other worker was lost with it");
    assert!(attacks.iter().all(|ran| matches!(ran, WorkResult::Ran(_))), "{attacks:?}");
    let suspects = farm.suspects(7).await;
    let evils = suspects.iter().filter(|suspect| **suspect == (evil.script, true)).count();
    assert_eq!(evils, 6, "each in a worker that ran nothing else: {suspects:?}");
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn what_waits_is_refused_once_it_is_quarantined() {
    let farm = Farm::start(PoolConfig { app_slots_max: Some(1), ..shared(4) }).await;
    eventually("the worker is there", || farm.pool.status().workers_ready == 1).await;
    let (app, other) = (Tenant::new(), Tenant::new());
    let runs = farm.work(invocation(&app, "silence"));
    let waits = async {
        eventually("the first runs", || farm.pool.status().executions_running == 1).await;
        futures([(); 3].iter().map(|()| farm.work(invocation(&app, "honest")))).await
    };
    let look = async {
        eventually("the others wait", || farm.pool.status().executions_queued == 3).await;
        farm.quarantine(&app);
    };
    let (_, refused, ()) = tokio::join!(runs, waits, look);
    let is_refused = |result: &WorkResult| matches!(result, WorkResult::Refused(Refusal::Quarantined));
    assert!(refused.iter().all(is_refused), "{refused:?}");
    assert_eq!(farm.run(&other, "honest").await.status, ExecutionStatus::Ok);
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn compilations_are_suspected() {
    let farm = Farm::start(shared(4)).await;
    let (evil, good) = (Tenant::new(), Tenant::new());
    let is_lost =
        |result: &WorkResult| matches!(result, WorkResult::NotCompiled(ExecutionStatus::WorkerLost));
    let first = farm.compile(&evil).await;
    assert!(is_lost(&first), "{first:?}");
    eventually("it is reported", || farm.suspected_compilations() == [evil.app]).await;

    let neighbour = farm.run(&good, "silence");
    let attack = async {
        eventually("the other runs", || farm.pool.status().executions_running == 1).await;
        farm.compile(&evil).await
    };
    let (neighbour, second) = tokio::join!(neighbour, attack);
    assert!(is_lost(&second), "{second:?}");
    assert_eq!(neighbour.status, ExecutionStatus::Timeout, "it is out of reach now");
    eventually("it is reported", || farm.suspected_compilations() == [evil.app; 2]).await;
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn who_ends_workers_delays_nobody() {
    let farm = Farm::start(PoolConfig::new(program(), 2, 4)).await;
    let (evil, canary) = (Tenant::new(), Tenant::new());
    let attack = Box::pin(async {
        for behaviour in ["exit", "crash", "forbidden-call"].iter().cycle().take(12) {
            assert_eq!(farm.run(&evil, behaviour).await.status, ExecutionStatus::WorkerLost, "{behaviour}");
        }
    });
    let ((), answers) = beside(&farm, &canary, attack).await;
    let since = Instant::now();
    for _ in 0..4 {
        assert_eq!(farm.run(&Tenant::new(), "honest").await.status, ExecutionStatus::Ok);
    }
    let took = since.elapsed();
    println!(
        "| –  {:<22} | 12 workers lost, nobody waits; canary unharmed | four in {} ms, {answers} answers |",
        "ending workers",
        took.as_millis()
    );
    // A pool that takes this for a machine on which no worker starts would wait 5 s before each.
    assert!(took < Duration::from_secs(4), "{took:?}");
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn an_ignored_deadline_ends_the_worker() {
    // What is promised, in numbers: by its clock a busy machine cannot tell it from twice as much.
    assert_eq!(KILL_GRACE_MS, 250);
    assert!(LIMITS.contains("| grace after a deadline | 250 ms | `KILL_GRACE_MS` |"));
    // One worker for each owner: the late one's other app is in the same, the canary in another.
    let farm = Farm::start(PoolConfig::new(program(), 1, 4)).await;
    let (late, canary) = (Tenant::new(), Tenant::new());
    let other = Tenant { owner: late.owner, ..Tenant::new() };
    let since = Instant::now();
    let ends = farm.work(invocation_within(100, &late, "silence"));
    let lost = farm.work(invocation_within(20_000, &other, "silence"));
    let both = Box::pin(async { (tokio::join!(ends, lost), since.elapsed()) });
    let (((ends, lost), took), answers) = beside(&farm, &canary, both).await;
    let status = |result: WorkResult| match result {
        WorkResult::Ran(outcome) => outcome.status,
        other => panic!("{other:?}"),
    };
    assert_eq!((status(ends), status(lost)), (ExecutionStatus::Timeout, ExecutionStatus::WorkerLost));
    println!(
        "| 49 {:<22} | Timeout 250 ms after 100 ms; canary unharmed | after {} ms, {answers} answers |",
        "an ignored deadline",
        took.as_millis()
    );
    // The deadline and the grace after it; the rest is for a busy machine.
    assert!(took >= Duration::from_millis(350) && took < Duration::from_secs(5), "{took:?}");
    farm.pool.drain(Duration::from_secs(1)).await;
}
