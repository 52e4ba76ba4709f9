//! The budget of a connection, over several owners.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use taskwatch_harness::eventually;

use super::ground::Ground;
use crate::stage::{HUAWEI, SOON};

const RATE: i32 = 2;
const BURST: usize = 8;

/// Waits until so many more requests have come than there were; how many there are then.
async fn until_more(ground: &Ground, before: usize, more: usize) -> usize {
    eventually(SOON, "the upstream is asked", || async {
        let count = ground.requests().await.len();
        ensure!(count >= before + more, "{count} of {before} and {more}");
        Ok(count)
    })
    .await
    .unwrap()
}

/// How many requests have come beyond what the rate had earned by then, at most: as the burst is counted.
fn peak(times: impl Iterator<Item = i64>) -> f64 {
    let (mut level, mut last, mut peak) = (0.0_f64, 0, 0.0_f64);
    for at in times {
        let since = Duration::from_micros((at - last).max(0).unsigned_abs()).as_secs_f64();
        level = (level - since * f64::from(RATE)).max(0.0) + 1.0;
        (last, peak) = (at, peak.max(level));
    }
    peak
}

#[test]
fn a_second_burst_is_noticed() {
    let burst = |at: i64| std::iter::repeat_n(at * 1_000_000, BURST);
    assert!((peak(burst(1).chain(burst(5))) - 8.0).abs() < 0.01, "earned in four seconds");
    assert!((peak(burst(1).chain(burst(3))) - 12.0).abs() < 0.01);
}

/// There is more to ask than may be asked, all the time.
#[tokio::test]
async fn owners_one_after_the_other_keep_to_one_budget() {
    let ground = Ground::new("replicas-budget", 1).await;
    let stage = &ground.stage;
    ground.upstream("evs", json!({"rateLimit": {"requestsPerSecond": RATE, "burst": BURST}})).await;
    for number in 0..30 {
        let task = format!("t{number}");
        stage.task(HUAWEI, "evs", &task, json!([{"state": "RUNNING"}])).await;
        stage.watch(&task, "evs", &task, json!({})).await;
    }
    let first = ground.replica("r0").await;
    stage.until_connection("evs", "Connected").await;
    let asked = until_more(&ground, 0, BURST).await;
    // Killed, and started anew under its name, as a container in its pod: it is the owner at once.
    first.process().kill().unwrap();
    first.process().wait(SOON).await.unwrap();
    let first = ground.replica("r0").await;
    let asked = until_more(&ground, asked, 3).await;
    // It stops, and another one is the owner at once.
    let second = ground.replica("r1").await;
    first.process().stop().await.unwrap();
    ground.until_held(SOON, &["r1"]).await;
    let asked = until_more(&ground, asked, 3).await;
    // Killed: the lease expires.
    let third = ground.replica("r2").await;
    second.process().kill().unwrap();
    ground.until_held(SOON, &["r2"]).await;
    until_more(&ground, asked, 3).await;
    let requests = ground.requests().await;
    assert!(["r0", "r1", "r2"].iter().all(|name| requests.iter().any(|(_, by, _)| by == name)), "{requests:?}");
    let peak = peak(requests.iter().map(|(at, ..)| *at));
    // What is on its way arrives when the machine has time for it.
    assert!(peak < f64::from(u32::try_from(BURST).unwrap()) + 1.5, "{peak}");
    ground.is_proven(&["r0"]).await;
    drop(third);
}
