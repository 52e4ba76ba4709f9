//! A task over whose answer the operator panics: it is told so, and the others do not notice. The panic is planted: debug builds have a
//! place for it.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use taskwatch::api::TaskWatchStatus;
use taskwatch_harness::{Operator, eventually};

use crate::stage::{ASTRA, HUAWEI, Stage, all, message};

const TASKS: usize = 40;

async fn until_state(stage: &Stage, name: &str, wanted: &str) {
    let is_there = |status: &TaskWatchStatus| {
        ensure!(status.state.as_deref() == Some(wanted), "{:?}", status.state);
        Ok(())
    };
    stage.until(name, wanted, is_there).await;
}

#[tokio::test]
async fn one_poisoned_task_costs_the_others_nothing() {
    let stage = Stage::new("poisoned").await;
    let poll = json!({"poll": {"periodSeconds": 1, "maxPeriodSeconds": 1}});
    // Lists of many, and single requests.
    let mut watches = Vec::new();
    for (provider, running, ended) in [(ASTRA, "running", "completed"), (HUAWEI, "RUNNING", "SUCCESS")] {
        stage.upstream(provider, provider.to_lowercase().as_str()).await;
        let name = provider.to_lowercase();
        let bulk =
            json!({"provider": provider, "scope": name, "first": 0, "count": TASKS, "steps": [{"state": running}]});
        let made = stage.admin("POST", "/bulk", bulk).await;
        for (n, id) in made["ids"].as_array().unwrap().iter().enumerate() {
            watches.push((provider, name.clone(), format!("{name}-{n}"), id.as_str().unwrap().to_owned(), ended));
        }
    }
    all(watches.iter().map(|(_, connection, name, id, _)| stage.watch(name, connection, id, poll.clone()))).await;
    let (poisoned, others): (Vec<_>, Vec<_>) = watches.iter().partition(|(_, _, name, ..)| name == "astracontrol-7");
    let [(_, _, poisoned, id, _)] = poisoned[..] else { panic!("there is one") };

    let options = stage.operator_options().env("TASKWATCH_TEST_PANIC_ID", id);
    let operator = Operator::start(options).await.unwrap();
    let said = stage
        .until(poisoned, "says what is wrong", |status| {
            let synced = message(status, "Synced").to_owned();
            ensure!(synced.contains("a defect in TaskWatch"), "{synced:?}");
            Ok(synced)
        })
        .await;
    assert!(said.contains("planted.rs:") && said.contains("growing intervals"), "{said}");
    for (provider, scope, name, id, ended) in &others {
        until_state(&stage, name, "Running").await;
        stage.step(provider, scope, id, json!({"state": ended})).await;
    }
    for (_, _, name, ..) in &others {
        until_state(&stage, name, "Succeeded").await;
    }
    eventually(Duration::from_secs(10), "it is counted", || async {
        let (_, metrics) = operator.get("/metrics").await?;
        let panics = metrics.lines().find(|line| line.starts_with("taskwatch_panics_total{stage=\"decode\"}"));
        let count = panics.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).unwrap_or_default();
        // In the list, and when it was asked for alone.
        ensure!(count >= 2.0, "{panics:?}");
        Ok(())
    })
    .await
    .unwrap();
    // The same process, still at work.
    assert_eq!(operator.get("/healthz").await.unwrap().0, 200);
}
