//! The tables of the documents are what the code does: `docs/metrics.md` what `/metrics` shows, `docs/status.md` the golden files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
    time::Duration,
};

use taskwatch::{
    ops::{
        guard::Stage,
        metrics::{EventResult, Metrics, ReconcileResult, StatusWrite},
    },
    ownership::Buckets,
    tenancy::Tenant,
};
use taskwatch_harness::workspace_root;

/// What is said of a metric: its type, and the names of its labels.
pub type Metric = (String, BTreeSet<String>);

#[test]
fn the_tables_of_the_status_page_are_those_of_the_golden_files() {
    let output = Command::new(workspace_root().join("docs/status-tables")).arg("--check").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn the_metrics_page_shows_each_metric_with_its_type_and_labels_and_no_other() {
    let (metrics, _alive) = everything();
    let (shown, described) = (shown(&metrics.render()), described());
    let differences = shown.iter().filter(|(name, metric)| described.get(*name) != Some(metric));
    let differences: Vec<_> = differences.map(|(name, metric)| (name, metric, described.get(name))).collect();
    assert!(differences.is_empty(), "shown, and otherwise in docs/metrics.md: {differences:#?}");
    let gone: Vec<_> = described.keys().filter(|name| !shown.contains_key(*name)).collect();
    assert!(gone.is_empty(), "in docs/metrics.md, but never shown: {gone:?}");
}

/// What a running operator shows is on the page, too.
pub fn are_described(metrics: &str) {
    let described = described();
    for (name, metric) in shown(metrics) {
        // A metric that has no series yet shows no labels.
        let known = described.get(&name).unwrap_or_else(|| panic!("docs/metrics.md has no {name}"));
        assert!(known.0 == metric.0 && (metric.1.is_empty() || known.1 == metric.1), "{name}: {metric:?}, {known:?}");
    }
}

/// Metrics of which each has a series, and what some of them count as long as it lives.
fn everything() -> (Metrics, impl Sized) {
    let metrics = Metrics::new();
    metrics.max_concurrent_reconciles("taskwatch", 1);
    metrics.reconcile("taskwatch").done(ReconcileResult::Success);
    drop(metrics.queue("taskwatch").started(Duration::ZERO));
    metrics.rest_request("200", "GET");
    metrics.upstream_request("cloudRu", "get", "200", Duration::ZERO);
    metrics.poll_lag("cloudRu", Duration::ZERO);
    metrics.coalesced_tasks("cloudRu", 1);
    metrics.task_ended("cloudRu", "Succeeded", Duration::ZERO);
    metrics.status_write(StatusWrite::Patched);
    metrics.event("TaskFailed", EventResult::Sent);
    metrics.panicked(Stage::ALL[0]);
    metrics.unreadable_objects("taskwatches", 1);
    let usage = metrics.usage().of(&Tenant::namespace(&"team-a".into()));
    usage.request();
    usage.bytes(1);
    usage.write();
    usage.cpu(Duration::from_secs(1));
    metrics.buckets("taskwatch-system/taskwatch".to_owned(), Buckets::alone());
    let watch = metrics.watch("taskwatches".to_owned());
    let connection = metrics.connection("cloudRu");
    connection.set_tasks("Running", 1);
    (metrics, (usage, watch, connection))
}

/// The metrics of a scrape, by the names of their series (less `_bucket` and the like).
fn shown(text: &str) -> BTreeMap<String, Metric> {
    let mut shown = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let suffix = if kind == "counter" { "_total" } else { "" };
        let ends: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[suffix] };
        let is_of_it = |series: &str| ends.iter().any(|end| series.strip_suffix(end) == Some(name));
        let labels = text.lines().filter_map(|line| line.split_once('{')).filter(|(series, _)| is_of_it(series));
        // No label's value has a comma or a quote in it here.
        let labels = labels.flat_map(|(_, rest)| rest.split('}').next().unwrap_or_default().split(','));
        let labels = labels.filter_map(|label| label.split_once('=')).map(|(label, _)| label.to_owned());
        let labels = labels.filter(|label| label != "le").collect();
        shown.insert(format!("{name}{suffix}"), (kind.to_owned(), labels));
    }
    assert!(shown.len() > 15, "{shown:?}");
    shown
}

/// The metrics that the page describes: rows of name, type, labels. What stands in brackets behind a label explains it.
pub fn described() -> BTreeMap<String, Metric> {
    let page = fs::read_to_string(workspace_root().join("docs/metrics.md")).unwrap();
    let mut described = BTreeMap::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, name, kind, labels, ..] = cells[..] else { panic!("{row}") };
        let labels = labels.split('(').map(|part| part.rsplit(')').next().unwrap_or_default()).collect::<String>();
        let labels = labels.split(',').map(str::trim).filter(|label| !label.is_empty()).map(str::to_owned).collect();
        let twice = described.insert(name.trim_matches('`').to_owned(), (kind.to_owned(), labels));
        assert!(twice.is_none(), "docs/metrics.md has {name} twice");
    }
    described
}
