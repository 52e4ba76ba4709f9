//! Where the controller is run: the cluster, the upstream, and the objects that most tests have.

use std::time::Duration;

use clap::FromArgMatches as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    super::run::{Machine, StartError, run_on},
    cluster::Cluster,
};
use crate::{
    engine::tests::upstream::Upstream,
    ops::{
        args::{Cli, Command, RunArgs},
        clock::Clock,
        debug::Respondent,
        health::Health,
        metrics::Metrics,
    },
    providers::registry,
    tenancy::memory::Parts,
};

/// How far the paused clock goes at a time, that what is on its way arrives before a time-out.
const STEP: Duration = Duration::from_millis(20);
/// The longest that something is waited for.
const PATIENCE: Duration = Duration::from_secs(900);

/// A cluster and an upstream.
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) upstream: Upstream,
    /// What the clock of all machines shows.
    pub(super) wall: Clock,
    pub(super) parts: Parts,
}

/// The operator at work.
pub(super) struct Operator {
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    /// Who is asked what it does.
    pub(super) debug: Respondent,
    stop: CancellationToken,
    running: JoinHandle<Result<(), StartError>>,
}

impl Stage {
    /// With the connection `c` of the namespace `n`, which asks for each task by itself, and its Secret.
    pub(super) async fn new() -> Self {
        let stage = Self::bare().await;
        stage.secret("s", "token-of-the-first-secret");
        stage.cluster.create("taskconnections", stage.connection("c"));
        stage
    }

    /// Without objects.
    pub(super) async fn bare() -> Self {
        let wall = Clock::at("2026-11-27T10:00:00Z".parse().unwrap());
        let parts = Parts { bodies: 8 << 20, settings: 8 << 20, catalogues: 8 << 20, objects: 32 << 20 };
        Self { cluster: Cluster::new(wall.clone()), upstream: Upstream::start(wall.clone()).await, wall, parts }
    }

    /// Runs the operator with these flags.
    pub(super) fn begin(&self, flags: &[&str]) -> Operator {
        let (metrics, health, stop) = (Metrics::new(), Health::default(), CancellationToken::new());
        let (args, client, wall) = (arguments(flags), self.cluster.client(), self.wall.clone());
        let debug = Respondent::default();
        let (of_run, end, parts) = ((metrics.clone(), health.clone(), debug.clone()), stop.clone(), self.parts);
        let running = tokio::spawn(async move {
            let machine = Machine { parts, wall: move || wall.now(), api_server: Vec::new() };
            run_on(machine, &args, client, of_run.0, of_run.1, &of_run.2, end).await
        });
        Operator { metrics, health, debug, stop, running }
    }

    /// Steps the clocks of all machines.
    pub(super) fn step_clock(&self, step: SignedDuration) {
        let _ = self.wall.set(self.wall.now() + step);
    }

    /// Has a Secret of the namespace `n` with a token.
    pub(super) fn secret(&self, name: &str, token: &str) {
        let object =
            json!({"metadata": {"name": name, "namespace": "n"}, "type": "Opaque", "data": {"token": encoded(token)}});
        self.cluster.create("secrets", object);
    }

    /// A connection to the upstream.
    pub(super) fn connection(&self, name: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "n"},
            "spec": {"provider": {"astraControl": {"endpoint": self.upstream.endpoint(), "accountID": "own"}},
                "auth": {"token": {"secretRef": {"name": "s"}}}, "poll": {"mode": "Get"}}})
    }

    /// Creates a watch in the namespace `n`, with these fields of its specification beside.
    pub(super) fn watch(&self, name: &str, task: &str, more: &Value) {
        let mut spec = json!({"connectionRef": {"name": "c"}, "task": {"id": task}, "poll": {"periodSeconds": 10, "maxPeriodSeconds": 10}});
        spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        self.cluster.create("taskwatches", json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec}));
    }

    /// Waits until the watch `n/name` says this: see [`said`].
    pub(super) async fn says(&self, name: &str, what: &str) {
        let of = format!("taskwatches/n/{name}");
        let now = || self.cluster.get(&of).map(|object| said(&object)).unwrap_or_default();
        until(&format!("{name} says {what}"), || (now() == what).then_some(()), now).await;
    }

    /// Waits until Ready of an object begins so, with a message that contains `text`.
    pub(super) async fn ready(&self, of: &str, what: &str, text: &str) {
        let now = || self.cluster.get(of).map(|object| ready(&object)).unwrap_or_default();
        let is_so = || {
            let (said, message) = now();
            (said.starts_with(what) && message.contains(text)).then_some(())
        };
        until(&format!("{of} is {what} {text}"), is_so, || format!("{:?}", now())).await;
    }

    /// What events said, in their order: the object, the reason and the note.
    pub(super) fn events(&self) -> Vec<String> {
        let mut all = self.cluster.all("events");
        all.sort_by_key(|event| event["eventTime"].as_str().unwrap().to_owned());
        let text = |event: &Value, field: &str| event[field].as_str().unwrap().to_owned();
        all.iter()
            .map(|event| {
                format!("{} {}: {}", text(&event["regarding"], "name"), text(event, "reason"), text(event, "note"))
            })
            .collect()
    }
}

impl Operator {
    /// Ends it, as SIGTERM does.
    pub(super) async fn end(self) -> Result<(), StartError> {
        self.stop.cancel();
        let mut running = self.running;
        for _ in 0..100_000 {
            if running.is_finished() {
                break;
            }
            tokio::time::sleep(STEP).await;
        }
        (&mut running).await.unwrap()
    }

    /// The value of a series of the metrics; none where it is not there.
    pub(super) fn metric(&self, series: &str) -> Option<u64> {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.trim_end_matches(".0").parse().unwrap())
    }
}

fn arguments(flags: &[&str]) -> RunArgs {
    let all = [&["taskwatch", "run", "--allow-egress=127.0.0.0/8", "--lease-buckets=0"], flags].concat();
    // A flag that is given twice counts as given last.
    let command = Cli::command_naming(&registry::names()).mut_subcommand("run", |run| run.args_override_self(true));
    let matches = command.try_get_matches_from(all).unwrap();
    match Cli::from_arg_matches(&matches).unwrap().command {
        Command::Run(args) => *args,
        other => panic!("{other:?}"),
    }
}

pub(super) fn encoded(text: &str) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(text)
}

/// Waits until there is something; `now` is what there is, for people.
pub(super) async fn until<T, D: std::fmt::Display>(
    what: &str,
    mut find: impl FnMut() -> Option<T>,
    now: impl Fn() -> D,
) -> T {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(found) = find() {
            return found;
        }
        tokio::time::sleep(STEP).await;
    }
    panic!("not so: {what}; but: {}", now())
}

/// Lets so much time pass.
pub(super) async fn pass(seconds: u64) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        tokio::time::sleep(STEP * 5).await;
    }
}

/// What the status of a watch says: its state, its progress, and why each condition is as it is.
pub(super) fn said(object: &Value) -> String {
    let status = &object["status"];
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let of = |kind: &str| {
        let found = conditions.iter().find(|condition| condition["type"] == *kind);
        found.map_or("-".to_owned(), |found| {
            format!("{}/{}", found["status"].as_str().unwrap(), found["reason"].as_str().unwrap())
        })
    };
    let progress = status["progress"]["percent"].as_i64().map(|percent| format!(" {percent}%")).unwrap_or_default();
    format!("{}{progress} Finished {} Synced {}", status["state"].as_str().unwrap_or("-"), of("Finished"), of("Synced"))
}

/// Why an object is ready or not, and what is said of that.
pub(super) fn ready(object: &Value) -> (String, String) {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let Some(ready) = conditions.iter().find(|condition| condition["type"] == "Ready") else {
        return Default::default();
    };
    let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
    (format!("{} {}", text("status"), text("reason")), text("message"))
}

/// A time of an object's status.
pub(super) fn time(object: &Value, pointer: &str) -> Option<Timestamp> {
    object.pointer(pointer)?.as_str()?.parse().ok()
}
