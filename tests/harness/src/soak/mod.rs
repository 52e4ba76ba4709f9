//! A model-checked soak: the real operator against a real API server and the simulator, under a random schedule of faults; then quiet,
//! and every status must be the truth.
//!
//! | module | what it does |
//! |---|---|
//! | `model` | what exists upstream, and the script by which each task moves |
//! | `upstream`, `subject`, `cluster` | the simulator, the operator and the API server, over their restarts |
//! | `network` | the fault proxies between the operator and the two others |
//! | `clock`, `credential` | the operator's clock, and its own credential |
//! | `storm`, `churn`, `flood` | what is done to all of these, and to the objects |
//! | `sets` | the `TaskWatchSet` objects: what is done to them, and which children they must have and may delete |
//! | `history` | every status that was shown, judged when it was shown |
//! | `converge`, `audit` | what must be so at the end: the statuses; the requests, events and logs |
//! | `book` | what happened, and what was found |

mod audit;
mod book;
mod churn;
mod clock;
mod cluster;
mod converge;
mod credential;
mod flood;
mod history;
mod model;
mod network;
mod rng;
mod sets;
mod storm;
mod subject;
mod upstream;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use self::{
    book::Book, churn::Churn, clock::Clock, cluster::Cluster, credential::Credential, flood::Flood, history::History,
    model::World, network::Network, rng::Rng, sets::Sets, storm::Storm, subject::Subject, upstream::Upstream,
};
use crate::ControlPlane;

/// How a soak is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Makes the same choices again.
    pub seed: u64,
    /// How long the faults go on.
    pub storm: Duration,
    /// How long the statuses may take to become true afterwards.
    pub limit: Duration,
    /// How many `TaskWatch` objects there are.
    pub watches: u64,
    /// How many more are applied and deleted in a loop; none where it is 0.
    pub flood: u64,
    /// Remove the CRD of `TaskWatch` near the end, and put it back.
    pub remove_crd: bool,
    /// Say what is done.
    pub verbose: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// What is wrong; empty when all is well.
    pub findings: Vec<String>,
    /// What was done and seen.
    pub summary: Vec<String>,
}

/// Memory that may come and go: the allocator's, and what answers in flight took.
const MEMORY_SLACK: u64 = 48 << 20;

/// Runs one.
///
/// # Errors
/// When a part of the stage does not start or come back; what the operator does wrong is in the report.
pub async fn run(options: Options) -> Result<Report> {
    let mut rng = Rng::new(options.seed);
    let book = Arc::new(Book::new(options.verbose));
    let plane = Arc::new(ControlPlane::start().await?);
    let cluster = Cluster::prepare(&plane).await?;
    // Some time for making the objects.
    let begin = Duration::from_secs(6);
    let quiet = model::now_ms() + i64::try_from((begin + options.storm).as_millis())?;
    let world = Arc::new(Mutex::new(World::new(quiet)));
    let upstream = Arc::new(Upstream::start(options.seed, Arc::clone(&world), Arc::clone(&book)).await?);
    let connections = world.lock().unwrap_or_else(PoisonError::into_inner).connections.clone();
    let network = Arc::new(Network::start(&connections, &upstream, &plane.url()).await?);
    let credential = Credential::make(&cluster).await?;
    let clock = Clock::make().await?;
    let kubeconfig = credential.kubeconfig(&plane, network.api())?;
    let subject = Arc::new(Subject::start(kubeconfig, clock.as_ref(), Arc::clone(&book)).await?);
    let sets = Arc::new(Sets::new(cluster.clone(), Arc::clone(&world), Arc::clone(&upstream), Arc::clone(&book)));
    let history = Arc::new(History::new(Arc::clone(&world), Arc::clone(&book), sets.children()));
    let churn =
        Churn::new(cluster.clone(), Arc::clone(&world), Arc::clone(&upstream), Arc::clone(&book), options.watches);
    let churn = Arc::new(churn);
    let flood = Flood {
        cluster: cluster.clone(),
        churn: Arc::clone(&churn),
        subject: Arc::clone(&subject),
        book: Arc::clone(&book),
        objects: options.flood,
    };
    let storm = Storm {
        plane: Arc::clone(&plane),
        cluster: cluster.clone(),
        world: Arc::clone(&world),
        upstream: Arc::clone(&upstream),
        network,
        credential,
        clock,
        subject: Arc::clone(&subject),
        churn: Arc::clone(&churn),
        flood,
        sets: Arc::clone(&sets),
        book: Arc::clone(&book),
        until: Instant::now() + begin + options.storm,
        longest: (options.storm.as_secs() / 8).clamp(2, 8),
        refused: Mutex::default(),
        denied: Mutex::default(),
    };
    let play = async {
        storm.connect(|_| true).await?;
        churn.begin(&mut rng).await;
        sets.begin(&mut rng).await?;
        book.say(&format!("seed {}: {} TaskWatches, the faults begin", options.seed, options.watches));
        let before = subject.usage().await?;
        Box::pin(storm.rage(rng)).await?;
        book.say("the faults end");
        upstream.no_faults().await?;
        if options.remove_crd {
            remove_crd(&plane, &cluster, &churn, &book, options.seed).await?;
        }
        storm.flood.in_peace(Rng::new(options.seed ^ 2)).await?;
        storm.last().await?;
        churn.settle().await?;
        sets.settle().await?;
        storm.renew().await?;
        for what in sets.converge(options.limit).await? {
            book.finding("not the children of a set", what);
        }
        let (objects, different) = converge::converge(&cluster, &upstream, &world, options.limit).await?;
        for what in different {
            book.finding("not the truth", what);
        }
        book.say("the statuses are judged");
        judge(&storm, &history, before.rss_bytes, objects).await
    };
    let summary = tokio::select! {
        summary = play => summary?,
        () = history.follow(&cluster) => anyhow::bail!("our watch ended"),
        () = async { subject.probe().await; std::future::pending().await } => unreachable!(),
    };
    Ok(Report { findings: book.report(), summary })
}

async fn judge(storm: &Storm, history: &History, before: u64, objects: usize) -> Result<Vec<String>> {
    let book = &storm.book;
    let children = storm.sets.judge();
    // What is being told yet.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = storm.subject.usage().await?.rss_bytes;
    if after > before * 2 + MEMORY_SLACK {
        book.finding("memory", format!("{} MiB before, {} MiB after", before >> 20, after >> 20));
    }
    let metrics = storm.subject.metrics().await?;
    let connections = storm.world.lock().unwrap_or_else(PoisonError::into_inner).connections.clone();
    let secrets = connections.iter().map(|c| format!("soak-secret-of-{}", c.name));
    let secrets: Vec<_> = secrets.chain(["soak-secret-that-is-wrong".to_owned(), "sim.".to_owned() + "0."]).collect();
    audit::logs(&[metrics], &secrets, book);
    let lines = audit::logs(&storm.subject.finish().await?, &secrets, book);
    storm.upstream.gather().await?;
    let log = storm.upstream.log().await;
    let peaks = audit::requests(&log, &connections, book);
    let events = audit::events(&storm.cluster.events().await?, history, book);
    let simulator = storm.upstream.simulator_log().await;
    if simulator.contains("panicked") {
        book.finding("simulator", simulator);
    }
    Ok(vec![
        format!("done: {}", book.counts()),
        format!("{objects} objects at the end, {} requests, {events} events, {lines} lines of log", log.len()),
        format!("sets: {children}"),
        format!("requests ahead of the rate: {peaks}"),
        format!(
            "memory: {} MiB before, {} MiB after, {} MiB at most",
            before >> 20,
            after >> 20,
            storm.subject.peak() >> 20
        ),
    ])
}

/// All objects go with it, and come anew.
async fn remove_crd(plane: &ControlPlane, cluster: &Cluster, churn: &Churn, book: &Book, seed: u64) -> Result<()> {
    book.act("CrdRemoved");
    let from = model::now_ms();
    plane.kubectl(&["delete", "crd", "taskwatches.taskwatch.dev", "--timeout=30s"]).await?.success()?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.apply_crds(plane).await?;
    book.mark(book::Mark::CrdAway, from, model::now_ms());
    churn.begin(&mut Rng::new(seed ^ 1)).await;
    Ok(())
}
