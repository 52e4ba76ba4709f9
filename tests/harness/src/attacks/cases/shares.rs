//! F9 and F14: shares of a budget that several use, and the most that one may ask of the world.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::super::case::{Attack, Place, Scene};
use super::super::ground::{ATTACKER, CANARY, SYSTEM};
use super::super::objects::{connection, shared, token, watch};
use super::super::upstream::{Provider, Reply};
use super::{asked, due, starved};

const VICTIMS: usize = 8;
/// How many watches are told to look again without end.
const FLOODED: usize = 5;
/// The period of both sides on the shared connection, in seconds.
const PERIOD: i64 = 5;
/// The most that all connections together may ask in a second: the operator's ceiling, or less.
const MOST: f64 = 500.0;

pub(super) fn all() -> Vec<Attack> {
    vec![
        Attack::new(
            "F9",
            "greedy-tenant",
            "300 watches of one namespace on a shared connection of 5 requests a second",
        )
        .seconds(20)
        .plain(Reply::running)
        .objects(|place| on_shared(place, 300))
        .judge(|scene| super::verdict(slowed(scene))),
        Attack::new("F9", "requested-flood", "requestedAt of 5 watches changes 50 times a second in all")
            .seconds(20)
            .plain(Reply::running)
            .objects(|place| on_shared(place, FLOODED))
            .act(|scene| Box::pin(request_without_end(scene)))
            .judge(|scene| super::verdict(hurried(scene))),
        Attack::new("F14", "cannon", "five connections of 1,000 requests a second, 400 watches each, at one host")
            .seconds(10)
            .plain(|_| Reply::text(404, &[], ""))
            .objects(|place| {
                let limits = json!({"rateLimit": {"requestsPerSecond": 1000, "burst": 1000, "maxInFlight": 256}});
                let modest = json!({"rateLimit": {"requestsPerSecond": 50, "burst": 50, "maxInFlight": 32}});
                let mut all: Vec<_> = ATTACKER.map(token).to_vec();
                for (n, namespace) in ATTACKER.into_iter().take(5).enumerate() {
                    for (kind, limits) in [("fast", &limits), ("modest", &modest)] {
                        let name = format!("{}-{kind}-{n}", place.name);
                        all.push(connection(namespace, &name, Provider::Huawei, place.url(), limits.clone()));
                        all.extend((0..200).map(|job| {
                            watch(
                                namespace,
                                &format!("{name}-{job}"),
                                &name,
                                &format!("job{job}"),
                                json!({"onNotFound": "Retry"}),
                            )
                        }));
                    }
                }
                all
            })
            .judge(|scene| super::verdict(fired(scene))),
    ]
}

fn on_shared(place: &Place, count: usize) -> Vec<Value> {
    let name = place.nth(0);
    let more = json!({"rateLimit": {"requestsPerSecond": 5, "burst": 10, "maxInFlight": 8},
        "poll": {"minPeriodSeconds": PERIOD, "maxPeriodSeconds": PERIOD}});
    let mut all = vec![token(SYSTEM), shared(&name, Provider::Huawei, place.url(), &[ATTACKER[0], CANARY], more)];
    let of = |namespace: &str, id: String| {
        let spec = json!({"connectionRef": {"kind": "ClusterTaskConnection"},
            "poll": {"periodSeconds": PERIOD, "maxPeriodSeconds": PERIOD}});
        watch(namespace, &format!("{name}-{id}"), &name, &id, spec)
    };
    all.extend((0..VICTIMS).map(|n| of(CANARY, format!("good{n}"))));
    all.extend((0..count).map(|n| of(ATTACKER[0], format!("bad{n}"))));
    all
}

/// Two tenants share five requests a second; the victim needs less than two.
fn slowed(scene: &Scene<'_>) -> Vec<String> {
    let from = scene.there_ms;
    starved(&asked(scene, 0), "good", VICTIMS, from, due(from, PERIOD))
}

/// A look that is requested comes at most once in a period: no more than twice what is due without the requests.
fn hurried(scene: &Scene<'_>) -> Vec<String> {
    let from = scene.there_ms;
    let asked = asked(scene, 0);
    let count = asked.iter().filter(|one| one.at_ms >= from && one.id.starts_with("bad")).count();
    let seconds = usize::try_from((super::super::now_ms() - from) / 1000).unwrap_or_default();
    let most = FLOODED * (2 + 2 * seconds / usize::try_from(PERIOD).unwrap_or(1));
    let mut faults = slowed(scene);
    if count > most {
        faults.push(format!("{FLOODED} tasks were asked for {count} times in {seconds} s, at most {most} may be"));
    }
    faults
}

async fn request_without_end(scene: &Scene<'_>) -> Result<()> {
    let name = scene.place.nth(0);
    for round in 0_u64.. {
        let watches = (0..FLOODED).map(|n| {
            let object = watch(ATTACKER[0], &format!("{name}-bad{n}"), &name, "", json!({}));
            let at = format!("{round}-{}", "x".repeat(usize::try_from(round % 50).unwrap_or_default()));
            let key = if round % 2 == 0 { "taskwatch.dev/requestedAt" } else { "reconcile.fluxcd.io/requestedAt" };
            let mut annotations = serde_json::Map::new();
            annotations.insert(key.to_owned(), json!(at));
            let patch = json!({"metadata": {"annotations": annotations}});
            async move { scene.ground.patch(&object, "", &patch).await }
        });
        // One that is refused is only one less.
        drop(futures::future::join_all(watches).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn fired(scene: &Scene<'_>) -> Vec<String> {
    let asked = asked(scene, 0);
    let (first, last) = (scene.there_ms, super::super::now_ms());
    let count = asked.iter().filter(|one| one.at_ms >= first).count();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = count as f64 * 1000.0 / (last - first).max(1) as f64;
    if rate > MOST {
        vec![format!("{rate:.0} requests a second arrive at one host, at most {MOST:.0} may")]
    } else {
        Vec::new()
    }
}
