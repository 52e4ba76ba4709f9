//! Kubernetes glue: objects in, statuses and events out. It never polls: it registers watches with the engine and forgets them.
//!
//! | module | what it does |
//! |---|---|
//! | [`sources`], [`follow`], [`readable`], [`objects`] | what the API server has, into the index; what is read of an object |
//! | [`index`], [`kept`] | what is known, and how statuses are kept |
//! | [`queue`], `unread` | who is to be looked at; how much of what was seen nobody has looked at yet |
//! | [`plan`], [`watches`] | the reconciler of `TaskWatch` objects: what is to be done, and doing it |
//! | [`connections`], [`resolve`] | the reconciler of connections; from specification and Secret to the engine's terms |
//! | [`access`], [`check`] | which watch may use which connection, and what it is told of it |
//! | `permits` | what a connection may use |
//! | [`requested`] | a request to look now, by annotation |
//! | [`census`], [`outside`] | how many watches of a namespace are served; those beyond |
//! | [`quarantine`] | objects that are left alone after a panic |
//! | [`status`], [`events`], [`writes`], [`allowance`] | what is written, and how much |

pub mod access;
mod allowance;
mod apiserver;
mod census;
mod check;
mod connections;
mod events;
mod follow;
pub mod index;
pub mod kept;
mod look;
pub mod objects;
mod outside;
mod permits;
mod plan;
mod quarantine;
pub mod queue;
mod quotas;
pub mod readable;
mod requested;
mod resolve;
mod sources;
mod status;
mod unread;
mod watches;
mod writes;

use std::{
    fmt::Display,
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use jiff::Timestamp;
use kube::Client;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{
    check::Sight,
    events::Events,
    index::Index,
    look::Look,
    permits::{Destinations, Permits},
    queue::{Key, Queue},
    writes::Writes,
};
use crate::{
    domain::decide,
    engine::{
        ConnectionHealth, ConnectionId, Delivery, Engine, Sink, WatchKey,
        egress::EgressPolicy,
        transport::{SettingsError, Transport},
    },
    ops::{
        args::RunArgs,
        clock::Clock,
        guard::Guard,
        health::Health,
        metrics::{Metrics, ReconcileResult},
        shutdown::{DrainTimeout, drain},
    },
    sync::lock,
    tenancy::{
        Tenant,
        memory::{self, Parts},
        pool::Pool,
        shares::Shares,
    },
};

/// Why a reconcile has to be tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be reached.
    #[error("the API server: {0}")]
    Api(#[source] kube::Error),
    /// What a connection names may not be read.
    #[error("{0}")]
    Forbidden(String),
    /// The API server did not answer in time.
    #[error("the API server did not answer in time")]
    TimedOut,
    /// The object is not there any more, or another one of its name is.
    #[error("the object is gone")]
    Gone,
    /// What is to be written cannot be put into words; a defect.
    #[error("cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
    /// A request cannot be made of it; a defect.
    #[error("no request: {0}")]
    Request(#[from] http::Error),
}

/// How long one call of the API server may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// A call of the API server, with a limit: the client itself waits for an answer for ever.
async fn call<T>(answer: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    timeout(CALL_TIMEOUT, answer).await.map_err(|_| Error::TimedOut)?.map_err(Error::Api)
}

/// Why the controller cannot run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No HTTP client can be made.
    #[error(transparent)]
    Transport(#[from] SettingsError),
    /// The work in progress did not end in time.
    #[error(transparent)]
    Drain(#[from] DrainTimeout),
}

/// Connections are reconciled so many at a time.
const CONNECTION_WORKERS: u16 = 4;
/// So much memory is any namespace's for its statuses, in bytes: that of some thousand ordinary ones.
const STATUSES_FLOOR: usize = 2 << 20;
/// What a watch takes, its status and its place in the engine included, in bytes: the default limit goes by that.
const WATCH_BYTES: usize = 4096;
/// How often the work loop says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What the watches of the API server, the engine and the workers share.
struct Shared {
    index: Mutex<Index>,
    watches: Queue<Look>,
    connections: Queue<ConnectionId>,
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }

    /// Has these watches looked at soon, as far as they are known.
    fn look_at(&self, keys: impl IntoIterator<Item = WatchKey>) {
        let looks: Vec<_> = {
            let index = self.index();
            keys.into_iter().filter_map(|key| index.look(key)).collect()
        };
        for look in looks {
            self.watches.add(look);
        }
    }
}

impl Sink for Shared {
    fn deliver(&self, delivery: Delivery<Timestamp>) {
        let look = self.index().observe(delivery);
        if let Some(look) = look {
            self.watches.add(look);
        }
    }

    fn room(&self, tenant: &Tenant) -> usize {
        self.index().unread().room(tenant)
    }

    fn connection(&self, id: &ConnectionId, health: ConnectionHealth) {
        if let Some(entry) = self.index().connections.get_mut(id) {
            entry.health = Some(health);
        }
        self.connections.add(id.clone());
    }
}

/// The controller.
struct Controller {
    client: Client,
    shared: Arc<Shared>,
    engine: Engine,
    events: Events,
    writes: Writes,
    guard: Guard,
    metrics: Metrics,
    clock: Clock,
    settings: decide::Settings,
    secret_refresh: Duration,
    permits: Permits,
    destinations: Destinations,
    /// What of the cluster is seen.
    sight: Sight,
}

/// Runs until `stop`; then ends what is in progress, within the limit.
///
/// # Errors
/// When it cannot begin, or the end takes too long.
pub async fn run(
    args: &RunArgs,
    client: Client,
    api_server: Vec<SocketAddr>,
    metrics: Metrics,
    health: Health,
    stop: CancellationToken,
) -> Result<(), StartError> {
    let parts = Parts::of(memory::limit());
    let limit = args.max_watches_per_namespace.unwrap_or(parts.objects / WATCH_BYTES);
    let quotas = quotas::Quotas::new(Some(args.max_connections_per_namespace).filter(|limit| *limit > 0));
    let room = Pool::new(parts.objects, STATUSES_FLOOR);
    let shared = Arc::new(Shared {
        index: Mutex::new(Index::new(room, Some(limit).filter(|limit| *limit > 0), quotas)),
        watches: Queue::new(metrics.queue("taskwatch")),
        connections: Queue::new(metrics.queue("connection")),
    });
    let clock = Clock::at(Timestamp::now());
    let guard = Guard::new(metrics.clone());
    let requests = (args.max_requests_per_second, args.max_requests_per_second_per_namespace);
    let tenancy = Shares::new(parts, requests, metrics.usage().clone(), Instant::now());
    let writes = Writes::new(args.api_writes_per_second, metrics.usage().clone(), Instant::now());
    let policy = EgressPolicy::new(args.allow_egress.clone(), api_server);
    let policy = policy.with(args.deny_egress.clone(), args.allow_http);
    tokio::spawn(apiserver::follow(client.clone(), policy.clone(), stop.clone()));
    let proxy = args.upstream_proxy.clone().map(|proxy| proxy.except(args.upstream_no_proxy.clone()));
    let transport = Transport::new(policy, proxy, tenancy.clone())?;
    let sink = Arc::clone(&shared) as Arc<dyn Sink>;
    let engine = Engine::new(transport, sink, clock.clone(), metrics.clone(), guard.clone(), tenancy);
    let controller = Arc::new(Controller {
        events: Events::start(&client, std::env::var("POD_NAME").ok(), writes.clone(), &metrics),
        writes,
        guard: guard.clone(),
        client: client.clone(),
        shared: Arc::clone(&shared),
        engine,
        metrics: metrics.clone(),
        clock,
        settings: decide::Settings {
            progress_every: args.progress_min_seconds,
            progress_step: i32::from(args.progress_min_points),
            ..decide::Settings::default()
        },
        secret_refresh: args.secret_refresh_seconds,
        permits: Permits::new(args),
        destinations: Destinations::default(),
        sight: Sight {
            cluster: args.namespaces.is_empty() && !args.no_cluster_connections,
            own_namespace: args.cluster_resource_namespace(),
        },
    });
    sources::start(&controller, &client, &guard, &args.namespaces, |name| health.readiness(name));
    health.all_named();
    tokio::spawn(beat(Arc::clone(&shared), health.clone(), controller.clock.clone()));
    // Before all lists are in, a connection that is only late would look like one that is missing.
    let mut listed = tokio::time::interval(Duration::from_millis(50));
    while health.ready().is_err() && !stop.is_cancelled() {
        listed.tick().await;
    }
    info!("caches are in sync: at work");
    let mut workers = JoinSet::new();
    metrics.max_concurrent_reconciles(WatchWork::NAME, args.workers);
    for _ in 0..args.workers {
        workers.spawn(work::<WatchWork>(Arc::clone(&controller)));
    }
    metrics.max_concurrent_reconciles(ConnectionWork::NAME, CONNECTION_WORKERS);
    for _ in 0..CONNECTION_WORKERS {
        workers.spawn(work::<ConnectionWork>(Arc::clone(&controller)));
    }
    stop.cancelled().await;
    info!("stopping: finishing what is in progress");
    controller.engine.close();
    shared.watches.close();
    shared.connections.close();
    let deadline = Instant::now() + args.drain_timeout_seconds;
    drain(&stop, args.drain_timeout_seconds, async { while workers.join_next().await.is_some() {} }).await?;
    if timeout_at(deadline, controller.events.finish()).await.is_err() {
        warn!("some events were not published: the API server takes them too slowly");
    }
    Ok(())
}

/// A kind of work: which queue, and what to do with a key.
trait Work {
    type Key: Key + Display + Send + Sync + 'static;
    /// The metric label.
    const NAME: &'static str;
    fn queue(shared: &Shared) -> &Queue<Self::Key>;
    /// Does it; says when to look again.
    fn reconcile(
        controller: &Controller,
        key: &Self::Key,
    ) -> impl Future<Output = Result<Option<Instant>, Error>> + Send;
    /// When to try again after a failure.
    fn failed(controller: &Controller, key: &Self::Key) -> Instant;
}

/// One worker: takes keys from the queue until it is closed.
async fn work<W: Work>(controller: Arc<Controller>) {
    let queue = W::queue(&controller.shared);
    while let Some(key) = queue.get().await {
        let measured = controller.metrics.reconcile(W::NAME);
        let result = match W::reconcile(&controller, &key).await {
            Ok(at) => {
                queue.set_alarm(&key, at);
                if at.is_some() { ReconcileResult::RequeueAfter } else { ReconcileResult::Success }
            }
            Err(Error::Gone) => ReconcileResult::Success,
            Err(error) => {
                warn!(controller = W::NAME, %key, %error, "trying again");
                queue.retry(&key, W::failed(&controller, &key));
                ReconcileResult::Error
            }
        };
        measured.done(result);
        queue.done(&key);
    }
}

struct WatchWork;

impl Work for WatchWork {
    type Key = Look;
    const NAME: &'static str = "taskwatch";

    fn queue(shared: &Shared) -> &Queue<Look> {
        &shared.watches
    }

    async fn reconcile(controller: &Controller, look: &Look) -> Result<Option<Instant>, Error> {
        controller.reconcile_watch(look).await
    }

    fn failed(controller: &Controller, look: &Look) -> Instant {
        controller.watch_failed(&look.key)
    }
}

struct ConnectionWork;

impl Work for ConnectionWork {
    type Key = ConnectionId;
    const NAME: &'static str = "connection";

    fn queue(shared: &Shared) -> &Queue<ConnectionId> {
        &shared.connections
    }

    async fn reconcile(controller: &Controller, key: &ConnectionId) -> Result<Option<Instant>, Error> {
        controller.reconcile_connection(key).await
    }

    fn failed(controller: &Controller, key: &ConnectionId) -> Instant {
        controller.connection_failed(key)
    }
}

/// Tells the liveness probe that the runtime turns and the index can be had. Sets the clock; where that was stepped, has all looked at
/// again: what waits for a time of day waits by a clock that was wrong.
async fn beat(shared: Arc<Shared>, health: Health, clock: Clock) {
    let mut interval = tokio::time::interval(HEARTBEAT);
    loop {
        interval.tick().await;
        // With the index in hand: nobody decides between the step and what is done about it.
        let mut index = shared.index();
        let step = clock.set(Timestamp::now());
        let keys = step.map(|step| index.step_clock(step)).unwrap_or_default();
        drop(index);
        if let Some(step) = step {
            warn!("the clock of this machine was stepped by {step:#}");
        }
        shared.look_at(keys);
        health.beat();
    }
}
