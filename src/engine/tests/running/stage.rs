//! An engine at work: what it tells is noted, and its upstream is on 127.0.0.1.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use secrecy::SecretString;
use tokio::time::Instant;

use super::super::{
    rig::{SECOND, settings},
    upstream::Upstream,
};
use crate::{
    domain::task::TaskRef,
    engine::{
        Connection, ConnectionHealth, ConnectionId, Delivery, Discovered, Discovery, Engine, Predecessor, Report, Sink,
        Subscription, WatchKey,
        egress::EgressPolicy,
        planner::Settings,
        transport::{SettingsError, TlsSettings, Transport},
    },
    ops::{clock::Clock, guard::Guard, metrics::Metrics},
    ownership::Buckets,
    providers::{
        astra_control::AstraControl,
        auth::{Credential, TokenStyle},
    },
    tenancy::{Tenant, memory::Parts, shares::Shares},
};

/// What the engine told.
pub(super) struct Told {
    pub(super) deliveries: Mutex<Vec<Delivery<Timestamp>>>,
    pub(super) discovered: Mutex<Vec<Discovered<Timestamp>>>,
    pub(super) health: Mutex<Vec<ConnectionHealth>>,
    /// How many more reports are taken.
    pub(super) room: Mutex<usize>,
}

impl Sink for Told {
    fn deliver(&self, delivery: Delivery<Timestamp>) {
        self.deliveries.lock().unwrap().push(delivery);
    }
    fn room(&self, _: &Tenant) -> usize {
        *self.room.lock().unwrap()
    }
    fn discovered(&self, news: Discovered<Timestamp>) {
        self.discovered.lock().unwrap().push(news);
    }
    fn connection(&self, _: &ConnectionId, health: ConnectionHealth) {
        self.health.lock().unwrap().push(health);
    }
}

pub(super) struct Stage {
    pub(super) engine: Engine,
    pub(super) told: Arc<Told>,
    pub(super) upstream: Upstream,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) buckets: Buckets,
    pub(super) shares: Shares,
}

impl Stage {
    pub(super) async fn new() -> Self {
        Self::with(Buckets::alone(), 64 << 20).await
    }

    /// With these buckets, and so much memory for answers.
    pub(super) async fn with(buckets: Buckets, bodies: usize) -> Self {
        let clock = Clock::at("2026-11-27T10:00:00Z".parse().unwrap());
        let (metrics, upstream) = (Metrics::new(), Upstream::start(clock.clone()).await);
        let parts = Parts { bodies, settings: 3000, catalogues: 8 << 20, objects: 0 };
        let shares = Shares::new(parts, (f64::INFINITY, f64::INFINITY), metrics.usage().clone(), Instant::now());
        let policy = EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], Vec::new());
        let transport = Transport::new(policy, None, shares.clone()).unwrap();
        let told = Arc::new(Told {
            deliveries: Mutex::default(),
            discovered: Mutex::default(),
            health: Mutex::default(),
            room: Mutex::new(1000),
        });
        let sink = Arc::clone(&told) as Arc<dyn Sink>;
        let guard = Guard::new(metrics.clone());
        let engine =
            Engine::new(transport, sink, clock.clone(), metrics.clone(), guard, shares.clone(), buckets.clone());
        Self { engine, told, upstream, clock, metrics, buckets, shares }
    }

    /// A connection with this token.
    pub(super) fn connection(&self, token: &str, bounds: Settings) -> Connection {
        Connection {
            provider: Arc::new(AstraControl::new("own")),
            endpoint: self.upstream.endpoint().parse().unwrap(),
            credential: Credential::Token { value: SecretString::from(token), style: TokenStyle::Bearer },
            tls: TlsSettings::default(),
            bounds,
            request_timeout: 15 * SECOND,
            identity: token.len() as u64,
        }
    }

    /// Opens the connection `n/c`.
    pub(super) fn connect(&self, connection: Connection) -> Result<(), SettingsError> {
        self.engine.connect(&id(), connection, Predecessor::default())
    }

    /// Opens it with the usual token and bounds.
    pub(super) fn open(&self) {
        self.connect(self.connection("token-of-the-engine", settings())).unwrap();
    }

    pub(super) fn watch(&self, name: &str, ticket: u64) {
        assert!(self.engine.watch(&id(), key(name), subscription(name, ticket)));
    }

    /// What was told of tasks since this was called last, each in a few words, with the seconds since `begin`.
    pub(super) fn reports(&self) -> Vec<String> {
        let all = std::mem::take(&mut *self.told.deliveries.lock().unwrap());
        all.iter().map(|delivery| format!("{} {} {}", delivery.key, delivery.ticket, words(&delivery.report))).collect()
    }

    pub(super) fn health(&self) -> Vec<ConnectionHealth> {
        std::mem::take(&mut *self.told.health.lock().unwrap())
    }

    pub(super) fn series(&self, series: &str) -> Option<f64> {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    /// What the tenant of the connection has used lately: requests and bytes a second.
    pub(super) fn usage(&self) -> (f64, f64) {
        let rates = self.shares.usage.rates(Instant::now());
        let tenant = id().tenant();
        rates.iter().find(|(of, _)| *of == tenant).map_or((0.0, 0.0), |(_, rates)| (rates.requests, rates.bytes))
    }
}

fn words(report: &Report<Timestamp>) -> String {
    match report {
        Report::Seen { task, .. } => {
            let parts = if task.subtasks.is_empty() { String::new() } else { format!(" of {}", task.subtasks.len()) };
            format!("{} {}{parts}", task.state.as_str(), task.upstream_state)
        }
        Report::Missing { failure, .. } => format!("missing: {}", failure.class.as_str()),
        Report::Trouble { failure, .. } => format!("trouble: {} {}", failure.class.as_str(), failure.code),
    }
}

pub(super) fn id() -> ConnectionId {
    ConnectionId { namespace: Some(Arc::from("n")), name: Arc::from("c") }
}

pub(super) fn key(name: &str) -> WatchKey {
    WatchKey(Arc::from(name))
}

/// Of the task of this name, every ten seconds.
pub(super) fn subscription(name: &str, ticket: u64) -> Subscription {
    Subscription {
        tenant: Tenant::namespace(&Arc::from("n")),
        task: TaskRef { scope: "own".to_owned(), id: name.to_owned() },
        period: 10 * SECOND,
        max_period: 10 * SECOND,
        age: Duration::ZERO,
        known: false,
        requested: false,
        ticket,
    }
}

pub(super) fn discovery(ticket: u64) -> Discovery {
    Discovery { tenant: Tenant::namespace(&Arc::from("n")), scope: "own".to_owned(), period: 10 * SECOND, ticket }
}

/// Lets so much time pass, in steps so short that what is on its way arrives before a time-out.
pub(super) async fn pass(span: Duration) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
