//! The gates: what the tools that wait for our objects make of them as they live, by those tools' own libraries (`tests/oracles`).

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use kube::api::{DynamicObject, WatchEvent, WatchParams};
use serde_json::{Value, json};
use taskwatch_harness::{Oracles, eventually, script};

use crate::stage::{ASTRA, HUAWEI, SOON, Stage, row};

/// What kstatus and Argo CD say of an object; its conditions keep Flux's rules, where they are the answer to its last change.
fn verdicts(object: &Value) -> (String, String) {
    let oracles = Oracles::shared().unwrap();
    if is_answered(object) {
        oracles.flux(object).unwrap_or_else(|fault| panic!("{fault}: {object:#}"));
    }
    (oracles.kstatus(object).unwrap(), oracles.argocd(object).unwrap())
}

/// What they have to say of a row of the contract, see [`row`].
fn promised(row: &str) -> (String, String) {
    let words: Vec<_> = row.split(' ').collect();
    let is_held = words[0] == "Paused" || words[1] == "Unknown/Suspended";
    let (kstatus, argocd) = match (words[4], words.last()) {
        (_, Some(&"S")) => ("Failed", "Degraded"),
        ("True", _) => ("Current", "Healthy"),
        _ if is_held => ("InProgress", "Suspended"),
        _ => ("InProgress", "Progressing"),
    };
    (kstatus.to_owned(), argocd.to_owned())
}

/// Whether the operator has looked at an object since its last change.
fn is_answered(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

impl Stage {
    /// An object as the API server has it.
    pub async fn object(&self, kind: &str, name: &str) -> Value {
        serde_json::to_value(self.api(kind, None).get(name).await.unwrap()).unwrap()
    }

    /// What other tools make of a `TaskWatch` is what its row promises; of one whose last change was not looked at yet, that it goes on.
    pub async fn is_judged_by_its_row(&self, name: &str) {
        let object = self.object("TaskWatch", name).await;
        let row = row(&serde_json::from_value(object["status"].clone()).unwrap());
        let expected = if is_answered(&object) { promised(&row) } else { ("InProgress".into(), "Progressing".into()) };
        assert_eq!(verdicts(&object), expected, "{object:#}");
    }

    /// What becomes of a `TaskWatch` from now on.
    async fn follow(&self, name: &str) -> BoxStream<'static, kube::Result<WatchEvent<DynamicObject>>> {
        let of_it = WatchParams::default().fields(&format!("metadata.name={name}"));
        self.api("TaskWatch", None).watch(&of_it, "0").await.unwrap().boxed()
    }

    /// Waits until Argo CD would show this health.
    async fn until_health(&self, kind: &str, name: &str, health: &str) {
        eventually(SOON, &format!("{kind} {name} is {health}"), || async {
            let object = self.object(kind, name).await;
            let said = verdicts(&object).1;
            ensure!(said == health, "it is {said}: {}", object["status"]);
            Ok(())
        })
        .await
        .unwrap();
    }
}

/// Every version of an object, until one has this state.
async fn versions(mut events: BoxStream<'_, kube::Result<WatchEvent<DynamicObject>>>, state: &str) -> Vec<Value> {
    let mut versions: Vec<Value> = Vec::new();
    let collect = async {
        while versions.last().is_none_or(|version| version["status"]["state"] != state) {
            if let WatchEvent::Added(object) | WatchEvent::Modified(object) =
                events.try_next().await?.context("the watch has ended")?
            {
                versions.push(serde_json::to_value(object)?);
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(SOON, collect).await.unwrap().unwrap();
    versions
}

/// A task that runs, moves on and ends; every version of two `TaskWatch`es of it, from the first one.
async fn lives(stage: &Stage, end: &str, finished: &str) -> [Vec<Value>; 2] {
    stage.task(ASTRA, "account", end, json!([{"state": "running", "percent": 10}])).await;
    let (waits, shows) = (format!("waits-{end}"), format!("shows-{end}"));
    let (waiting, showing) = (stage.follow(&waits).await, stage.follow(&shows).await);
    let story = async {
        stage.watch(&waits, "account", end, json!({})).await;
        stage.watch(&shows, "account", end, json!({"readyWhen": "Observed"})).await;
        for percent in [40, 70] {
            stage.step(ASTRA, "account", end, json!({"state": "running", "percent": percent})).await;
            stage
                .until(&waits, "moves on", |status| {
                    let progress = status.progress.as_ref().and_then(|progress| progress.percent);
                    ensure!(progress == Some(percent), "{progress:?}");
                    Ok(())
                })
                .await;
        }
        stage.step(ASTRA, "account", end, json!({"state": end})).await;
    };
    let (waits, shows, ()) = tokio::join!(versions(waiting, finished), versions(showing, finished), story);
    [waits, shows]
}

#[tokio::test]
async fn nobody_is_told_too_early_and_each_is_told_of_the_end() {
    let stage = Stage::new("gates-lives").await;
    stage.upstream(ASTRA, "account").await;
    let _operator = stage.operator(&["--progress-min-seconds", "0", "--progress-min-points", "1"]).await;
    let ([succeeds, shown], [fails, shown_to_fail]) =
        tokio::join!(lives(&stage, "completed", "Succeeded"), lives(&stage, "failed", "Failed"));
    for (versions, end) in [(&succeeds, ("Current", "Healthy")), (&fails, ("Failed", "Degraded"))] {
        let said: Vec<_> = versions.iter().map(verdicts).collect();
        let (last, before) = said.split_last().unwrap();
        assert_eq!((last.0.as_str(), last.1.as_str()), end);
        assert!(before.len() >= 3, "{before:?}");
        for (kstatus, argocd) in before {
            assert_eq!((kstatus.as_str(), argocd.as_str()), ("InProgress", "Progressing"));
        }
    }
    for versions in [&shown, &shown_to_fail] {
        let said: Vec<_> = versions.iter().map(|version| verdicts(version).0).collect();
        assert_eq!(said[0], "InProgress", "it was not looked at yet");
        assert_eq!(said.last().unwrap(), "Current");
        let held_up = said.iter().skip_while(|said| *said == "InProgress").find(|said| *said != "Current");
        assert_eq!(held_up, None, "neither the task nor its failure holds anything up");
    }
    let all = [&succeeds, &shown, &fails, &shown_to_fail];
    let ignored: usize = all.into_iter().map(|versions| ignored_updates_change_no_health(versions)).sum();
    assert!(ignored > 0, "progress alone is not ignored");
}

/// Versions that differ only where `ignore_resource_updates.yaml` says are of one health. Returns how many pairs there were.
fn ignored_updates_change_no_health(versions: &[Value]) -> usize {
    let ignored: Value = serde_saphyr::from_str(&script("TaskWatch", "ignore_resource_updates.yaml").unwrap()).unwrap();
    let rest = |version: &Value| {
        let mut rest = version.clone();
        rest["metadata"] = Value::Null;
        for pointer in ignored["jsonPointers"].as_array().unwrap() {
            if let Some(found) = rest.pointer_mut(pointer.as_str().unwrap()) {
                *found = Value::Null;
            }
        }
        rest
    };
    let same: Vec<_> = versions.windows(2).filter(|pair| rest(&pair[0]) == rest(&pair[1])).collect();
    for pair in &same {
        assert_eq!(verdicts(&pair[0]), verdicts(&pair[1]));
    }
    same.len()
}

#[tokio::test]
async fn connections_and_sets_are_judged_as_they_live() {
    let stage = Stage::new("gates-connections").await;
    stage.upstream(ASTRA, "account").await;
    stage.task(ASTRA, "account", "task", json!([{"state": "running"}])).await;
    let set = json!({"kind": "TaskWatchSet", "metadata": {"name": "set"}, "spec": {
        "connectionRef": {"name": "account"},
        "readyWhen": "NoneFailed",
        "template": {"spec": {"poll": {"periodSeconds": 1, "maxPeriodSeconds": 1}}},
    }});
    let created = serde_json::to_value(stage.put(set).await).unwrap();
    assert_eq!(verdicts(&created), ("InProgress".into(), "Progressing".into()), "nobody has looked at it");
    let _operator = stage.operator(&[]).await;
    stage.until_connection("account", "Connected").await;
    stage.until_health("TaskConnection", "account", "Healthy").await;
    stage.until_health("TaskWatchSet", "set", "Healthy").await;
    assert_eq!(verdicts(&stage.object("TaskWatchSet", "set").await).0, "Current");

    stage.change("TaskWatchSet", "set", json!({"spec": {"suspend": true}})).await;
    stage.until_health("TaskWatchSet", "set", "Suspended").await;
    stage.change("TaskWatchSet", "set", json!({"spec": {"suspend": false}})).await;
    stage.task(ASTRA, "account", "other", json!([{"state": "failed"}])).await;
    stage.until_health("TaskWatchSet", "set", "Degraded").await;
    assert_eq!(verdicts(&stage.object("TaskWatchSet", "set").await).0, "Failed");

    // It has lost its upstream: that may pass, and is a fault only when it has lasted.
    stage.fault(json!({}), json!({"kind": "status", "status": 503})).await;
    stage.until_connection("account", "UpstreamUnavailable").await;
    let mut lost = stage.object("TaskConnection", "account").await;
    assert_eq!(verdicts(&lost), ("InProgress".into(), "Progressing".into()));
    for (minutes, health) in [(9, "Progressing"), (11, "Degraded")] {
        let then = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes);
        for condition in lost["status"]["conditions"].as_array_mut().unwrap() {
            condition["lastTransitionTime"] = then.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
        }
        assert_eq!(verdicts(&lost).1, health, "after {minutes} minutes");
        // Wherever Argo CD runs.
        for hours in [-11, 5] {
            let lua = script("TaskConnection", "health.lua").unwrap();
            let question = json!({"oracle": "argocd-health", "object": lost, "script": lua, "zone": hours * 3600});
            assert_eq!(Oracles::shared().unwrap().ask(&question).unwrap()["status"], health, "{hours} hours from UTC");
        }
    }
    let unknown = json!({"kind": "TaskConnection", "metadata": {"name": "refused"}, "spec": {
        "provider": {HUAWEI: {"endpoint": stage.simulator.url(), "projectID": "p"}},
        "auth": {"token": {"secretRef": {"name": "nowhere"}}},
    }});
    stage.put(unknown).await;
    stage.until_connection("refused", "SecretNotFound").await;
    assert_eq!(
        verdicts(&stage.object("TaskConnection", "refused").await),
        ("InProgress".into(), "Progressing".into()),
        "it may come yet"
    );
}
