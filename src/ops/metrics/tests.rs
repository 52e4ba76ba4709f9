use std::collections::HashSet;

use super::*;

/// A reader of the ordinary text format, as strict as Prometheus: comments, or `name{labels} number`.
fn samples(text: &str) -> Vec<(String, f64)> {
    let mut seen = HashSet::new();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let name = series.split('{').next().unwrap();
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':'), "{line}");
            assert_eq!(series.contains('{'), series.ends_with('}'), "{line}");
            assert!(seen.insert(series.to_owned()), "twice: {line}");
            (series.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
        })
        .collect()
}

fn value(metrics: &Metrics, series: &str) -> f64 {
    let all = samples(&metrics.render());
    all.iter().find(|(name, _)| name == series).unwrap_or_else(|| panic!("no {series} in {all:#?}")).1
}

fn used() -> Metrics {
    let metrics = Metrics::new();
    metrics.max_concurrent_reconciles("taskwatch", 16);
    metrics.reconcile("taskwatch").done(ReconcileResult::Error);
    let queue = metrics.queue("status");
    queue.added();
    queue.retried();
    queue.set_depth(3);
    drop(queue.started(Duration::from_millis(5)));
    metrics.rest_request("200", "GET");
    metrics.upstream_request("huaweiCloud", "get", "200", Duration::from_millis(120));
    metrics.poll_lag("huaweiCloud", Duration::from_millis(3));
    metrics.coalesced_tasks("astraControl", 900);
    metrics.task_ended("astraControl", "Failed", Duration::from_secs(5400));
    metrics.status_write(StatusWrite::Patched);
    metrics.event("TaskFailed", EventResult::Sent);
    metrics
}

#[test]
fn shows_the_stock_names_and_the_operators_own() {
    let metrics = used();
    for (series, expected) in [
        (r#"controller_runtime_reconcile_total{controller="taskwatch",result="error"}"#, 1.0),
        (r#"controller_runtime_reconcile_total{controller="taskwatch",result="requeue_after"}"#, 0.0),
        (r#"controller_runtime_reconcile_errors_total{controller="taskwatch"}"#, 1.0),
        (r#"controller_runtime_reconcile_time_seconds_count{controller="taskwatch"}"#, 1.0),
        (r#"controller_runtime_active_workers{controller="taskwatch"}"#, 0.0),
        (r#"controller_runtime_max_concurrent_reconciles{controller="taskwatch"}"#, 16.0),
        (r#"workqueue_depth{name="status"}"#, 3.0),
        (r#"workqueue_adds_total{name="status"}"#, 1.0),
        (r#"workqueue_retries_total{name="status"}"#, 1.0),
        (r#"workqueue_queue_duration_seconds_sum{name="status"}"#, 0.005),
        (r#"workqueue_work_duration_seconds_count{name="status"}"#, 1.0),
        (r#"workqueue_unfinished_work_seconds{name="status"}"#, 0.0),
        (r#"workqueue_longest_running_processor_seconds{name="status"}"#, 0.0),
        (r#"rest_client_requests_total{code="200",method="GET",host="kubernetes"}"#, 1.0),
        (r#"taskwatch_upstream_requests_total{provider="huaweiCloud",operation="get",code="200"}"#, 1.0),
        (r#"taskwatch_upstream_request_duration_seconds_sum{provider="huaweiCloud",operation="get"}"#, 0.12),
        (r#"taskwatch_poll_lag_seconds_count{provider="huaweiCloud"}"#, 1.0),
        (r#"taskwatch_poll_coalesced_tasks_sum{provider="astraControl"}"#, 900.0),
        (r#"taskwatch_task_duration_seconds_bucket{le="3600.0",provider="astraControl",state="Failed"}"#, 0.0),
        (r#"taskwatch_task_duration_seconds_bucket{le="7200.0",provider="astraControl",state="Failed"}"#, 1.0),
        (r#"taskwatch_status_writes_total{result="patched"}"#, 1.0),
        (r#"taskwatch_status_writes_total{result="conflict"}"#, 0.0),
        (r#"taskwatch_events_total{reason="TaskFailed",result="sent"}"#, 1.0),
        ("taskwatch_period_stretch", 1.0),
    ] {
        assert!((value(&metrics, series) - expected).abs() < 1e-9, "{series}");
    }
    let build = format!(r#"taskwatch_build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION"));
    assert!((value(&metrics, &build) - 1.0).abs() < 1e-9);
}

#[test]
fn is_one_well_formed_text_with_one_description_for_each_metric() {
    let text = used().render();
    assert!(text.ends_with("# EOF\n"));
    assert!(samples(&text).len() > 100);
    let mut seen = HashSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        assert!(seen.insert(line.split(' ').next().unwrap()), "described twice: {line}");
    }
    assert!(!text.contains("_total_total"));
}

#[test]
fn label_values_cannot_break_out_of_their_quotes() {
    let metrics = Metrics::new();
    metrics.rest_request("200", "a\"} 1\nforged 7");
    assert!(!samples(&metrics.render()).iter().any(|(name, _)| name == "forged"));
}

#[test]
fn an_upstream_makes_no_series_of_its_own() {
    let metrics = Metrics::new();
    for status in 100..1000 {
        for operation in ["get", "list"] {
            metrics.upstream_request("huaweiCloud", operation, status.to_string(), Duration::ZERO);
        }
        metrics.rest_request(&status.to_string(), "GET");
        metrics.upstream_request("huaweiCloud", "get", format!("token {status}"), Duration::ZERO);
    }
    let all = samples(&metrics.render());
    let of = |name: &str| all.iter().filter(|(series, _)| series.starts_with(name)).count();
    assert!(of("taskwatch_upstream_requests_total") <= 2 * 40, "{all:?}");
    assert!(of("rest_client_requests_total") <= 40, "{all:?}");
    let other = r#"taskwatch_upstream_requests_total{provider="huaweiCloud",operation="list",code="other"}"#;
    assert!(value(&metrics, other) > 800.0, "nothing is lost");
    assert!(metrics.render().len() < 64 << 10);
}

#[test]
#[cfg(target_os = "linux")]
fn shows_the_process_itself() {
    let metrics = Metrics::new();
    assert!(value(&metrics, "process_resident_memory_bytes") > 1e6);
    assert!(value(&metrics, "process_cpu_seconds_total") >= 0.0);
    assert!(value(&metrics, "process_open_fds") >= 3.0);
    assert!(value(&metrics, "process_start_time_seconds") > 1.7e9);
}

#[test]
fn connections_count_while_they_live() {
    let metrics = Metrics::new();
    let (one, two) = (metrics.connection("cloudRu"), metrics.connection("cloudRu"));
    one.set_up(true);
    one.set_tasks("Running", 4);
    two.set_tasks("Running", 3);
    two.set_period_stretch(2.5);
    let running = r#"taskwatch_tasks{provider="cloudRu",state="Running"}"#;
    let up = r#"taskwatch_connection_up{provider="cloudRu"}"#;
    let all = r#"taskwatch_connections{provider="cloudRu"}"#;
    let figures = || [running, up, all, "taskwatch_period_stretch"].map(|series| value(&metrics, series).to_string());
    assert_eq!(figures(), ["7", "1", "2", "2.5"]);
    drop(two);
    assert_eq!(figures(), ["4", "1", "1", "1"]);
    drop(one);
    assert!(!metrics.render().contains(up));
}

#[test]
fn work_under_way_is_seen() {
    let metrics = Metrics::new();
    let reconcile = metrics.reconcile("taskwatch");
    let work = metrics.queue("status").started(Duration::ZERO);
    std::thread::sleep(Duration::from_millis(2));
    assert!(value(&metrics, r#"workqueue_unfinished_work_seconds{name="status"}"#) > 0.001);
    assert!(value(&metrics, r#"workqueue_longest_running_processor_seconds{name="status"}"#) > 0.001);
    assert!((value(&metrics, r#"controller_runtime_active_workers{controller="taskwatch"}"#) - 1.0).abs() < 1e-9);
    drop((reconcile, work));
    assert!(value(&metrics, r#"workqueue_unfinished_work_seconds{name="status"}"#) < 1e-9);
    assert!(value(&metrics, r#"controller_runtime_active_workers{controller="taskwatch"}"#) < 1e-9);
}

#[test]
fn the_most_silent_watch_of_a_resource_is_shown() {
    let metrics = Metrics::new();
    let series = r#"taskwatch_watch_last_event_seconds{resource="taskwatches"}"#;
    let [one, other] = [(); 2].map(|()| metrics.watch("taskwatches".to_owned()));
    std::thread::sleep(Duration::from_millis(60));
    one.now();
    assert!(value(&metrics, series) >= 0.06, "the other is silent");
    other.now();
    assert!(value(&metrics, series) < 0.06);
    drop((one, other));
    assert!(!metrics.render().contains(series));
}
