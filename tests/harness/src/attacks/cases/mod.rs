//! All attacks, by finding.

mod egress;
mod floods;
mod holds;
mod mass;
mod memory;
mod names;
mod ports;
mod shares;
mod surface;
mod tokens;
mod words;
mod writes;

use anyhow::Result;
use futures::future::BoxFuture;
use serde_json::Value;

use super::case::{Attack, Scene};
use super::isolation::{PORTS, PRIVATE};
use super::{objects, upstream::Asked};

/// All of them, in the order in which they are tried.
pub(super) fn all() -> Vec<Attack> {
    let parts = [
        memory::lists_and_gets(),
        ports::all(),
        words::all(),
        memory::objects(),
        holds::all(),
        names::all(),
        floods::all(),
        shares::all(),
        writes::all(),
        egress::all(),
        surface::all(),
        mass::all(),
    ];
    parts.into_iter().flatten().collect()
}

/// Whether an attack needs addresses or a name server of ours.
pub(super) fn needs_isolation(name: &str) -> bool {
    ["slow-names", "plain-http", "forbidden-addresses"].contains(&name)
}

/// Every secret that attacks use, by a name for it.
pub(super) fn secrets() -> Vec<(&'static str, &'static str)> {
    let mut all = vec![("the attacks' token", objects::TOKEN)];
    all.extend(tokens::SECRETS);
    all
}

/// What the operator is told beside the usual.
pub(super) fn flags() -> Vec<String> {
    vec![
        "--allow-egress".to_owned(),
        format!("{}/32@{},{}/32,{PORTS}/32:443", PRIVATE[0], super::ground::CANARY, PRIVATE[2]),
        "--deny-egress".to_owned(),
        format!("{}/32", PRIVATE[2]),
    ]
}

/// For attacks whose judge has nothing to wait for.
fn verdict<'a>(faults: Vec<String>) -> BoxFuture<'a, Result<Vec<String>>> {
    Box::pin(std::future::ready(Ok(faults)))
}

/// Which of the tasks whose names begin with `prefix` were asked for less than `least` times since `from`, of `count`.
fn starved(asked: &[Asked], prefix: &str, count: usize, from: i64, least: usize) -> Vec<String> {
    let times = |id: &str| asked.iter().filter(|one| one.at_ms >= from && one.id == id).count();
    (0..count)
        .map(|n| format!("{prefix}{n}"))
        .filter(|id| times(id) < least)
        .map(|id| format!("{id} was asked for {} times only, at least {least} were due", times(&id)))
        .collect()
}

/// How often a watch with a period of `period` seconds must have been polled from `from` until now: six in ten of what is due.
fn due(from: i64, period: i64) -> usize {
    usize::try_from((super::now_ms() - from) * 6 / (period * 1000) / 10).unwrap_or_default().max(1)
}

/// The texts of the status of an object.
fn told(object: &Value) -> String {
    let mut all = String::new();
    super::ground::texts(&object["status"], &mut all);
    all
}

/// The message of a condition.
fn message<'a>(object: &'a Value, kind: &str) -> &'a str {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|condition| condition["type"] == kind);
    found.and_then(|condition| condition["message"].as_str()).unwrap_or_default()
}

/// What the victims of `scene` in a namespace were asked: all requests to its `n`th upstream.
fn asked(scene: &Scene<'_>, n: usize) -> Vec<Asked> {
    scene.upstreams.get(n).map(|upstream| upstream.asked_since(scene.begun_ms)).unwrap_or_default()
}
