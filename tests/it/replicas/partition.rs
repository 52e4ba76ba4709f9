//! A replica that cannot reach the API server any more, while it reaches its upstreams.

use std::time::Duration;

use anyhow::ensure;
use jiff::Timestamp;
use serde_json::json;
use taskwatch_harness::{Stream, Toxiproxy, eventually};

use super::{
    LEASE, RUNNING, SUCCEEDED,
    ground::{Ground, Record},
    until_lost,
};
use crate::stage::{HUAWEI, SOON};

/// The name of the proxy before the API server.
const API: &str = "apiserver";

/// What is sent either way is swallowed, and nothing is said.
async fn cut(proxy: &Toxiproxy) {
    for stream in [Stream::Upstream, Stream::Downstream] {
        proxy.toxic(API, "timeout", stream, &json!({"timeout": 0})).await.unwrap();
    }
}

/// Waits until a replica has asked for something after `since`. Returns when.
async fn until_asked_by(ground: &Ground, name: &str, since: i64) -> i64 {
    eventually(SOON, &format!("{name} asks"), || async {
        let requests = ground.requests().await;
        let asked = requests.iter().find(|(at, by, _)| by == name && *at > since).map(|(at, ..)| *at);
        ensure!(asked.is_some(), "the last of {} was {:?}", requests.len(), requests.last());
        Ok(asked.unwrap_or_default())
    })
    .await
    .unwrap()
}

/// For how long a replica went on asking after the last renewal of its lease, before `end`.
fn went_on_for(record: &Record, name: &str, end: i64) -> Duration {
    let asked = record.acts.iter().filter(|act| act.by == name && act.what.starts_with("asks") && act.at < end);
    let asked = asked.map(|act| act.at).max().unwrap();
    let renewed = record.leases.iter().filter(|write| write.by == name && write.at < asked).map(|write| write.at).max();
    Duration::from_micros((asked - renewed.unwrap()).try_into().unwrap())
}

fn now() -> i64 {
    Timestamp::now().as_microsecond()
}

#[tokio::test]
async fn who_cannot_reach_the_api_server_asks_nothing_when_another_may_begin() {
    let ground = Ground::new("replicas-partition", 1).await;
    let stage = &ground.stage;
    ground.upstream("evs", json!({})).await;
    stage.task(HUAWEI, "evs", "task", json!([{"state": "RUNNING"}])).await;
    stage.watch("task", "evs", "task", json!({})).await;
    let proxy = Toxiproxy::start().await.unwrap();
    let way = proxy.proxy(API, stage.plane.url().strip_prefix("https://").unwrap()).await.unwrap();
    let first = ground.replica_through("r0", &way).await;
    stage.until_row("task", RUNNING).await;

    // Nobody else is there: it stops all the same, and goes on when it can.
    cut(&proxy).await;
    let alone = eventually(SOON, "it is silent", || async {
        let last = ground.requests().await.last().map_or(0, |(at, ..)| *at);
        ensure!(now() - last > 3_000_000, "it asked {} us ago", now() - last);
        Ok(now())
    })
    .await
    .unwrap();
    proxy.heal(API).await.unwrap();
    until_asked_by(&ground, "r0", alone).await;

    // Another takes over, and it goes on when that one goes.
    let second = ground.replica("r1").await;
    cut(&proxy).await;
    ground.until_held(SOON, &["r1"]).await;
    let taken = now();
    until_asked_by(&ground, "r1", 0).await;
    stage.step(HUAWEI, "evs", "task", json!({"state": "SUCCESS"})).await;
    stage.until_row("task", SUCCEEDED).await;
    proxy.heal(API).await.unwrap();
    until_lost(&first).await;
    second.process().stop().await.unwrap();
    ground.until_held(SOON, &["r0"]).await;
    stage.task(HUAWEI, "evs", "next", json!([{"state": "SUCCESS"}])).await;
    stage.watch("next", "evs", "next", json!({})).await;
    stage.until_row("next", SUCCEEDED).await;

    let record = ground.is_proven(&["r0", "r1"]).await;
    for end in [alone, taken] {
        let time = went_on_for(&record, "r0", end);
        // Two thirds of the duration, and what a request takes to arrive on a busy machine.
        assert!(time < LEASE * 2 / 3 + Duration::from_secs(1), "{time:?} after the last renewal");
    }
}
