//! The life of a watch: what its status says, when its task is asked for, what is told, when it is deleted.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;
use tokio::time::Instant;

use super::{
    cluster::Fault,
    stage::{Stage, pass, said, time, until},
};

const RUNNING: &str = "Running 40% Finished False/TaskRunning Synced True/Observed";
const SUCCEEDED: &str = "Succeeded 100% Finished True/TaskSucceeded Synced True/Observed";

#[tokio::test(start_paused = true)]
async fn a_task_is_shown_as_long_as_it_runs_and_then_not_asked_for_again() {
    let stage = Stage::new().await;
    stage.upstream.set("t", "running", &json!({"percentDone": 40, "summary": "A backup"}));
    stage.watch("w", "t", &json!({}));
    let operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    stage.ready("taskconnections/n/c", "True Connected", "The upstream answers").await;
    until("an event", || (stage.events().len() == 1).then_some(()), || stage.events().join("; ")).await;
    assert_eq!(stage.events(), ["w TaskObserved: First observation of the task: Running."]);
    let mut wrote = stage.cluster.wrote();
    wrote.retain(|line| !line.starts_with("PATCH taskconnections"));
    assert_eq!(wrote[0], "PATCH taskwatches n/w status");
    assert!(wrote[1].starts_with("POST events n/w.") && wrote.len() == 2, "{wrote:?}");
    let shown = stage.cluster.get("taskwatches/n/w").unwrap();
    assert_eq!(shown["status"]["task"]["displayName"], "A backup");
    stage.upstream.asked();
    // What does not change is asked for by the period, and nothing is written of it.
    pass(95).await;
    let asked = stage.upstream.asked();
    let polls = asked.iter().filter(|line| *line == "get t").count();
    assert!((9..=10).contains(&polls), "{asked:?}");
    assert_eq!(stage.cluster.wrote(), Vec::<String>::new());
    stage.upstream.set("t", "completed", &json!({"percentDone": 100}));
    stage.says("w", SUCCEEDED).await;
    let counts = || stage.cluster.get("taskconnections/n/c").unwrap()["status"]["watches"].to_string();
    let expected = json!({"active": 0, "finished": 1}).to_string();
    until("the connection counts it", || (counts() == expected).then_some(()), counts).await;
    until("an event", || (stage.events().len() == 2).then_some(()), || stage.events().join("; ")).await;
    assert_eq!(stage.events()[1], "w TaskSucceeded: The task has succeeded.");
    stage.upstream.asked();
    stage.cluster.wrote();
    pass(120).await;
    assert_eq!((stage.upstream.asked(), stage.cluster.wrote()), (Vec::new(), Vec::new()));
    assert_eq!(operator.metric(r#"taskwatch_status_writes_total{result="patched"}"#), Some(2));
    assert!(operator.health.live().is_ok() && operator.health.ready().is_ok());
    operator.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_suspended_or_deleted_is_not_asked_for() {
    let stage = Stage::new().await;
    stage.upstream.set("t", "running", &json!({"percentDone": 40}));
    stage.watch("w", "t", &json!({}));
    let _operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    stage.cluster.edit("taskwatches/n/w", |object| object["spec"]["suspend"] = json!(true));
    stage.says("w", "Running 40% Finished False/Suspended Synced Unknown/Suspended").await;
    pass(1).await;
    stage.upstream.asked();
    pass(60).await;
    assert_eq!(stage.upstream.asked(), Vec::<String>::new());
    // Nor is a request to look heard.
    stage.upstream.set("t", "running", &json!({"percentDone": 80}));
    request(&stage, "now");
    pass(60).await;
    assert_eq!(stage.upstream.asked(), Vec::<String>::new());
    stage.cluster.edit("taskwatches/n/w", |object| object["spec"]["suspend"] = json!(false));
    stage.says("w", "Running 80% Finished False/TaskRunning Synced True/Observed").await;
    assert!(stage.upstream.count("get t") > 0);
    // One that is being deleted is as good as gone.
    let is_going = json!(stage.cluster.now().to_string());
    stage.cluster.edit("taskwatches/n/w", |object| object["metadata"]["deletionTimestamp"] = is_going);
    pass(1).await;
    stage.upstream.asked();
    stage.cluster.wrote();
    pass(60).await;
    assert_eq!((stage.upstream.asked(), stage.cluster.wrote()), (Vec::new(), Vec::new()));
    stage.watch("x", "t", &json!({}));
    stage.says("x", "Running 80% Finished False/TaskRunning Synced True/Observed").await;
    stage.cluster.delete("taskwatches/n/x");
    pass(1).await;
    stage.upstream.asked();
    pass(60).await;
    assert_eq!(stage.upstream.asked(), Vec::<String>::new());
}

fn request(stage: &Stage, value: &str) {
    stage.cluster.edit("taskwatches/n/w", |object| {
        object["metadata"]["annotations"] = json!({"taskwatch.dev/requestedAt": value});
    });
}

#[tokio::test(start_paused = true)]
async fn a_request_to_look_is_answered_once_and_soon() {
    let stage = Stage::new().await;
    stage.upstream.set("t", "running", &json!({"percentDone": 40}));
    stage.watch("w", "t", &json!({"poll": {"periodSeconds": 300, "maxPeriodSeconds": 300}}));
    let _operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    let handled = || stage.cluster.get("taskwatches/n/w").unwrap()["status"]["lastHandledReconcileAt"].to_string();
    for (state, value, says) in [
        ("running", "one", RUNNING),
        ("completed", "two", "Succeeded 40% Finished True/TaskSucceeded Synced True/Observed"),
        ("completed", "three", "Succeeded 40% Finished True/TaskSucceeded Synced True/Observed"),
    ] {
        stage.upstream.asked();
        stage.upstream.set("t", state, &json!({"percentDone": 40}));
        request(&stage, value);
        let asked = Instant::now();
        until("it is handled", || (handled() == format!("\"{value}\"")).then_some(()), handled).await;
        assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
        stage.says("w", says).await;
        pass(60).await;
        assert_eq!(stage.upstream.count("get t"), 1, "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_deleted_when_its_time_to_live_is_over_and_its_successor_is_not() {
    let stage = Stage::new().await;
    stage.upstream.set("t", "completed", &json!({"percentDone": 100}));
    for name in ["w", "x"] {
        stage.watch(name, "t", &json!({"ttlSecondsAfterFinished": 60}));
    }
    stage.cluster.fail("DELETE taskwatches n/x", 1, Fault::Refused(409, "Conflict"));
    let operator = stage.begin(&[]);
    stage.says("w", SUCCEEDED).await;
    let finished = Instant::now();
    until("w is deleted", || stage.cluster.get("taskwatches/n/w").is_none().then_some(()), || "it is there").await;
    let took = finished.elapsed().as_secs_f64();
    assert!((59.0..61.5).contains(&took), "{took}");
    pass(30).await;
    let of_deletion =
        |lines: Vec<String>| lines.into_iter().filter(|line| line.starts_with("DELETE")).collect::<Vec<_>>();
    let mut deleted = of_deletion(stage.cluster.wrote());
    deleted.sort();
    assert_eq!(deleted, ["DELETE taskwatches n/w", "DELETE taskwatches n/x"], "each once");
    assert!(stage.cluster.get("taskwatches/n/x").is_some());
    assert_eq!(
        operator.metric(r#"controller_runtime_reconcile_total{controller="taskwatch",result="error"}"#).unwrap_or(0),
        0
    );
    // By the clock on the wall, whatever becomes of that.
    stage.watch("y", "t", &json!({"ttlSecondsAfterFinished": 3600}));
    stage.says("y", SUCCEEDED).await;
    stage.step_clock(SignedDuration::from_secs(3600));
    let stepped = Instant::now();
    until("y is deleted", || stage.cluster.get("taskwatches/n/y").is_none().then_some(()), || "it is there").await;
    assert!(stepped.elapsed() < Duration::from_secs(7), "{:?}", stepped.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_not_known_is_lost_after_a_while_and_one_that_cannot_be_asked_for_is_not() {
    use crate::engine::tests::upstream::Instead;
    let stage = Stage::new().await;
    stage.upstream.set("t", "running", &json!({"percentDone": 40}));
    stage.watch("w", "t", &json!({"notFoundGraceSeconds": 20}));
    let _operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    stage.upstream.forget("t");
    stage.says("w", "Running 40% Finished False/TaskRunning Synced False/TaskNotFound").await;
    let since = time(&stage.cluster.get("taskwatches/n/w").unwrap(), "/status/notFoundSince").unwrap();
    stage.says("w", "Lost 40% Finished True/TaskNotFound Synced True/TaskNotFound").await;
    let took = stage.cluster.now().duration_since(since).as_secs();
    assert!((20..=31).contains(&took), "{took}");
    let stage = Stage::new().await;
    stage.upstream.set("t", "running", &json!({"percentDone": 40}));
    stage.watch("w", "t", &json!({}));
    let _operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    for _ in 0..200 {
        stage.upstream.instead("get t", Instead::Answer(500, &[], "{}".to_owned()));
    }
    stage.says("w", "Running 40% Finished False/TaskRunning Synced False/UpstreamUnavailable").await;
    stage.ready("taskconnections/n/c", "False UpstreamUnavailable", "500").await;
    assert_eq!(said(&stage.cluster.get("taskwatches/n/w").unwrap()).split(' ').next(), Some("Running"));
}
