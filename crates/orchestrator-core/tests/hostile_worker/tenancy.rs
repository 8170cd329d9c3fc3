//! Who shares a worker with whom, and who gets one when there are few.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use orchestrator_core::pool::{self, HelloError, Mode, PoolConfig, StartError, VerifyError};
use shared::id::ScriptId;
use shared::invocation::{ExecutionStatus, Invocation, Refusal, WorkResult};
use shared::wire::worker::Layers;
use tokio::task::JoinSet;

use super::parent::{Farm, Tenant, eventually, invocation, invocation_within, program};

/// These workers have a filter and nothing else.
pub(crate) fn config(mode: Mode, workers: usize, tenant_workers: usize) -> PoolConfig {
    let config = PoolConfig { tenant_workers, ..PoolConfig::new(program(), workers, 4) };
    PoolConfig { needs: Layers::SYSTEM_CALL_FILTER, ..config.isolated(mode) }
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn a_weaker_replacement_gets_no_work() {
    let needs = Mode::Strict.needs();
    let farm = Farm::start(PoolConfig { needs, ..config(Mode::Shared, 1, 2) }).await;
    let app = Tenant::new();
    assert_eq!(
        farm.run(&app, "exit").await.status,
        ExecutionStatus::WorkerLost,
        "the first is whoever starts's"
    );
    eventually("it is gone", || farm.pool.status().workers_ready == 0).await;
    let refused = farm.work(invocation(&app, "honest")).await;
    assert!(matches!(refused, WorkResult::Refused(Refusal::Overloaded)), "{refused:?}");
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn a_claim_that_the_kernel_denies_is_found_out() {
    let refused = pool::probe(config(Mode::Off, 1, 1)).await.unwrap_err();
    let StartError::Hello(HelloError::Isolation(VerifyError::Untrue { layer, evidence })) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(layer, Layers::LIMITS);
    assert!(evidence.starts_with("Max "), "{evidence}");
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn two_owners_never_meet_in_a_worker() {
    let farm = Farm::start(config(Mode::Pinned, 2, 3)).await;
    let (one, two) = (Tenant::new(), Tenant::new());
    let second_app_of_one = Tenant { owner: one.owner, ..Tenant::new() };
    let (mut ones, mut twos) = (HashSet::new(), HashSet::new());
    for _ in 0..20 {
        ones.insert(farm.pid(&one).await);
        twos.insert(farm.pid(&two).await);
        ones.insert(farm.pid(&second_app_of_one).await);
    }
    assert!(ones.is_disjoint(&twos), "{ones:?} {twos:?}");
    assert_eq!((ones.len(), twos.len()), (1, 1), "what comes one after the other needs one worker each");
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn one_owner_has_all_workers() {
    let farm = Farm::start(config(Mode::Pinned, 2, 8)).await;
    eventually("both workers are there", || farm.pool.status().workers_ready == 2).await;
    let owner = Tenant::new();
    let silent = [(); 2].map(|()| farm.work(invocation(&owner, "silence")));
    let [first, second] = silent;
    let both = async { tokio::join!(first, second) };
    let look = async {
        eventually("both run", || farm.pool.status().executions_running == 2).await;
        farm.pool.workers()
    };
    let (_, workers) = tokio::join!(both, look);
    assert!(workers.iter().all(|worker| worker.owner == Some(owner.owner)), "{workers:?}");
    assert_eq!(workers.len(), 2, "nobody else wants one");
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn sixty_owners_are_all_answered_by_few_workers() {
    let farm = Arc::new(Farm::start(config(Mode::Pinned, 2, 4)).await);
    let mut owners = JoinSet::new();
    for _ in 0..60 {
        let farm = farm.clone();
        owners.spawn(async move { farm.pid(&Tenant::new()).await });
    }
    let pids: HashSet<u32> = owners.join_all().await.into_iter().collect();
    assert_eq!(pids.len(), 60, "each has had a process of its own");
    assert!(farm.pool.workers().len() <= 4, "{:?}", farm.pool.workers());
    assert_eq!(farm.pool.status().workers_lost, 0, "those that had to go went as asked");
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn strict_workers_run_one_execution() {
    let farm = Farm::start(config(Mode::Strict, 2, 4)).await;
    let (one, two) = (Tenant::new(), Tenant::new());
    let same_owner = Tenant { owner: one.owner, ..Tenant::new() };
    let pids = [farm.pid(&one).await, farm.pid(&two).await, farm.pid(&same_owner).await];
    assert_eq!(pids.iter().collect::<HashSet<_>>().len(), 3, "apps of one owner do not share either");
    let mut seen = HashSet::new();
    for _ in 0..101 {
        seen.insert(farm.pid(&one).await);
    }
    assert!(seen.len() >= 2, "a worker is replaced after a hundred executions");
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn one_app_has_half_of_the_slots_or_what_is_set() {
    for (app_slots_max, most) in [(None, 2), (Some(1), 1), (Some(3), 3)] {
        let farm = Farm::start(PoolConfig { app_slots_max, ..config(Mode::Shared, 1, 1) }).await;
        eventually("the worker is there", || farm.pool.status().workers_ready == 1).await;
        let app = Tenant::new();
        let load = futures([(); 4].iter().map(|()| farm.work(invocation(&app, "silence"))));
        let look = async {
            let status = || farm.pool.status();
            eventually("four are there", || status().executions_running + status().executions_queued == 4)
                .await;
            status().executions_running
        };
        assert_eq!(tokio::join!(load, look).1, most, "{app_slots_max:?}");
        farm.pool.drain(Duration::from_secs(1)).await;
    }
}

/// As a script runs that another one calls.
fn nested(tenant: &Tenant, behaviour: &str) -> Invocation {
    let mut nested = invocation(tenant, behaviour);
    nested.is_nested = true;
    nested
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn invoke_is_no_way_around_an_apps_share() {
    let farm = Farm::start(PoolConfig { app_slots_max: Some(1), ..config(Mode::Shared, 1, 1) }).await;
    eventually("the worker is there", || farm.pool.status().workers_ready == 1).await;
    let (greedy, modest) = (Tenant::new(), Tenant::new());
    let caller = farm.work(invocation(&greedy, "silence"));
    let calls = async {
        eventually("the caller runs", || farm.pool.status().executions_running == 1).await;
        let called = futures([(); 4].iter().map(|()| farm.work(nested(&greedy, "silence"))));
        let other = async {
            eventually("one call runs", || farm.pool.status().executions_running == 2).await;
            farm.work(invocation(&modest, "honest")).await
        };
        tokio::join!(called, other)
    };
    let (_, (called, answered)) = tokio::join!(caller, calls);
    let is_refused = |result: &&WorkResult| matches!(result, WorkResult::Refused(Refusal::Overloaded));
    assert_eq!(called.iter().filter(is_refused).count(), 3, "{called:?}");
    assert!(matches!(&answered, WorkResult::Ran(ran) if ran.status == ExecutionStatus::Ok), "{answered:?}");
    farm.pool.drain(Duration::from_secs(1)).await;
}

/// With so much memory.
fn roomy(tenant: &Tenant, behaviour: &str, memory_mb: u32) -> Invocation {
    let mut roomy = invocation(tenant, behaviour);
    Arc::make_mut(&mut roomy.target).limits.memory_mb = memory_mb;
    roomy
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn limits_of_memory_do_not_add_up_to_more_than_a_worker_has() {
    // Of 400 MiB load has 128, as much as four slots need with the default limit.
    for (memory_mb, most) in [(32, 3), (64, 2), (100, 1), (256, 1)] {
        let config = PoolConfig { worker_memory_bytes: Some(400 << 20), ..config(Mode::Shared, 1, 1) };
        let farm = Farm::start(config).await;
        eventually("the worker is there", || farm.pool.status().workers_ready == 1).await;
        let users = [(); 3].map(|()| Tenant::new());
        let load = futures(users.iter().map(|user| farm.work(roomy(user, "silence", memory_mb))));
        let look = async {
            let status = || farm.pool.status();
            eventually("three are there", || status().executions_running + status().executions_queued == 3)
                .await;
            let running = status().executions_running;
            (running, farm.work(roomy(&users[0], "honest", 64).as_test()).await)
        };
        let (_, (running, tested)) = tokio::join!(load, look);
        assert_eq!(running, most, "{memory_mb} MiB each");
        assert!(matches!(&tested, WorkResult::Ran(ran) if ran.status == ExecutionStatus::Ok), "{tested:?}");
        farm.pool.drain(Duration::from_secs(1)).await;
    }
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn limits_of_memory_do_not_add_up_over_workers() {
    // Load has 824 MiB in each worker, and 1,108 in both: three of these are the share of an app.
    let large = |tenant: &Tenant, behaviour: &str| {
        let mut large = invocation_within(8_000, tenant, behaviour);
        Arc::make_mut(&mut large.target).limits.memory_mb = 256;
        large
    };
    let config = PoolConfig { worker_memory_bytes: Some(1_200 << 20), ..config(Mode::Pinned, 2, 3) };
    let farm = Farm::start(config).await;
    let status = || farm.pool.status();
    eventually("both workers are there", || status().workers_ready == 2).await;
    let first = Tenant::new();
    let second = Tenant { owner: first.owner, ..Tenant::new() };
    let jobs = [&first, &second].into_iter().cycle().take(6);
    let load = futures(jobs.map(|app| farm.work(large(app, "silence"))));
    let others = async {
        eventually("six are there", || status().executions_running + status().executions_queued == 6).await;
        let running = status().executions_running;
        let other = farm.work(large(&Tenant::new(), "honest")).await;
        (running, other, farm.work(large(&first, "honest").as_test()).await)
    };
    let (running, other, tested) = tokio::select! {
        _ = load => panic!("the load ended before the others"),
        others = others => others,
    };
    assert_eq!(running, 4, "of six that would fit into two workers");
    for ran in [other, tested] {
        assert!(matches!(&ran, WorkResult::Ran(ran) if ran.status == ExecutionStatus::Ok), "{ran:?}");
    }
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn small_jobs_do_not_starve_large_ones() {
    // Load has 128 MiB, and three slots.
    let config = PoolConfig { worker_memory_bytes: Some(400 << 20), ..config(Mode::Shared, 1, 1) };
    let farm = Farm::start(config).await;
    eventually("the worker is there", || farm.pool.status().workers_ready == 1).await;
    let users = [(); 4].map(|()| Tenant::new());
    let seen = || {
        let status = farm.pool.status();
        (status.executions_running, status.executions_queued)
    };
    let slow = |user: &Tenant| {
        let mut slow = roomy(user, "call-for-ever", 32);
        Arc::make_mut(&mut slow.target).limits.timeout_ms = 2_000;
        farm.work(slow)
    };
    let small = futures(users[..2].iter().map(slow));
    let large = async {
        eventually("the small ones run", || seen() == (2, 0)).await;
        farm.work(roomy(&users[2], "honest", 100)).await
    };
    let later = async {
        eventually("the large one waits", || seen() == (2, 1)).await;
        farm.work(roomy(&users[3], "honest", 32)).await
    };
    let look = eventually("a small one that comes later waits too", || seen() == (2, 2));
    let (_, large, later, ()) = tokio::join!(small, large, later, look);
    for ran in [large, later] {
        assert!(matches!(&ran, WorkResult::Ran(ran) if ran.status == ExecutionStatus::Ok), "{ran:?}");
    }
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn a_watched_script_that_is_invoked_gets_a_worker() {
    let farm = Farm::start(config(Mode::Shared, 1, 1)).await;
    let watched = Tenant::new();
    let caller = Tenant { script: ScriptId::new(), ..watched };
    farm.run(&watched, "crash").await;
    farm.suspects(1).await;
    let calling = farm.work(invocation(&caller, "call-for-ever"));
    let called = async {
        eventually("the caller runs", || farm.pool.status().executions_running == 1).await;
        farm.work(nested(&watched, "honest")).await
    };
    let (_, called) = tokio::join!(calling, called);
    assert!(matches!(&called, WorkResult::Ran(ran) if ran.status == ExecutionStatus::Ok), "{called:?}");
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn a_called_script_gets_a_worker_where_each_has_one_slot() {
    for config in [
        config(Mode::Strict, 1, 4),
        config(Mode::Strict, 2, 4),
        PoolConfig { slots_per_worker: 1, ..config(Mode::Pinned, 1, 4) },
        PoolConfig { slots_per_worker: 2, ..config(Mode::Pinned, 1, 4) },
    ] {
        let what = format!("{} {} {}", config.mode, config.workers, config.slots_per_worker);
        let farm = Farm::start(config).await;
        let app = Tenant::new();
        // Another has been here before.
        farm.pid(&Tenant::new()).await;
        let calling = farm.work(invocation_within(8_000, &app, "call-for-ever"));
        let called = async {
            eventually("the caller runs", || farm.pool.status().executions_running == 1).await;
            let mut called = invocation_within(8_000, &app, "honest");
            called.is_nested = true;
            farm.work(called).await
        };
        let called = tokio::select! {
            _ = calling => panic!("the caller ended before whom it calls: {what}"),
            called = called => called,
        };
        let is_ok = matches!(&called, WorkResult::Ran(ran) if ran.status == ExecutionStatus::Ok);
        assert!(is_ok, "{what}: {called:?}");
        farm.pool.drain(Duration::from_secs(1)).await;
    }
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn a_worker_of_some_age_is_replaced() {
    let config = PoolConfig { recycle_age: Duration::ZERO, ..config(Mode::Shared, 1, 1) };
    let farm = Farm::start(config).await;
    let app = Tenant::new();
    assert_ne!(farm.pid(&app).await, farm.pid(&app).await);
    assert_eq!(farm.pool.status().workers_lost, 0, "it went as asked");
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn a_busy_worker_that_leaves_is_replaced_at_once() {
    let config = PoolConfig { recycle_age: Duration::ZERO, ..config(Mode::Shared, 1, 1) };
    let farm = Farm::start(config).await;
    let (slow, quick) = (Tenant::new(), Tenant::new());
    let long = farm.work(invocation_within(15_000, &slow, "silence"));
    let others = async {
        eventually("the long one runs", || farm.pool.status().executions_running == 1).await;
        let pids = [farm.pid(&quick).await, farm.pid(&quick).await];
        (pids, farm.pool.status().executions_running)
    };
    let (pids, running) = tokio::select! {
        _ = long => panic!("the long one ended before the others"),
        others = others => others,
    };
    assert_ne!(pids[0], pids[1], "the first one's worker leaves");
    assert_eq!(running, 1, "and still has something to do");
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn a_full_pool_still_lets_the_maker_test() {
    let farm = Farm::start(config(Mode::Shared, 1, 1)).await;
    let users = [(); 8].map(|()| Tenant::new());
    let load = users.iter().map(|user| farm.work(invocation(user, "silence")));
    let load = futures(load);
    let test = async {
        eventually("the pool is full", || farm.pool.status().executions_running == 3).await;
        let tested = farm.work(invocation(&users[0], "honest").as_test()).await;
        (tested, farm.pool.status().executions_queued)
    };
    let (_, (tested, queued)) = tokio::join!(load, test);
    assert!(matches!(tested, WorkResult::Ran(outcome) if outcome.status == ExecutionStatus::Ok));
    assert_eq!(queued, 5, "it went before those who wait");
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn a_full_strict_pool_still_lets_the_maker_test() {
    full_pool_lets_makers_test(Mode::Strict, 4, &[Some(0), Some(1), None, Some(0)]).await;
}

/// One whose owner has a worker, and one whose owner has none.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn a_full_pinned_pool_still_lets_the_maker_test() {
    full_pool_lets_makers_test(Mode::Pinned, 3, &[Some(0), None]).await;
}

/// So many users fill two workers, and some wait; each of the makers, a user or a stranger, is served meanwhile.
async fn full_pool_lets_makers_test(mode: Mode, users: usize, makers: &[Option<usize>]) {
    let farm = Farm::start(config(mode, 1, 2)).await;
    let (stranger, waiting) = (Tenant::new(), users - 2);
    let users: Vec<_> = (0..users).map(|_| Tenant::new()).collect();
    let load = futures(users.iter().map(|user| farm.work(invocation_within(8_000, user, "silence"))));
    let is_full = || {
        let status = farm.pool.status();
        (status.executions_running, status.executions_queued) == (2, waiting)
    };
    let test = async {
        let mut tested = Vec::new();
        for maker in makers {
            let maker = maker.map_or(&stranger, |user| &users[user]);
            eventually("load has its workers, and waits for more", is_full).await;
            tested.push(farm.work(invocation(maker, "honest").as_test()).await);
        }
        eventually("load has no more workers than before", is_full).await;
        tested
    };
    let tested = tokio::select! {
        _ = load => panic!("the load ended before the tests"),
        tested = test => tested,
    };
    for tested in tested {
        assert!(matches!(&tested, WorkResult::Ran(ran) if ran.status == ExecutionStatus::Ok), "{tested:?}");
    }
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn one_owners_apps_do_not_keep_another_owner_out() {
    let farm = Farm::start(PoolConfig { queue_max: 4, ..config(Mode::Pinned, 1, 2) }).await;
    eventually("the worker is there", || farm.pool.status().workers_ready == 1).await;
    let first = Tenant::new();
    let second = Tenant { owner: first.owner, ..Tenant::new() };
    let jobs = [&first, &second].into_iter().cycle().take(16);
    let load = futures(jobs.map(|app| farm.work(invocation_within(8_000, app, "silence"))));
    let other = async {
        eventually("the worker is full, and the owner's half of the queue", || {
            let status = farm.pool.status();
            status.executions_running == 3 && status.executions_queued >= 2
        })
        .await;
        let answered = farm.work(invocation(&Tenant::new(), "honest")).await;
        (answered, farm.pool.workers())
    };
    let (answered, workers) = tokio::select! {
        _ = load => panic!("the load ended before the other was answered"),
        answered = other => answered,
    };
    assert!(matches!(&answered, WorkResult::Ran(ran) if ran.status == ExecutionStatus::Ok), "{answered:?}");
    let greedy = workers.iter().filter(|worker| worker.owner == Some(first.owner)).count();
    assert_eq!(greedy, 1, "it did not take the worker that was made for the other: {workers:?}");
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn watched_scripts_do_not_multiply_an_owners_workers() {
    let farm = Farm::start(config(Mode::Pinned, 1, 3)).await;
    let (modest, owner) = (Tenant::new(), Tenant::new().owner);
    let evil = [(); 4].map(|()| Tenant { owner, ..Tenant::new() });
    for app in &evil {
        assert_eq!(farm.run(app, "crash").await.status, ExecutionStatus::WorkerLost);
    }
    farm.suspects(4).await;
    let pid = farm.pid(&modest).await;
    let load = futures(evil.iter().map(|app| farm.work(invocation_within(8_000, app, "silence"))));
    let other = async {
        eventually("all are there", || {
            let status = farm.pool.status();
            status.executions_running + status.executions_queued == 4 && status.executions_running > 0
        })
        .await;
        (farm.pid(&modest).await, farm.pool.status().executions_running)
    };
    let (after, running) = tokio::select! {
        _ = load => panic!("the load ended before the other was answered"),
        other = other => other,
    };
    assert_eq!(after, pid, "whoever was idle keeps the worker");
    assert_eq!(running, 1, "they have a share together");
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn test_runs_do_not_take_the_whole_pool() {
    let farm = Farm::start(config(Mode::Shared, 1, 1)).await;
    eventually("the worker is there", || farm.pool.status().workers_ready == 1).await;
    let (greedy, modest) = (Tenant::new(), Tenant::new());
    let load = futures([(); 6].iter().map(|()| farm.work(invocation(&greedy, "silence").as_test())));
    let other = async {
        eventually("those run that may", || farm.pool.status().executions_running >= 2).await;
        let answered = farm.work(invocation(&modest, "honest")).await;
        (answered, farm.pool.status())
    };
    let (_, (answered, status)) = tokio::join!(load, other);
    assert!(matches!(answered, WorkResult::Ran(outcome) if outcome.status == ExecutionStatus::Ok));
    assert_eq!((status.executions_running, status.executions_queued), (2, 4), "the others wait");
    farm.pool.drain(Duration::from_secs(1)).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn what_waits_is_not_given_to_a_liar() {
    for behaviour in ["two-results", "rubbish", "compiled"] {
        let farm = Farm::start(PoolConfig { slots_per_worker: 2, ..config(Mode::Shared, 1, 1) }).await;
        let (liar, honest) = (Tenant::new(), Tenant::new());
        let lie = farm.work(invocation(&liar, behaviour));
        let wait = farm.work(invocation(&honest, "honest"));
        let (_, waited) = tokio::join!(lie, wait);
        assert!(
            matches!(&waited, WorkResult::Ran(outcome) if outcome.status == ExecutionStatus::Ok),
            "{behaviour}: {waited:?}"
        );
        assert_eq!(farm.pool.status().workers_lost, 1, "{behaviour}");
        farm.pool.drain(Duration::from_secs(1)).await;
    }
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn a_full_queue_refuses_at_once() {
    let farm = Farm::start(PoolConfig { queue_max: 2, ..config(Mode::Shared, 1, 1) }).await;
    let users = [(); 5].map(|()| Tenant::new());
    let load = futures(users.iter().map(|user| farm.work(invocation(user, "silence"))));
    let late = async {
        eventually("the queue is full", || farm.pool.status().executions_queued == 2).await;
        let since = Instant::now();
        (farm.work(invocation(&Tenant::new(), "honest")).await, since.elapsed())
    };
    let (_, (refused, elapsed)) = tokio::join!(load, late);
    assert!(matches!(refused, WorkResult::Refused(Refusal::Overloaded)), "{refused:?}");
    // How soon exactly, the bench says.
    assert!(elapsed < Duration::from_millis(100), "{elapsed:?}");
    farm.pool.drain(Duration::from_secs(1)).await;
}

/// All at once, in this task.
pub(crate) async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = all.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        pending.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => {
                done.push(value);
                false
            }
            std::task::Poll::Pending => true,
        });
        if pending.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}
