//! F7: names that take for ever to resolve.

use serde_json::json;

use super::super::case::Attack;
use super::super::ground::{ATTACKER, CANARY};
use super::super::objects::{connection, token, watch};
use super::super::upstream::{Provider, Reply, Request};
use super::{asked, due, starved};

/// More than a runtime has threads for blocking work.
const SLOW: usize = 700;
const VICTIMS: usize = 2;

pub(super) fn all() -> Vec<Attack> {
    vec![
        Attack::new(
            "F7",
            "slow-names",
            "700 connections to names whose server never answers; others' names must go on to resolve",
        )
        .seconds(20)
        .plain(once)
        .objects(|place| {
            let mut all = vec![token(CANARY)];
            all.extend(ATTACKER.map(token));
            let port = place.url().rsplit(':').next().unwrap_or_default();
            for n in 0..SLOW {
                // All but a few from one namespace.
                let namespace = if n % 10 == 0 { ATTACKER[1 + n / 10 % 5] } else { ATTACKER[0] };
                let url = format!("http://slow{n}.test:{port}");
                all.push(connection(namespace, &place.nth(n), Provider::ALL[n % 3], &url, json!({})));
                all.push(watch(namespace, &place.nth(n), &place.nth(n), "task", json!({})));
            }
            let url = format!("http://good.test:{port}");
            all.push(connection(CANARY, place.name, Provider::Huawei, &url, json!({})));
            all.extend((0..VICTIMS).map(|n| {
                watch(CANARY, &format!("{}-good{n}", place.name), place.name, &format!("good{n}"), json!({}))
            }));
            all
        })
        .judge(|scene| {
            let from = scene.there_ms;
            super::verdict(starved(&asked(scene, 0), "good", VICTIMS, from, due(from, 1)))
        }),
    ]
}

/// The connection ends with the answer: the next request resolves the name again.
fn once(request: &Request) -> Reply {
    match Reply::running(request) {
        Reply::Whole(bytes) => Reply::Last(bytes),
        other => other,
    }
}
