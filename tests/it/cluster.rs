//! The operator of a whole cluster, as `deploy/` installs it: with the rights that its manifests grant and no others. Connections that
//! namespaces share are watched only so.

use std::{path::Path, time::Duration};

use anyhow::ensure;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use taskwatch::api::TaskConnection;
use taskwatch_harness::{ControlPlane, OPERATOR, Operator, OperatorOptions, eventually, workspace_root};

use crate::{
    rights::{Audit, SETS, differences, granted},
    stage::{ASTRA, SECRET, SOON, Stage, install, message, row},
};

const RUNNING: &str = "Running Unknown/TaskRunning False True/Observed Unknown R";
const REFUSED: &str = "Unknown Unknown/AwaitingObservation False False/ConnectionNotFound Unknown R";

/// All manifests of a directory of `deploy/`, as the API server takes them.
async fn apply(plane: &ControlPlane, directory: &str) {
    let mut files: Vec<_> = std::fs::read_dir(workspace_root().join(directory))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension().is_some_and(|e| e == "yaml") && !path.ends_with(Path::new("kustomization.yaml"))
        })
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        apply_file(plane, &file).await;
    }
}

async fn apply_file(plane: &ControlPlane, file: &Path) {
    plane.kubectl(&["apply", "--filename", file.to_str().unwrap()]).await.unwrap().success().unwrap();
}

/// A shared connection serves the namespaces that it names, and those with its labels, as either changes.
async fn it_serves_by_name_and_by_label(named: &Stage, labelled: &Stage) {
    named.scope(ASTRA, "account", json!([{"kind": "token", "token": SECRET}])).await;
    named.task(ASTRA, "account", "task", json!([{"state": "running"}])).await;
    named
        .put(json!({"kind": "Secret", "metadata": {"name": "astra", "namespace": "taskwatch-system"},
        "stringData": {"token": SECRET}}))
        .await;
    shared(named, json!(null)).await;
    for stage in [named, labelled] {
        let reference = json!({"connectionRef": {"kind": "ClusterTaskConnection"}});
        stage.watch("w", "shared", "task", reference).await;
        let status = stage.until_row("w", REFUSED).await;
        let words =
            format!("ClusterTaskConnection shared does not exist or does not serve namespace {}", stage.namespace);
        assert!(message(&status, "Ready").contains(&words), "{}", message(&status, "Ready"));
    }
    // By name, and by label: either where the connection or where the namespace changes.
    shared(named, json!({"names": ["named"], "selector": {"matchLabels": {"tasks": "yes"}}})).await;
    named.until_row("w", RUNNING).await;
    assert_eq!(row(&labelled.status("w").await.unwrap()), REFUSED);
    let label = |value: Value| json!({"metadata": {"labels": {"tasks": value}}});
    labelled.change("Namespace", "labelled", label(json!("yes"))).await;
    labelled.until_row("w", RUNNING).await;
    labelled.change("Namespace", "labelled", label(json!(null))).await;
    let kept = "Running Unknown/TaskRunning False False/ConnectionNotFound Unknown R";
    eventually(SOON, "it is refused again", || async {
        let now = row(&labelled.status("w").await?);
        ensure!(now == kept || now == REFUSED, "it is {now}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn with_the_rights_of_its_manifests_it_serves_the_namespaces_that_are_allowed() {
    let audit = Audit::new();
    // Of its own: an operator of all namespaces would meddle with the other tests.
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start_with(audit.options()).await.unwrap()));
    install(plane).await.unwrap();
    plane.kubectl(&["create", "namespace", "taskwatch-system"]).await.unwrap().success().unwrap();
    apply(plane, "deploy/rbac").await;
    apply_file(plane, &workspace_root().join("deploy/operator/leases.yaml")).await;
    let named = Stage::on(plane, "named").await;
    let labelled = Stage::on(plane, "labelled").await;
    let operator = Operator::start(
        OperatorOptions::new(plane.kubeconfig(OPERATOR).unwrap())
            .args(&["--secret-refresh-seconds", "1", "--max-watches-per-namespace", "2"])
            .args(&["--max-connections-per-namespace", "3", "--lease-buckets", "2"])
            .env("POD_NAMESPACE", "taskwatch-system"),
    )
    .await
    .unwrap();

    it_serves_by_name_and_by_label(&named, &labelled).await;

    // Statuses, events, deletions: all within its rights.
    named.upstream(ASTRA, "own").await;
    named.task(ASTRA, "own", "done", json!([{"state": "completed"}])).await;
    named.watch("done", "own", "done", json!({"ttlSecondsAfterFinished": 1})).await;
    eventually(SOON, "it is told of and deleted", || async {
        ensure!(named.get("done").await.is_err(), "it is there");
        let events = named.events("done").await;
        ensure!(events == ["TaskSucceeded"], "{events:?}");
        Ok(())
    })
    .await
    .unwrap();
    named.until_connection("own", "Connected").await;
    // One too many is not kept in memory: it is read when it is to be told. Which of two is the newer, if both are of one second, is open.
    let new = ["second", "third"];
    named.task(ASTRA, "own", "going", json!([{"state": "running"}])).await;
    for name in new {
        named.watch(name, "own", "going", json!({})).await;
    }
    eventually(SOON, "it is told that it is one too many", || async {
        let statuses = [named.status(new[0]).await?, named.status(new[1]).await?];
        let said = statuses.iter().map(|status| message(status, "Ready"));
        ensure!(
            said.clone().any(|said| said.contains("has more than 2 TaskWatches")),
            "{:?}",
            said.collect::<Vec<_>>()
        );
        Ok(())
    })
    .await
    .unwrap();
    a_set_keeps_its_watches(plane).await;
    nothing_was_forbidden(&operator);

    // Each right is used, and nothing else is asked for.
    let authority = json!({"tls": {"caBundleRef": {"kind": "ConfigMap", "name": "ca", "key": "ca.crt"}}});
    named.connection("private", ASTRA, "own", json!({"token": {"secretRef": {"name": "own"}}}), authority).await;
    named.until_connection("private", "SecretNotFound").await;
    identities_are_no_credentials(&named, &operator).await;
    what_is_too_much_says_so(&labelled).await;
    // At the end it says that it is gone.
    operator.process().stop().await.unwrap();
    assert_eq!(differences(&granted(), &audit.calls()), [""; 0]);

    // And it has no right beyond.
    let kubectl = plane.kubectl_as(OPERATOR).unwrap().limit(Duration::from_secs(30));
    for forbidden in [
        ["list", "secrets"],
        ["create", "secrets"],
        ["patch", "taskwatches.taskwatch.dev"],
        ["deletecollection", "taskwatches.taskwatch.dev"],
        ["create", "taskwatchsets.taskwatch.dev"],
        ["update", "taskwatchsets.taskwatch.dev"],
        ["delete", "taskwatchsets.taskwatch.dev"],
        ["delete", "taskconnections.taskwatch.dev"],
        ["list", "pods"],
    ] {
        let answer = kubectl.run(&[&["auth", "can-i"], &forbidden[..], &["--all-namespaces"]].concat()).await.unwrap();
        assert_eq!(answer.stdout.trim(), "no", "{forbidden:?}");
    }

    drop(operator);
    // Without sets it gets along without what they need.
    plane.kubectl(&["delete", "clusterrolebinding", SETS]).await.unwrap().success().unwrap();
    kinds_can_be_denied(plane, &named).await;
}

fn nothing_was_forbidden(operator: &Operator) {
    let log = operator.process().log();
    assert!(!log.contains("forbidden"), "{log}");
}

/// A set creates, changes and deletes `TaskWatch` objects by the operator's rights alone, where the API server is strict about owners.
async fn a_set_keeps_its_watches(plane: &'static ControlPlane) {
    let stage = Stage::on(plane, "sets").await;
    stage.upstream(ASTRA, "own").await;
    for id in ["a", "b"] {
        stage.task(ASTRA, "own", id, json!([{"state": "running"}])).await;
    }
    stage.set("all", "own", json!({})).await;
    stage.until_children("all", &[("a", "Running"), ("b", "Running")]).await;
    let before = stage.children("all").await.unwrap();
    let owner = &before["a"].metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(owner.block_owner_deletion, Some(true));
    let template = json!({"metadata": {"labels": {"example.com/team": "red"}}});
    stage.change("TaskWatchSet", "all", json!({"spec": {"template": template}})).await;
    eventually(SOON, "the template is applied", || async {
        let now = stage.children("all").await?;
        for (id, child) in &now {
            ensure!(child.metadata.uid == before[id].metadata.uid, "{id} was made anew");
            ensure!(child.labels().contains_key("example.com/team"), "{id}: {:?}", child.labels());
        }
        ensure!(now.len() == before.len(), "{now:?}");
        Ok(())
    })
    .await
    .unwrap();
    stage.change("TaskWatchSet", "all", json!({"spec": {"match": {"types": ["none"]}}})).await;
    stage.until_children("all", &[]).await;
}

/// An identity in the cluster is not sent to an upstream; each credential that is, is told of.
async fn identities_are_no_credentials(named: &Stage, operator: &Operator) {
    named.put(json!({"kind": "ServiceAccount", "metadata": {"name": "robot"}})).await;
    named
        .put(json!({"kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {"name": "robot", "annotations": {"kubernetes.io/service-account.name": "robot"}},
            "stringData": {"token": SECRET}}))
        .await;
    named.connection("robot", ASTRA, "own", json!({"token": {"secretRef": {"name": "robot"}}}), json!({})).await;
    let why = named.until_connection("robot", "InvalidSpec").await;
    assert!(why.contains("is of type kubernetes.io/service-account-token"), "{why}");
    let log = operator.process().log();
    let told = |secret: &str| log.lines().any(|line| line.contains("may be sent") && line.contains(secret));
    assert!(told("named/own") && told("taskwatch-system/astra") && !told("named/robot"), "{log}");
}

/// One connection too many, and one watch too many of a shared connection. Which is the newest, if all are of one second, is open.
async fn what_is_too_much_says_so(stage: &Stage) {
    const NAMES: [&str; 4] = ["first", "second", "third", "fourth"];
    for name in NAMES {
        stage.upstream(ASTRA, name).await;
    }
    let reasons = || async {
        let mut reasons = Vec::new();
        for name in NAMES {
            let api: Api<TaskConnection> = Api::namespaced(stage.client.clone(), &stage.namespace);
            let conditions = api.get(name).await?.status.map(|status| status.conditions).unwrap_or_default();
            let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
            reasons.push(ready.map(|ready| ready.reason).unwrap_or_default());
        }
        anyhow::Ok(reasons)
    };
    let refused = eventually(SOON, "one of four connections is one too many", || async {
        let reasons = reasons().await?;
        let refused: Vec<_> = (0..NAMES.len()).filter(|at| reasons[*at] == "LimitExceeded").collect();
        ensure!(refused.len() == 1 && !reasons.contains(&String::new()), "{reasons:?}");
        Ok(refused[0])
    })
    .await
    .unwrap();
    let gone = NAMES[usize::from(refused == 0)];
    stage.delete("TaskConnection", gone).await;
    let left = NAMES[refused];
    stage.until_connection(left, "Idle").await;

    let limited = |limit: Value| json!({"spec": {"allowedNamespaces": {"names": ["labelled"]}, "limits": {"watchesPerNamespace": limit}}});
    stage.change("ClusterTaskConnection", "shared", limited(json!(1))).await;
    stage.watch("w2", "shared", "task", json!({"connectionRef": {"kind": "ClusterTaskConnection"}})).await;
    stage.until_synced_says("w2", "shared serves 1 TaskWatches of each namespace").await;
    stage.until_row("w", RUNNING).await;
    stage.change("ClusterTaskConnection", "shared", limited(json!(2))).await;
    stage.until_row("w2", RUNNING).await;
}

async fn kinds_can_be_denied(plane: &ControlPlane, named: &Stage) {
    let denied = ["--no-cluster-connections", "--discovery=false", "--deny-auth", "token"];
    let options = OperatorOptions::new(plane.kubeconfig(OPERATOR).unwrap()).args(&denied);
    let operator = Operator::start(options).await.unwrap();
    let why = named.until_connection("own", "InvalidSpec").await;
    assert!(why.contains("spec.auth.token (--deny-auth)"), "{why}");
    named.until_synced_says("w", "it runs with --namespace or --no-cluster-connections").await;
    nothing_was_forbidden(&operator);
}

async fn shared(stage: &Stage, allowed: Value) {
    let mut object = json!({"kind": "ClusterTaskConnection", "metadata": {"name": "shared"}, "spec": {
        "provider": {ASTRA: {"endpoint": stage.simulator.url(), "accountID": "account"}},
        "auth": {"token": {"secretRef": {"name": "astra"}}},
        "poll": {"minPeriodSeconds": 1},
    }});
    if !allowed.is_null() {
        object["spec"]["allowedNamespaces"] = allowed;
    }
    stage.put(object).await;
}
