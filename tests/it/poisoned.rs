//! A task over whose answer the operator panics: it is told so, and the others do not notice. The panic is planted: debug builds have a
//! place for it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use futures::{StreamExt as _, stream};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::json;
use taskwatch::api::{TaskWatch, TaskWatchStatus};
use taskwatch_harness::{ControlPlane, Operator, eventually};

use crate::stage::{ASTRA, HUAWEI, Stage, all, install, message, watch_object};

const TASKS: usize = 40;
/// Of one account, one of them poisoned.
const MANY: usize = 10_000;
/// How long anything may take that happens to all of them: the operator is a debug build.
const LONG: Duration = Duration::from_mins(10);

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

/// How many `TaskWatch` objects are in which state.
async fn states(stage: &Stage) -> Result<BTreeMap<String, usize>> {
    let api = Api::<TaskWatch>::namespaced(stage.client.clone(), &stage.namespace);
    let mut states = BTreeMap::new();
    let mut page = ListParams::default().limit(1_000);
    loop {
        let list = api.list(&page).await?;
        for watch in list.items {
            *states.entry(watch.status.and_then(|status| status.state).unwrap_or_default()).or_default() += 1;
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = ListParams::default().limit(1_000).continue_token(&token),
            None => return Ok(states),
        }
    }
}

#[tokio::test]
#[ignore = "takes minutes: make test-many"]
async fn one_poisoned_task_of_ten_thousand_costs_the_others_nothing() {
    // Of its own: so many objects would slow the other tests down.
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().await.unwrap()));
    install(plane).await.unwrap();
    let stage = Stage::on(plane, "poisoned").await;
    stage.upstream(ASTRA, "account").await;
    let bulk =
        json!({"provider": ASTRA, "scope": "account", "first": 0, "count": MANY, "steps": [{"state": "completed"}]});
    let made = stage.admin("POST", "/bulk", bulk).await;
    let ids: Vec<_> = made["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), MANY);
    let api = Api::<TaskWatch>::namespaced(stage.client.clone(), &stage.namespace);
    let poll = json!({"poll": {"periodSeconds": 5, "maxPeriodSeconds": 5}});
    let made = stream::iter(ids.iter().enumerate()).map(|(n, id)| {
        let object = watch_object(&format!("w-{n}"), "account", id, poll.clone());
        let (api, object) = (api.clone(), serde_json::from_value(object).unwrap());
        async move { api.create(&PostParams::default(), &object).await.unwrap() }
    });
    assert_eq!(made.buffer_unordered(16).count().await, MANY);

    let options =
        stage.operator_options().env("TASKWATCH_TEST_PANIC_ID", &ids[MANY / 2]).env("TASKWATCH_LOG_LEVEL", "info");
    let operator = Operator::start(options).await.unwrap();
    eventually(LONG, "all but one have succeeded", || async {
        let states = states(&stage).await?;
        ensure!(states.get("Succeeded") == Some(&(MANY - 1)), "{states:?}");
        Ok(())
    })
    .await
    .unwrap();
    let poisoned = stage.status(&format!("w-{}", MANY / 2)).await.unwrap();
    assert!(message(&poisoned, "Synced").contains("a defect in TaskWatch"), "{poisoned:?}");
    // The same process, still at work.
    assert_eq!(operator.get("/healthz").await.unwrap().0, 200);
}
