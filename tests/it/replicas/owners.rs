//! Owners that die in a row.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{LEASE, RUNNING, SUCCEEDED, ground::Ground, until_lost, until_told};
use crate::stage::{HUAWEI, SOON};

/// So many owners are killed one after the other, and so many are stopped for longer than their lease. `TASKWATCH_TEST_OWNERS=50,20` for
/// more.
const OWNERS: (usize, usize) = (5, 3);

/// Under load, with tasks that end all the time: none of their ends is lost or told twice, and who has been stopped writes nothing.
#[tokio::test]
#[ignore = "takes minutes: make test-many"]
async fn owners_die_in_a_row_and_nothing_is_lost_or_told_twice() {
    let given = std::env::var("TASKWATCH_TEST_OWNERS").ok();
    let (kills, stops) = given.map_or(OWNERS, |given| {
        let (kills, stops) = given.split_once(',').unwrap();
        (kills.parse().unwrap(), stops.parse().unwrap())
    });
    let ground = Ground::new("replicas-in-a-row", 1).await;
    let stage = &ground.stage;
    ground.upstream("evs", json!({})).await;
    let mut standby = Some(ground.replica("r0").await);
    ground.until_held(SOON, &["r0"]).await;
    let mut longest = Duration::ZERO;
    for round in 0..kills + stops {
        let tasks: Vec<String> = (0..10).map(|number| format!("t{round}-{number}")).collect();
        for task in &tasks {
            stage.task(HUAWEI, "evs", task, json!([{"state": "RUNNING"}])).await;
            stage.watch(task, "evs", task, json!({})).await;
        }
        let owner = standby.take().unwrap();
        for task in &tasks {
            stage.until_row(task, RUNNING).await;
        }
        let name = format!("r{}", round + 1);
        let next = ground.replica(&name).await;
        // Some end before, some while nobody is there, some after.
        for task in &tasks[..5] {
            stage.step(HUAWEI, "evs", task, json!({"state": "SUCCESS"})).await;
        }
        let begun = Instant::now();
        let is_stopped = round >= kills;
        if is_stopped {
            owner.process().suspend().unwrap();
        } else {
            owner.process().kill().unwrap();
        }
        for task in &tasks[5..] {
            stage.step(HUAWEI, "evs", task, json!({"state": "SUCCESS"})).await;
        }
        ground.until_held(SOON, &[&name]).await;
        longest = longest.max(begun.elapsed());
        for task in &tasks {
            stage.until_row(task, SUCCEEDED).await;
        }
        if is_stopped {
            owner.process().resume().unwrap();
            until_lost(&owner).await;
        }
        for task in &tasks {
            until_told(stage, task).await;
        }
        standby = Some(next);
    }
    let names: Vec<String> = (0..=kills + stops).map(|round| format!("r{round}")).collect();
    let record = ground.is_proven(&names.iter().map(String::as_str).take(kills + stops).collect::<Vec<_>>()).await;
    let vacancy = record.ledger.longest_vacancy(0);
    println!(
        "{kills} killed, {stops} stopped, {} writes and requests; the longest takeover took {:.1} s, {:.1} s from the last renewal",
        record.acts.len(),
        longest.as_secs_f64(),
        vacancy.as_secs_f64()
    );
    assert!(vacancy < LEASE + Duration::from_secs(1), "{vacancy:?}");
    // The lease is 5 s; creating objects and asking who holds it take their time on a busy machine.
    assert!(longest < 2 * LEASE, "{longest:?}");
}
