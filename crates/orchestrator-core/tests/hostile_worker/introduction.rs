//! Workers that lie when they introduce themselves: each is found out before it gets any work.

use orchestrator_core::pool::{self, HelloError, PoolConfig, StartError, VerifyError};

use super::parent::program;
use super::worker::{FALSE_CLAIMS, ONE_DESCRIPTOR_MORE, ONE_THREAD_MORE};

fn telling(lie: u64) -> PoolConfig {
    PoolConfig { image_cache_bytes: lie, ..PoolConfig::new(program(), 1, 4) }
}

/// Why a worker is refused that tells this lie.
async fn refusal(lie: u64) -> VerifyError {
    match pool::probe(telling(lie)).await {
        Err(StartError::Hello(HelloError::Isolation(why))) => why,
        other => panic!("lie {lie}: {other:?}"),
    }
}

fn print_row(lie: &str, expected: &str, seen: &VerifyError) {
    println!("| 47 {lie:<22} | found out from outside: {expected} | {seen} |");
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn a_descriptor_more_is_found_out() {
    let seen = refusal(ONE_DESCRIPTOR_MORE).await;
    print_row("one descriptor more", "it holds the descriptor 4", &seen);
    assert!(matches!(&seen, VerifyError::Descriptor(said) if said == "4 to /dev/null"), "{seen}");
    assert_eq!(seen.to_string(), "it holds the descriptor 4 to /dev/null");
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn a_thread_more_is_found_out() {
    let seen = refusal(ONE_THREAD_MORE).await;
    print_row("one thread more", "it has 2 threads", &seen);
    assert!(matches!(&seen, VerifyError::Threads(count) if count == "2"), "{seen}");
    assert_eq!(seen.to_string(), "it has 2 threads");
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn walls_that_are_only_claimed_are_found_out() {
    for (number, (claimed, contradiction)) in (0..).zip(FALSE_CLAIMS) {
        let seen = refusal(number).await;
        print_row(&claimed.to_string(), contradiction, &seen);
        let VerifyError::Untrue { layer, evidence } = &seen else {
            panic!("{claimed}: {seen}");
        };
        assert_eq!(layer, claimed);
        assert!(evidence.starts_with(contradiction), "{claimed}: {evidence}");
    }
}

/// The same worker without a lie: it is the lie that the others are refused for.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn who_tells_no_lie_is_employed() {
    let honest = PoolConfig::new(program(), 1, 4);
    let seen = pool::probe(honest).await.map(|probe| probe.isolation.claimed.to_string());
    assert_eq!(seen.unwrap(), "system-call-filter");
}
