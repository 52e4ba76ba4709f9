//! F6: refusals and time-outs of one tenant's tasks on a connection that others use, too.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::case::{Attack, Place, Scene};
use super::super::ground::{ATTACKER, CANARY, SYSTEM};
use super::super::objects::{shared, token, watch, with};
use super::super::upstream::{Provider, Reply, Request};
use super::{asked, due, starved};

/// How many healthy watches another tenant has on each connection.
const VICTIMS: usize = 2;
/// The ways of being refused; each has a connection of its own. The attacker's tasks begin with the word.
const WAYS: [(&str, usize); 8] = [
    ("unauthorized", 1),
    ("wrongkey", 20),
    ("forbidden", 5),
    ("foreign", 5),
    ("broken", 20),
    ("silent", 20),
    ("gone", 5),
    ("reset", 10),
];

pub(super) fn all() -> Vec<Attack> {
    vec![
        Attack::new(
            "F6",
            "refused-tasks",
            "one tenant's tasks answered 401, 403, 5xx, or not at all, on shared connections",
        )
        .seconds(16)
        .plain(answer)
        .objects(|place| WAYS.iter().flat_map(|way| way_objects(place, *way)).collect())
        .judge(|scene| {
            Box::pin(async {
                let asked = asked(scene, 0);
                // A hold may cost a confirming request, no more.
                let from = scene.there_ms + 2000;
                let least = due(from, 1);
                Ok(WAYS
                    .iter()
                    .flat_map(|(way, _)| starved(&asked, &format!("{way}-good"), VICTIMS, from, least))
                    .collect())
            })
        }),
        Attack::new(
            "F6",
            "refused-first",
            "a 401 for the first task of a shared connection, before anybody's was good",
        )
        .seconds(18)
        .plain(answer)
        .objects(|place| {
            way_objects(place, ("unauthorized", 3))
                .into_iter()
                .filter(|one| one["metadata"]["namespace"] != CANARY)
                .collect()
        })
        .act(|scene| {
            Box::pin(async {
                tokio::time::sleep(Duration::from_secs(4)).await;
                let all = way_objects(scene.place, ("unauthorized", 0));
                let late = all.into_iter().filter(|one| one["metadata"]["namespace"] == CANARY).collect();
                scene.ground.create_all(late).await.map(drop)
            })
        })
        .judge(|scene| super::verdict(came_later(scene))),
    ]
}

/// Whoever comes later is tried, and is not held for what somebody else has met.
fn came_later(scene: &Scene<'_>) -> Vec<String> {
    let from = scene.there_ms + 10_000;
    starved(&asked(scene, 0), "unauthorized-good", VICTIMS, from, due(from, 1) / 2)
}

fn way_objects(place: &Place, (way, count): (&str, usize)) -> Vec<Value> {
    let name = format!("{}-{way}", place.name);
    let more = json!({"allowedScopes": ["*"], "requestTimeoutSeconds": 5,
        "rateLimit": {"requestsPerSecond": 50, "burst": 50, "maxInFlight": 8}});
    let mut all = vec![token(SYSTEM), shared(&name, Provider::Huawei, place.url(), &[ATTACKER[0], CANARY], more)];
    let of = |namespace: &str, id: String, spec: Value| {
        let kind = with(json!({"connectionRef": {"kind": "ClusterTaskConnection"}}), spec);
        watch(namespace, &format!("{name}-{id}"), &name, &id, kind)
    };
    let scope = if way == "foreign" { json!({"task": {"scope": "foreign"}}) } else { json!({}) };
    all.extend((0..count).map(|n| of(ATTACKER[0], format!("{way}-bad{n}"), scope.clone())));
    all.extend((0..VICTIMS).map(|n| of(CANARY, format!("{way}-good{n}"), json!({}))));
    all
}

fn answer(request: &Request) -> Reply {
    let Some((way, _)) = request.id.split_once("-bad") else { return Reply::running(request) };
    let provider = Provider::of(request);
    match way {
        "unauthorized" | "foreign" => provider.refusal(401, "APIGW.0301", "Incorrect IAM authentication information"),
        "wrongkey" => provider.refusal(401, "APIGW.0307", "The token must be updated."),
        "forbidden" => provider.refusal(403, "APIGW.0302", "The IAM user is not allowed to access the API."),
        "broken" => Reply::text(503, &[], ""),
        "gone" => Reply::text(410, &[("Content-Type", "text/html")], "<h1>Gone</h1>"),
        "reset" => Reply::Last(Vec::new()),
        _ => Reply::Silence,
    }
}
