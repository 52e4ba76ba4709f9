//! A thousand `TaskWatches`: what a restart writes (nothing), and what they cost the upstream (little).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::ensure;
use futures::{StreamExt, stream};
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};
use taskwatch::api::{TaskConnection, TaskWatch};
use taskwatch_harness::{Operator, eventually};

use crate::stage::{ASTRA, HUAWEI, Stage, row, watch_object};

/// How long a thousand of anything may take.
const LONG: Duration = Duration::from_secs(120);

/// Makes tasks in a scope; returns their identifiers.
async fn tasks(stage: &Stage, provider: &str, scope: &str, first: usize, count: usize, step: Value) -> Vec<String> {
    let bulk = json!({"provider": provider, "scope": scope, "first": first, "count": count, "steps": [step]});
    let made = stage.admin("POST", "/bulk", bulk).await;
    made["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

/// Makes a `TaskWatch` for each task.
async fn watches(stage: &Stage, connection: &str, ids: &[String], poll: &Value) {
    let api: Api<TaskWatch> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let create = |(n, id): (usize, &String)| {
        let object = watch_object(&format!("{connection}-{n}"), connection, id, json!({ "poll": poll }));
        let (api, object) = (api.clone(), serde_json::from_value::<TaskWatch>(object).unwrap());
        async move { drop(api.create(&PostParams::default(), &object).await.unwrap()) }
    };
    stream::iter(ids.iter().enumerate().map(create)).buffer_unordered(32).collect::<()>().await;
}

async fn list(stage: &Stage) -> anyhow::Result<Vec<TaskWatch>> {
    let api: Api<TaskWatch> = Api::namespaced(stage.client.clone(), &stage.namespace);
    Ok(api.list(&ListParams::default()).await?.items)
}

/// Waits until so many are in each row.
async fn until_rows(stage: &Stage, wanted: &[(&str, usize)]) {
    let wanted: BTreeMap<_, _> = wanted.iter().map(|(row, count)| ((*row).to_owned(), *count)).collect();
    eventually(LONG, "all have their status", || async {
        let mut rows = BTreeMap::new();
        for watch in list(stage).await? {
            *rows.entry(watch.status.as_ref().map(row).unwrap_or_default()).or_insert(0) += 1;
        }
        ensure!(rows == wanted, "{rows:?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// Resource versions by name.
async fn versions(stage: &Stage) -> BTreeMap<String, String> {
    let watches = list(stage).await.unwrap();
    let connections: Api<TaskConnection> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let connections = connections.list(&ListParams::default()).await.unwrap().items;
    let of = |name: String, version: Option<String>| (name, version.unwrap());
    watches
        .iter()
        .map(|object| of(format!("watch {}", object.name_any()), object.resource_version()))
        .chain(
            connections.iter().map(|object| of(format!("connection {}", object.name_any()), object.resource_version())),
        )
        .collect()
}

/// How often each event was told, by object and reason.
async fn told(stage: &Stage) -> anyhow::Result<BTreeMap<(String, String), i32>> {
    let api: Api<Event> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let mut told = BTreeMap::new();
    for event in api.list(&ListParams::default()).await?.items {
        let name = event.regarding.and_then(|object| object.name).unwrap_or_default();
        let times = event.series.map_or(1, |series| series.count);
        *told.entry((name, event.reason.unwrap_or_default())).or_insert(0) += times;
    }
    Ok(told)
}

const RUNNING: &str = "Running Unknown/TaskRunning False True/Observed Unknown R";
const SUCCEEDED: &str = "Succeeded True/TaskSucceeded True True/Observed True";

#[tokio::test]
async fn a_restart_writes_nothing_and_tells_nothing_twice() {
    let stage = Stage::new("restart").await;
    let poll = json!({"periodSeconds": 2, "maxPeriodSeconds": 2});
    for (provider, name, count, running, ended) in
        [(ASTRA, "astra", 900, "running", "completed"), (HUAWEI, "evs", 100, "RUNNING", "SUCCESS")]
    {
        stage.upstream(provider, name).await;
        let mut ids = tasks(&stage, provider, name, 0, count / 2, json!({"state": running, "percent": 20})).await;
        ids.extend(tasks(&stage, provider, name, count / 2, count / 2, json!({"state": ended})).await);
        watches(&stage, name, &ids, &poll).await;
    }
    let operator = stage.operator(&[]).await;
    until_rows(&stage, &[(RUNNING, 500), (SUCCEEDED, 500)]).await;
    eventually(LONG, "all are told", || async {
        let told = told(&stage).await?;
        ensure!(told.len() == 1000 && told.values().all(|&times| times == 1), "{} events", told.len());
        Ok(())
    })
    .await
    .unwrap();
    for connection in ["astra", "evs"] {
        eventually(LONG, "the counts are there", || async {
            let api: Api<TaskConnection> = Api::namespaced(stage.client.clone(), &stage.namespace);
            let watches = api.get(connection).await?.status.and_then(|status| status.watches).unwrap_or_default();
            ensure!(watches.active == watches.finished && watches.active.is_some_and(|n| n >= 50), "{watches:?}");
            Ok(())
        })
        .await
        .unwrap();
    }

    let before = versions(&stage).await;
    operator.process().kill().unwrap();
    operator.process().wait(Duration::from_secs(10)).await.unwrap();
    let (_, since) = stage.requests(0).await;
    let again = stage.operator(&[]).await;
    asked_for_again(&stage, since).await;
    let after = versions(&stage).await;
    let changed: Vec<_> = after.iter().filter(|(name, version)| before.get(*name) != Some(version)).collect();
    assert!(changed.is_empty(), "{} were written: {:?}", changed.len(), &changed[..changed.len().min(5)]);

    // It does see what is new, and had told nothing before.
    let canary = list(&stage).await.unwrap().into_iter().find(|watch| watch.name_any() == "evs-0").unwrap();
    stage.step(HUAWEI, "evs", canary.spec.task.id.as_deref().unwrap(), json!({"state": "SUCCESS"})).await;
    stage.until_row("evs-0", SUCCEEDED).await;
    eventually(LONG, "it is told", || async {
        let told = told(&stage).await?;
        ensure!(told.contains_key(&("evs-0".to_owned(), "TaskSucceeded".to_owned())), "not yet");
        assert!(told.len() == 1001 && told.values().all(|&times| times == 1), "{} events", told.len());
        Ok(())
    })
    .await
    .unwrap();
    let after = versions(&stage).await;
    let changed: Vec<_> = after.iter().filter(|(name, version)| before.get(*name) != Some(version)).collect();
    assert!(changed.iter().all(|(name, _)| *name == "watch evs-0" || *name == "connection evs"), "{changed:?}");
    metrics_say_so(&again).await;
}

/// Every task that runs has been asked for twice since: singly, or by the list of its scope. None that has ended was.
async fn asked_for_again(stage: &Stage, since: u64) {
    let running: BTreeSet<_> = list(stage)
        .await
        .unwrap()
        .into_iter()
        .filter(|watch| {
            watch.spec.connection_ref.name == "evs" && watch.status.as_ref().map(row).as_deref() == Some(RUNNING)
        })
        .map(|watch| watch.spec.task.id.unwrap())
        .collect();
    assert_eq!(running.len(), 50);
    eventually(LONG, "all are asked for again", || async {
        let (requests, _) = stage.requests(since).await;
        let path = |request: &Value| request["path"].as_str().unwrap_or_default().to_owned();
        let lists =
            requests.iter().filter(|request| path(request).ends_with("/core/v1/tasks") && request["status"] == 200);
        let mut asked = BTreeMap::new();
        for id in requests.iter().filter_map(|request| path(request).split_once("/jobs/").map(|(_, id)| id.to_owned()))
        {
            assert!(running.contains(&id), "{id} has ended, and is asked for");
            *asked.entry(id).or_insert(0) += 1;
        }
        let twice = asked.values().filter(|&&times| times >= 2).count();
        ensure!(twice == running.len() && lists.count() >= 2, "{twice} of {}", running.len());
        Ok(())
    })
    .await
    .unwrap();
}

/// A thousand looks that said nothing new, and the writes of the one that did.
async fn metrics_say_so(operator: &Operator) {
    let (_, metrics) = operator.get("/metrics").await.unwrap();
    let sum = |result: &str| {
        let of =
            metrics.lines().filter(|line| line.starts_with("taskwatch_status_writes_total{") && line.contains(result));
        of.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>()
    };
    assert!(sum("patched") <= 1.0 && sum("suppressed") >= 1000.0, "{} {}", sum("patched"), sum("suppressed"));
}

#[tokio::test]
async fn a_thousand_of_one_account_cost_one_list() {
    let stage = Stage::new("scale").await;
    stage.upstream(ASTRA, "astra").await;
    let default = json!({"spec": {"poll": null, "rateLimit": null}});
    stage.change("TaskConnection", "astra", default).await;
    let poll = json!({"periodSeconds": 10, "maxPeriodSeconds": 10});
    let step = json!({"state": "running", "percent": 20});
    let ids = tasks(&stage, ASTRA, "astra", 0, 1000, step.clone()).await;
    watches(&stage, "astra", &ids, &poll).await;
    let _operator = stage.operator(&[]).await;
    until_rows(&stage, &[(RUNNING, 1000)]).await;

    // Once the next list has come it is settled; then requests are counted over thirty seconds of the upstream's own log.
    let (_, settled) = stage.requests(0).await;
    let times = |requests: &[Value]| requests.iter().map(|r| r["timeMs"].as_i64().unwrap()).collect::<Vec<_>>();
    let window = Duration::from_secs(30);
    let requests = eventually(LONG, "thirty seconds of requests", || async {
        let (requests, _) = stage.requests(settled).await;
        let times = times(&requests);
        let span = times.last().zip(times.first()).map_or(0, |(last, first)| last - first);
        ensure!(span >= i64::try_from(window.as_millis())?, "{span} ms");
        Ok(requests)
    })
    .await
    .unwrap();
    let first = times(&requests)[0];
    let counted = times(&requests).iter().filter(|&&at| at > first && at <= first + 30_000).count();
    assert!(counted <= 15, "{counted} requests in 30 s: more than 0.5 a second");

    let new = tasks(&stage, ASTRA, "astra", 1000, 1, step).await;
    let began = Instant::now();
    stage.watch("new", "astra", &new[0], json!({ "poll": poll })).await;
    stage.until_row("new", RUNNING).await;
    // A second is what is promised of a quiet machine.
    assert!(began.elapsed() <= Duration::from_secs(3), "its first status took {:?}", began.elapsed());
}
