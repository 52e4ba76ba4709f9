//! A short soak; `make soak` is the long one.

use std::time::Duration;

use taskwatch_harness::soak::{Options, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_status_is_true_after_a_storm() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(4);
    let options = Options {
        seed,
        storm: Duration::from_secs(30),
        limit: Duration::from_secs(90),
        watches: 200,
        flood: 0,
        remove_crd: false,
        verbose: true,
    };
    let report = Box::pin(run(options)).await.unwrap();
    assert!(report.findings.is_empty(), "seed {seed}:\n{}\n{}", report.findings.join("\n"), report.summary.join("\n"));
}
