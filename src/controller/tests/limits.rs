//! How many objects of a namespace are served: the older ones are, and the others say so until there is room.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::stage::{Stage, pass, until};

const RUNNING: &str = "Running 40% Finished False/TaskRunning Synced True/Observed";

#[tokio::test(start_paused = true)]
async fn the_older_watches_are_served_and_the_others_say_so() {
    let stage = Stage::new().await;
    for task in ["a", "b", "c"] {
        stage.upstream.set(task, "running", &json!({"percentDone": 40}));
    }
    stage.watch("b", "b", &json!({}));
    let operator = stage.begin(&["--max-watches-per-namespace=1"]);
    stage.says("b", RUNNING).await;
    pass(2).await;
    stage.watch("c", "c", &json!({}));
    stage.ready("taskwatches/n/c", "False LimitExceeded", "namespace n has more than 1 TaskWatches").await;
    pass(1).await;
    stage.cluster.wrote();
    stage.upstream.asked();
    pass(60).await;
    assert_eq!(stage.cluster.wrote(), Vec::<String>::new(), "told once");
    assert!(stage.upstream.asked().iter().all(|line| !line.ends_with(" c")));
    // An older one that is told of late takes its place.
    let older = json!({"metadata": {"name": "a", "namespace": "n", "creationTimestamp": "2026-11-27T09:00:00Z"},
        "spec": {"connectionRef": {"name": "c"}, "task": {"id": "a"}}});
    stage.cluster.create("taskwatches", older);
    stage.says("a", RUNNING).await;
    stage.ready("taskwatches/n/b", "False LimitExceeded", "").await;
    pass(1).await;
    stage.upstream.asked();
    pass(60).await;
    let asked = stage.upstream.asked();
    assert!(!asked.is_empty() && asked.iter().all(|line| line.ends_with(" a")), "{asked:?}");
    stage.cluster.delete("taskwatches/n/a");
    stage.says("b", RUNNING).await;
    // One that is gone, or going, is not brought back.
    stage.cluster.delete("taskwatches/n/b");
    stage.says("c", RUNNING).await;
    assert_eq!(
        operator.metric(r#"controller_runtime_reconcile_total{controller="taskwatch",result="error"}"#).unwrap_or(0),
        0
    );
    // What ended before stays as it is, and goes in its time.
    stage.upstream.set("d", "completed", &json!({}));
    pass(2).await;
    stage.watch("d", "d", &json!({"ttlSecondsAfterFinished": 30}));
    stage.ready("taskwatches/n/d", "False LimitExceeded", "").await;
    let finished = json!([{"type": "Finished", "status": "True", "reason": "TaskSucceeded", "message": "", "lastTransitionTime": stage.cluster.now().to_string()}]);
    stage.cluster.edit("taskwatches/n/d", |object| {
        object["status"] = json!({"observedGeneration": 1, "state": "Succeeded", "conditions": finished});
    });
    until(
        "d is deleted",
        || stage.cluster.get("taskwatches/n/d").is_none().then_some(()),
        || stage.cluster.get("taskwatches/n/d").unwrap().to_string(),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_older_connections_and_sets_are_served_and_the_others_say_so() {
    let stage = Stage::new().await;
    let set = |name: &str| json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"connectionRef": {"name": "c"}, "match": {"nameContains": "none"}}});
    stage.cluster.create("taskwatchsets", set("s1"));
    pass(2).await;
    stage.cluster.create("taskconnections", stage.connection("d"));
    stage.cluster.create("taskwatchsets", set("s2"));
    stage.upstream.set("t", "running", &json!({"percentDone": 40}));
    stage.watch("w", "t", &json!({"connectionRef": {"name": "d"}}));
    let _operator = stage.begin(&["--max-connections-per-namespace=1"]);
    stage.ready("taskconnections/n/d", "False LimitExceeded", "namespace n has more than 1 TaskConnections").await;
    stage.ready("taskwatchsets/n/s2", "False LimitExceeded", "namespace n has more than 1 TaskWatchSets").await;
    stage.ready("taskwatchsets/n/s1", "True Observed", "").await;
    stage.says("w", "Unknown Finished False/AwaitingObservation Synced False/LimitExceeded").await;
    stage.cluster.delete("taskconnections/n/c");
    stage.says("w", RUNNING).await;
    stage.ready("taskconnections/n/d", "True Connected", "").await;
    stage.ready("taskwatchsets/n/s1", "False ConnectionNotFound", "").await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_served_as_soon_as_there_is_room_though_nobody_uses_it() {
    const D: &str = "taskconnections/n/d";
    let stage = Stage::new().await;
    pass(2).await;
    stage.cluster.create("taskconnections", stage.connection("d"));
    let _operator = stage.begin(&["--max-connections-per-namespace=1"]);
    stage.ready(D, "False LimitExceeded", "").await;
    pass(1).await;
    stage.cluster.delete("taskconnections/n/c");
    let gone = Instant::now();
    stage.ready(D, "True Idle", "").await;
    assert!(gone.elapsed() < Duration::from_secs(2), "{:?}", gone.elapsed());
    // An older one that is told of late takes its place as soon.
    let mut older = stage.connection("a");
    older["metadata"]["creationTimestamp"] = json!("2026-11-27T09:00:00Z");
    stage.cluster.create("taskconnections", older);
    let came = Instant::now();
    stage.ready(D, "False LimitExceeded", "").await;
    assert!(came.elapsed() < Duration::from_secs(2), "{:?}", came.elapsed());
}
