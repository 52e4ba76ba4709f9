//! Owners that die in a row.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::ListParams};
use serde_json::json;
use taskwatch_harness::eventually;

use super::{
    LEASE, RUNNING, SUCCEEDED,
    ground::{Ground, Record},
    until_lost,
};
use crate::stage::{HUAWEI, SOON};

/// So many owners are killed one after the other, and so many are stopped for longer than their lease. `TASKWATCH_TEST_OWNERS=50,20` for
/// more.
const OWNERS: (usize, usize) = (5, 3);

/// Who dies within this time after it has written a status may not have told of it yet.
const TELLS_WITHIN: i64 = 1_000_000;

/// How often each event was told, by object and reason.
async fn told(ground: &Ground) -> Result<BTreeMap<(String, String), usize>> {
    let api: Api<Event> = Api::namespaced(ground.stage.client.clone(), &ground.stage.namespace);
    let mut told = BTreeMap::new();
    for event in api.list(&ListParams::default()).await?.items {
        ensure!(event.series.is_none(), "it was told several times: {event:?}");
        let name = event.regarding.and_then(|object| object.name).unwrap_or_default();
        *told.entry((name, event.reason.unwrap_or_default())).or_insert(0) += 1;
    }
    Ok(told)
}

/// Waits until both events of each task have been told, once. Only where an owner died just after it had written the status, its event is
/// untold with it: how many those are.
async fn until_all_are_told(ground: &Ground, record: &Record, tasks: &[String]) -> usize {
    let mut last = BTreeMap::new();
    for act in &record.acts {
        let at = last.entry(&act.by).or_insert(act.at);
        *at = act.at.max(*at);
    }
    let died_with_it = |task: &String| {
        let what = format!("patch taskwatches/status {task}");
        record.acts.iter().any(|act| act.what == what && last[&act.by] - act.at <= TELLS_WITHIN)
    };
    let untold = eventually(SOON, "all is told", || async {
        let told = told(ground).await?;
        let twice: Vec<_> = told.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
        let all = tasks.iter().flat_map(|task| ["TaskObserved", "TaskSucceeded"].map(|reason| (task, reason)));
        let missing: Vec<_> =
            all.filter(|(task, reason)| !told.contains_key(&((*task).clone(), (*reason).to_owned()))).collect();
        ensure!(missing.iter().all(|(task, _)| died_with_it(task)), "{missing:?}");
        Ok(missing.len())
    });
    untold.await.unwrap()
}

/// Under load, with tasks that end all the time: none of their ends is lost or told twice, and nobody writes or asks beside another.
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
    let (mut longest, mut all) = (Duration::ZERO, Vec::new());
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
        all.extend(tasks);
        standby = Some(next);
    }
    let names: Vec<String> = (0..=kills + stops).map(|round| format!("r{round}")).collect();
    let record = ground.is_proven(&names.iter().map(String::as_str).take(kills + stops).collect::<Vec<_>>()).await;
    let lost = until_all_are_told(&ground, &record, &all).await;
    let vacancy = record.ledger.longest_vacancy(0);
    println!(
        "{kills} killed, {stops} stopped, {} writes and requests; {lost} events were lost with their \
         owner; the longest takeover took {:.1} s, {:.1} s from the last renewal",
        record.acts.len(),
        longest.as_secs_f64(),
        vacancy.as_secs_f64()
    );
    // Who has just started has not seen how old the last renewal was: a third of the duration at most.
    assert!(vacancy < LEASE * 4 / 3 + Duration::from_secs(1), "{vacancy:?}");
    // The lease is 5 s; creating objects and asking who holds it take their time on a busy machine.
    assert!(longest < 2 * LEASE, "{longest:?}");
}
