//! Watches that do not name their task: where it is looked for, how often, and what is said until it is found.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    cluster::Fault,
    stage::{Stage, encoded, pass, until},
};

const RUNNING: &str = "Running 40% Finished False/TaskRunning Synced True/Observed";

async fn from(source: &str) -> Stage {
    let stage = Stage::new().await;
    stage.upstream.set("t", "running", &json!({"percentDone": 40}));
    stage.watch("w", "", &json!({"task": {"idFrom": {source: {"name": "o", "key": "id"}}}}));
    stage
}

fn data(text: &Value, labels: &Value) -> Value {
    json!({"metadata": {"name": "o", "namespace": "n", "labels": labels}, "data": {"id": text}})
}

#[tokio::test(start_paused = true)]
async fn the_identifier_is_read_from_a_config_map_as_soon_as_it_is_there() {
    let stage = from("configMapKeyRef").await;
    let operator = stage.begin(&[]);
    stage.ready("taskwatches/n/w", "Unknown AwaitingTaskID", "no ConfigMap o with the key id").await;
    let mut reads = Vec::new();
    while reads.len() < 5 {
        until("another read", || (stage.cluster.asked("GET configmaps n/o") > reads.len()).then_some(()), || "").await;
        reads.push(Instant::now());
    }
    let waits: Vec<_> = reads.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert_eq!(waits[waits.len() - 3..], [4, 8, 15], "{waits:?}");
    stage.cluster.create("configmaps", data(&json!("no such/thing"), &json!({})));
    stage.ready("taskwatches/n/w", "False InvalidSpec", "correct ConfigMap o, which is read again").await;
    stage.cluster.edit("configmaps/n/o", |map| map["data"]["id"] = json!(" t\n"));
    // A request to look does not wait.
    stage.cluster.edit("taskwatches/n/w", |object| {
        object["metadata"]["annotations"] = json!({"taskwatch.dev/requestedAt": "now"});
    });
    let asked = Instant::now();
    stage.says("w", RUNNING).await;
    assert!(asked.elapsed().as_secs() < 2, "{:?}", asked.elapsed());
    assert_eq!(stage.cluster.get("taskwatches/n/w").unwrap()["status"]["task"]["id"], "t");
    // It is fixed then, and after a restart, too.
    let reads = stage.cluster.asked("GET configmaps");
    stage.cluster.edit("configmaps/n/o", |map| map["data"]["id"] = json!("other"));
    pass(60).await;
    operator.end().await.unwrap();
    stage.upstream.asked();
    let _operator = stage.begin(&[]);
    pass(60).await;
    assert_eq!(stage.cluster.asked("GET configmaps"), reads);
    let asked = stage.upstream.asked();
    assert!(!asked.is_empty() && asked.iter().all(|line| line.ends_with(" t")), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn of_a_secret_nothing_is_told_but_what_its_label_allows() {
    let stage = from("secretKeyRef").await;
    stage.cluster.create("secrets", data(&json!(encoded("t")), &json!({})));
    let operator = stage.begin(&[]);
    let absent = "no Secret o with the key id and the label taskwatch.dev/id-from";
    stage.ready("taskwatches/n/w", "Unknown AwaitingTaskID", absent).await;
    stage.cluster.fail("GET secrets n/o", 5, Fault::Refused(403, "Forbidden"));
    stage.ready("taskwatches/n/w", "Unknown AwaitingTaskID", "the operator may not read Secret o").await;
    // What may pass by itself is not told.
    stage.cluster.fail("GET secrets n/o", 1, Fault::Refused(500, "InternalError"));
    let errors =
        || operator.metric(r#"controller_runtime_reconcile_total{controller="taskwatch",result="error"}"#).unwrap_or(0);
    until("an error", || (errors() == 1).then_some(()), || "").await;
    stage.cluster.edit("secrets/n/o", |secret| secret["metadata"]["labels"] = json!({"taskwatch.dev/id-from": "true"}));
    stage.says("w", RUNNING).await;
}

#[tokio::test(start_paused = true)]
async fn the_newest_task_that_matches_is_chosen_from_a_list_and_then_asked_for_alone() {
    let stage = Stage::new().await;
    let created = |second: u32| json!({"percentDone": 40, "name": "backup", "metadata": {"creationTimestamp": format!("2026-11-27T10:00:{second:02}Z")}});
    stage.upstream.set(
        "old",
        "running",
        &json!({"name": "backup", "metadata": {"creationTimestamp": "2026-11-27T08:00:00Z"}}),
    );
    stage.watch("w", "", &json!({"task": {"latest": {"nameContains": "backup"}}}));
    let operator = stage.begin(&[]);
    stage.ready("taskwatches/n/w", "Unknown AwaitingTask", "").await;
    pass(60).await;
    let asked = stage.upstream.asked();
    assert!((5..=8).contains(&asked.len()) && asked.iter().all(|line| line == "list own"), "{asked:?}");
    stage.upstream.set("a", "running", &created(20));
    stage.upstream.set("b", "running", &created(40));
    stage.upstream.set(
        "c",
        "running",
        &json!({"name": "restore", "metadata": {"creationTimestamp": "2026-11-27T10:00:50Z"}}),
    );
    stage.says("w", RUNNING).await;
    assert_eq!(stage.cluster.get("taskwatches/n/w").unwrap()["status"]["task"]["id"], "b");
    pass(1).await;
    stage.upstream.asked();
    pass(60).await;
    let asked = stage.upstream.asked();
    assert!(!asked.is_empty() && asked.iter().all(|line| line.ends_with(" b")), "{asked:?}");
    operator.end().await.unwrap();
    // Trouble with the list is told of the watch that waits for it.
    let stage = Stage::new().await;
    for _ in 0..60 {
        stage.upstream.instead("list", crate::engine::tests::upstream::Instead::Answer(500, &[], "{}".to_owned()));
    }
    stage.watch("w", "", &json!({"task": {"latest": {}}}));
    let _operator = stage.begin(&[]);
    stage.ready("taskwatches/n/w", "Unknown UpstreamUnavailable", "").await;
}
