//! Tasks by description: manifests that are written before the task exists.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use taskwatch_harness::{eventually, workspace_root};

use crate::stage::{ASTRA, HUAWEI, SOON, Stage, assert_refused, message, row};

const AWAITING_ID: &str = "Pending Unknown/AwaitingTaskID False Unknown/AwaitingTaskID Unknown R";
const AWAITING_TASK: &str = "Pending Unknown/AwaitingTask False Unknown/AwaitingTask Unknown R";
const INVALID: &str = "Unknown Unknown/AwaitingObservation False False/InvalidSpec False S";
const RUNNING: &str = "Running Unknown/TaskRunning False True/Observed Unknown R";
const SUCCEEDED: &str = "Succeeded True/TaskSucceeded True True/Observed True";

/// A `TaskWatch` whose `spec.task` is this.
fn described(name: &str, connection: &str, task: Value) -> Value {
    let poll = json!({"periodSeconds": 1, "maxPeriodSeconds": 1});
    let mut spec = json!({"connectionRef": {"name": connection}, "poll": poll});
    spec["task"] = task;
    json!({"kind": "TaskWatch", "metadata": {"name": name}, "spec": spec})
}

fn from_map(name: &str) -> Value {
    json!({"idFrom": {"configMapKeyRef": {"name": name, "key": "taskID"}}})
}

impl Stage {
    async fn config_map(&self, name: &str, data: Value) {
        self.put(json!({"kind": "ConfigMap", "metadata": {"name": name}, "data": data})).await;
    }

    /// Waits until a watch is in a row and shows this task.
    async fn until_bound(&self, name: &str, task: &str, wanted: &str) {
        self.until(name, task, |status| {
            let id = status.task.as_ref().and_then(|task| task.id.as_deref());
            ensure!(id == Some(task) && row(status) == wanted, "{id:?} {}", row(status));
            Ok(())
        })
        .await;
    }

    /// A task of the account, so many seconds old.
    async fn aged(&self, id: &str, name: &str, ago: u64) {
        let task = json!({"name": name, "ago": ago, "steps": [{"state": "running"}]});
        self.admin("PUT", &format!("/tasks/{ASTRA}/account/{id}"), task).await;
    }
}

#[tokio::test]
async fn an_identifier_in_a_config_map_is_awaited_then_fixed() {
    let stage = Stage::new("described-map").await;
    stage.upstream(HUAWEI, "evs").await;
    for id in ["first", "second"] {
        stage.task(HUAWEI, "evs", id, json!([{"state": "RUNNING"}])).await;
    }
    let operator = stage.operator(&[]).await;
    stage.put(described("w", "evs", from_map("started"))).await;
    let status = stage.until_row("w", AWAITING_ID).await;
    assert!(message(&status, "Ready").contains("no ConfigMap started with the key taskID yet"), "{status:?}");
    assert_eq!(status.task, None);
    stage.config_map("started", json!({"other": "x"})).await;
    stage.until_synced_says("w", "ConfigMap started has no key taskID yet").await;

    // What is no identifier is said, and can be corrected.
    stage.config_map("started", json!({"taskID": "a job"})).await;
    let status = stage.until_row("w", INVALID).await;
    let said = message(&status, "Ready");
    assert!(
        said.starts_with("The key taskID of ConfigMap started has U+0020 in it. An identifier of huaweiCloud"),
        "{said}"
    );
    let (_, since) = stage.requests(0).await;
    stage.config_map("started", json!({"taskID": "first\n"})).await;
    stage.until_bound("w", "first", RUNNING).await;

    // It stays, whatever becomes of the ConfigMap, and of the operator.
    stage.config_map("started", json!({"taskID": "second"})).await;
    operator.process().stop().await.unwrap();
    let _operator = stage.operator(&[]).await;
    let polls = async || {
        let (requests, _) = stage.requests(since).await;
        requests.iter().filter(|request| request["path"].as_str().is_some_and(|path| path.ends_with("/first"))).count()
    };
    let before = polls().await;
    eventually(SOON, "it is polled on", || async {
        ensure!(polls().await > before + 3);
        Ok(())
    })
    .await
    .unwrap();
    let (requests, _) = stage.requests(0).await;
    assert!(requests.iter().all(|request| !request["path"].as_str().unwrap_or_default().ends_with("/second")));
    stage.until_bound("w", "first", RUNNING).await;
    let shown = stage.kubectl(&["get", "taskwatches", "--output", "wide"]).await;
    assert!(shown.contains("TASK") && shown.contains("first"), "{shown}");
    stage.step(HUAWEI, "evs", "first", json!({"state": "SUCCESS"})).await;
    stage.until_bound("w", "first", SUCCEEDED).await;
    assert_eq!(stage.events("w").await, ["InvalidSpec", "TaskObserved", "TaskSucceeded"]);
}

/// Whoever may write a `TaskWatch` need not be allowed to read Secrets.
#[tokio::test]
async fn a_secret_must_allow_that_its_value_is_shown() {
    let stage = Stage::new("described-secret").await;
    stage.upstream(HUAWEI, "evs").await;
    stage.task(HUAWEI, "evs", "hush-hush", json!([{"state": "RUNNING"}])).await;
    let secret = |labels: Value| json!({"kind": "Secret", "metadata": {"name": "s", "labels": labels}, "stringData": {"taskID": "hush-hush"}});
    stage.put(secret(json!({"taskwatch.dev/id-from": "false"}))).await;
    let _operator = stage.operator(&[]).await;
    let of = |name: &str| json!({"idFrom": {"secretKeyRef": {"name": name, "key": "taskID"}}});
    stage.put(described("there", "evs", of("s"))).await;
    stage.put(described("not-there", "evs", of("none"))).await;
    let mut told = Vec::new();
    for name in ["there", "not-there"] {
        let status = stage.until_row(name, AWAITING_ID).await;
        assert!(message(&status, "Ready").contains("the label taskwatch.dev/id-from: \"true\""), "{status:?}");
        told.push(serde_json::to_string(&status.conditions.iter().map(|c| &c.message).collect::<Vec<_>>()).unwrap());
    }
    assert_eq!(told[0].replace("Secret s ", "Secret none "), told[1], "nobody can tell which of them is there");
    // Some looks later it is no other.
    tokio::time::sleep(Duration::from_secs(7)).await;
    let watch = serde_json::to_string(&stage.get("there").await.unwrap()).unwrap();
    assert!(!watch.contains("hush"), "{watch}");
    stage.put(secret(json!({"taskwatch.dev/id-from": "true"}))).await;
    stage.until_bound("there", "hush-hush", RUNNING).await;
}

#[tokio::test]
async fn the_latest_task_is_one_that_is_not_older_than_the_object() {
    let stage = Stage::new("described-latest").await;
    stage.upstream(ASTRA, "account").await;
    stage.upstream(HUAWEI, "evs").await;
    stage.aged("yesterday", "backup of ci-42", 86_400).await;
    stage.aged("other", "restore of ci-42", 0).await;
    let operator = stage.operator(&[]).await;
    let latest =
        |not_before: &str| json!({"latest": {"type": "backup*", "nameContains": "ci-42", "notBefore": not_before}});
    stage.put(described("new", "account", latest("ObjectCreation"))).await;
    stage.put(described("any", "account", latest("Any"))).await;
    stage.put(described("nowhere", "evs", latest("Any"))).await;
    stage.until_bound("any", "yesterday", RUNNING).await;
    let status = stage.until_row("new", AWAITING_TASK).await;
    let said = message(&status, "Ready");
    assert!(said.contains("a task of type \"backup*\", with \"ci-42\" in its name, created after"), "{said}");
    let unlisted = "Unknown Unknown/AwaitingObservation False False/ListNotSupported False S";
    let status = stage.until_row("nowhere", unlisted).await;
    assert!(message(&status, "Ready").contains("spec.task.id or spec.task.idFrom"), "{status:?}");

    stage.aged("today", "backup of ci-42", 0).await;
    stage.until_bound("new", "today", RUNNING).await;
    // A newer one is for a newer object, also after a restart.
    stage.aged("tomorrow", "backup of ci-42", 0).await;
    operator.process().stop().await.unwrap();
    let _operator = stage.operator(&[]).await;
    stage.put(described("newer", "account", latest("ObjectCreation"))).await;
    stage.until_bound("newer", "tomorrow", RUNNING).await;
    stage.step(ASTRA, "account", "today", json!({"state": "completed"})).await;
    stage.until_bound("new", "today", SUCCEEDED).await;
    stage.until_bound("any", "yesterday", RUNNING).await;

    // Nobody looks for anything any more: the list is there for the polls alone, and ends with them.
    for id in ["yesterday", "tomorrow"] {
        stage.step(ASTRA, "account", id, json!({"state": "completed"})).await;
    }
    stage.until_bound("any", "yesterday", SUCCEEDED).await;
    stage.until_bound("newer", "tomorrow", SUCCEEDED).await;
    let (_, since) = stage.requests(0).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (requests, _) = stage.requests(since).await;
    assert!(requests.is_empty(), "{requests:?}");
}

#[tokio::test]
async fn while_nothing_is_found_the_deadline_holds() {
    let stage = Stage::new("described-deadline").await;
    stage.upstream(HUAWEI, "evs").await;
    let _operator = stage.operator(&[]).await;
    let mut watch = described("w", "evs", from_map("never"));
    watch["spec"]["activeDeadlineSeconds"] = 6.into();
    stage.put(watch).await;
    stage.until_row("w", AWAITING_ID).await;
    let status = stage.until_row("w", "Unknown False/DeadlineExceeded True True/DeadlineExceeded False S").await;
    assert!(
        message(&status, "Ready").contains("did not become known within activeDeadlineSeconds (6 s)"),
        "{status:?}"
    );
    let (requests, _) = stage.requests(0).await;
    assert!(requests.is_empty(), "{requests:?}");
}

#[tokio::test]
async fn the_sample_is_taken() {
    let stage = Stage::new("described-sample").await;
    let file = workspace_root().join("deploy/samples/task-by-description.yaml");
    let taken = stage.kubectl(&["create", "--filename", file.to_str().unwrap(), "--output", "name"]).await;
    assert_eq!(taken.lines().filter(|line| line.starts_with("taskwatch.taskwatch.dev/")).count(), 2, "{taken}");
}

#[tokio::test]
async fn the_api_takes_exactly_one_way_to_name_a_task() {
    let stage = Stage::new("described-refused").await;
    let key = json!({"name": "o", "key": "k"});
    let one = "give exactly one way to name the task: id, idFrom or latest";
    let source = "give exactly one source: configMapKeyRef or secretKeyRef";
    for (task, sentence) in [
        (json!({}), one),
        (json!({"scope": "s"}), one),
        (json!({"id": "t", "latest": {}}), one),
        (json!({"id": "t", "idFrom": {"configMapKeyRef": key}}), one),
        (json!({"latest": {}, "idFrom": {"configMapKeyRef": key}}), one),
        (json!({"idFrom": {}}), source),
        (json!({"idFrom": {"configMapKeyRef": key, "secretKeyRef": key}}), source),
        (json!({"idFrom": {"configMapKeyRef": {"name": "No", "key": "k"}}}), "give the name of an object"),
        (json!({"idFrom": {"configMapKeyRef": {"name": "o", "key": ""}}}), "at least 1 chars long"),
        (json!({"latest": {"type": ""}}), "at least 1 chars long"),
        (json!({"latest": {"notBefore": "Yesterday"}}), "supported values: \"ObjectCreation\", \"Any\""),
    ] {
        let told = task.to_string();
        assert_refused(stage.try_create(described("w", "c", task)).await, &told, sentence);
    }
    for (name, task) in [
        ("id", json!({"id": "t"})),
        ("map", from_map("m")),
        ("secret", json!({"idFrom": {"secretKeyRef": key}, "scope": "s"})),
        ("latest", json!({"latest": {}})),
    ] {
        stage.put(described(name, "c", task)).await;
        let other = described(name, "c", json!({"id": "other"}));
        assert_refused(stage.try_put(other).await, name, "");
    }
    let kept = stage.get("latest").await.context("it is there").unwrap().spec.task;
    assert_eq!(serde_json::to_value(kept).unwrap(), json!({"latest": {"notBefore": "ObjectCreation"}}));
}
