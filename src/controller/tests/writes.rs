//! Writing: what is written again, what is not, and how much at a time.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{
    cluster::Fault,
    stage::{Operator, Stage, pass, said, until},
};

const RUNNING: &str = "Running 40% Finished False/TaskRunning Synced True/Observed";

async fn with_a_watch() -> Stage {
    let stage = Stage::new().await;
    stage.upstream.set("t", "running", &json!({"percentDone": 40}));
    stage.watch("w", "t", &json!({}));
    stage
}

fn reconciled(operator: &Operator, controller: &str, result: &str) -> u64 {
    let series = format!(r#"controller_runtime_reconcile_total{{controller="{controller}",result="{result}"}}"#);
    operator.metric(&series).unwrap_or(0)
}

fn writes(operator: &Operator, result: &str) -> u64 {
    operator.metric(&format!(r#"taskwatch_status_writes_total{{result="{result}"}}"#)).unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_tried_again_after_waits_that_grow() {
    let stage = with_a_watch().await;
    stage.cluster.fail("PATCH taskwatches n/w", 4, Fault::Refused(500, "InternalError"));
    let operator = stage.begin(&[]);
    let mut tries = Vec::new();
    while tries.len() < 5 {
        let is_tried = || stage.cluster.asked("PATCH taskwatches n/w") > tries.len();
        until("another try", || is_tried().then_some(()), || tries.len()).await;
        tries.push(Instant::now());
    }
    stage.says("w", RUNNING).await;
    let waits: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (wait, expected) in waits.iter().zip([1000, 2000, 4000, 8000].map(Duration::from_millis)) {
        assert!(*wait >= expected && *wait < expected + Duration::from_millis(100), "{waits:?}");
    }
    assert_eq!(
        (reconciled(&operator, "taskwatch", "error"), writes(&operator, "failed"), writes(&operator, "patched")),
        (4, 4, 1)
    );
    // One that succeeds ends the series.
    stage.cluster.fail("PATCH taskwatches n/w", 1, Fault::Refused(500, "InternalError"));
    stage.upstream.set("t", "completed", &json!({}));
    until("a try", || (stage.cluster.asked("PATCH taskwatches n/w") == 6).then_some(()), || "").await;
    let begin = Instant::now();
    until("another", || (stage.cluster.asked("PATCH taskwatches n/w") == 7).then_some(()), || "").await;
    assert!(begin.elapsed() < Duration::from_millis(1100), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_is_lost_is_told_of_once() {
    let stage = with_a_watch().await;
    stage.cluster.fail("PATCH taskwatches n/w", 1, Fault::Lost);
    let operator = stage.begin(&[]);
    until("an event", || (stage.events().len() == 1).then_some(()), || stage.events().join("; ")).await;
    pass(60).await;
    assert_eq!(stage.events(), ["w TaskObserved: First observation of the task: Running."]);
    assert_eq!(said(&stage.cluster.get("taskwatches/n/w").unwrap()), RUNNING);
    assert_eq!(stage.cluster.asked("PATCH taskwatches n/w"), 1, "the watch of the API server shows that it arrived");
    assert_eq!((writes(&operator, "patched"), writes(&operator, "failed")), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_meets_a_successor_is_not_written_there_and_not_told() {
    let stage = with_a_watch().await;
    stage.cluster.fail("PATCH taskwatches n/w", 1, Fault::Anew);
    let operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    pass(5).await;
    assert_eq!((writes(&operator, "conflict"), writes(&operator, "failed"), writes(&operator, "patched")), (1, 0, 1));
    assert_eq!(reconciled(&operator, "taskwatch", "error"), 0);
    let uid = stage.cluster.get("taskwatches/n/w").unwrap()["metadata"]["uid"].clone();
    let events = stage.cluster.all("events");
    assert_eq!(events.iter().map(|event| event["regarding"]["uid"].clone()).collect::<Vec<_>>(), [uid]);
    // One that is gone while it is written is nothing to speak of.
    stage.cluster.fail("PATCH taskwatches n/w", 1, Fault::Gone);
    stage.upstream.set("t", "completed", &json!({}));
    until("it is gone", || stage.cluster.get("taskwatches/n/w").is_none().then_some(()), || "").await;
    pass(5).await;
    assert_eq!(
        (writes(&operator, "conflict"), writes(&operator, "failed"), reconciled(&operator, "taskwatch", "error")),
        (2, 0, 0)
    );
    assert_eq!(stage.events().len(), 1);
    // A status that the schema refuses is another matter: it is tried again.
    stage.upstream.set("t", "running", &json!({"percentDone": 40}));
    stage.watch("x", "t", &json!({}));
    stage.cluster.fail("PATCH taskwatches n/x", 1, Fault::Told(400, "BadRequest", "status.state: Too long"));
    stage.says("x", RUNNING).await;
    assert_eq!((writes(&operator, "failed"), reconciled(&operator, "taskwatch", "error")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_is_given_up_after_a_while() {
    let stage = with_a_watch().await;
    stage.cluster.fail("PATCH taskwatches n/w", 1, Fault::Silent);
    let operator = stage.begin(&[]);
    until("a write", || (stage.cluster.asked("PATCH taskwatches n/w") == 1).then_some(()), || "").await;
    let asked = Instant::now();
    stage.says("w", RUNNING).await;
    let took = asked.elapsed().as_secs_f64();
    assert!((14.9..16.5).contains(&took), "{took}");
    assert_eq!(writes(&operator, "failed"), 1);
    operator.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn at_the_end_what_is_under_way_is_finished_and_told() {
    let stage = with_a_watch().await;
    let operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    operator.end().await.unwrap();
    assert_eq!(stage.events().len(), 1);
    stage.upstream.asked();
    stage.upstream.set("t", "completed", &json!({}));
    pass(60).await;
    assert_eq!((stage.upstream.asked(), stage.cluster.wrote().len() > 1), (Vec::new(), true));
    assert_eq!(said(&stage.cluster.get("taskwatches/n/w").unwrap()), RUNNING);
    // What does not end in time is dropped, and that is said.
    let stage = with_a_watch().await;
    stage.cluster.fail("PATCH taskwatches n/w", 1, Fault::Silent);
    let operator = stage.begin(&["--drain-timeout-seconds=2"]);
    until("a write", || (stage.cluster.asked("PATCH taskwatches n/w") == 1).then_some(()), || "").await;
    let begin = Instant::now();
    assert!(operator.end().await.unwrap_err().to_string().contains("after 2 s"));
    assert_eq!(begin.elapsed().as_secs(), 2);
    // An event is waited for no longer, and the end is a good one.
    let stage = with_a_watch().await;
    stage.cluster.fail("POST events", 1, Fault::Silent);
    let operator = stage.begin(&["--drain-timeout-seconds=2"]);
    until("an event", || (stage.cluster.asked("POST events") == 1).then_some(()), || "").await;
    let begin = Instant::now();
    operator.end().await.unwrap();
    assert_eq!(begin.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn writes_keep_to_their_ceiling_and_each_is_made_once() {
    let stage = Stage::new().await;
    for number in 0..12 {
        let task = format!("t{number}");
        stage.upstream.set(&task, "completed", &json!({"percentDone": 100}));
        stage.watch(&format!("w{number}"), &task, &json!({"ttlSecondsAfterFinished": 0}));
    }
    let operator = stage.begin(&["--api-writes-per-second=4"]);
    let begin = Instant::now();
    until(
        "all are deleted",
        || stage.cluster.all("taskwatches").is_empty().then_some(()),
        || stage.cluster.wrote().join("; "),
    )
    .await;
    let took = begin.elapsed().as_secs();
    assert!((4..20).contains(&took), "{took}");
    pass(30).await;
    assert_eq!(stage.cluster.asked("PATCH taskwatches"), 12);
    assert_eq!((writes(&operator, "patched"), reconciled(&operator, "taskwatch", "error")), (12, 0));
    assert_eq!(stage.events().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_status_for_which_there_is_no_memory_is_read_again_before_it_is_written() {
    let mut stage = with_a_watch().await;
    stage.parts.objects = 0;
    let operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    stage.upstream.set("t", "completed", &json!({"percentDone": 100}));
    let reads = stage.cluster.asked("GET taskwatches n/w");
    stage.says("w", "Succeeded 100% Finished True/TaskSucceeded Synced True/Observed").await;
    assert!(stage.cluster.asked("GET taskwatches n/w") > reads);
    assert_eq!(stage.cluster.asked("PATCH taskwatches n/w"), 2);
    pass(60).await;
    assert_eq!((writes(&operator, "patched"), reconciled(&operator, "taskwatch", "error")), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn events_that_are_refused_are_counted_and_hold_nothing_up() {
    let stage = with_a_watch().await;
    stage.cluster.fail("POST events", 1, Fault::Refused(403, "Forbidden"));
    let operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    pass(1).await;
    stage.upstream.set(
        "t",
        "failed",
        &json!({"stateDetails": [{"type": "x", "title": "No space", "detail": "The disk is full"}]}),
    );
    until("an event", || (stage.events().len() == 1).then_some(()), || stage.events().join("; ")).await;
    let event = &stage.cluster.all("events")[0];
    assert_eq!(
        (event["type"].as_str(), event["reason"].as_str(), event["action"].as_str()),
        (Some("Warning"), Some("TaskFailed"), Some("Observe"))
    );
    let watch = stage.cluster.get("taskwatches/n/w").unwrap();
    let regarding = json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch", "namespace": "n", "name": "w", "uid": watch["metadata"]["uid"]});
    assert_eq!(event["regarding"], regarding);
    let events = |reason: &str, result: &str| {
        operator.metric(&format!(r#"taskwatch_events_total{{reason="{reason}",result="{result}"}}"#))
    };
    assert_eq!((events("TaskObserved", "failed"), events("TaskFailed", "sent")), (Some(1), Some(1)));
}

#[tokio::test(start_paused = true)]
async fn an_event_is_counted_once_by_what_became_of_it() {
    let stage = with_a_watch().await;
    let operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    until("an event", || (stage.events().len() == 1).then_some(()), || "").await;
    pass(1).await;
    let counted = |result: &str| {
        let series = format!(r#"taskwatch_events_total{{reason="TaskObserved",result="{result}"}}"#);
        operator.metric(&series).unwrap_or(0)
    };
    assert_eq!(["sent", "dropped", "failed"].map(counted), [1, 0, 0]);
}
