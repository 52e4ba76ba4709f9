//! Several replicas: who does what, and who takes over when one ends, is killed, or stops for a while.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, api::ListParams};
use serde_json::json;
use taskwatch::api::TaskConnection;
use taskwatch_harness::{Operator, eventually};

use crate::stage::{HUAWEI, SOON, Stage};

const RUNNING: &str = "Running Unknown/TaskRunning False True/Observed Unknown R";
const SUCCEEDED: &str = "Succeeded True/TaskSucceeded True True/Observed True";
/// As short as it may be; nothing here waits for it by the clock.
const LEASE: Duration = Duration::from_secs(5);

/// Starts a replica, which lives in the namespace of the stage.
async fn replica(stage: &Stage, name: &str, buckets: &str) -> Operator {
    let options = stage.operator_options().env("POD_NAME", name).env("POD_NAMESPACE", &stage.namespace);
    Operator::start(options.args(&["--lease-buckets", buckets, "--lease-duration-seconds", "5"])).await.unwrap()
}

/// Who holds each bucket, in their order; none where it is free.
async fn holders(stage: &Stage) -> Result<Vec<Option<String>>> {
    let api: Api<Lease> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let mut leases = api.list(&ListParams::default().labels("taskwatch.dev/leases=taskwatch")).await?.items;
    leases.retain(|lease| lease.metadata.name.as_deref().is_some_and(|name| !name.contains("replica")));
    leases.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
    Ok(leases.into_iter().map(|lease| lease.spec.and_then(|spec| spec.holder_identity)).collect())
}

async fn until_held(stage: &Stage, limit: Duration, wanted: &[&str]) {
    eventually(limit, &format!("the leases are held by {wanted:?}"), || async {
        let held = holders(stage).await?;
        ensure!(held.iter().map(Option::as_deref).eq(wanted.iter().map(|name| Some(*name))), "{held:?}");
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
    let stage = Stage::new("replicas-takeover").await;
    stage.upstream(HUAWEI, "evs").await;
    for task in ["one", "two", "three"] {
        stage.task(HUAWEI, "evs", task, json!([{"state": "RUNNING"}])).await;
        stage.watch(task, "evs", task, json!({})).await;
    }
    let first = replica(&stage, "first", "1").await;
    until_held(&stage, SOON, &["first"]).await;
    stage.until_row("one", RUNNING).await;
    let second = replica(&stage, "second", "1").await;
    // It is ready, and does nothing.
    assert_eq!(holders(&stage).await.unwrap(), [Some("first".to_owned())]);
    assert_eq!(sent(&second).await.unwrap(), (0.0, 0.0));

    // An orderly end: what it had begun is done, and the other begins at once.
    let begun = Instant::now();
    first.process().stop().await.unwrap();
    until_held(&stage, LEASE, &["second"]).await;
    let log = first.process().log();
    assert!(log.contains("stopped"), "{log}");
    assert!(begun.elapsed() < LEASE, "it did not wait for the lease to expire: {:?}", begun.elapsed());
    stage.step(HUAWEI, "evs", "one", json!({"state": "SUCCESS"})).await;
    stage.until_row("one", SUCCEEDED).await;

    // Killed: the lease has to expire.
    let third = replica(&stage, "third", "1").await;
    let killed = Instant::now();
    second.process().kill().unwrap();
    stage.step(HUAWEI, "evs", "two", json!({"state": "SUCCESS"})).await;
    until_held(&stage, SOON, &["third"]).await;
    let took = killed.elapsed();
    stage.until_row("two", SUCCEEDED).await;
    assert!(took < 2 * LEASE, "{took:?}");

    // Started anew under its own name, as a container of the same pod: it goes on at once.
    third.process().kill().unwrap();
    let third = replica(&stage, "third", "1").await;
    stage.step(HUAWEI, "evs", "three", json!({"state": "SUCCESS"})).await;
    stage.until_row("three", SUCCEEDED).await;
    for task in ["one", "two", "three"] {
        until_told(&stage, task).await;
    }
    assert!(third.process().exit().is_none());
}

#[tokio::test]
async fn who_was_stopped_for_longer_than_its_lease_does_nothing_any_more() {
    let stage = Stage::new("replicas-stopped").await;
    stage.upstream(HUAWEI, "evs").await;
    stage.task(HUAWEI, "evs", "task", json!([{"state": "RUNNING"}])).await;
    stage.watch("task", "evs", "task", json!({})).await;
    let first = replica(&stage, "first", "1").await;
    stage.until_row("task", RUNNING).await;
    let second = replica(&stage, "second", "1").await;
    first.process().suspend().unwrap();
    until_held(&stage, SOON, &["second"]).await;
    stage.step(HUAWEI, "evs", "task", json!({"state": "SUCCESS"})).await;
    stage.until_row("task", SUCCEEDED).await;
    let (_, last) = stage.requests(0).await;
    first.process().resume().unwrap();
    eventually(SOON, "it notices", || async {
        let log = first.process().log();
        ensure!(log.contains("this replica is the owner no more"), "{log}");
        Ok(())
    })
    .await
    .unwrap();
    // The task has ended: nobody had anything to ask, and it did not.
    let before = sent(&first).await.unwrap();
    let (requests, _) = stage.requests(last).await;
    assert_eq!(requests.len(), 0, "{requests:?}");
    until_told(&stage, "task").await;
    // And it is of use again when the other goes.
    second.process().stop().await.unwrap();
    until_held(&stage, SOON, &["first"]).await;
    stage.task(HUAWEI, "evs", "next", json!([{"state": "SUCCESS"}])).await;
    stage.watch("next", "evs", "next", json!({})).await;
    stage.until_row("next", SUCCEEDED).await;
    let after = sent(&first).await.unwrap();
    assert!(after > before, "{before:?} {after:?}");
}

#[tokio::test]
async fn replicas_share_the_connections() {
    let stage = Stage::new("replicas-share").await;
    let names: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
    for name in &names {
        stage.upstream(HUAWEI, name).await;
        stage.task(HUAWEI, name, "task", json!([{"state": "RUNNING"}])).await;
        stage.watch(name, name, "task", json!({})).await;
    }
    let first = replica(&stage, "first", "4").await;
    until_held(&stage, SOON, &["first"; 4]).await;
    let second = replica(&stage, "second", "4").await;
    eventually(SOON, "each has its half", || async {
        let held = holders(&stage).await?;
        let of = |name: &str| held.iter().filter(|holder| holder.as_deref() == Some(name)).count();
        ensure!((of("first"), of("second")) == (2, 2), "{held:?}");
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
        until_told(&stage, name).await;
    }
    for (operator, before) in [(&first, before.0), (&second, before.1)] {
        let after = sent(operator).await.unwrap();
        assert!(after.0 > before.0 && after.1 > before.1, "{before:?} {after:?}");
    }
    // What one leaves, the other takes.
    first.process().stop().await.unwrap();
    until_held(&stage, SOON, &["second"; 4]).await;
    let api: Api<Lease> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let left = api.get_opt("taskwatch-replica-first").await.context("the lease of the one that has gone").unwrap();
    assert!(left.is_none());
}

/// What the upstream asked for holds for whoever comes next.
#[tokio::test]
async fn a_silence_that_the_upstream_asked_for_outlasts_the_process() {
    const SILENCE: i64 = 15;
    let stage = Stage::new("replicas-silence").await;
    stage.upstream(HUAWEI, "evs").await;
    stage.task(HUAWEI, "evs", "task", json!([{"state": "RUNNING"}])).await;
    stage.watch("task", "evs", "task", json!({})).await;
    let first = replica(&stage, "first", "1").await;
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
    let _first = replica(&stage, "first", "1").await;
    let came = eventually(SOON, "it is asked again", || async {
        let (requests, _) = stage.requests(last).await;
        ensure!(!requests.is_empty(), "nothing was asked");
        Ok(jiff::Timestamp::now())
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
}

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
    let stage = Stage::new("replicas-in-a-row").await;
    stage.upstream(HUAWEI, "evs").await;
    let mut standby = Some(replica(&stage, "r0", "1").await);
    until_held(&stage, SOON, &["r0"]).await;
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
        let next = replica(&stage, &name, "1").await;
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
        until_held(&stage, SOON, &[&name]).await;
        longest = longest.max(begun.elapsed());
        for task in &tasks {
            stage.until_row(task, SUCCEEDED).await;
        }
        if is_stopped {
            owner.process().resume().unwrap();
            let lost = "this replica is the owner no more";
            eventually(SOON, "it notices", || async {
                ensure!(owner.process().log().contains(lost), "it has not");
                Ok(())
            })
            .await
            .unwrap();
            let log = owner.process().log();
            let after = log.split(lost).nth(1).unwrap_or_default();
            assert!(!after.contains("status written"), "{after}");
        }
        for task in &tasks {
            until_told(&stage, task).await;
        }
        standby = Some(next);
    }
    println!("{kills} killed, {stops} stopped; the longest takeover took {:.1} s", longest.as_secs_f64());
    // The lease is 5 s; creating objects and asking who holds it take their time on a busy machine.
    assert!(longest < 2 * LEASE, "{longest:?}");
}
