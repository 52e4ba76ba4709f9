//! From one to another: replicas and their Leases, a restored backup, watches of the API server that end.

use std::time::Duration;

use serde_json::json;

use super::{
    cluster::Fault,
    stage::{Stage, pass, said, until},
};

const RUNNING: &str = "Running 40% Finished False/TaskRunning Synced True/Observed";

async fn with_a_watch() -> Stage {
    let stage = Stage::new().await;
    stage.upstream.set("t", "running", &json!({"percentDone": 40}));
    stage.watch("w", "t", &json!({}));
    stage
}

const ONE: &[&str] = &["--lease-buckets=1", "--lease=n/taskwatch"];
const FOUR: &[&str] = &["--lease-buckets=4", "--lease=n/taskwatch"];

#[tokio::test(start_paused = true)]
async fn a_replica_without_the_lease_does_nothing_until_it_has_it() {
    let stage = with_a_watch().await;
    let first = stage.begin(ONE);
    stage.says("w", RUNNING).await;
    until("it is ready", || first.health.ready().ok(), || first.health.ready().unwrap_err()).await;
    let holder = || {
        stage
            .cluster
            .all("leases")
            .first()
            .map(|lease| lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
            .unwrap_or_default()
    };
    let before = holder();
    // Outside of a pod.
    assert!(before.starts_with("taskwatch-") || std::env::var_os("POD_NAME").is_some(), "{before}");
    assert_eq!(stage.cluster.all("leases").len(), 1);
    let second = stage.begin(ONE);
    pass(30).await;
    assert_eq!(holder(), before);
    assert_eq!(second.metric(r#"taskwatch_status_writes_total{result="patched"}"#), Some(0));
    assert!(second.health.ready().is_ok(), "{:?}", second.health.ready());
    // The first lets go of it at its end, and the other takes over.
    first.end().await.unwrap();
    assert_eq!(holder(), "", "it is let go of");
    stage.upstream.set("t", "completed", &json!({"percentDone": 100}));
    stage.says("w", "Succeeded 100% Finished True/TaskSucceeded Synced True/Observed").await;
    assert!(!holder().is_empty() && holder() != before);
    second.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_its_lease_stops_and_goes_on_when_it_can() {
    let stage = with_a_watch().await;
    let operator = stage.begin(ONE);
    stage.says("w", RUNNING).await;
    stage.cluster.fail("PUT leases", 1000, Fault::Refused(403, "Forbidden"));
    pass(15).await;
    stage.upstream.set("t", "completed", &json!({"percentDone": 100}));
    stage.upstream.asked();
    stage.cluster.wrote();
    pass(20).await;
    assert_eq!(stage.upstream.asked(), Vec::<String>::new(), "it is no owner any more");
    assert!(stage.cluster.wrote().iter().all(|line| line.starts_with("PUT leases")));
    stage.cluster.heal();
    stage.says("w", "Succeeded 100% Finished True/TaskSucceeded Synced True/Observed").await;
    // Taken by another, it is that one's until it lasts no longer.
    stage.watch("x", "u", &json!({}));
    stage.upstream.set("u", "running", &json!({"percentDone": 40}));
    stage.says("x", RUNNING).await;
    let of = format!("leases/n/{}", stage.cluster.all("leases")[0]["metadata"]["name"].as_str().unwrap());
    let now = json!(stage.cluster.now().to_string());
    stage.cluster.edit(&of, |lease| {
        lease["spec"]["holderIdentity"] = json!("another");
        lease["spec"]["renewTime"] = now;
    });
    pass(6).await;
    stage.upstream.asked();
    stage.cluster.wrote();
    pass(5).await;
    assert_eq!((stage.upstream.asked(), stage.cluster.wrote()), (Vec::new(), Vec::new()));
    stage.upstream.set("u", "running", &json!({"percentDone": 90}));
    stage.says("x", "Running 90% Finished False/TaskRunning Synced True/Observed").await;
    operator.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn replicas_divide_the_connections_and_take_over_what_the_other_leaves() {
    let stage = with_a_watch().await;
    for number in 0..6 {
        let name = format!("d{number}");
        stage.cluster.create("taskconnections", stage.connection(&name));
        stage.watch(&format!("w{number}"), "t", &json!({"connectionRef": {"name": name}}));
    }
    let set = json!({"metadata": {"name": "all", "namespace": "n"}, "spec": {"connectionRef": {"name": "d0"}, "match": {"nameContains": "none"}}});
    stage.cluster.create("taskwatchsets", set);
    let (first, second) = (stage.begin(FOUR), stage.begin(FOUR));
    for number in 0..6 {
        stage.says(&format!("w{number}"), RUNNING).await;
    }
    pass(60).await;
    let writes = |operator: &super::stage::Operator| {
        operator.metric(r#"taskwatch_status_writes_total{result="patched"}"#).unwrap()
    };
    assert!(writes(&first) + writes(&second) >= 7);
    let holders = || {
        let leases = stage.cluster.all("leases");
        let mut all: Vec<_> =
            leases.iter().filter_map(|lease| lease["spec"]["holderIdentity"].as_str()).map(str::to_owned).collect();
        all.retain(|holder| !holder.is_empty());
        all.sort();
        all
    };
    let all = holders();
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 2, "{all:?}");
    first.end().await.unwrap();
    stage.upstream.set("t", "completed", &json!({"percentDone": 100}));
    for name in ["w", "w0", "w1", "w2", "w3", "w4", "w5"] {
        stage.says(name, "Succeeded 100% Finished True/TaskSucceeded Synced True/Observed").await;
    }
    stage.ready("taskwatchsets/n/all", "True Observed", "").await;
    assert_eq!(holders().iter().collect::<std::collections::BTreeSet<_>>().len(), 1);
    second.end().await.unwrap();
    assert_eq!(holders(), Vec::<String>::new());
}

/// What has been written is told, also where another replica comes in between.
#[tokio::test(start_paused = true)]
async fn events_that_wait_are_told_before_a_bucket_is_handed_over() {
    // The first one looks for others each second: at some of these times it has events that wait then.
    for wait in (0..1000).step_by(250) {
        let stage = Stage::new().await;
        stage.upstream.set("t", "running", &json!({"percentDone": 40}));
        let names: Vec<_> = (0..16).map(|number| format!("w{number}")).collect();
        for name in &names {
            let connection = format!("c-{name}");
            stage.cluster.create("taskconnections", stage.connection(&connection));
            let poll = json!({"periodSeconds": 60, "maxPeriodSeconds": 60});
            stage.watch(name, "t", &json!({"connectionRef": {"name": connection}, "poll": poll}));
        }
        let first = stage.begin(FOUR);
        for name in &names {
            stage.says(name, RUNNING).await;
        }
        pass(20).await;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        stage.cluster.fail("POST events", 16, Fault::Slow(Duration::from_millis(200)));
        stage.upstream.set("t", "completed", &json!({"percentDone": 100}));
        for name in &names {
            let (of, now) = (format!("taskwatches/n/{name}"), json!({"taskwatch.dev/requestedAt": "now"}));
            stage.cluster.edit(&of, |object| object["metadata"]["annotations"] = now);
        }
        let second = stage.begin(FOUR);
        for name in &names {
            stage.says(name, "Succeeded 100% Finished True/TaskSucceeded Synced True/Observed").await;
        }
        pass(10).await;
        let events = stage.events();
        for name in &names {
            let told = events.iter().filter(|event| event.starts_with(&format!("{name} TaskSucceeded")));
            assert_eq!(told.count(), 1, "{name}, {wait} ms: {events:#?}");
        }
        first.end().await.unwrap();
        second.end().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_is_restored_is_taken_as_it_is() {
    let stage = with_a_watch().await;
    stage.cluster.create("taskwatchsets", json!({"metadata": {"name": "all", "namespace": "n"}, "spec": {"connectionRef": {"name": "c"}, "match": {"nameContains": "none"}}}));
    let backup = stage.cluster.version();
    let _operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    stage.ready("taskconnections/n/c", "True Connected", "").await;
    stage.ready("taskwatchsets/n/all", "True Observed", "").await;
    stage.upstream.set("t", "running", &json!({"percentDone": 90}));
    stage.says("w", "Running 90% Finished False/TaskRunning Synced True/Observed").await;
    stage.watch("x", "t", &json!({}));
    pass(5).await;
    stage.cluster.restore(backup);
    assert!(stage.cluster.get("taskwatches/n/w").unwrap()["status"].is_null());
    stage.says("w", "Running 90% Finished False/TaskRunning Synced True/Observed").await;
    stage.ready("taskconnections/n/c", "True Connected", "").await;
    stage.ready("taskwatchsets/n/all", "True Observed", "").await;
    assert!(stage.cluster.get("taskwatches/n/x").is_none());
}

#[tokio::test(start_paused = true)]
async fn what_a_list_does_not_have_any_more_is_gone() {
    let stage = with_a_watch().await;
    stage.cluster.create(
        "taskwatchsets",
        json!({"metadata": {"name": "all", "namespace": "n"}, "spec": {"connectionRef": {"name": "c"}}}),
    );
    stage.cluster.create("namespaces", json!({"metadata": {"name": "n", "labels": {"team": "red"}}}));
    let operator = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    until("it is listed", || (stage.cluster.all("taskwatches").len() == 2).then_some(()), || "").await;
    let plurals = ["taskwatches", "taskconnections", "taskwatchsets", "clustertaskconnections", "namespaces"];
    // A watch that ends as agreed is begun again where it was; one whose version is too old is listed.
    for plural in plurals {
        stage.cluster.end_watches(plural, false);
    }
    pass(10).await;
    stage.cluster.edit("taskwatches/n/w", |object| object["spec"]["suspend"] = json!(true));
    stage.says("w", "Running 40% Finished False/Suspended Synced Unknown/Suspended").await;
    let expire = || plurals.iter().for_each(|plural| stage.cluster.end_watches(plural, true));
    expire();
    stage.cluster.delete("taskwatchsets/n/all");
    pass(20).await;
    stage.upstream.asked();
    pass(60).await;
    assert_eq!((stage.upstream.count("get t") > 0, stage.upstream.count("list")), (true, 0));
    expire();
    for watch in stage.cluster.all("taskwatches") {
        stage.cluster.delete(&format!("taskwatches/n/{}", watch["metadata"]["name"].as_str().unwrap()));
    }
    pass(20).await;
    stage.upstream.asked();
    pass(60).await;
    assert_eq!(stage.upstream.asked(), Vec::<String>::new());
    let counts = || stage.cluster.get("taskconnections/n/c").unwrap()["status"]["watches"].to_string();
    let none = json!({"active": 0, "finished": 0}).to_string();
    until("nobody uses it", || (counts() == none).then_some(()), counts).await;
    assert_eq!(operator.metric(r#"taskwatch_history_replaced_total{resource="taskwatches"}"#).unwrap_or(0), 0);
    operator.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_restart_finds_everything_as_it_was_and_writes_nothing() {
    let stage = with_a_watch().await;
    let first = stage.begin(&[]);
    stage.says("w", RUNNING).await;
    stage.ready("taskconnections/n/c", "True Connected", "").await;
    pass(1).await;
    first.end().await.unwrap();
    stage.cluster.wrote();
    let second = stage.begin(&[]);
    pass(60).await;
    assert_eq!(stage.cluster.wrote(), Vec::<String>::new());
    assert_eq!(said(&stage.cluster.get("taskwatches/n/w").unwrap()), RUNNING);
    assert!(second.metric(r#"taskwatch_status_writes_total{result="suppressed"}"#).unwrap() > 0);
    assert_eq!(second.metric("taskwatch_does_not_exist"), None);
    let begin = tokio::time::Instant::now();
    second.end().await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1));
}
