//! `deploy/monitoring/`: alerts are tried by Prometheus's own checker; what rules and dashboard ask for is there to be asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde_json::{Value, json};
use taskwatch::api::crds;
use taskwatch_harness::{Workdir, promtool, workspace_root};

use crate::{pages, references::anchors};

const RULES: &str = "deploy/monitoring/rules.yaml";
const RULES_TEST: &str = "deploy/monitoring/rules_test.yaml";
const DASHBOARD: &str = "deploy/monitoring/dashboard.json";
const OBJECTS: &str = "deploy/monitoring/kube-state-metrics.yaml";

/// Names of metrics, and the labels that each has.
type Metrics = BTreeMap<String, BTreeSet<String>>;

fn read(path: &str) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(workspace_root().join(path)).unwrap()).unwrap()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}")).iter()
}

fn words(value: &Value) -> Vec<&str> {
    list(value).map(|word| word.as_str().unwrap()).collect()
}

fn alerts(rules: &Value) -> impl Iterator<Item = &Value> {
    list(&rules["groups"]).flat_map(|group| list(&group["rules"]))
}

#[tokio::test]
async fn each_alert_fires_when_it_has_to_and_only_then() {
    for args in [["check", "rules", RULES], ["test", "rules", RULES_TEST]] {
        let (succeeded, said) = promtool(&args).await.unwrap();
        assert!(succeeded, "{said}");
    }
    let (rules, tests) = (read(RULES), read(RULES_TEST));
    let mut tried: BTreeMap<&str, BTreeSet<bool>> = BTreeMap::new();
    for test in list(&tests["tests"]).flat_map(|test| list(&test["alert_rule_test"])) {
        let fires = !list(&test["exp_alerts"]).collect::<Vec<_>>().is_empty();
        tried.entry(test["alertname"].as_str().unwrap()).or_default().insert(fires);
    }
    for alert in alerts(&rules) {
        let name = alert["alert"].as_str().unwrap();
        assert_eq!(tried.remove(name), Some(BTreeSet::from([false, true])), "{name} is tried both ways");
    }
    assert!(tried.is_empty(), "{tried:?}");
}

#[test]
fn each_alert_has_its_section_in_the_runbook() {
    let page = fs::read_to_string(workspace_root().join("docs/runbook.md")).unwrap();
    let mut sections: BTreeSet<_> = anchors(&page).into_iter().skip(1).collect();
    for alert in alerts(&read(RULES)) {
        let url = alert["annotations"]["runbook_url"].as_str().unwrap();
        let section = url.strip_prefix("docs/runbook.md#").unwrap();
        assert_eq!(section, alert["alert"].as_str().unwrap().to_lowercase());
        assert!(sections.remove(section), "{url}");
    }
    assert!(sections.is_empty(), "alerts that are no more: {sections:?}");
}

/// What the operator shows, by docs/metrics.md, which is held to what `/metrics` shows.
fn of_the_operator() -> Metrics {
    let described = pages::described().into_iter().flat_map(|(name, (kind, labels))| {
        let ends: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        ends.iter().map(move |end| {
            let mut labels = labels.clone();
            labels.extend((*end == "_bucket").then(|| "le".to_owned()));
            (format!("{name}{end}"), labels)
        })
    });
    described.collect()
}

/// What kube-state-metrics shows by its settings.
fn of_objects() -> Metrics {
    let settings = read(OBJECTS);
    let mut metrics = Metrics::new();
    for resource in list(&settings["spec"]["resources"]) {
        let labels =
            |value: &Value| value.as_object().into_iter().flatten().map(|(label, _)| label.clone()).collect::<Vec<_>>();
        for metric in list(&resource["metrics"]) {
            let each = &metric["each"];
            let mut all: BTreeSet<_> = labels(&resource["labelsFromPath"]).into_iter().collect();
            for kind in ["gauge", "info"] {
                all.extend(labels(&each[kind]["labelsFromPath"]));
            }
            all.extend(each["stateSet"]["labelName"].as_str().map(str::to_owned));
            let name =
                format!("{}_{}", resource["metricNamePrefix"].as_str().unwrap(), metric["name"].as_str().unwrap());
            assert!(metrics.insert(name.clone(), all).is_none(), "{name} twice");
        }
    }
    metrics
}

/// The metrics that an expression asks for, each with the labels that it selects by.
fn asked(expression: &str) -> Vec<(String, Vec<String>)> {
    let is_part = |sign: char| sign.is_ascii_alphanumeric() || "_:$".contains(sign);
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            rest = rest[1..].split_once('"').expect("a string that ends").1;
        } else if first == '[' {
            rest = rest.split_once(']').expect("a range that ends").1;
        } else if first == '{' {
            let (inside, after) = rest[1..].split_once('}').expect("a selector that ends");
            let labels = inside.split(',').map(|pair| pair.split(['=', '!']).next().unwrap().trim().to_owned());
            found.last_mut().expect("a selector of something").1.extend(labels);
            rest = after;
        } else if is_part(first) {
            let end = rest.find(|sign| !is_part(sign)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after;
            if ["by", "on", "without", "ignoring", "group_left", "group_right"].contains(&word) {
                rest = rest.split_once(')').expect("labels that end").1;
            } else if !rest.trim_start().starts_with('(')
                && !first.is_ascii_digit()
                && !["and", "or", "unless", "bool", "sum", "max", "min", "count", "topk"].contains(&word)
            {
                found.push((word.to_owned(), Vec::new()));
            }
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    found
}

fn are_there(metrics: &Metrics, place: &str, expression: &str) {
    let asked = asked(expression);
    assert!(!asked.is_empty(), "{place}: {expression}");
    for (name, labels) in asked {
        let known = metrics.get(&name).unwrap_or_else(|| panic!("{place}: there is no {name}"));
        for label in labels {
            assert!(known.contains(&label), "{place}: {name} has no {label}");
        }
    }
}

/// The queries of the dashboard, each with the title of its panel.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = list(&dashboard["panels"]).filter(|panel| panel["type"] != "row");
    let of = |panel: &Value| -> Vec<_> {
        let title = panel["title"].as_str().unwrap().to_owned();
        list(&panel["targets"]).map(|target| (title.clone(), target["expr"].as_str().unwrap().to_owned())).collect()
    };
    panels.flat_map(of).collect()
}

#[test]
fn rules_and_dashboard_ask_for_metrics_that_are_there() {
    let mut metrics = of_the_operator();
    let dashboard = read(DASHBOARD);
    let queries = queries(&dashboard);
    assert!(queries.len() > 20, "{queries:?}");
    for (panel, query) in queries {
        are_there(&metrics, &panel, &query);
    }
    let lookup = dashboard["templating"]["list"][1]["query"]["query"].as_str().unwrap();
    are_there(&metrics, "variable", &lookup.replace(", provider", ""));
    metrics.extend(of_objects());
    for alert in alerts(&read(RULES)) {
        are_there(&metrics, alert["alert"].as_str().unwrap(), alert["expr"].as_str().unwrap());
    }
}

#[tokio::test]
async fn prometheus_can_read_each_query_of_the_dashboard() {
    let rules = queries(&read(DASHBOARD)).into_iter().enumerate().map(|(at, (_, query))| {
        // As Grafana fills them in.
        let query = query.replace("$__rate_interval", "5m").replace("$provider", "cloudRu");
        json!({"record": format!("query:{at}"), "expr": query})
    });
    let rules = json!({"groups": [{"name": "dashboard", "rules": rules.collect::<Vec<_>>()}]});
    let directory = Workdir::new("dashboard").unwrap();
    let path = directory.write("rules.yaml", &rules.to_string()).unwrap();
    let (succeeded, said) = promtool(&["check", "rules", &path.display().to_string()]).await.unwrap();
    assert!(succeeded, "{said}");
}

#[test]
fn metrics_are_found_in_expressions() {
    let text = r#"sum by (a, b) (rate(x_total{c!~"2..", d="e"}[5m])) > 0.5 * topk(3, y) unless on (z) absent(w{}) and f_bucket"#;
    let found: Vec<_> = asked(&text.replace("w{}", "w")).into_iter().collect();
    let of = |name: &str, labels: &[&str]| (name.to_owned(), labels.iter().map(|label| (*label).to_owned()).collect());
    assert_eq!(found, [of("x_total", &["c", "d"]), of("y", &[]), of("w", &[]), of("f_bucket", &[])]);
}

/// The schema of a field of a kind.
fn field<'a>(schema: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(schema, |schema, part| schema["properties"].get(part))
}

#[test]
fn the_settings_for_kube_state_metrics_name_fields_that_are_there() {
    let settings = read(OBJECTS);
    let mut kinds = BTreeSet::new();
    for resource in list(&settings["spec"]["resources"]) {
        let of = &resource["groupVersionKind"];
        let kind = of["kind"].as_str().unwrap();
        let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
        assert_eq!(
            (of["group"].as_str().unwrap(), of["version"].as_str().unwrap()),
            (crd.spec.group.as_str(), crd.spec.versions[0].name.as_str())
        );
        let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        let schema = serde_json::to_value(schema).unwrap();
        for metric in list(&resource["metrics"]) {
            let name = &metric["name"];
            let each = &metric["each"];
            let body = ["gauge", "info", "stateSet"].iter().find_map(|kind| each.get(*kind)).unwrap();
            let path = body.get("path").map(words).unwrap_or_default();
            let found = field(&schema, &path).unwrap_or_else(|| panic!("{kind}: {name}: no {path:?}"));
            // A list has a value for each of its items.
            let of = if found["items"].is_object() { &found["items"] } else { found };
            let labels =
                body.get("labelsFromPath").and_then(Value::as_object).into_iter().flatten().map(|(_, path)| path);
            for path in labels.chain(body.get("valueFrom")) {
                assert!(field(of, &words(path)).is_some(), "{kind}: {name}: no {path}");
            }
            if let Some(states) = body.get("list") {
                assert!(
                    found["description"]
                        .as_str()
                        .is_some_and(|text| words(states).iter().all(|state| text.contains(state))),
                    "{found}"
                );
            }
        }
        kinds.insert(kind.to_owned());
    }
    assert_eq!(kinds, crds().into_iter().map(|crd| crd.spec.names.kind).collect());
}
