//! F2 and F17: the ports that a kubelet and a Prometheus ask.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::super::case::{Attack, Scene};
use super::super::ground::{ATTACKER, OUTSIDER};
use super::super::objects::{watch, with};
use super::super::sockets::{self, Habit};
use super::super::subject;
use crate::{OPERATOR, Operator, OperatorOptions};

pub(super) fn all() -> Vec<Attack> {
    vec![
        Attack::new("F2", "sockets-64", "64 sockets on each port, a request on each every 8 s")
            .act(|scene| Box::pin(flood(scene, 64, Habit::Asking, 1))),
        Attack::new("F2", "sockets-1000", "1,000 silent sockets on each port, from 50 addresses")
            .act(|scene| Box::pin(flood(scene, 1000, Habit::Silent, 50))),
        Attack::new("F2", "slow-heads", "300 heads on each port, a byte a second, without an end")
            .act(|scene| Box::pin(flood(scene, 300, Habit::Slow, 1))),
        Attack::new(
            "F2",
            "socket-storm",
            "connect, ask, close, as fast as it goes; pipelined requests; answers that nobody reads",
        )
        .act(|scene| Box::pin(storm(scene))),
        Attack::new("F17", "readiness", "/readyz while the API server is slow to answer, and while its lists are long")
            .alone()
            .seconds(60)
            .objects(|place| {
                let note =
                    json!({"metadata": {"annotations": {"large": "a".repeat(100_000)}}, "spec": {"suspend": true}});
                (0..30)
                    .map(|n| with(watch(ATTACKER[5], &place.nth(n), "none", "task", json!({})), note.clone()))
                    .collect()
            })
            .act(|scene| Box::pin(readiness(scene))),
    ]
}

async fn flood(scene: &Scene<'_>, count: usize, habit: Habit, peers: u8) -> Result<()> {
    let ports = scene.subject.ports().await?;
    let all = ports.iter().map(|port| sockets::hold(port, count, habit, peers));
    futures::future::try_join_all(all).await.map(drop)
}

async fn storm(scene: &Scene<'_>) -> Result<()> {
    let ports = scene.subject.ports().await?;
    let all = ports.iter().flat_map(|port| {
        [(20, Habit::Hasty), (20, Habit::Pipelining), (40, Habit::Deaf)]
            .map(|(count, habit)| sockets::hold(port, count, habit, 3))
    });
    futures::future::try_join_all(all).await.map(drop)
}

/// A second operator, for a namespace where nobody else is, behind a proxy that holds the API server's answers back.
async fn readiness(scene: &Scene<'_>) -> Result<()> {
    ensure!(OUTSIDER != ATTACKER[5]);
    let gate = Arc::new(sockets::Gate::start(&scene.ground.plane.url())?);
    let kubeconfig = std::fs::read_to_string(scene.ground.plane.kubeconfig(OPERATOR)?)?;
    let kubeconfig = kubeconfig.replace(&scene.ground.plane.url(), &gate.url());
    let workdir = crate::Workdir::new("readiness")?;
    let mut options =
        OperatorOptions::new(workdir.write("kubeconfig", &kubeconfig)?).args(&["--namespace", ATTACKER[5]]);
    options.program = Some(scene.subject.program());
    options.launcher = subject::launcher(None);
    let operator = Operator::spawn(&options)?;
    let is_ready = || async { matches!(operator.get("/readyz").await, Ok((200, _))) };
    // The first moments are those in which nothing is known yet of what has to be full.
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        ensure!(
            !is_ready().await,
            "/readyz says ok {:?} after the start, before the API server has said a word",
            begun.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    // Not a byte of an answer, then some, then so much that the lists take their time.
    for (rate, seconds) in [(0, 2), (64 << 10, 6)] {
        gate.rate(rate);
        for _ in 0..seconds * 10 {
            let ready = is_ready().await;
            let passed = gate.passed();
            // Thirty objects of 100 kB: before their list has passed, nobody can have them.
            ensure!(
                !ready || passed > 3_000_000,
                "/readyz says ok after {passed} bytes of the API server, of at least 3,000,000"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    gate.rate(u64::MAX);
    operator.wait_ready(Duration::from_secs(20)).await?;
    operator.process().stop().await.map(drop)
}
