//! F18 and F20: the operator's rights, and what its metrics say.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::super::case::{Attack, Scene, silence};
use super::super::ground::{ATTACKER, OUTSIDER};
use super::super::objects::{connection, token, watch};
use super::super::upstream::{Provider, Reply};
use crate::OPERATOR;

/// The most that a label may have of values, and `/metrics` of bytes.
const CODES: usize = 40;
const BYTES: usize = 512 << 10;

pub(super) fn all() -> Vec<Attack> {
    vec![
        Attack::new("F18", "rights", "what the operator's service account may do beyond what it does")
            .seconds(1)
            .plain(silence)
            .judge(|scene| Box::pin(rights(scene))),
        Attack::new("F20", "series", "an upstream that answers with every HTTP status from 200 to 999")
            .seconds(12)
            .plain(|request| {
                let status = u16::try_from(200 + request.ordinal % 800).unwrap_or(200);
                Reply::text(status, &[("Content-Type", "text/plain")], "x")
            })
            .objects(|place| {
                let mut all = vec![token(ATTACKER[0])];
                for n in 0..80 {
                    all.push(connection(ATTACKER[0], &place.nth(n), Provider::ALL[n % 3], place.url(), json!({})));
                    all.extend((0..3).map(|w| {
                        watch(ATTACKER[0], &format!("{}-{w}", place.nth(n)), &place.nth(n), &format!("t{w}"), json!({}))
                    }));
                }
                all
            })
            .judge(|scene| Box::pin(series(scene))),
    ]
}

async fn rights(scene: &Scene<'_>) -> Result<Vec<String>> {
    let kubectl = scene.ground.plane.kubectl_as(OPERATOR)?.limit(Duration::from_secs(30));
    let mut faults = Vec::new();
    for what in [
        ["patch", "events.events.k8s.io"],
        ["update", "events.events.k8s.io"],
        ["list", "secrets"],
        ["watch", "secrets"],
        ["create", "secrets"],
        ["list", "configmaps"],
        ["list", "pods"],
        ["get", "pods"],
        // It creates and updates TaskWatches, for sets; never does it make or change what people write.
        ["patch", "taskwatches.taskwatch.dev"],
        ["deletecollection", "taskwatches.taskwatch.dev"],
        ["create", "taskwatchsets.taskwatch.dev"],
        ["update", "taskwatchsets.taskwatch.dev"],
        ["patch", "taskwatchsets.taskwatch.dev"],
        ["delete", "taskwatchsets.taskwatch.dev"],
        ["create", "taskconnections.taskwatch.dev"],
        ["update", "taskconnections.taskwatch.dev"],
        ["delete", "taskconnections.taskwatch.dev"],
        ["impersonate", "users"],
        ["get", "nodes"],
        ["create", "serviceaccounts/token"],
    ] {
        let answer = kubectl.run(&[&["auth", "can-i"], &what[..], &["--namespace", OUTSIDER]].concat()).await?;
        if answer.stdout.trim() != "no" {
            faults.push(format!("it may {}: {}", what.join(" "), answer.stdout.trim()));
        }
    }
    Ok(faults)
}

async fn series(scene: &Scene<'_>) -> Result<Vec<String>> {
    let metrics = scene.subject.metrics().await?;
    let mut faults = Vec::new();
    let codes: BTreeSet<_> = metrics
        .lines()
        .flat_map(|line| line.split(['{', ',', '}']))
        .filter_map(|label| label.split_once("=\""))
        .filter(|(name, _)| name.contains("code") || name.contains("status"))
        .map(|(_, value)| value.trim_end_matches('"'))
        .collect();
    if codes.len() > CODES {
        faults.push(format!("{} values of labels for codes, at most {CODES} may be", codes.len()));
    }
    if metrics.len() > BYTES {
        faults.push(format!("/metrics has {} bytes", metrics.len()));
    }
    let server = scene.ground.plane.url();
    if metrics.contains(server.trim_start_matches("https://")) {
        faults.push("/metrics names the address of the API server".to_owned());
    }
    if let Some(line) = metrics.lines().find(|line| line.contains("t0") && line.contains(scene.place.name)) {
        faults.push(format!("/metrics has a series for an object: {line}"));
    }
    Ok(faults)
}
