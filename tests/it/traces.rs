//! Traces of polls, as a collector of OpenTelemetry gets them from a running operator.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use taskwatch_harness::{Collector, eventually};

use crate::stage::{HUAWEI, SECRET, SOON, Stage};

const RUNNING: &str = "Running Unknown/TaskRunning False True/Observed Unknown R";

/// The value of an attribute.
fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a str> {
    let all = span["attributes"].as_array()?;
    let value = &all.iter().find(|attribute| attribute["key"] == key)?["value"];
    value["stringValue"].as_str().or_else(|| value["intValue"].as_str())
}

/// A trace in which all that a poll consists of is there: the four parts, by their names, and the poll itself.
fn whole(spans: &[Value]) -> Result<Vec<&Value>> {
    let is_write = |span: &&Value| span["name"] == "write";
    let written = spans.iter().find(is_write).context("nothing was written")?;
    let of_it: Vec<_> = spans.iter().filter(|span| span["traceId"] == written["traceId"]).collect();
    let names: BTreeSet<_> = of_it.iter().filter_map(|span| span["name"].as_str()).collect();
    ensure!(names == BTreeSet::from(["poll", "request", "decode", "decide", "write"]), "{names:?}");
    Ok(of_it)
}

#[tokio::test]
async fn a_trace_has_each_step_of_a_poll_and_no_secret() {
    let stage = Stage::new("traces").await;
    stage.upstream(HUAWEI, "evs").await;
    stage.task(HUAWEI, "evs", "task", json!([{"state": "RUNNING"}])).await;
    stage.watch("task", "evs", "task", json!({})).await;
    let collector = Collector::start(200).await.unwrap();
    let operator = stage.operator(&["--otlp-endpoint", collector.url()]).await;
    stage.until_row("task", RUNNING).await;
    let came = || async { whole(&collector.spans()?).map(|trace| trace.into_iter().cloned().collect::<Vec<_>>()) };
    let trace = eventually(SOON, "a whole trace came", came).await.unwrap();
    let of = |name: &str| trace.iter().find(|span| span["name"] == name).unwrap();
    let poll = of("poll");
    for part in ["request", "decode", "decide", "write"] {
        assert_eq!(of(part)["parentSpanId"], poll["spanId"], "{part}");
    }
    assert_eq!(attribute(poll, "taskwatch.connection"), Some("traces/evs"));
    assert_eq!(attribute(poll, "taskwatch.provider"), Some(HUAWEI));
    assert_eq!(attribute(poll, "taskwatch.operation"), Some("get"));
    assert_eq!(attribute(of("request"), "http.response.status_code"), Some("200"));
    for part in ["decide", "write"] {
        assert_eq!(attribute(of(part), "k8s.namespace.name"), Some("traces"));
        assert_eq!(attribute(of(part), "taskwatch.name"), Some("task"));
    }
    let time = |span: &Value, key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
    let order = ["request", "decode", "decide", "write"];
    for pair in order.windows(2) {
        let (before, after) = (of(pair[0]), of(pair[1]));
        assert!(time(before, "startTimeUnixNano") <= time(after, "startTimeUnixNano"), "{pair:?}");
    }

    // A failure has its class.
    stage.fault(json!({}), json!({"kind": "status", "status": 503})).await;
    let failed = || async {
        let spans = collector.spans()?;
        let failed = spans.iter().find(|span| attribute(span, "error.type") == Some("UpstreamUnavailable"));
        let failed = failed.context("no failure")?.clone();
        ensure!(failed["status"]["code"] == 2, "{failed}");
        Ok(())
    };
    eventually(SOON, "a failed poll is told", failed).await.unwrap();
    // An orderly end sends what is left.
    operator.process().stop().await.unwrap();
    for body in collector.bodies().unwrap() {
        assert!(!body.contains(SECRET), "{body}");
    }
    let (status, _) = (stage.status("task").await.unwrap(), operator);
    assert!(status.task.is_some());
}
