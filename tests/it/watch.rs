//! What a user sees of tasks that go their way: the real program, the simulator as the upstream, and kubectl.

use anyhow::{Context, ensure};
use serde_json::json;
use taskwatch_harness::eventually;

use crate::stage::{ASTRA, CLOUD_RU, HUAWEI, SOON, Stage, message, row};

const PENDING: &str = "Pending Unknown/TaskPending False True/Observed Unknown R";
const RUNNING: &str = "Running Unknown/TaskRunning False True/Observed Unknown R";
const PAUSED: &str = "Paused Unknown/TaskPaused False True/Observed Unknown R";
const SUCCEEDED: &str = "Succeeded True/TaskSucceeded True True/Observed True";
const FAILED: &str = "Failed False/TaskFailed True True/Observed False S";
const CANCELLED: &str = "Cancelled False/TaskCancelled True True/Observed False S";

#[tokio::test]
async fn tasks_of_all_three_systems_to_their_end() {
    let stage = Stage::new("watch-tasks").await;
    for (provider, name) in [(HUAWEI, "evs"), (CLOUD_RU, "openshift"), (ASTRA, "astra")] {
        stage.upstream(provider, name).await;
    }
    let _operator = stage.operator(&[]).await;
    tokio::join!(huawei_cloud(&stage), cloud_ru(&stage), astra_control(&stage));

    let failed =
        stage.kubectl(&["get", "taskwatches", "--field-selector", "status.state=Failed", "--output", "name"]).await;
    let expected =
        ["astra-failed", "evs-failed", "openshift-failed"].map(|name| format!("taskwatch.taskwatch.dev/{name}"));
    assert_eq!(failed.lines().collect::<Vec<_>>(), expected);

    let wide = stage.kubectl(&["get", "tw", "evs-failed", "--output", "wide"]).await;
    assert!(wide.contains("TaskFailed") && wide.contains("Volume type SSD is sold out (EVS.5400)"), "{wide}");

    eventually(SOON, "the events are there", || async {
        let described = stage.kubectl(&["describe", "taskwatch", "evs-failed"]).await;
        let (_, events) = described.split_once("Events:").context("no events")?;
        for reason in ["TaskObserved", "TaskRunning", "TaskFailed"] {
            ensure!(events.contains(reason), "no {reason} in {events}");
        }
        ensure!(events.contains("Warning  TaskFailed") && events.contains("sold out"), "{events}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(stage.events("evs-done").await, ["TaskObserved", "TaskRunning", "TaskSucceeded"]);

    for (connection, mode) in [("evs", "Get"), ("astra", "List")] {
        assert!(stage.until_connection(connection, "Connected").await.starts_with("The upstream answers"));
        let shown = stage.kubectl(&["get", "tc", connection, "--output", "jsonpath={.status.mode}"]).await;
        assert_eq!(shown, mode, "{connection}");
    }
}

async fn huawei_cloud(stage: &Stage) {
    for name in ["evs-done", "evs-failed"] {
        stage.task(HUAWEI, "evs", name, json!([{"state": "INIT"}])).await;
        stage.watch(name, "evs", name, json!({})).await;
        stage.until_row(name, PENDING).await;
        let part = |id: &str, state: &str| json!({"id": id, "name": "createVolume", "state": state});
        let step = json!({"state": "RUNNING", "subJobs": [part("part-1", "SUCCESS"), part("part-2", "RUNNING")]});
        stage.step(HUAWEI, "evs", name, step).await;
        let status = stage.until_row(name, RUNNING).await;
        let parts = status.subtasks.unwrap();
        assert_eq!((parts.total, parts.succeeded, parts.running), (Some(2), Some(1), Some(1)));
        let progress = status.progress.unwrap();
        assert_eq!((progress.percent, progress.display.as_deref()), (Some(50), Some("50%")));
        assert_eq!(progress.source.as_deref(), Some("Derived"));
        assert_eq!(message(&stage.status(name).await.unwrap(), "Ready"), "The task is running upstream.");
    }
    // Whoever waits is told of either end.
    tokio::join!(
        stage.kubectl(&["wait", "tw/evs-done", "--for=condition=Finished", "--timeout=50s"]),
        stage.kubectl(&["wait", "tw/evs-done", "--for=condition=Ready", "--timeout=50s"]),
        stage.kubectl(&["wait", "tw/evs-done", "--for=jsonpath={.status.state}=Succeeded", "--timeout=50s"]),
        stage.kubectl(&["wait", "tw/evs-failed", "--for=condition=Finished", "--timeout=50s"]),
        stage.kubectl(&["wait", "tw/evs-failed", "--for=condition=Stalled", "--timeout=50s"]),
        async {
            let end = json!({"state": "SUCCESS", "entities": {"volume_id": "v-1"}, "subJobs": []});
            stage.step(HUAWEI, "evs", "evs-done", end).await;
            let error = json!({"code": "EVS.5400", "message": "Volume type SSD is sold out"});
            stage.step(HUAWEI, "evs", "evs-failed", json!({"state": "FAIL", "error": error})).await;
        },
    );
    let done = stage.until_row("evs-done", SUCCEEDED).await;
    assert_eq!(done.outputs.get("volume_id").map(String::as_str), Some("v-1"));
    assert_eq!(done.progress.unwrap().display.as_deref(), Some("100%"));
    assert!(done.completion_time.is_some() && done.start_time.is_some());
    let failed = stage.until_row("evs-failed", FAILED).await;
    let error = failed.error.clone().unwrap();
    assert_eq!(
        (error.code.as_deref(), error.message.as_deref()),
        (Some("EVS.5400"), Some("Volume type SSD is sold out"))
    );
    assert_eq!(message(&failed, "Ready"), "Volume type SSD is sold out (EVS.5400)");
}

async fn cloud_ru(stage: &Stage) {
    for name in ["openshift-done", "openshift-failed"] {
        stage.task(CLOUD_RU, "openshift", name, json!([{"state": "PENDING"}])).await;
        stage.watch(name, "openshift", name, json!({})).await;
        stage.until_row(name, PENDING).await;
        stage.step(CLOUD_RU, "openshift", name, json!({"state": "REBUILDING_SOMETHING"})).await;
        let status = stage.until_row(name, RUNNING).await;
        let word = status.task.unwrap().upstream_state;
        assert_eq!(word.as_deref(), Some("REBUILDING_SOMETHING"), "an unknown word is shown, and counts as running");
    }
    let response = json!({"typeUrl": "type.googleapis.com/openshift.v1.Cluster", "value": {"id": "cluster-1"}});
    stage.step(CLOUD_RU, "openshift", "openshift-done", json!({"state": "DONE", "response": response})).await;
    let error = json!({"code": 8, "message": "quota exceeded: 48 vCPU requested"});
    stage.step(CLOUD_RU, "openshift", "openshift-failed", json!({"state": "ERROR", "error": error})).await;
    let done = stage.until_row("openshift-done", SUCCEEDED).await;
    assert!(done.outputs.values().any(|value| value == "cluster-1"), "{:?}", done.outputs);
    let failed = stage.until_row("openshift-failed", FAILED).await;
    assert!(message(&failed, "Ready").contains("quota exceeded"), "{}", message(&failed, "Ready"));
    assert_eq!(failed.error.unwrap().reason.as_deref(), Some("ResourceExhausted"));
}

async fn astra_control(stage: &Stage) {
    for name in ["astra-done", "astra-failed", "astra-cancelled"] {
        stage.task(ASTRA, "astra", name, json!([{"state": "notStarted"}])).await;
        stage.watch(name, "astra", name, json!({})).await;
    }
    for part in ["part-1", "part-2"] {
        let child = json!({"name": part, "parent": "astra-done", "steps": [{"state": "running", "percent": 10}]});
        stage.admin("PUT", &format!("/tasks/{ASTRA}/astra/{part}"), child).await;
    }
    for name in ["astra-done", "astra-failed", "astra-cancelled"] {
        stage.until_row(name, PENDING).await;
        stage.step(ASTRA, "astra", name, json!({"state": "running", "percent": 20.7})).await;
        let status = stage.until_row(name, RUNNING).await;
        let progress = status.progress.unwrap();
        assert_eq!((progress.percent, progress.source.as_deref()), (Some(20), Some("Reported")));
    }
    let details =
        json!([{"type": "https://astra.netapp.io/problems/7", "title": "Waiting", "detail": "the bucket is full"}]);
    stage.step(ASTRA, "astra", "astra-done", json!({"state": "paused", "details": details})).await;
    let paused = stage.until_row("astra-done", PAUSED).await;
    assert!(message(&paused, "Ready").contains("the bucket is full"), "{}", message(&paused, "Ready"));
    assert_eq!(paused.subtasks.unwrap().total, Some(2));
    stage.step(ASTRA, "astra", "astra-done", json!({"state": "completed"})).await;
    stage.step(ASTRA, "astra", "astra-failed", json!({"state": "failed", "details": details})).await;
    stage.step(ASTRA, "astra", "astra-cancelled", json!({"state": "cancelled"})).await;
    let done = stage.until_row("astra-done", SUCCEEDED).await;
    assert!(done.outputs.contains_key("resourceURI"), "{:?}", done.outputs);
    let failed = stage.until_row("astra-failed", FAILED).await;
    assert!(message(&failed, "Ready").contains("the bucket is full"), "{}", message(&failed, "Ready"));
    stage.until_row("astra-cancelled", CANCELLED).await;
}

#[tokio::test]
async fn what_the_spec_asks_for_is_done() {
    let stage = Stage::new("watch-spec").await;
    stage.upstream(HUAWEI, "evs").await;
    stage.task(HUAWEI, "evs", "running", json!([{"state": "RUNNING"}])).await;
    stage.task(HUAWEI, "evs", "done", json!([{"state": "SUCCESS"}])).await;
    let _operator = stage.operator(&[]).await;
    tokio::join!(
        suspended(&stage),
        out_of_time(&stage),
        time_to_live(&stage),
        not_found(&stage),
        not_found_for_a_while(&stage),
        refreshed(&stage),
        observed(&stage),
        overwritten(&stage),
        hinted(&stage),
    );
}

async fn suspended(stage: &Stage) {
    stage.task(HUAWEI, "evs", "suspended", json!([{"state": "RUNNING"}])).await;
    stage.watch("suspended", "evs", "suspended", json!({})).await;
    stage.until_row("suspended", RUNNING).await;
    stage.change("TaskWatch", "suspended", json!({"spec": {"suspend": true}})).await;
    let status = stage.until_row("suspended", "Running Unknown/Suspended False Unknown/Suspended Unknown").await;
    assert!(message(&status, "Ready").contains("set spec.suspend to false"), "{}", message(&status, "Ready"));
    costs_nothing(stage, "suspended").await;
    stage.step(HUAWEI, "evs", "suspended", json!({"state": "SUCCESS"})).await;
    stage.change("TaskWatch", "suspended", json!({"spec": {"suspend": false}})).await;
    stage.until_row("suspended", SUCCEEDED).await;
}

/// While another task of the connection is asked for four times, this one is not.
async fn costs_nothing(stage: &Stage, id: &str) {
    let witness = format!("{id}-witness");
    let (_, since) = stage.requests(0).await;
    stage.watch(&witness, "evs", "running", json!({})).await;
    eventually(SOON, "others are asked for", || async {
        let (requests, _) = stage.requests(since).await;
        let of = |id: &str| {
            let end = format!("/jobs/{id}");
            requests.iter().filter(|request| request["path"].as_str().is_some_and(|path| path.ends_with(&end))).count()
        };
        assert!(of(id) <= 1, "{id} is asked for on and on"); // one may have been under way
        ensure!(of("running") >= 4, "running was asked for {} times", of("running"));
        Ok(())
    })
    .await
    .unwrap();
    stage.delete("TaskWatch", &witness).await;
}

async fn out_of_time(stage: &Stage) {
    stage.watch("deadline", "evs", "running", json!({"activeDeadlineSeconds": 3})).await;
    let status = stage.until_row("deadline", "Running False/DeadlineExceeded True True/DeadlineExceeded False S").await;
    let text = message(&status, "Ready");
    assert!(text.contains("did not finish within activeDeadlineSeconds (3 s)"), "{text}");
}

async fn time_to_live(stage: &Stage) {
    let ttl = json!({"ttlSecondsAfterFinished": 2});
    for (name, metadata) in [
        ("ttl-helm", json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}})),
        ("ttl-argo", json!({"annotations": {"argocd.argoproj.io/tracking-id": "x"}})),
        (
            "ttl-allowed",
            json!({"labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"taskwatch.dev/allow-ttl": "true"}}),
        ),
        ("ttl", json!({})),
    ] {
        let mut object = crate::stage::watch_object(name, "evs", "done", ttl.clone());
        crate::stage::lay_over(&mut object["metadata"], metadata);
        stage.put(object).await;
        if name != "ttl" && name != "ttl-allowed" {
            stage.until_row(name, SUCCEEDED).await;
        }
    }
    for name in ["ttl", "ttl-allowed"] {
        eventually(SOON, &format!("{name} is deleted"), || async {
            ensure!(stage.get(name).await.is_err(), "{name} is there");
            Ok(())
        })
        .await
        .unwrap();
    }
    // They finished before those that are gone by now.
    for name in ["ttl-helm", "ttl-argo"] {
        assert_eq!(row(&stage.status(name).await.unwrap()), SUCCEEDED);
        eventually(SOON, "the reason is told", || async {
            let events = stage.events(name).await;
            ensure!(events.contains(&"TTLSkipped".to_owned()), "{events:?}");
            Ok(())
        })
        .await
        .unwrap();
    }
}

async fn not_found(stage: &Stage) {
    stage.watch("lost", "evs", "nowhere-1", json!({"notFoundGraceSeconds": 1})).await;
    stage.watch("gone", "evs", "nowhere-2", json!({"notFoundGraceSeconds": 1, "onNotFound": "Succeed"})).await;
    let lost = stage.until_row("lost", "Lost False/TaskNotFound True True/TaskNotFound False S").await;
    assert!(message(&lost, "Ready").contains("Check spec.task.id"), "{}", message(&lost, "Ready"));
    stage.until_row("gone", "Succeeded True/TaskGone True True/TaskNotFound True").await;
}

async fn not_found_for_a_while(stage: &Stage) {
    const MISSING: &str = "Unknown Unknown/AwaitingObservation False False/TaskNotFound Unknown R";
    stage.watch("grace", "evs", "late-1", json!({})).await;
    stage.watch("retry", "evs", "late-2", json!({"notFoundGraceSeconds": 0, "onNotFound": "Retry"})).await;
    let grace = stage.until_row("grace", MISSING).await;
    assert!(message(&grace, "Synced").contains("will be marked Lost if this continues for 60 s"));
    let retry = stage.until_row("retry", MISSING).await;
    assert!(message(&retry, "Synced").contains("onNotFound: Retry"));
    for (name, id) in [("grace", "late-1"), ("retry", "late-2")] {
        stage.task(HUAWEI, "evs", id, json!([{"state": "RUNNING"}])).await;
        let status = stage.until_row(name, RUNNING).await;
        assert!(status.not_found_since.is_none());
    }
}

async fn refreshed(stage: &Stage) {
    stage.task(HUAWEI, "evs", "refreshed", json!([{"state": "FAIL", "error": {"code": "X.1", "message": "no"}}])).await;
    stage.watch("refreshed", "evs", "refreshed", json!({})).await;
    let failed = stage.until_row("refreshed", FAILED).await;
    assert!(failed.last_handled_reconcile_at.is_none());
    costs_nothing(stage, "refreshed").await;
    let echoed = |value: &'static str| {
        move |status: &taskwatch::api::TaskWatchStatus| {
            ensure!(status.last_handled_reconcile_at.as_deref() == Some(value));
            Ok(())
        }
    };
    for (value, state, wanted) in [("first", "RUNNING", RUNNING), ("second", "SUCCESS", SUCCEEDED)] {
        stage.step(HUAWEI, "evs", "refreshed", json!({"state": state})).await;
        stage
            .change(
                "TaskWatch",
                "refreshed",
                json!({"metadata": {"annotations": {"taskwatch.dev/requestedAt": value}}}),
            )
            .await;
        stage.until_row("refreshed", wanted).await;
        stage.within(SOON, "refreshed", "the request is echoed", echoed(value)).await;
    }
    // Flux's annotation does the same; what has not changed is looked at all the same.
    let patch = json!({"metadata": {"annotations":
        {"taskwatch.dev/requestedAt": null, "reconcile.fluxcd.io/requestedAt": "third"}}});
    stage.change("TaskWatch", "refreshed", patch).await;
    stage.within(SOON, "refreshed", "Flux's request is echoed", echoed("third")).await;
    assert_eq!(row(&stage.status("refreshed").await.unwrap()), SUCCEEDED);
}

/// `Retry-After` of a good answer is about the next look at that task.
async fn hinted(stage: &Stage) {
    let poll = json!({"poll": {"periodSeconds": 1, "maxPeriodSeconds": 30}});
    let auth = json!({"token": {"secretRef": {"name": "evs"}}});
    stage.connection("hinted", HUAWEI, "evs", auth, json!({"poll": {"maxPeriodSeconds": 30}})).await;
    stage.task(HUAWEI, "evs", "beside", json!([{"state": "RUNNING"}])).await;
    let action = json!({"kind": "status", "status": 202, "retryAfterSeconds": 5, "body": {"job_id": "hinted", "status": "RUNNING"}});
    stage.fault(json!({"path": "/jobs/hinted"}), action).await;
    for name in ["hinted", "beside"] {
        stage.watch(name, "hinted", name, poll.clone()).await;
        stage.until_row(name, RUNNING).await;
    }
    let times = eventually(SOON, "it is asked for four times", || async {
        let (requests, _) = stage.requests(0).await;
        let of = |task: &str| {
            let path = format!("/jobs/{task}");
            let those = requests.iter().filter(|request| request["path"].as_str().is_some_and(|p| p.ends_with(&path)));
            those.map(|request| request["timeMs"].as_i64().unwrap()).collect::<Vec<_>>()
        };
        let (hinted, beside) = (of("hinted"), of("beside"));
        ensure!(hinted.len() >= 4, "{hinted:?}");
        Ok((hinted, beside))
    })
    .await
    .unwrap();
    let (hinted, beside) = times;
    // From answer to request, as the operator counts; the log has when each request came.
    assert!(hinted.windows(2).all(|two| two[1] - two[0] >= 4900), "{hinted:?}");
    assert!(beside.len() > hinted.len(), "{beside:?} while {hinted:?}");
    stage.until_connection("hinted", "Connected").await;
}

async fn observed(stage: &Stage) {
    stage.task(HUAWEI, "evs", "observed", json!([{"state": "RUNNING"}])).await;
    stage.watch("observed", "evs", "observed", json!({"readyWhen": "Observed"})).await;
    stage.until_row("observed", "Running Unknown/TaskRunning False True/Observed True").await;
    stage.kubectl(&["wait", "tw/observed", "--for=condition=Ready", "--timeout=50s"]).await;
    stage.step(HUAWEI, "evs", "observed", json!({"state": "FAIL"})).await;
    stage.until_row("observed", "Failed False/TaskFailed True True/Observed True").await;
}

/// Somebody else's hand in a status, or our own write whose answer was lost: what the upstream says comes back.
async fn overwritten(stage: &Stage) {
    stage.task(HUAWEI, "evs", "overwritten", json!([{"state": "RUNNING"}])).await;
    stage.watch("overwritten", "evs", "overwritten", json!({})).await;
    let mut status = json!(stage.until_row("overwritten", RUNNING).await);
    for (condition, reason) in [("Synced", "UpstreamUnavailable"), ("Reconciling", "Stale")] {
        let conditions = status["conditions"].as_array_mut().unwrap();
        let shown = conditions.iter_mut().find(|shown| shown["type"] == condition).unwrap();
        (shown["status"], shown["reason"]) = (json!("False"), json!(reason));
    }
    stage.put_status("TaskWatch", "overwritten", status).await;
    stage.until_row("overwritten", RUNNING).await;
}
