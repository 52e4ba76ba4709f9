//! Whether every status is the truth, when all is quiet.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use super::{
    cluster::Cluster,
    history::{condition, is_finished, parse_time, unclean},
    model::{Connection, System, Task, World, now_ms},
    upstream::{Upstream, text},
};

/// Progress is written in steps of so many points.
const STEP: i64 = 5;
/// A deadline or a time to live that has just passed may still be worked on.
const LATE_MS: i64 = 2000;

type Truth = HashMap<(String, String), Value>;

/// Waits until every status is true; else what differs.
pub(super) async fn converge(
    cluster: &Cluster,
    upstream: &Upstream,
    world: &std::sync::Mutex<World>,
    limit: Duration,
) -> Result<(usize, Vec<String>)> {
    let until = Instant::now() + limit;
    loop {
        let objects = cluster.list().await?;
        let truth = upstream.truth().await?;
        let (connections, tasks) = {
            let world = world.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            (world.connections.clone(), world.tasks.clone())
        };
        let different: Vec<_> = objects.iter().filter_map(|object| lie(object, &truth, &connections, &tasks)).collect();
        if different.is_empty() || Instant::now() >= until {
            return Ok((objects.len(), different));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// How an object differs from the truth.
fn lie(
    object: &Value,
    truth: &Truth,
    connections: &[Connection],
    tasks: &HashMap<(usize, String), Task>,
) -> Option<String> {
    let name = format!("{}/{}", text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
    let (spec, status) = (&object["spec"], &object["status"]);
    let index = connections.iter().position(|c| c.name == spec["connectionRef"]["name"])?;
    let connection = &connections[index];
    let id = text(&spec["task"]["id"]);
    let real = truth.get(&(connection.scope.clone(), id.clone()));
    let task = tasks.get(&(index, id.clone()));
    let problems = problems(object, real, task, connection);
    if problems.is_empty() {
        return None;
    }
    let shown = condition(status, "Synced").map(ToString::to_string).unwrap_or_default();
    Some(format!(
        "{name} ({}, task {id}): {}; it shows {} and {}; the truth is {}; spec {spec}",
        connection.name,
        problems.join("; "),
        status["state"],
        shown.chars().take(300).collect::<String>(),
        real.map(|real| real.to_string().chars().take(300).collect::<String>()).unwrap_or_default(),
    ))
}

fn problems(object: &Value, real: Option<&Value>, task: Option<&Task>, connection: &Connection) -> Vec<String> {
    let (spec, status, metadata) = (&object["spec"], &object["status"], &object["metadata"]);
    let mut wrong = Vec::new();
    let mut expect = |what: &str, shown: &Value, wanted: &Value| {
        if shown != wanted {
            wrong.push(format!("{what} is {shown}, not {wanted}"));
        }
    };
    let said = |kind: &str, field: &str| condition(status, kind).map(|c| c[field].clone()).unwrap_or_default();
    expect("observedGeneration", &status["observedGeneration"], &metadata["generation"]);
    let asked = &metadata["annotations"]["taskwatch.dev/requestedAt"];
    let finished = is_finished(status);
    let reason = text(&said("Succeeded", "reason"));
    let observed = spec["readyWhen"] == "Observed";
    let created = metadata["creationTimestamp"].as_str().and_then(parse_time).unwrap_or_default();
    let overdue = spec["activeDeadlineSeconds"].as_i64().is_some_and(|s| created + s * 1000 + LATE_MS < now_ms());
    let exists = real.is_some_and(|real| real["exists"] == true);
    let flickers = task.is_some_and(|task| task.gone_from().is_some() && exists);

    if finished {
        let ended = condition(status, "Finished").and_then(|c| c["lastTransitionTime"].as_str()).and_then(parse_time);
        let ttl = spec["ttlSecondsAfterFinished"].as_i64();
        if ttl.zip(ended).is_some_and(|(ttl, ended)| ended + ttl * 1000 + LATE_MS < now_ms()) {
            wrong.push(format!("it should be deleted by ttlSecondsAfterFinished, since {ended:?}"));
        }
    }
    let mut expect = |what: &str, shown: &Value, wanted: &Value| {
        if shown != wanted {
            wrong.push(format!("{what} is {shown}, not {wanted}"));
        }
    };
    if asked.is_string() {
        expect("lastHandledReconcileAt", &status["lastHandledReconcileAt"], asked);
    }
    if overdue {
        expect("Finished, its deadline being over,", &said("Finished", "status"), &"True".into());
    }
    if finished && reason == "DeadlineExceeded" {
        expect("activeDeadlineSeconds passed", &overdue.into(), &true.into());
    } else if finished && (status["state"] == "Lost" || reason == "TaskGone") {
        let policy = if status["state"] == "Lost" { "Fail" } else { "Succeed" };
        expect("onNotFound", &spec["onNotFound"].as_str().unwrap_or("Fail").into(), &policy.into());
        expect("that the task exists", &(exists && !flickers).into(), &false.into());
    } else if !exists {
        // It may have ended before it vanished; that was judged when it was shown.
        if !finished {
            expect("onNotFound, the task being gone,", &spec["onNotFound"], &"Retry".into());
            expect("the reason of Synced", &said("Synced", "reason"), &"TaskNotFound".into());
        }
    } else if let Some(real) = real {
        expect("state", &status["state"], &real["state"]);
        expect("finished", &finished.into(), &real["finished"]);
        expect("Synced", &said("Synced", "status"), &"True".into());
        let ready = match (real["state"].as_str(), observed) {
            (_, true) | (Some("Succeeded"), _) => "True",
            (Some("Failed" | "Cancelled"), _) => "False",
            _ => "Unknown",
        };
        expect("Ready", &said("Ready", "status"), &ready.into());
        expect("upstreamState", &status["task"]["upstreamState"], &real["word"]);
        if connection.system == System::Astra {
            wrong.extend(percent(status, real));
        }
        if connection.system != System::Astra && real["error"].is_object() {
            wrong.extend(error(status, real));
        }
    }
    wrong.extend(unclean(object.get("status").unwrap_or(&Value::Null)).map(|bad| format!("unclean text: {bad}")));
    wrong
}

/// Progress moves in steps, but for the last one.
fn percent(status: &Value, real: &Value) -> Option<String> {
    let (shown, wanted) = (status["progress"]["percent"].as_i64(), real["percent"].as_f64()?);
    let shown_or_none = shown.unwrap_or(-100);
    #[allow(clippy::cast_possible_truncation)] // 0 to 100
    let wanted = wanted.floor() as i64;
    let far = (shown_or_none - wanted).abs();
    let is_right = if real["finished"] == true { far == 0 } else { far < STEP };
    (!is_right).then(|| format!("progress is {shown:?}, not {wanted}"))
}

fn error(status: &Value, real: &Value) -> Option<String> {
    let (shown, wanted) = (text(&status["error"]["message"]), text(&real["error"]["message"]));
    let is_hostile = wanted.len() > 1000;
    let is_right = if is_hostile { shown.starts_with("disk full red") && shown.len() <= 4096 } else { shown == wanted };
    (!is_right).then(|| format!("error is {:?}, not {:?}", brief(&shown), brief(&wanted)))
}

fn brief(text: &str) -> String {
    text.chars().take(100).collect()
}
