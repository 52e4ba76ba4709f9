//! The faults: what is done to the upstream, to the API server, to the operator and to the objects, and how often.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    book::{Book, Mark},
    churn::Churn,
    clock::Clock,
    cluster::Cluster,
    credential::Credential,
    flood::Flood,
    model::{Connection, FLEETING, Proof, Way, World, hostile, now_ms},
    network::{self, Network},
    rng::Rng,
    sets::Sets,
    subject::Subject,
    upstream::{Upstream, status},
};
use crate::ControlPlane;

/// Everything that faults are made with.
pub(super) struct Storm {
    pub(super) plane: Arc<ControlPlane>,
    pub(super) cluster: Cluster,
    pub(super) world: Arc<Mutex<World>>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) network: Arc<Network>,
    pub(super) credential: Credential,
    /// None where clocks cannot be stepped.
    pub(super) clock: Option<Clock>,
    pub(super) subject: Arc<Subject>,
    pub(super) churn: Arc<Churn>,
    pub(super) flood: Flood,
    pub(super) sets: Arc<Sets>,
    pub(super) book: Arc<Book>,
    /// Not later.
    pub(super) until: Instant,
    /// The longest outage, in seconds.
    pub(super) longest: u64,
    /// Connections whose true credential was refused, and those that asked for tokens in vain: they wait longer than the rest.
    pub(super) refused: Mutex<Vec<usize>>,
    /// Connections of which was said already that they know no task: twice would be longer than a grace.
    pub(super) denied: Mutex<Vec<usize>>,
}

/// What is done to processes; one at a time.
#[derive(Clone, Copy, Debug)]
enum Blow {
    OperatorKilled,
    OperatorEnded,
    OperatorFrozen,
    ApiServerKilled,
    ApiServerFrozen,
    EtcdKilled,
    EtcdFrozen,
    UpstreamRestarted,
    UpstreamFrozen,
    NamespaceDeleted,
    SecretTurned,
    SecretRemoved,
    TokensExpired,
    ApiUnreachable,
    CredentialTurned,
    ClockStepped,
}

const BLOWS: &[(u64, Blow)] = &[
    (4, Blow::OperatorKilled),
    (4, Blow::OperatorEnded),
    (3, Blow::OperatorFrozen),
    (3, Blow::ApiServerKilled),
    (3, Blow::ApiServerFrozen),
    (2, Blow::EtcdKilled),
    (2, Blow::EtcdFrozen),
    (3, Blow::UpstreamRestarted),
    (3, Blow::UpstreamFrozen),
    (2, Blow::NamespaceDeleted),
    (2, Blow::SecretTurned),
    (2, Blow::SecretRemoved),
    (2, Blow::TokensExpired),
    (5, Blow::ApiUnreachable),
    (3, Blow::CredentialTurned),
    (4, Blow::ClockStepped),
];

/// Statuses that were decided by a clock that was ahead are seen so long afterwards at most.
const SHOWN_LATE_MS: i64 = 40_000;

impl Storm {
    /// Goes on until its time is over.
    pub(super) async fn rage(&self, mut rng: Rng) -> Result<()> {
        let (one, two, three) = (rng.fork(), rng.fork(), rng.fork());
        let (four, five, six, seven) = (rng.fork(), rng.fork(), rng.fork(), rng.fork());
        let churn = async {
            self.churn.churn(two, self.until).await;
            Ok(())
        };
        let networks = async { tokio::try_join!(self.network(four, 0), self.network(five, 1)) };
        let sets = self.sets.rage(seven, self.until, self.longest);
        tokio::try_join!(self.blows(one), churn, self.faults(three), networks, self.flood.run(six, self.until), sets)
            .map(drop)
    }

    /// What every run ends with: a clock that was behind, when waiting for a time of day becomes waiting for long; one that was ahead, and
    /// then another credential, for which one who remembers by the wall clock when to look would look too late. A new operator would
    /// hide both.
    pub(super) async fn last(&self) -> Result<()> {
        self.step_clock(-600_000, Duration::from_secs(4)).await?;
        self.step_clock(600_000, Duration::from_secs(2)).await?;
        self.book.act("CredentialTurned");
        self.credential.turn().await
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    async fn blows(&self, mut rng: Rng) -> Result<()> {
        // Each kind comes before the first one comes again, so that a short run sees most of them.
        let mut fresh = BLOWS.to_vec();
        loop {
            tokio::time::sleep(Duration::from_millis(rng.between(300, 2500)).min(self.left())).await;
            // What a blow needs must fit in.
            if self.left() < Duration::from_secs(3) {
                return Ok(());
            }
            let blow = *rng.weighted(&fresh);
            fresh.retain(|(_, other)| format!("{other:?}") != format!("{blow:?}"));
            if fresh.is_empty() {
                fresh = BLOWS.to_vec();
            }
            let time = Duration::from_millis(rng.between(500, self.longest * 1000));
            self.book.act(&format!("{blow:?} {time:?}"));
            self.strike(blow, time, &mut rng).await?;
        }
    }

    async fn strike(&self, blow: Blow, time: Duration, rng: &mut Rng) -> Result<()> {
        if let (Some(clock), Blow::OperatorKilled | Blow::OperatorEnded | Blow::OperatorFrozen) = (&self.clock, blow) {
            clock.noticed().await;
        }
        let from = now_ms();
        match blow {
            Blow::OperatorKilled => self.subject.restart(true, time / 4).await?,
            Blow::OperatorEnded => self.subject.restart(false, time / 4).await?,
            Blow::OperatorFrozen => self.subject.freeze(time).await?,
            Blow::ApiServerKilled => {
                self.plane.kill_apiserver().await?;
                tokio::time::sleep(time / 2).await;
                self.plane.start_apiserver().await?;
            }
            Blow::EtcdKilled => {
                self.plane.kill_etcd().await?;
                tokio::time::sleep(time / 2).await;
                self.plane.start_etcd().await?;
            }
            Blow::ApiServerFrozen | Blow::EtcdFrozen => {
                let is_etcd = matches!(blow, Blow::EtcdFrozen);
                let process = if is_etcd { self.plane.etcd()? } else { self.plane.apiserver()? };
                process.suspend()?;
                tokio::time::sleep(time).await;
                process.resume()?;
            }
            Blow::UpstreamRestarted => {
                self.upstream.restart(time / 2).await?;
                self.note_refused(Connection::exchanges);
            }
            Blow::UpstreamFrozen => self.upstream.freeze(time).await?,
            Blow::NamespaceDeleted => {
                self.cluster.delete_namespace(FLEETING).await?;
                self.cluster.make_namespace(FLEETING).await?;
                self.connect(|c| c.namespace == FLEETING).await?;
                self.churn.refill(FLEETING, rng).await;
            }
            Blow::SecretTurned => self.turn_secret(time, rng).await?,
            Blow::SecretRemoved => {
                let connections = self.world().connections.clone();
                let connection = rng.pick(&connections);
                self.book.say(&format!("the Secret of {} is away", connection.name));
                self.cluster.remove_secret(connection).await?;
                tokio::time::sleep(time).await;
                self.connect(|c| c.name == connection.name).await?;
            }
            Blow::TokensExpired => {
                self.upstream.admin("POST", "/tokens/expire", Some(&json!({}))).await?;
                self.note_refused(Connection::exchanges);
            }
            Blow::ApiUnreachable => {
                let trouble = network::of_api(rng);
                // Where there is time for it, longer than the operator waits for an answer.
                let time = if self.longest > 7 { time * 3 } else { time };
                self.book.act(&format!("api_{}: {trouble:?}", trouble.word()));
                self.network.trouble_api(&trouble, time).await?;
            }
            Blow::CredentialTurned => self.credential.turn().await?,
            Blow::ClockStepped => {
                let seconds = i64::try_from(rng.between(20, 40 * 60))?;
                self.step_clock(if rng.chance(50) { seconds * 1000 } else { -seconds * 1000 }, time).await?;
            }
        }
        if matches!(blow, Blow::ApiServerKilled | Blow::ApiServerFrozen | Blow::EtcdKilled | Blow::EtcdFrozen) {
            self.book.mark(Mark::ClusterAway, from, now_ms());
        }
        Ok(())
    }

    /// Away from the true time, and back.
    async fn step_clock(&self, ahead: i64, time: Duration) -> Result<()> {
        let Some(clock) = &self.clock else { return Ok(()) };
        let from = now_ms();
        self.book.say(&format!("the operator's clock is {ahead} ms ahead for {time:?}"));
        let until = from + i64::try_from(time.as_millis())? + SHOWN_LATE_MS;
        self.book.goes_ahead(from, until, ahead);
        self.book.mark(Mark::ClockOff, from, until);
        // What is signed or expires by the wrong time is refused.
        self.note_refused(|c| c.exchanges() || c.proof == Proof::AccessKey);
        clock.set(ahead)?;
        tokio::time::sleep(time).await;
        clock.set(0)
    }

    /// Faults of the network, on every second connection.
    async fn network(&self, mut rng: Rng, first: usize) -> Result<()> {
        let connections = self.world().connections.clone();
        let own: Vec<_> = connections.iter().enumerate().skip(first).step_by(2).collect();
        loop {
            tokio::time::sleep(Duration::from_millis(rng.between(300, 2500)).min(self.left())).await;
            if self.left().is_zero() {
                return Ok(());
            }
            let (index, connection) = *rng.pick(&own);
            let trouble = network::of_upstream(&mut rng, connection.tls);
            let time = Duration::from_millis(rng.between(500, self.longest * 1000)).min(self.left());
            self.book.act(&format!("net_{}: {} for {time:?}: {trouble:?}", trouble.word(), connection.name));
            self.network.trouble((index, connection), &trouble, time, &self.upstream, &self.book).await?;
        }
    }

    /// Right, wrong, right.
    async fn turn_secret(&self, time: Duration, rng: &mut Rng) -> Result<()> {
        let connections = self.world().connections.clone();
        let connection = rng.pick(&connections);
        self.book.say(&format!("the Secret of {} is wrong for {time:?}", connection.name));
        let from = now_ms();
        self.cluster.set_secret(connection, "soak-secret-that-is-wrong").await?;
        self.book.mark(Mark::Rotated, from, now_ms());
        tokio::time::sleep(time.max(Duration::from_secs(3))).await;
        let from = now_ms();
        self.cluster.set_secret(connection, &connection.secret(connection.serial)).await?;
        self.book.mark(Mark::Rotated, from, now_ms());
        Ok(())
    }

    /// A new credential for those whose true one was refused: they would wait for a minute and longer.
    pub(super) async fn renew(&self) -> Result<()> {
        let mut refused = std::mem::take(&mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner));
        refused.sort_unstable();
        refused.dedup();
        for index in refused {
            let connection = {
                let mut world = self.world();
                world.connections[index].serial += 1;
                // A token that dies early is one of the faults, and costs a minute of silence each time.
                world.connections[index].honest = true;
                world.connections[index].clone()
            };
            self.book.say(&format!("a new credential for {}", connection.name));
            self.upstream.put_scope(index).await?;
            let from = now_ms();
            self.cluster.set_secret(&connection, &connection.secret(connection.serial)).await?;
            self.book.mark(Mark::Rotated, from, now_ms());
        }
        Ok(())
    }

    /// Makes the connections that are wanted, where they are not there.
    pub(super) async fn connect(&self, wanted: impl Fn(&Connection) -> bool) -> Result<()> {
        let connections = self.world().connections.clone();
        for (index, connection) in connections.iter().enumerate().filter(|(_, c)| wanted(c)) {
            let url = self.network.url(index, connection)?;
            let ca_pem = connection.tls.then(|| self.upstream.ca_pem()).transpose()?;
            self.cluster.make_connection(connection, &Way { url, ca_pem }).await?;
        }
        Ok(())
    }

    fn note_refused(&self, which: impl Fn(&Connection) -> bool) {
        let world = self.world();
        let hit = world.connections.iter().enumerate().filter(|(_, c)| which(c)).map(|(index, _)| index);
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).extend(hit);
    }

    async fn faults(&self, mut rng: Rng) -> Result<()> {
        let mut serial = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(rng.between(200, 1500)).min(self.left())).await;
            if self.left().is_zero() {
                return Ok(());
            }
            serial += 1;
            let (name, fault) = self.fault(&mut rng, serial);
            self.book.act(&format!("{name}: {}", brief(&fault)));
            // It may just be away.
            if let Err(error) = self.upstream.fault(&name, fault).await {
                self.book.say(&format!("{name} was not made: {error:#}"));
            }
            if rng.chance(10) {
                let _ = self.upstream.gather().await;
            }
        }
    }

    /// One fault of the upstream, and a name that says its kind.
    fn fault(&self, rng: &mut Rng, serial: u64) -> (String, Value) {
        let index = usize::try_from(rng.below(self.world().connections.len() as u64)).unwrap_or_default();
        let connection = self.world().connections[index].clone();
        let seconds = rng.between(1, self.longest);
        let percent = *rng.pick(&[15, 30, 60, 100, 100]);
        let scope = json!({"scope": connection.scope});
        let token = json!({"path": connection.token_route()});
        let retry = rng.between(2, self.longest.max(3));
        let any = |action: Value| (scope.clone(), action);
        let (kind, (matcher, action)) = match rng.below(32) {
            0..=2 => ("status", any(status(*rng.pick(&[500, 502, 503, 504]), &json!({})))),
            3 => ("hostile", any(status(500, &json!({"body": hostile()})))),
            4 => {
                let body = json!({"error": {"code": "X.1", "message": hostile()}, "code": 13, "message": hostile(),
                    "type": "t", "title": hostile(), "detail": hostile()});
                ("hostile", any(status(*rng.pick(&[500, 503]), &json!({"body": body}))))
            }
            5..=6 => ("limitseconds", any(status(*rng.pick(&[429, 503]), &json!({"retryAfterSeconds": retry})))),
            7..=8 => ("limitdate", any(status(*rng.pick(&[429, 503]), &json!({"retryAfterDate": retry})))),
            9 => ("limit", any(status(429, &json!({})))),
            10..=11 => {
                self.note_refused(|c| c.name == connection.name && c.exchanges());
                let layer = *rng.pick(&["gateway", "service"]);
                if connection.exchanges() {
                    ("expired", any(json!({"kind": "tokenExpired", "layer": layer})))
                } else {
                    ("status", any(status(500, &json!({}))))
                }
            }
            12 if rng.chance(50) => {
                self.note_refused(|c| c.name == connection.name);
                ("authwrong", any(json!({"kind": "authWrong"})))
            }
            13..=14 if connection.exchanges() => {
                let bad = rng.chance(30);
                if bad {
                    self.note_refused(|c| c.name == connection.name);
                }
                let down = status(503, &json!({}));
                let html = json!({"kind": "html"});
                let hang = json!({"kind": "hang"});
                let wrong = json!({"kind": "authWrong"});
                (
                    if bad { "authwrong" } else { "tokendown" },
                    (token, if bad { wrong } else { rng.pick(&[down, html, hang]).clone() }),
                )
            }
            15 => ("html", any(json!({"kind": "html"}))),
            16 => ("truncate", any(json!({"kind": "truncate", "lie": rng.chance(50)}))),
            17 => ("garbage", any(json!({"kind": "garbage"}))),
            18 => ("huge", any(json!({"kind": "huge", "bytes": 1 << 30}))),
            19 => ("bomb", any(json!({"kind": "gzipBomb", "bytes": 1 << 30}))),
            20 => ("deep", any(json!({"kind": "deepNesting"}))),
            21 => ("duplicate", any(json!({"kind": "duplicateItems"}))),
            22 => ("drop", any(json!({"kind": "dropItems", "every": rng.between(1, 3)}))),
            23 => ("repeat", any(json!({"kind": "repeatPages"}))),
            24 => ("wrongid", any(json!({"kind": "wrongId"}))),
            25 => ("otherscope", any(json!({"kind": "otherScope"}))),
            // Lies about times and states change which tasks match: what a set does then is right by what it was told, and no model tells.
            26 if !connection.has_sets() => ("future", any(json!({"kind": "futureTimes", "seconds": 86_400_000}))),
            27 => (
                "delay",
                any(json!({"kind": "delay", "headersMs": rng.between(0, 6000), "bodyMs": rng.between(0, 6000)})),
            ),
            28 => {
                let after =
                    if rng.chance(50) { json!({"kind": "reset", "afterBytes": 20}) } else { json!({"kind": "reset"}) };
                ("reset", any(after))
            }
            29 => ("hang", any(json!({"kind": "hang"}))),
            30 if self.may_deny(index) => ("notfound", any(json!({"kind": "notFound"}))),
            31 if !connection.has_sets() => ("backwards", any(json!({"kind": "state", "state": "RUNNING"}))),
            _ => ("denied", any(status(403, &json!({})))),
        };
        if kind == "notfound" {
            self.book.mark(Mark::Denied, now_ms(), now_ms());
        }
        let fault = json!({"match": matcher, "percent": percent, "until": seconds, "action": action});
        (format!("{kind}-{serial}-{retry}"), fault)
    }

    fn may_deny(&self, index: usize) -> bool {
        let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        let first = !denied.contains(&index) && self.book.ahead(now_ms()) == 0;
        if first {
            denied.push(index);
        }
        first
    }

    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn brief(fault: &Value) -> String {
    let text = fault.to_string();
    text.chars().filter(|c| *c != '"').take(160).collect()
}
