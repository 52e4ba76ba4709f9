//! Several replicas: who does what, and who takes over when one ends, is killed, or stops for a while. That no two of them write, or ask,
//! at a time is judged by the logs of the API server and of the upstream.

mod budget;
mod ground;
mod ledger;
mod owners;
mod partition;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;
use taskwatch::api::TaskConnection;
use taskwatch_harness::{Operator, eventually};

use self::ground::Ground;
use crate::stage::{HUAWEI, SOON, Stage};

const RUNNING: &str = "Running Unknown/TaskRunning False True/Observed Unknown R";
const SUCCEEDED: &str = "Succeeded True/TaskSucceeded True True/Observed True";
/// As short as it may be; nothing here waits for it by the clock.
const LEASE: Duration = Duration::from_secs(5);
/// What a replica logs when it is the owner of a bucket no more.
const LOST: &str = "this replica is the owner no more";

/// Waits until a replica knows that it is the owner no more.
async fn until_lost(replica: &Operator) {
    eventually(SOON, "it notices", || async {
        ensure!(replica.process().log().contains(LOST), "it has not");
        Ok(())
    })
    .await
    .unwrap();
}

/// Waits until both events of a task have been published, each once: that goes on aside, after the status.
async fn until_told(stage: &Stage, name: &str) {
    eventually(SOON, &format!("{name}: its events"), || async {
        let told = stage.events(name).await;
        ensure!(told == ["TaskObserved", "TaskSucceeded"], "{told:?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// What a replica has sent to the API server that changes anything but Leases, and to upstreams.
async fn sent(operator: &Operator) -> Result<(f64, f64)> {
    let (_, metrics) = operator.get("/metrics").await?;
    let sum = |name: &str, of: &str| -> f64 {
        let ours = metrics.lines().filter(|line| line.starts_with(name) && line.contains(of));
        ours.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    };
    Ok((sum("rest_client_requests_total", "method=\"PATCH\""), sum("taskwatch_upstream_requests_total", "")))
}

#[tokio::test]
async fn one_works_and_another_takes_over_when_it_stops_or_is_killed() {
    let ground = Ground::new("replicas-takeover", 1).await;
    let stage = &ground.stage;
    ground.upstream("evs", json!({})).await;
    for task in ["one", "two", "three"] {
        stage.task(HUAWEI, "evs", task, json!([{"state": "RUNNING"}])).await;
        stage.watch(task, "evs", task, json!({})).await;
    }
    let first = ground.replica("r0").await;
    ground.until_held(SOON, &["r0"]).await;
    stage.until_row("one", RUNNING).await;
    let second = ground.replica("r1").await;
    // It is ready, and does nothing.
    assert_eq!(ground.holders().await.unwrap(), [Some("r0".to_owned())]);
    assert_eq!(sent(&second).await.unwrap(), (0.0, 0.0));

    // An orderly end: what it had begun is done, and the other begins at once.
    let begun = Timestamp::now().as_microsecond();
    first.process().stop().await.unwrap();
    ground.until_held(LEASE, &["r1"]).await;
    let log = first.process().log();
    assert!(log.contains("stopped"), "{log}");
    stage.step(HUAWEI, "evs", "one", json!({"state": "SUCCESS"})).await;
    stage.until_row("one", SUCCEEDED).await;

    // Killed: the lease has to expire.
    let third = ground.replica("r2").await;
    let killed = Instant::now();
    second.process().kill().unwrap();
    stage.step(HUAWEI, "evs", "two", json!({"state": "SUCCESS"})).await;
    ground.until_held(SOON, &["r2"]).await;
    let took = killed.elapsed();
    stage.until_row("two", SUCCEEDED).await;
    assert!(took < 2 * LEASE, "{took:?}");

    // Started anew under its own name, as a container of the same pod: it goes on at once.
    third.process().kill().unwrap();
    let third = ground.replica("r2").await;
    stage.step(HUAWEI, "evs", "three", json!({"state": "SUCCESS"})).await;
    stage.until_row("three", SUCCEEDED).await;
    for task in ["one", "two", "three"] {
        until_told(stage, task).await;
    }
    assert!(third.process().exit().is_none());
    let record = ground.is_proven(&["r0", "r1", "r2"]).await;
    let asked = record.acts.iter().filter(|act| act.by == "r1" && act.what == "asks evs");
    let took = asked.map(|act| act.at).min().unwrap() - begun;
    assert!(took < 2_000_000, "from SIGTERM to the first request of the other: {took} us");
}

#[tokio::test]
async fn who_was_stopped_for_longer_than_its_lease_does_nothing_any_more() {
    let ground = Ground::new("replicas-stopped", 1).await;
    let stage = &ground.stage;
    ground.upstream("evs", json!({})).await;
    stage.task(HUAWEI, "evs", "task", json!([{"state": "RUNNING"}])).await;
    stage.watch("task", "evs", "task", json!({})).await;
    let first = ground.replica("r0").await;
    stage.until_row("task", RUNNING).await;
    ground.upstream("gone", json!({})).await;
    stage.task(HUAWEI, "gone", "task", json!([{"state": "RUNNING"}])).await;
    stage.watch("gone", "gone", "task", json!({})).await;
    stage.until_row("gone", RUNNING).await;
    let second = ground.replica("r1").await;
    first.process().suspend().unwrap();
    ground.until_held(SOON, &["r1"]).await;
    stage.step(HUAWEI, "evs", "task", json!({"state": "SUCCESS"})).await;
    stage.until_row("task", SUCCEEDED).await;
    stage.delete("TaskConnection", "gone").await;
    stage.until_synced_says("gone", "does not exist").await;
    let (_, last) = stage.requests(0).await;
    first.process().resume().unwrap();
    until_lost(&first).await;
    // One task has ended, the other's connection is gone: nobody had anything to ask, and it did not.
    let before = sent(&first).await.unwrap();
    let (requests, _) = stage.requests(last).await;
    assert_eq!(requests.len(), 0, "{requests:?}");
    until_told(stage, "task").await;
    // And it is of use again when the other goes.
    second.process().stop().await.unwrap();
    ground.until_held(SOON, &["r0"]).await;
    stage.task(HUAWEI, "evs", "next", json!([{"state": "RUNNING"}])).await;
    stage.watch("next", "evs", "next", json!({})).await;
    stage.until_row("next", RUNNING).await;
    let after = sent(&first).await.unwrap();
    assert!(after > before, "{before:?} {after:?}");
    // What was deleted while it was no owner, it has not kept: it asks for the other one every second.
    let requests = eventually(SOON, "it asks again and again", || async {
        let (requests, _) = stage.requests(last).await;
        ensure!(requests.len() >= 4, "{requests:?}");
        Ok(requests)
    })
    .await
    .unwrap();
    assert!(requests.iter().all(|request| request["scope"] == "evs"), "{requests:?}");
    ground.is_proven(&["r0", "r1"]).await;
}

#[tokio::test]
async fn replicas_share_the_connections() {
    let ground = Ground::new("replicas-share", 4).await;
    let stage = &ground.stage;
    let names: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
    for name in &names {
        ground.upstream(name, json!({})).await;
        stage.task(HUAWEI, name, "task", json!([{"state": "RUNNING"}])).await;
        stage.watch(name, name, "task", json!({})).await;
    }
    let first = ground.replica("r0").await;
    ground.until_held(SOON, &["r0"; 4]).await;
    let second = ground.replica("r1").await;
    eventually(SOON, "each has its half", || async {
        let held = ground.holders().await?;
        let of = |name: &str| held.iter().filter(|holder| holder.as_deref() == Some(name)).count();
        ensure!((of("r0"), of("r1")) == (2, 2), "{held:?}");
        Ok(())
    })
    .await
    .unwrap();
    for name in &names {
        stage.until_row(name, RUNNING).await;
    }
    // Both ask, and both write.
    let before = (sent(&first).await.unwrap(), sent(&second).await.unwrap());
    for name in &names {
        stage.step(HUAWEI, name, "task", json!({"state": "SUCCESS"})).await;
    }
    for name in &names {
        stage.until_row(name, SUCCEEDED).await;
        until_told(stage, name).await;
    }
    for (operator, before) in [(&first, before.0), (&second, before.1)] {
        let after = sent(operator).await.unwrap();
        assert!(after.0 > before.0 && after.1 > before.1, "{before:?} {after:?}");
    }
    // What one leaves, the other takes.
    first.process().stop().await.unwrap();
    ground.until_held(SOON, &["r1"; 4]).await;
    let api: Api<Lease> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let left = api.get_opt("taskwatch-replica-r0").await.context("the lease of the one that has gone").unwrap();
    assert!(left.is_none());
    ground.is_proven(&["r0", "r1"]).await;
}

/// What the upstream asked for holds for whoever comes next.
#[tokio::test]
async fn a_silence_that_the_upstream_asked_for_outlasts_the_process() {
    const SILENCE: i64 = 15;
    let ground = Ground::new("replicas-silence", 1).await;
    let stage = &ground.stage;
    ground.upstream("evs", json!({})).await;
    stage.task(HUAWEI, "evs", "task", json!([{"state": "RUNNING"}])).await;
    stage.watch("task", "evs", "task", json!({})).await;
    let first = ground.replica("r0").await;
    stage.until_row("task", RUNNING).await;
    let action = json!({"kind": "status", "status": 429, "retryAfterSeconds": SILENCE});
    let fault = stage.fault(json!({"path": "/task"}), action).await;
    let api: Api<TaskConnection> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let until = eventually(SOON, "the connection says until when", || async {
        let status = api.get("evs").await?.status.context("no status")?;
        Ok(status.retry_after_time.context("no retryAfterTime")?.0)
    })
    .await
    .unwrap();
    stage.mend(&fault).await;
    first.process().kill().unwrap();
    let (_, last) = stage.requests(0).await;
    let _first = ground.replica("r0").await;
    let came = eventually(SOON, "it is asked again", || async {
        let (requests, _) = stage.requests(last).await;
        ensure!(!requests.is_empty(), "nothing was asked");
        Ok(Timestamp::now())
    })
    .await
    .unwrap();
    // The status has whole seconds.
    assert!(came.as_second() + 2 >= until.as_second(), "at {came}, and not before {until}");
    eventually(SOON, "the connection is silent no more", || async {
        let status = api.get("evs").await?.status.context("no status")?;
        ensure!(status.retry_after_time.is_none(), "{:?}", status.retry_after_time);
        Ok(())
    })
    .await
    .unwrap();
    ground.is_proven(&["r0"]).await;
}
