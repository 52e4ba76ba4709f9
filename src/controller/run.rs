//! The life of the controller: the caches are filled, then workers reconcile until the end.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use kube::Client;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Controller, Shared, agenda, apiserver,
    check::Sight,
    election::Election,
    index::Index,
    permits::{Destinations, Permits},
    queue::Queue,
    quotas::Quotas,
    reconcile::{self, connection::Connections, taskwatch::TaskWatches, taskwatchset::TaskWatchSets},
    sources,
    write::{WriteLimit, Writer},
};
use crate::{
    domain::decide,
    engine::{
        Engine, Sink,
        egress::EgressPolicy,
        transport::{SettingsError, Transport},
    },
    ops::{
        args::RunArgs,
        clock::Clock,
        debug::Respondent,
        guard::Guard,
        health::{Health, Readiness},
        metrics::Metrics,
        shutdown::{DrainTimeout, drain},
        traces::Traces,
    },
    ownership::Buckets,
    tenancy::{
        ceiling::Ceiling,
        memory::{self, Parts},
        pool::Pool,
        shares::Shares,
    },
};

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
/// Sets are reconciled so many at a time.
const SET_WORKERS: u16 = 2;
/// So much memory is any namespace's for its statuses, in bytes: that of some thousand ordinary ones.
const STATUSES_FLOOR: usize = 2 << 20;
/// What a watch takes, its status and its place in the engine included, in bytes: the default limit goes by that.
const WATCH_BYTES: usize = 4096;
/// How long the last spans may take to be sent.
const TRACES_FINISH: Duration = Duration::from_secs(1);
/// How often the work loop says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(5);

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
    respondent: &Respondent,
    stop: CancellationToken,
) -> Result<(), StartError> {
    let machine = Machine { parts: Parts::of(memory::limit()), wall: Timestamp::now, api_server };
    run_on(machine, args, client, metrics, health, respondent, stop).await
}

/// What a process runs on.
pub(super) struct Machine<W> {
    /// Its memory, divided.
    pub(super) parts: Parts,
    /// What its clock shows.
    pub(super) wall: W,
    /// Where its API server is.
    pub(super) api_server: Vec<SocketAddr>,
}

/// Runs on this machine.
pub(super) async fn run_on<W: Fn() -> Timestamp + Send + 'static>(
    Machine { parts, wall, api_server }: Machine<W>,
    args: &RunArgs,
    client: Client,
    metrics: Metrics,
    health: Health,
    respondent: &Respondent,
    stop: CancellationToken,
) -> Result<(), StartError> {
    let limit = args.max_watches_per_namespace.unwrap_or(parts.objects / WATCH_BYTES);
    let quotas = Quotas::new(Some(args.max_connections_per_namespace).filter(|limit| *limit > 0));
    let room = Pool::new(parts.objects, STATUSES_FLOOR);
    let shared = Arc::new(Shared {
        index: Mutex::new(Index::new(room, Some(limit).filter(|limit| *limit > 0), quotas)),
        watches: Queue::new(metrics.queue("taskwatch")),
        sets: Queue::new(metrics.queue("taskwatchset")),
        connections: Queue::new(metrics.queue("connection")),
    });
    let clock = Clock::at(wall());
    let guard = Guard::new(metrics.clone());
    let requests = (args.max_requests_per_second, args.max_requests_per_second_per_namespace);
    let tenancy = Shares::new(parts, requests, metrics.usage().clone(), Instant::now());
    let limit_of_writes = WriteLimit::new(args.api_writes_per_second, metrics.usage().clone(), Instant::now());
    let policy = EgressPolicy::new(args.allow_egress.clone(), api_server);
    let policy = policy.with(args.deny_egress.clone(), args.allow_http);
    tokio::spawn(apiserver::follow(client.clone(), policy.clone(), stop.clone()));
    let proxy = args.upstream_proxy.clone().map(|proxy| proxy.except(args.upstream_no_proxy.clone()));
    let transport = Transport::new(policy, proxy, tenancy.clone())?;
    let sink = Arc::clone(&shared) as Arc<dyn Sink>;
    let buckets = match args.lease_buckets() {
        0 => Buckets::alone(),
        count => Buckets::new(count),
    };
    if args.lease_buckets() > 0 {
        metrics.buckets(format!("{}/{}", args.lease_namespace(), args.lease.name), buckets.clone());
    }
    let election = Election::new(args, &client, &buckets).map(|election| (election, health.readiness("leases")));
    let traces = args.otlp_endpoint.clone().map(|endpoint| Traces::to(endpoint, metrics.clone())).unwrap_or_default();
    let engine = Engine::new(transport, sink, clock.clone(), metrics.clone(), guard.clone(), tenancy, buckets.clone());
    let engine = engine.traced(traces.clone());
    let controller = Arc::new(Controller {
        writer: Writer::start(&client, limit_of_writes, &metrics),
        creates: Ceiling::new(args.child_creates_per_second, f64::INFINITY, Instant::now()),
        buckets,
        discovery: args.discovery,
        guard: guard.clone(),
        traces: traces.clone(),
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
    let asked = Arc::clone(&controller);
    respondent.answer_by(move |question| Box::pin(agenda::page(Arc::clone(&asked), question)));
    let mut caches = Vec::new();
    sources::start(&controller, &client, &guard, &args.namespaces, |name| {
        let ready = health.readiness(name);
        caches.push(ready.clone());
        ready
    });
    health.all_named();
    tokio::spawn(beat(Arc::clone(&shared), health.clone(), controller.clock.clone(), wall));
    // Before all lists are in, a connection that is only late would look like one that is missing.
    let mut listed = tokio::time::interval(Duration::from_millis(50));
    while !caches.iter().all(Readiness::is_done) && !stop.is_cancelled() {
        listed.tick().await;
    }
    info!("caches are in sync: at work");
    let (mut elections, resigned) = (JoinSet::new(), CancellationToken::new());
    if let Some((election, ready)) = election {
        elections.spawn(election.run(Arc::clone(&controller), ready, resigned.clone()));
    }
    let mut workers = JoinSet::new();
    reconcile::start::<TaskWatches>(&controller, args.workers, &mut workers);
    reconcile::start::<TaskWatchSets>(&controller, SET_WORKERS, &mut workers);
    reconcile::start::<Connections>(&controller, CONNECTION_WORKERS, &mut workers);
    stop.cancelled().await;
    info!("stopping: finishing what is in progress");
    controller.engine.close();
    shared.watches.close();
    shared.sets.close();
    shared.connections.close();
    let deadline = Instant::now() + args.drain_timeout_seconds;
    drain(&stop, args.drain_timeout_seconds, async { while workers.join_next().await.is_some() {} }).await?;
    if timeout_at(deadline, controller.writer.finish()).await.is_err() {
        warn!("some events were not published: the API server takes them too slowly");
    }
    traces.finish(TRACES_FINISH).await;
    // Only now: what was in progress is this replica's own affair to its end.
    resigned.cancel();
    while elections.join_next().await.is_some() {}
    Ok(())
}

/// Tells the liveness probe that the runtime turns and the index can be had. Sets the clock; where that was stepped, has all looked at
/// again: what waits for a time of day waits by a clock that was wrong.
async fn beat(shared: Arc<Shared>, health: Health, clock: Clock, wall: impl Fn() -> Timestamp) {
    let mut interval = tokio::time::interval(HEARTBEAT);
    loop {
        interval.tick().await;
        // With the index in hand: nobody decides between the step and what is done about it.
        let mut index = shared.index();
        let step = clock.set(wall());
        let keys = step.map(|step| index.step_clock(step)).unwrap_or_default();
        let sets = step.map(|_| index.sets.keys(None)).unwrap_or_default();
        drop(index);
        if let Some(step) = step {
            warn!("the clock of this machine was stepped by {step:#}");
        }
        shared.look_at(keys);
        shared.look_at_sets(sets);
        health.beat();
    }
}
