//! The chart on a real API server: installed, upgraded, uninstalled; and the operator with the rights that it gives, and no others.

use std::{path::Path, process::Command};

use anyhow::ensure;
use serde_json::{Value, json};
use taskwatch_harness::{ADMIN, ControlPlane, Helm, OPERATOR, Operator, OperatorOptions, Output, eventually};

use super::{NAMESPACE, RELEASE, chart, environment, values_file};
use crate::stage::{ASTRA, SOON, Stage, install, served};

const SUCCEEDED: &str = "Succeeded True/TaskSucceeded True True/Observed True";
const RUNNING: &str = "Running Unknown/TaskRunning False True/Observed Unknown R";

/// A cluster, and Helm to install the chart on it.
struct Site {
    plane: &'static ControlPlane,
    helm: Helm,
}

impl Site {
    async fn new() -> Self {
        // Of its own: definitions and roles are for the whole cluster.
        let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().await.unwrap()));
        Self { plane, helm: Helm::of(plane, ADMIN).await.unwrap() }
    }

    async fn try_helm(&self, args: &[&str]) -> Output {
        self.helm.run(&[args, &["--namespace", NAMESPACE]].concat()).await.unwrap()
    }

    async fn helm(&self, args: &[&str]) -> String {
        self.try_helm(args).await.success().unwrap()
    }

    /// Installs or upgrades the release; there is no node, so nobody waits for the pod.
    async fn upgrade(&self, chart: &str, values: &Value) -> String {
        let file = values_file(&self.helm, values);
        self.helm(&["upgrade", "--install", "--create-namespace", RELEASE, chart, "--values", &file]).await
    }

    async fn is_there(&self, what: &[&str]) -> bool {
        let output = self.plane.kubectl(&[&["get"], what].concat()).await.unwrap();
        assert!(output.code == 0 || output.stderr.contains("NotFound"), "{}", output.stderr);
        output.code == 0
    }

    /// The operator as the Deployment starts it, with the rights of its service account.
    async fn operator(&self) -> Operator {
        let get = ["get", "deployment", RELEASE, "--namespace", NAMESPACE, "--output", "json"];
        let deployment = self.plane.kubectl(&get).await.unwrap().success().unwrap();
        let deployment: Value = serde_json::from_str(&deployment).unwrap();
        let options = OperatorOptions::new(self.plane.kubeconfig(OPERATOR).unwrap()).env("POD_NAMESPACE", NAMESPACE);
        let variables = environment(&deployment["spec"]["template"]["spec"]["containers"][0]);
        let options = variables.iter().fold(options, |options, (name, value)| options.env(name, value));
        Operator::start(options).await.unwrap()
    }
}

/// A copy of a chart without its symbolic links, to be changed.
fn copy(chart: &str, to: &Path) {
    let copied = Command::new("cp").args(["-rL", chart]).arg(to).status().unwrap();
    assert!(copied.success());
}

#[tokio::test]
async fn it_is_installed_upgraded_and_uninstalled_and_the_objects_stay() {
    let site = Site::new().await;
    let stage = Stage::on(site.plane, "team-a").await;
    // An earlier version, whose TaskWatch had no short name.
    let earlier = site.helm.workdir().join("taskwatch");
    copy(&chart("taskwatch"), &earlier);
    let definition = earlier.join("charts/taskwatch-crds/files/taskwatch.dev_taskwatches.yaml");
    let text = std::fs::read_to_string(&definition).unwrap();
    let without = text.replace("    shortNames:\n    - tw\n", "");
    assert!(without != text);
    std::fs::write(&definition, without).unwrap();
    let values = json!({"secretAccess": {"namespaces": ["team-a"]}, "config": {"secretRefreshSeconds": 1}});
    let said = site.upgrade(earlier.to_str().unwrap(), &values).await;
    for words in ["kubectl -n taskwatch-system rollout status deployment/taskwatch", "taskwatch-system, team-a only"] {
        assert!(said.contains(words), "{said}");
    }
    served(site.plane).await.unwrap();
    let short = ["get", "tw", "--all-namespaces"];
    assert!(site.plane.kubectl(&short).await.unwrap().code != 0);
    let said = site.upgrade(&chart("taskwatch"), &values).await;
    assert!(said.contains("REVISION: 2"), "{said}");
    eventually(SOON, "the definition is upgraded", || async { site.plane.kubectl(&short).await?.success() })
        .await
        .unwrap();

    // At work by the rights of the chart.
    stage.upstream(ASTRA, "account").await;
    stage.task(ASTRA, "account", "a", json!([{"state": "running"}])).await;
    stage.watch("w", "account", "a", json!({})).await;
    stage.set("all", "account", json!({})).await;
    let operator = site.operator().await;
    stage.until_row("w", RUNNING).await;
    stage.until_children("all", &[("a", "Running")]).await;
    assert!(!operator.process().log().contains("forbidden"), "{}", operator.process().log());
    drop(operator);

    // The same in a namespace of its own, without any role of the cluster.
    let values = json!({"scopedNamespaces": ["team-a"], "config": {"secretRefreshSeconds": 1}});
    site.upgrade(&chart("taskwatch"), &values).await;
    for kind in ["clusterroles", "clusterrolebindings"] {
        let left = ["get", kind, "--selector=app.kubernetes.io/name=taskwatch", "--output=name"];
        assert_eq!(site.plane.kubectl(&left).await.unwrap().success().unwrap(), "");
    }
    let operator = site.operator().await;
    stage.step(ASTRA, "account", "a", json!({"state": "completed"})).await;
    stage.until_row("w", SUCCEEDED).await;
    stage.until_children("all", &[("a", "Succeeded")]).await;
    assert!(!operator.process().log().contains("forbidden"), "{}", operator.process().log());
    drop(operator);

    let uid = stage.get("w").await.unwrap().metadata.uid;
    site.helm(&["uninstall", RELEASE]).await;
    assert!(!site.is_there(&["deployment", RELEASE, "--namespace", NAMESPACE]).await);
    assert!(!site.is_there(&["role", "taskwatch-operator", "--namespace", "team-a"]).await);
    assert_eq!(stage.get("w").await.unwrap().metadata.uid, uid);
    stage.until_row("w", SUCCEEDED).await;

    // Again, as if nothing had been; and away with everything, where somebody wants that.
    site.upgrade(&chart("taskwatch"), &json!({"crds": {"keep": false}})).await;
    assert_eq!(stage.get("w").await.unwrap().metadata.uid, uid);
    site.helm(&["uninstall", RELEASE]).await;
    eventually(SOON, "the definitions are gone", || async {
        let left = site.plane.kubectl(&["get", "crd", "--output=name"]).await?.success()?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
    .await
    .unwrap();
}

/// Definitions that are there by `kubectl apply -f crds/` are not taken without a word.
#[tokio::test]
async fn definitions_of_others_are_taken_over_when_asked_to() {
    let site = Site::new().await;
    install(site.plane).await.unwrap();
    let taskwatch = chart("taskwatch");
    let args = ["install", "--create-namespace", RELEASE, &taskwatch];
    let refused = site.try_helm(&args).await;
    assert!(refused.code != 0 && refused.stderr.contains("cannot be imported"), "{refused:?}");
    site.helm(&[&args[..], &["--take-ownership"]].concat()).await;
    let get = ["get", "crd", "taskwatches.taskwatch.dev", "--output=jsonpath={.metadata.annotations}"];
    let annotations = site.plane.kubectl(&get).await.unwrap().success().unwrap();
    assert!(annotations.contains("\"helm.sh/resource-policy\":\"keep\""), "{annotations}");

    // With those of another release, the operator's is without.
    site.helm(&["uninstall", RELEASE]).await;
    let crds = chart("taskwatch-crds");
    site.helm(&["install", "definitions", &crds, "--take-ownership"]).await;
    site.helm(&["install", RELEASE, &taskwatch, "--set", "crds.enabled=false"]).await;
    site.helm(&["uninstall", RELEASE]).await;
    assert!(site.is_there(&["crd", "taskwatches.taskwatch.dev"]).await);
}
