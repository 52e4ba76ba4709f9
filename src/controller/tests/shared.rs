//! Connections of the cluster: who may use them, and what that depends on.

use serde_json::{Value, json};

use super::stage::{Stage, encoded, pass, until};

const C: &str = "clustertaskconnections//c";
const RUNNING: &str = "Running 40% Finished False/TaskRunning Synced True/Observed";

/// With the connection `c` of the cluster, for the namespaces with the label `team: red`, and a watch and a set of the namespace `n` that
/// use it.
async fn stage(more: &Value) -> Stage {
    let stage = Stage::bare().await;
    stage.cluster.create("secrets", json!({"metadata": {"name": "s", "namespace": "taskwatch-system"}, "data": {"token": encoded("token-of-the-cluster")}}));
    let mut connection = stage.connection("c");
    connection["metadata"] = json!({"name": "c"});
    connection["spec"]["allowedNamespaces"] = json!({"selector": {"matchLabels": {"team": "red"}}});
    connection["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    stage.cluster.create("clustertaskconnections", connection);
    stage.cluster.create("namespaces", json!({"metadata": {"name": "n"}}));
    stage.upstream.set("t", "running", &json!({"percentDone": 40}));
    stage.watch("w", "t", &reference());
    stage
}

fn reference() -> Value {
    json!({"connectionRef": {"kind": "ClusterTaskConnection", "name": "c"}})
}

#[tokio::test(start_paused = true)]
async fn who_may_use_it_changes_with_the_labels_of_the_namespace() {
    let stage = stage(&json!({})).await;
    let set =
        json!({"metadata": {"name": "all", "namespace": "n"}, "spec": {"connectionRef": reference()["connectionRef"]}});
    stage.cluster.create("taskwatchsets", set);
    let _operator = stage.begin(&[]);
    stage.says("w", "Unknown Finished False/AwaitingObservation Synced False/ConnectionNotFound").await;
    stage.ready("taskwatches/n/w", "Unknown ConnectionNotFound", "").await;
    stage.ready("taskwatchsets/n/all", "False ConnectionNotFound", "").await;
    stage.ready(C, "Unknown AwaitingAnswer", "").await;
    let label = |team: Option<&str>| {
        stage.cluster.edit("namespaces//n", |object| object["metadata"]["labels"] = json!({"team": team}))
    };
    label(Some("red"));
    stage.says("w", RUNNING).await;
    stage.ready("taskwatchsets/n/all", "True Observed", "").await;
    assert!(stage.upstream.asked_by().iter().all(|(_, by)| by == "Bearer token-of-the-cluster"));
    label(Some("blue"));
    stage.says("w", "Running 40% Finished False/TaskRunning Synced False/ConnectionNotFound").await;
    stage.ready("taskwatchsets/n/all", "False ConnectionNotFound", "").await;
    label(Some("red"));
    stage.says("w", RUNNING).await;
    // Labels that are too many to be read are none.
    stage.cluster.edit("namespaces//n", |object| {
        let labels = object["metadata"]["labels"].as_object_mut().unwrap();
        labels.extend((0..2000).map(|number| (format!("label-{number}"), json!("x".repeat(60)))));
    });
    stage.says("w", "Running 40% Finished False/TaskRunning Synced False/ConnectionNotFound").await;
    stage.cluster.edit("namespaces//n", |object| object["metadata"]["labels"] = json!({"team": "red"}));
    stage.says("w", RUNNING).await;
    // What the connection allows changes, too.
    stage.cluster.edit(C, |object| object["spec"]["allowedNamespaces"] = json!({"names": ["m"]}));
    stage.says("w", "Running 40% Finished False/TaskRunning Synced False/ConnectionNotFound").await;
    stage.cluster.edit(C, |object| object["spec"]["allowedNamespaces"] = json!({"names": ["n"]}));
    stage.says("w", RUNNING).await;
    stage.cluster.delete(C);
    stage.says("w", "Running 40% Finished False/TaskRunning Synced False/ConnectionNotFound").await;
    pass(1).await;
    stage.upstream.asked();
    pass(60).await;
    assert_eq!(stage.upstream.asked(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_goes_takes_its_labels_with_it() {
    let stage = stage(&json!({})).await;
    stage.cluster.edit("namespaces//n", |object| object["metadata"]["labels"] = json!({"team": "red"}));
    let _operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    stage.cluster.delete("namespaces//n");
    pass(1).await;
    stage.watch("x", "t", &reference());
    stage.says("x", "Unknown Finished False/AwaitingObservation Synced False/ConnectionNotFound").await;
}

#[tokio::test(start_paused = true)]
async fn it_serves_so_many_watches_of_a_namespace_as_it_says() {
    let stage = stage(&json!({"allowedNamespaces": {"names": ["n"]}, "limits": {"watchesPerNamespace": 1}})).await;
    pass(2).await;
    stage.watch("x", "t", &reference());
    let _operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    stage.ready("taskwatches/n/x", "False LimitExceeded", "serves 1 TaskWatches of each namespace").await;
    stage.cluster.delete("taskwatches/n/w");
    stage.says("x", RUNNING).await;
    pass(2).await;
    stage.watch("y", "t", &reference());
    stage.ready("taskwatches/n/y", "False LimitExceeded", "").await;
    stage.cluster.edit(C, |object| object["spec"]["limits"]["watchesPerNamespace"] = json!(2));
    stage.says("y", RUNNING).await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_of_some_namespaces_sees_nothing_else() {
    let stage = stage(&json!({"allowedNamespaces": {"names": ["n"]}})).await;
    stage.secret("s", "token-of-the-first-secret");
    stage.cluster.create("taskconnections", stage.connection("d"));
    stage.watch("own", "t", &json!({"connectionRef": {"name": "d"}}));
    stage.cluster.create("taskwatches", json!({"metadata": {"name": "w", "namespace": "m"}, "spec": {"connectionRef": {"name": "d"}, "task": {"id": "t"}}}));
    let set = json!({"metadata": {"name": "all", "namespace": "n"}, "spec": {"connectionRef": {"name": "d"}, "match": {"nameContains": "none"}}});
    stage.cluster.create("taskwatchsets", set);
    let operator = stage.begin(&["--namespace=n", "--namespace=o"]);
    stage.says("own", RUNNING).await;
    stage.ready("taskwatchsets/n/all", "True Observed", "").await;
    stage.ready("taskwatches/n/w", "Unknown ConnectionNotFound", "it runs with --namespace").await;
    pass(30).await;
    assert!(stage.cluster.get("taskwatches/m/w").unwrap()["status"].is_null());
    for plural in ["taskwatches", "taskconnections", "taskwatchsets"] {
        for namespace in ["n", "o"] {
            assert!(stage.cluster.asked(&format!("GET {plural} {namespace}")) > 0, "{plural} {namespace}");
        }
        assert_eq!(stage.cluster.asked(&format!("WATCH {plural}")), 2);
    }
    assert_eq!(stage.cluster.asked("GET namespaces") + stage.cluster.asked("GET clustertaskconnections"), 0);
    operator.end().await.unwrap();
    // A list of one namespace says nothing of what is in the other.
    let operator = stage.begin(&["--namespace=n", "--namespace=m"]);
    until("m is served", || (!stage.cluster.get("taskwatches/m/w").unwrap()["status"].is_null()).then_some(()), || "")
        .await;
    for plural in ["taskwatches", "taskconnections", "taskwatchsets"] {
        stage.cluster.end_watches(plural, true);
    }
    pass(20).await;
    stage.upstream.set("t", "running", &json!({"percentDone": 90}));
    stage.says("own", "Running 90% Finished False/TaskRunning Synced True/Observed").await;
    stage
        .ready("taskwatches/m/w", "Unknown ConnectionNotFound", "TaskConnection d does not exist in namespace m")
        .await;
    operator.end().await.unwrap();
    // Without sets none is followed.
    let followed = stage.cluster.asked("GET taskwatchsets");
    let operator = stage.begin(&["--discovery=false"]);
    stage.says("w", "Running 90% Finished False/TaskRunning Synced True/Observed").await;
    assert_eq!(stage.cluster.asked("GET taskwatchsets"), followed);
    operator.end().await.unwrap();
    let operator = stage.begin(&["--discovery=false", "--namespace=n", "--no-cluster-connections"]);
    stage.ready("taskwatches/n/w", "Unknown ConnectionNotFound", "").await;
    assert_eq!(stage.cluster.asked("GET taskwatchsets"), followed);
    operator.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_went_of_the_cluster_while_nobody_listened_has_gone() {
    let stage = stage(&json!({})).await;
    stage.cluster.edit("namespaces//n", |object| object["metadata"]["labels"] = json!({"team": "red"}));
    let _operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    stage.cluster.delete_unheard("namespaces//n");
    pass(20).await;
    stage.watch("x", "t", &reference());
    stage.says("x", "Unknown Finished False/AwaitingObservation Synced False/ConnectionNotFound").await;
    stage.cluster.create("namespaces", json!({"metadata": {"name": "n", "labels": {"team": "red"}}}));
    stage.says("x", RUNNING).await;
    stage.cluster.delete_unheard(C);
    stage.says("x", "Running 40% Finished False/TaskRunning Synced False/ConnectionNotFound").await;
}
