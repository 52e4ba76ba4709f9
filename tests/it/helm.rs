//! `helm install --wait` and the like, of charts that contain tasks: Helm 4 decides by what the operator says.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};
use taskwatch_harness::{ADMIN, Helm, Output, eventually};

use crate::stage::{ASTRA, HUAWEI, SOON, Stage, watch_object};

/// Longer than anything here takes: a failure that is noticed is noticed before.
const TIMEOUT: Duration = Duration::from_mins(2);

/// A release of a chart with these objects.
struct Release<'a> {
    stage: &'a Stage,
    helm: Helm,
}

impl<'a> Release<'a> {
    async fn new(stage: &'a Stage) -> Self {
        Self { stage, helm: Helm::of(stage.plane, ADMIN).await.unwrap() }
    }

    /// The chart has these objects from now on.
    fn contains(&self, objects: &[Value]) {
        let templates = self.helm.workdir().join("chart/templates");
        std::fs::create_dir_all(&templates).unwrap();
        let chart = json!({"apiVersion": "v2", "name": "app", "version": "1.0.0"});
        std::fs::write(self.helm.workdir().join("chart/Chart.yaml"), chart.to_string()).unwrap();
        let objects: Vec<_> = objects.iter().map(ToString::to_string).collect();
        std::fs::write(templates.join("objects.yaml"), objects.join("\n---\n")).unwrap();
    }

    async fn run(&self, args: &[&str]) -> Output {
        let chart = self.helm.workdir().join("chart").display().to_string();
        let timeout = format!("{}s", TIMEOUT.as_secs());
        let more = ["app", &chart, "--namespace", &self.stage.namespace, "--timeout", &timeout];
        self.helm.run(&[args, &more[..]].concat()).await.unwrap()
    }

    /// It fails, long before it would give up, and says this.
    async fn fails(&self, args: &[&str], words: &str) {
        let begun = Instant::now();
        let output = self.run(args).await;
        assert!(begun.elapsed() < TIMEOUT / 2, "after {:?}: {}", begun.elapsed(), output.stderr);
        assert!(output.code != 0 && output.stderr.contains(words), "{words}: {output:?}");
    }

    /// Runs it beside `meanwhile`, at the end of which it is still waiting; then `finally` lets it return.
    async fn waits(&self, args: &[&str], meanwhile: impl Future<Output = ()>, finally: impl Future<Output = ()>) {
        let run = self.run(args);
        tokio::pin!(run);
        tokio::select! {
            output = &mut run => panic!("it did not wait: {output:?}"),
            () = meanwhile => {}
        }
        let ((), output) = tokio::join!(finally, run);
        output.success().unwrap();
    }

    /// Number, and status, of the last revision.
    async fn revision(&self) -> (u64, String) {
        let args = ["history", "app", "--namespace", &self.stage.namespace, "--output", "json", "--max", "1"];
        let history = self.helm.run(&args).await.unwrap().success().unwrap();
        let history: Value = serde_json::from_str(&history).unwrap();
        (history[0]["revision"].as_u64().unwrap(), history[0]["status"].as_str().unwrap().to_owned())
    }
}

impl Stage {
    async fn until_state(&self, name: &str, state: &str) {
        self.until(name, state, |status| {
            ensure!(status.state.as_deref() == Some(state));
            Ok(())
        })
        .await;
    }

    async fn exists(&self, name: &str) {
        eventually(SOON, name, || async { self.get(name).await.map(drop) }).await.unwrap();
    }

    /// So many requests for tasks later.
    async fn polls(&self, count: usize) {
        let (_, since) = self.requests(0).await;
        eventually(SOON, "polls", || async {
            let (requests, _) = self.requests(since).await;
            ensure!(requests.len() >= count, "{}", requests.len());
            Ok(())
        })
        .await
        .unwrap();
    }

    /// An upstream with tasks that run.
    async fn running(&self, provider: &str, tasks: &[&str]) {
        self.upstream(provider, "up").await;
        let state = if provider == HUAWEI { "RUNNING" } else { "running" };
        for task in tasks {
            self.task(provider, "up", task, json!([{"state": state}])).await;
        }
    }

    async fn succeeds(&self, task: &str) {
        self.step(HUAWEI, "up", task, json!({"state": "SUCCESS"})).await;
    }

    async fn fails(&self, task: &str) {
        let error = json!({"code": "EVS.5400", "message": "the volume type is sold out"});
        self.step(HUAWEI, "up", task, json!({"state": "FAIL", "error": error})).await;
    }
}

const INSTALL: [&str; 2] = ["install", "--wait"];
const UPGRADE: [&str; 2] = ["upgrade", "--wait"];

#[tokio::test]
async fn install_waits_until_the_tasks_have_succeeded() {
    let stage = Stage::new("helm-install").await;
    stage.running(HUAWEI, &["a", "b", "c"]).await;
    let release = Release::new(&stage).await;
    release.contains(&[watch_object("first", "up", "a", json!({})), watch_object("second", "up", "b", json!({}))]);
    // Nobody has looked at the new objects yet, and that is no success.
    let meanwhile = async {
        stage.exists("first").await;
        stage.exists("second").await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        stage.operator(&[]).await
    };
    let operator = std::cell::Cell::new(None);
    let meanwhile = async {
        operator.set(Some(meanwhile.await));
        stage.until_state("first", "Running").await;
        stage.succeeds("a").await;
        stage.until_state("first", "Succeeded").await;
        stage.polls(3).await;
    };
    release.waits(&INSTALL, meanwhile, stage.succeeds("b")).await;
    assert_eq!(release.revision().await, (1, "deployed".to_owned()));

    // An upgrade waits for what is new in it.
    let watches = ["a", "b", "c"].map(|task| watch_object(&format!("w-{task}"), "up", task, json!({})));
    release.contains(&watches);
    let meanwhile = async {
        stage.until_state("w-a", "Succeeded").await;
        stage.until_state("w-c", "Running").await;
        stage.polls(3).await;
    };
    release.waits(&UPGRADE, meanwhile, stage.succeeds("c")).await;
    assert_eq!(release.revision().await, (2, "deployed".to_owned()));
}

#[tokio::test]
async fn a_failure_is_told_at_once_and_can_be_rolled_back() {
    let stage = Stage::new("helm-failure").await;
    stage.running(HUAWEI, &["good", "bad", "late"]).await;
    stage.succeeds("good").await;
    stage.fails("bad").await;
    let _operator = stage.operator(&[]).await;
    let release = Release::new(&stage).await;
    let good = watch_object("good", "up", "good", json!({}));
    release.contains(&[good.clone(), watch_object("bad", "up", "bad", json!({}))]);
    release.fails(&INSTALL, "the volume type is sold out").await;
    assert_eq!(release.revision().await, (1, "failed".to_owned()));

    // What has failed is taken out: the same release is mended.
    release.contains(std::slice::from_ref(&good));
    release.run(&UPGRADE).await.success().unwrap();
    // A task that fails while Helm waits.
    release.contains(&[good, watch_object("late", "up", "late", json!({}))]);
    let rolled_back = [&UPGRADE[..], &["--rollback-on-failure"]].concat();
    let failing = async {
        stage.until_state("late", "Running").await;
        stage.fails("late").await;
    };
    tokio::join!(release.fails(&rolled_back, "the volume type is sold out"), failing);
    assert_eq!(release.revision().await, (4, "deployed".to_owned()), "that of before");
    stage.get("good").await.unwrap();
    stage.get("late").await.unwrap_err();
}

/// A release that is not to wait for the task: `readyWhen: Observed`.
#[tokio::test]
async fn what_is_ready_when_observed_holds_nothing_up() {
    let stage = Stage::new("helm-observed").await;
    stage.running(HUAWEI, &["runs", "bad"]).await;
    stage.fails("bad").await;
    let _operator = stage.operator(&[]).await;
    let release = Release::new(&stage).await;
    let observed = |name: &str| watch_object(name, "up", name, json!({"readyWhen": "Observed"}));
    release.contains(&[observed("runs"), observed("bad")]);
    let begun = Instant::now();
    release.run(&INSTALL).await.success().unwrap();
    assert!(begun.elapsed() < TIMEOUT / 2, "{:?}", begun.elapsed());
    assert_eq!(stage.status("runs").await.unwrap().state.as_deref(), Some("Running"));
}

/// A chart whose Job starts the task and writes its identifier into a `ConfigMap`; there is no node here, so the test writes it.
#[tokio::test]
async fn a_task_that_the_release_itself_starts_is_awaited() {
    let stage = Stage::new("helm-id-from").await;
    stage.running(HUAWEI, &["started"]).await;
    let _operator = stage.operator(&[]).await;
    let release = Release::new(&stage).await;
    let mut watch = watch_object("w", "up", "", json!({}));
    watch["spec"]["task"] = json!({"idFrom": {"configMapKeyRef": {"name": "started", "key": "taskID"}}});
    release.contains(&[watch]);
    let meanwhile = async {
        stage.until_state("w", "Pending").await;
        stage.put(json!({"kind": "ConfigMap", "metadata": {"name": "started"}, "data": {"taskID": "started"}})).await;
        stage.until_state("w", "Running").await;
        stage.polls(3).await;
    };
    release.waits(&INSTALL, meanwhile, stage.succeeds("started")).await;
}

/// A set is waited for as its `readyWhen` says.
#[tokio::test]
async fn a_set_is_awaited_too() {
    let stage = Stage::new("helm-set").await;
    stage.running(ASTRA, &["a", "b"]).await;
    let release = Release::new(&stage).await;
    let set = |name: &str, ready_when: &str| {
        let spec = json!({"connectionRef": {"name": "up"}, "readyWhen": ready_when,
            "template": {"spec": {"poll": {"periodSeconds": 1, "maxPeriodSeconds": 1}}}});
        json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatchSet", "metadata": {"name": name}, "spec": spec})
    };
    release.contains(&[set("observed", "Observed")]);
    let operator = std::cell::Cell::new(None);
    let meanwhile = async {
        eventually(SOON, "the set is there", || async {
            stage.plane.kubectl(&["get", "tws", "observed", "--namespace", &stage.namespace]).await?.success()
        })
        .await
        .unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
    };
    let finally = async { operator.set(Some(stage.operator(&[]).await)) };
    release.waits(&INSTALL, meanwhile, finally).await;
    assert_eq!(stage.children("observed").await.unwrap().len(), 2, "it has found its tasks");

    stage.step(ASTRA, "up", "b", json!({"state": "failed"})).await;
    stage.until_children("observed", &[("a", "Running"), ("b", "Failed")]).await;
    release.contains(&[set("none-failed", "NoneFailed")]);
    release.fails(&UPGRADE, "A task that matches has failed").await;
}
