//! The operator as a program: its commands, its end, what it serves, and what it refuses to reach.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::ensure;
use serde_json::{Value, json};
use taskwatch_harness::{Exit, Operator, Workdir, binary, eventually};

use crate::stage::{HUAWEI, SECRET, SOON, Stage, message, row};

const RUNNING: &str = "Running Unknown/TaskRunning False True/Observed Unknown R";

#[tokio::test]
async fn sigterm_ends_it_with_its_work_done() {
    let stage = Stage::new("process-sigterm").await;
    stage.upstream(HUAWEI, "evs").await;
    stage.task(HUAWEI, "evs", "quick", json!([{"state": "RUNNING"}])).await;
    stage.task(HUAWEI, "evs", "slow", json!([{"state": "RUNNING"}])).await;
    stage.fault(json!({"path": "/slow"}), json!({"kind": "hang"})).await;
    stage.watch("slow", "evs", "slow", json!({})).await;
    let names: Vec<_> = (0..150).map(|n| format!("quick-{n}")).collect();
    crate::stage::all(names.iter().map(|name| stage.watch(name, "evs", "quick", json!({})))).await;
    let operator = stage.operator(&[]).await;
    crate::stage::all(names.iter().map(|name| stage.until_row(name, RUNNING))).await;
    let began = Instant::now();
    operator.process().terminate().unwrap();
    let exit = operator.process().wait(Duration::from_secs(10)).await.unwrap();
    assert_eq!(exit, Exit { code: Some(0), signal: None }, "after {:?}", began.elapsed());
    assert!(operator.process().log().lines().last().unwrap_or_default().contains("stopped"));
    // What was seen has been told, too, though it was seen just before.
    let told = stage.kubectl(&["get", "events.events.k8s.io", "--output", "name"]).await;
    assert_eq!(told.lines().count(), names.len());
}

#[tokio::test]
async fn it_serves_probes_and_metrics() {
    let stage = Stage::new("process-metrics").await;
    stage.upstream(HUAWEI, "the-connection").await;
    stage.task(HUAWEI, "the-connection", "the-task", json!([{"state": "RUNNING"}])).await;
    stage.watch("the-watch", "the-connection", "the-task", json!({})).await;
    let operator = stage.operator(&[]).await;
    stage.until_row("the-watch", RUNNING).await;
    for path in ["/healthz", "/readyz"] {
        let (status, body) = operator.get(path).await.unwrap();
        assert_eq!(status, 200, "{path}: {body}");
    }
    assert_eq!(operator.get("/nowhere").await.unwrap().0, 404);
    // Each port has its own pages.
    for url in [format!("{}/healthz", operator.metrics_url()), format!("{}/metrics", operator.probes_url())] {
        let (base, path) = url.split_at(url.rfind('/').unwrap());
        assert_eq!(taskwatch_harness::request("GET", base, path, None).await.unwrap().0, 404, "{url}");
    }

    let (status, metrics) = operator.get("/metrics").await.unwrap();
    assert_eq!(status, 200);
    crate::pages::are_described(&metrics);
    let mut names = Vec::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_default();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        names.push(series.split('{').next().unwrap_or_default());
        for object in ["the-watch", "the-connection", "the-task"] {
            assert!(!series.contains(object), "a label for each object: {line}");
        }
        // Those of a bounded number of namespaces.
        assert!(!series.contains(&stage.namespace) || series.starts_with("taskwatch_namespace_"), "{line}");
    }
    for name in [
        "controller_runtime_reconcile_total",
        "controller_runtime_reconcile_errors_total",
        "controller_runtime_reconcile_time_seconds_bucket",
        "controller_runtime_active_workers",
        "controller_runtime_max_concurrent_reconciles",
        "workqueue_depth",
        "workqueue_adds_total",
        "workqueue_queue_duration_seconds_bucket",
        "workqueue_work_duration_seconds_bucket",
        "workqueue_retries_total",
        "rest_client_requests_total",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "taskwatch_status_writes_total",
    ] {
        assert!(names.contains(&name), "no {name} in\n{metrics}");
    }
    assert!(names.iter().any(|name| name.starts_with("taskwatch_") && name.contains("request")), "{metrics}");
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn its_memory_is_private() {
    let stage = Stage::new("process-private").await;
    let operator = stage.operator(&[]).await;
    let pid = operator.process().pid();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>(), ["0", "0", "bytes"]);
    // The kernel gives the files of a process that nobody may look into to root. Where root runs the tests, this says nothing.
    let memory = std::fs::metadata(format!("/proc/{pid}/mem")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&memory), 0);
}

/// The answer to a poll of an object that is gone never reaches its successor of the same name.
#[tokio::test]
async fn an_object_that_is_made_anew_gets_its_own_answers() {
    let stage = Stage::new("process-anew").await;
    stage.upstream(HUAWEI, "evs").await;
    stage.task(HUAWEI, "evs", "old", json!([{"state": "FAIL"}])).await;
    stage.task(HUAWEI, "evs", "new", json!([{"state": "RUNNING"}])).await;
    stage.fault(json!({"path": "/jobs/old"}), json!({"kind": "delay", "headersMs": 3000})).await;
    let _operator = stage.operator(&[]).await;
    stage.watch("w", "evs", "old", json!({})).await;
    under_way(&stage).await;
    stage.delete("TaskWatch", "w").await;
    stage.watch("w", "evs", "new", json!({})).await;
    stage.until_row("w", RUNNING).await;
    // The old answer has come by now, and another one to what was asked later.
    answered(&stage, "/jobs/old", 1).await;
    answered(&stage, "/jobs/new", 4).await;
    let status = stage.status("w").await.unwrap();
    assert_eq!(row(&status), RUNNING);
    assert_eq!(status.task.unwrap().id.as_deref(), Some("new"));
    assert_eq!(stage.events("w").await, ["TaskObserved"]);
}

/// Waits until the simulator has a request that it has not answered yet.
async fn under_way(stage: &Stage) {
    eventually(SOON, "a poll is in flight", || async {
        let counters = stage.simulator.admin("GET", "/counters", None).await?;
        // Admin calls are not counted.
        ensure!(counters["inFlight"]["now"].as_i64() >= Some(1), "{counters}");
        Ok(())
    })
    .await
    .unwrap();
}

async fn answered(stage: &Stage, path: &str, times: usize) {
    eventually(SOON, &format!("{path} is answered"), || async {
        let (requests, _) = stage.requests(0).await;
        let of = requests.iter().filter(|r| r["path"].as_str().is_some_and(|p| p.ends_with(path)));
        let count = of.count();
        ensure!(count >= times, "{count} times");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn loopback_is_out_of_reach_unless_it_is_allowed() {
    let stage = Stage::new("process-egress").await;
    stage.upstream(HUAWEI, "evs").await;
    stage.scope(HUAWEI, "iam", json!([{"kind": "password", "user": "u", "password": SECRET, "domain": "d"}])).await;
    stage.secret("iam", json!({"username": "u", "password": SECRET, "domain": "d"})).await;
    let auth = json!({"keystone": {"endpoint": stage.simulator.url(), "secretRef": {"name": "iam"}}});
    let elsewhere = json!({"provider": {HUAWEI: {"endpoint": "http://192.0.2.1"}}});
    stage.connection("iam", HUAWEI, "iam", auth, elsewhere).await;
    let mut options = stage.operator_options();
    options.args.retain(|arg| arg != "--allow-egress" && arg != "127.0.0.0/8");
    let _operator = Operator::start(options).await.unwrap();
    for name in ["evs", "iam"] {
        stage.watch(name, name, "task", json!({"poll": {"staleAfterSeconds": 10}})).await;
    }
    for name in ["evs", "iam"] {
        let text = stage
            .until(name, "it says so", |status| {
                let text = message(status, "Ready").to_owned();
                ensure!(text.contains("--allow-egress"), "{text}");
                Ok((row(status), text))
            })
            .await;
        assert!(text.0.ends_with("False S") && text.1.contains("127.0.0.1"), "{text:?}");
    }
    let (requests, _) = stage.requests(0).await;
    assert!(requests.is_empty(), "{requests:?}");
}

/// Runs the program; its exit code, standard output and standard error.
fn run(args: &[&str], input: &str) -> (i32, String, String) {
    let mut child = Command::new(binary("taskwatch").unwrap())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read all.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[test]
fn help_explains() {
    let (code, help, _) = run(&["--help"], "");
    assert_eq!(code, 0);
    for word in ["run", "crds", "decode", "version", "Exit codes", "never starts, cancels or repeats"] {
        assert!(help.contains(word), "no {word} in {help}");
    }
    let (code, help, _) = run(&["run", "--help"], "");
    assert_eq!(code, 0);
    for flag in [
        "--namespace",
        "--allow-egress",
        "--http-address",
        "--probe-address",
        "--deny-auth",
        "--no-cluster-connections",
        "--secret-refresh-seconds",
        "--kubeconfig",
    ] {
        let variable = format!("TASKWATCH_{}", flag.trim_start_matches('-').replace('-', "_").to_uppercase());
        assert!(help.contains(flag) && help.contains(&variable), "no {flag} or {variable} in {help}");
    }
    let (code, _, error) = run(&["run", "--allow-egress", "everything"], "");
    assert_eq!(code, 2);
    assert!(error.contains("give an address range such as 10.1.0.0/16"), "{error}");
    let (code, _, error) = run(&["run", "--kubeconfig", "/nowhere"], "");
    assert_eq!(code, 1);
    assert!(error.contains("/nowhere") && error.lines().count() <= 3, "{error}");
}

#[test]
fn crds_prints_what_the_repository_holds() {
    let (code, printed, _) = run(&["crds"], "");
    assert_eq!(code, 0);
    let directory = taskwatch_harness::workspace_root().join("crds");
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 4);
    for file in files {
        assert!(printed.contains(&std::fs::read_to_string(&file).unwrap()), "{}", file.display());
    }
    assert_eq!(printed.matches("---\n").count(), 3);
}

#[test]
fn decode_shows_what_an_answer_means() {
    let decode = |args: &[&str], body: &str| -> Value {
        let (code, out, error) = run(&[&["decode", "--provider"], args].concat(), body);
        assert_eq!(code, 0, "{error}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    };
    let job = r#"{"job_id":"j1","job_type":"createVolume","status":"FAIL","begin_time":"2026-01-02T03:04:05.000Z",
        "end_time":"2026-01-02T03:05:05.000Z","error_code":"EVS.5400","fail_reason":"sold out",
        "entities":{"volume_id":"v1"}}"#;
    let wanted = json!({"kind": "task", "task": {
        "id": "j1", "type": "createVolume", "state": "Failed", "upstreamState": "FAIL",
        "startTime": "2026-01-02T03:04:05Z", "completionTime": "2026-01-02T03:05:05Z",
        "error": {"code": "EVS.5400", "message": "sold out"}, "outputs": {"volume_id": "v1"}, "resource": "v1"}});
    assert_eq!(decode(&["huaweiCloud"], job), wanted);
    assert_eq!(decode(&["huaweiCloud", "-"], job), wanted);
    let workdir = Workdir::new("decode").unwrap();
    let file = workdir.write("job.json", job).unwrap();
    assert_eq!(decode(&["huaweiCloud", file.to_str().unwrap()], ""), wanted);

    let list = decode(
        &["astraControl"],
        r#"{"items":[{"id":"t1","state":"running","percentDone":20.7,"parentTaskID":"p"}],"metadata":{"continue":"bmV4dA=="}}"#,
    );
    assert_eq!(
        list,
        json!({"kind": "list", "next": "bmV4dA==", "tasks": [
            {"id": "t1", "state": "Running", "upstreamState": "running", "percent": 20, "parentID": "p"}]})
    );
    let task =
        decode(&["cloudRu"], r#"{"task":{"id":"t1","status":"SOMETHING","error":{"code":8,"message":"quota"}}}"#);
    assert_eq!((&task["kind"], &task["task"]["state"]), (&json!("task"), &json!("Failed")));
    assert_eq!(task["task"]["error"]["code"], "8");

    let limited = decode(&["cloudRu", "--http-status", "429", "--header", "Retry-After: 30"], "slow down");
    assert_eq!(limited["kind"], "error");
    assert_eq!((&limited["class"], &limited["retryAfterSeconds"]), (&json!("RateLimited"), &json!(30)));
    assert!(limited["code"].is_string() && limited["message"].is_string(), "{limited}");
    let html = decode(&["huaweiCloud"], "<html>sign in</html>");
    assert_eq!((&html["kind"], &html["class"]), (&json!("error"), &json!("InvalidAnswer")));

    let (code, _, error) = run(&["decode", "--provider", "huaweiCloud", "/nowhere.json"], "");
    assert_eq!(code, 1);
    assert!(error.contains("cannot read /nowhere.json"), "{error}");
    let (code, _, error) = run(&["decode", "--provider", "other"], "");
    assert_eq!(code, 2);
    assert!(error.contains("huaweiCloud, cloudRu, astraControl"), "{error}");
}
