//! What Prometheus is told: the stock names that dashboards know, and the operator's own. No labels of single objects.

mod codes;
mod ended;
mod fences;
mod live;
mod owned;
mod process;
mod spans;
mod tenants;

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use codes::Codes;
use ended::Ended;
use fences::Fences;
pub use live::{ConnectionMetrics, WatchMetrics};
use live::{Live, LiveCollector, LiveWork};
use owned::Owned;
pub use spans::SpanResult;
use spans::Spans;
use tenants::TenantsCollector;

use crate::tenancy::usage::Usage;

/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The label `host` of requests to the API server, as other operators have it.
const API_SERVER: &str = "kubernetes";

type Seconds<L> = Family<L, Histogram, fn() -> Histogram>;

/// How a reconciliation ended (`result` of `controller_runtime_reconcile_total`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconcileResult {
    /// Done, nothing more to do.
    Success,
    /// Failed; it will be tried again.
    Error,
    /// Done, to be done again at once.
    Requeue,
    /// Done, to be done again later.
    RequeueAfter,
}

impl ReconcileResult {
    const ALL: [Self; 4] = [Self::Success, Self::Error, Self::Requeue, Self::RequeueAfter];

    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Requeue => "requeue",
            Self::RequeueAfter => "requeue_after",
        }
    }
}

/// What became of a status that was to be written (`result` of `taskwatch_status_writes_total`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusWrite {
    /// Written.
    Patched,
    /// Not sent: it says nothing new.
    Suppressed,
    /// Refused, since the object had changed.
    Conflict,
    /// Failed otherwise.
    Failed,
}

impl StatusWrite {
    const ALL: [Self; 4] = [Self::Patched, Self::Suppressed, Self::Conflict, Self::Failed];

    fn as_str(self) -> &'static str {
        match self {
            Self::Patched => "patched",
            Self::Suppressed => "suppressed",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        }
    }
}

/// What became of a Kubernetes event (`result` of `taskwatch_events_total`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventResult {
    /// Taken by the API server.
    Sent,
    /// Not sent: too many were waiting.
    Dropped,
    /// Refused by the API server.
    Failed,
    /// Not sent: enough has been told of that object.
    Suppressed,
}

impl EventResult {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
            Self::Suppressed => "suppressed",
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ControllerResult {
    controller: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Name {
    name: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Provider {
    provider: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Operation {
    provider: Arc<str>,
    operation: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OperationCode {
    provider: Arc<str>,
    operation: &'static str,
    code: Cow<'static, str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RestCall {
    code: Cow<'static, str>,
    method: String,
    host: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WriteResult {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EventLabels {
    reason: String,
    result: &'static str,
}

/// The operator's metrics: a cheap handle whose clones share them. Nothing is global: each test may have its own.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    live: Arc<Live>,
    families: Families,
    ended: Ended,
    fences: Fences,
    codes: Codes,
    usage: Usage,
    owned: Owned,
    spans: Spans,
}

struct Families {
    reconciles: Family<ControllerResult, Counter>,
    reconcile_errors: Family<Controller, Counter>,
    reconcile_seconds: Seconds<Controller>,
    active_workers: Family<Controller, Gauge>,
    max_concurrent: Family<Controller, Gauge>,
    queue_depth: Family<Name, Gauge>,
    queue_adds: Family<Name, Counter>,
    queue_retries: Family<Name, Counter>,
    queue_seconds: Seconds<Name>,
    work_seconds: Seconds<Name>,
    rest_requests: Family<RestCall, Counter>,
    upstream_requests: Family<OperationCode, Counter>,
    upstream_seconds: Seconds<Operation>,
    poll_lag: Seconds<Provider>,
    coalesced: Seconds<Provider>,
    status_writes: Family<WriteResult, Counter>,
    events: Family<EventLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Metrics of their own, all zero; to be made when the process starts, since that is the start time they show.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let families = Families::register(&mut registry);
        let ended = Ended::register(&mut registry);
        let fences = Fences::register(&mut registry);
        let spans = Spans::register(&mut registry);
        let build = Family::<Vec<(&'static str, &'static str)>, Gauge>::default();
        build.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION"))]).set(1);
        registry.register("taskwatch_build_info", "The version that runs", build);
        let live = Arc::<Live>::default();
        registry.register_collector(Box::new(LiveCollector(Arc::clone(&live))));
        registry.register_collector(Box::new(process::Process::new()));
        let usage = Usage::default();
        registry.register_collector(Box::new(TenantsCollector(usage.clone())));
        let owned = Owned::default();
        registry.register_collector(Box::new(owned.clone()));
        Self(Arc::new(Inner { registry, live, families, ended, fences, codes: Codes::default(), usage, owned, spans }))
    }

    /// All metrics as text of the media type [`CONTENT_TYPE`].
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(16 << 10);
        // Writing to a String does not fail.
        let _ = text::encode(&mut out, &self.0.registry);
        out
    }

    /// How many reconciliations of `controller` may run at a time; also shows its counters at zero before the first one.
    pub fn max_concurrent_reconciles(&self, controller: &'static str, count: u16) {
        let all = &self.0.families;
        all.max_concurrent.get_or_create(&Controller { controller }).set(i64::from(count));
        all.reconcile_errors.get_or_create(&Controller { controller }).inc_by(0);
        all.active_workers.get_or_create(&Controller { controller }).inc_by(0);
        for result in ReconcileResult::ALL {
            all.reconciles.get_or_create(&ControllerResult { controller, result: result.as_str() }).inc_by(0);
        }
    }

    /// A reconciliation begins; it counts as active until the answer is dropped or done.
    #[must_use]
    pub fn reconcile(&self, controller: &'static str) -> Reconcile {
        self.0.families.active_workers.get_or_create(&Controller { controller }).inc();
        Reconcile { metrics: self.clone(), controller, start: std::time::Instant::now() }
    }

    /// The figures of the queue `name`.
    #[must_use]
    pub fn queue(&self, name: &'static str) -> QueueMetrics {
        self.0.live.queue(name);
        let all = &self.0.families;
        all.queue_depth.get_or_create(&Name { name }).inc_by(0);
        all.queue_adds.get_or_create(&Name { name }).inc_by(0);
        all.queue_retries.get_or_create(&Name { name }).inc_by(0);
        QueueMetrics { metrics: self.clone(), name }
    }

    /// A request to the Kubernetes API server was answered with `code`, the HTTP status, or `<error>` where there was no answer. The
    /// server's address is not shown: this page asks for no password.
    pub fn rest_request(&self, code: &str, method: impl Into<String>) {
        let call = RestCall { code: self.0.codes.label(code), method: method.into(), host: API_SERVER };
        self.0.families.rest_requests.get_or_create(&call).inc();
    }

    /// An upstream was asked. `operation` is `get`, `list`, `subtasks` or `authenticate`; `code` is the HTTP status or, without an answer, the code of the
    /// failure. Uncommon statuses are counted together: an upstream chooses them.
    pub fn upstream_request(
        &self,
        provider: impl Into<Arc<str>>,
        operation: &'static str,
        code: impl AsRef<str>,
        duration: Duration,
    ) {
        let (all, code, provider) = (&self.0.families, self.0.codes.label(code.as_ref()), provider.into());
        let of = OperationCode { provider: Arc::clone(&provider), operation, code };
        all.upstream_requests.get_or_create(&of).inc();
        all.upstream_seconds.get_or_create(&Operation { provider, operation }).observe(duration.as_secs_f64());
    }

    /// How long after it was due a poll was sent.
    pub fn poll_lag(&self, provider: impl Into<Arc<str>>, lag: Duration) {
        let provider = provider.into();
        self.0.families.poll_lag.get_or_create(&Provider { provider }).observe(lag.as_secs_f64());
    }

    /// How many watched tasks one list served.
    pub fn coalesced_tasks(&self, provider: impl Into<Arc<str>>, tasks: u32) {
        let provider = provider.into();
        self.0.families.coalesced.get_or_create(&Provider { provider }).observe(f64::from(tasks));
    }

    /// What became of a status that was to be written.
    pub fn status_write(&self, result: StatusWrite) {
        self.0.families.status_writes.get_or_create(&WriteResult { result: result.as_str() }).inc();
    }

    /// What became of a Kubernetes event with this reason.
    pub fn event(&self, reason: &str, result: EventResult) {
        self.0.families.events.get_or_create(&EventLabels { reason: reason.to_owned(), result: result.as_str() }).inc();
    }

    /// The figure of one watch of the API server, which counts until the answer is dropped.
    #[must_use]
    pub fn watch(&self, resource: String) -> WatchMetrics {
        self.0.live.watch(resource)
    }

    /// The figures of one connection, which count until the answer is dropped.
    #[must_use]
    pub fn connection(&self, provider: impl Into<Arc<str>>) -> ConnectionMetrics {
        self.0.live.connection(provider.into())
    }
}

impl Families {
    fn register(registry: &mut Registry) -> Self {
        let reconcile = || {
            Histogram::new([
                0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0,
                1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 15.0, 20.0, 25.0, 30.0,
                40.0, 50.0, 60.0,
            ])
        };
        let queue = || Histogram::new(exponential_buckets(1e-8, 10.0, 12));
        let upstream =
            || Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0]);
        let waits = || Histogram::new([0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0]);
        let counts = || Histogram::new([1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4]);
        let all = Self {
            reconciles: Family::default(),
            reconcile_errors: Family::default(),
            reconcile_seconds: Seconds::new_with_constructor(reconcile),
            active_workers: Family::default(),
            max_concurrent: Family::default(),
            queue_depth: Family::default(),
            queue_adds: Family::default(),
            queue_retries: Family::default(),
            queue_seconds: Seconds::new_with_constructor(queue),
            work_seconds: Seconds::new_with_constructor(queue),
            rest_requests: Family::default(),
            upstream_requests: Family::default(),
            upstream_seconds: Seconds::new_with_constructor(upstream),
            poll_lag: Seconds::new_with_constructor(waits),
            coalesced: Seconds::new_with_constructor(counts),
            status_writes: Family::default(),
            events: Family::default(),
        };
        for result in StatusWrite::ALL {
            all.status_writes.get_or_create(&WriteResult { result: result.as_str() }).inc_by(0);
        }
        // Counters get their `_total` when they are written out.
        let r = registry;
        r.register("controller_runtime_reconcile_errors", "Reconciliations that failed", all.reconcile_errors.clone());
        r.register("controller_runtime_reconcile", "Reconciliations by result", all.reconciles.clone());
        r.register(
            "controller_runtime_reconcile_time_seconds",
            "Duration of a reconciliation in seconds",
            all.reconcile_seconds.clone(),
        );
        r.register("controller_runtime_active_workers", "Reconciliations under way", all.active_workers.clone());
        r.register(
            "controller_runtime_max_concurrent_reconciles",
            "Reconciliations that may run at a time",
            all.max_concurrent.clone(),
        );
        r.register("workqueue_depth", "Entries that wait", all.queue_depth.clone());
        r.register("workqueue_adds", "Entries that were added", all.queue_adds.clone());
        r.register("workqueue_retries", "Entries that were added again after a failure", all.queue_retries.clone());
        r.register("workqueue_queue_duration_seconds", "Seconds that an entry waited", all.queue_seconds.clone());
        r.register("workqueue_work_duration_seconds", "Seconds that work on an entry took", all.work_seconds.clone());
        r.register("rest_client_requests", "Requests to the Kubernetes API server", all.rest_requests.clone());
        r.register("taskwatch_upstream_requests", "Requests to upstreams", all.upstream_requests.clone());
        r.register(
            "taskwatch_upstream_request_duration_seconds",
            "Duration of a request to an upstream in seconds",
            all.upstream_seconds.clone(),
        );
        r.register(
            "taskwatch_poll_lag_seconds",
            "Seconds from when a poll was due to its sending",
            all.poll_lag.clone(),
        );
        r.register("taskwatch_poll_coalesced_tasks", "Watched tasks that one list served", all.coalesced.clone());
        r.register("taskwatch_status_writes", "Statuses that were to be written, by result", all.status_writes.clone());
        r.register("taskwatch_events", "Kubernetes events by reason and result", all.events.clone());
        all
    }
}

/// A reconciliation under way.
#[derive(Debug)]
pub struct Reconcile {
    metrics: Metrics,
    controller: &'static str,
    start: std::time::Instant,
}

impl Reconcile {
    /// It has ended so. One that is dropped without this, as at a shutdown, is not counted.
    pub fn done(self, result: ReconcileResult) {
        let all = &self.metrics.0.families;
        let controller = self.controller;
        all.reconciles.get_or_create(&ControllerResult { controller, result: result.as_str() }).inc();
        if result == ReconcileResult::Error {
            all.reconcile_errors.get_or_create(&Controller { controller }).inc();
        }
        let seconds = self.start.elapsed().as_secs_f64();
        all.reconcile_seconds.get_or_create(&Controller { controller }).observe(seconds);
    }
}

impl Drop for Reconcile {
    fn drop(&mut self) {
        let controller = self.controller;
        self.metrics.0.families.active_workers.get_or_create(&Controller { controller }).dec();
    }
}

/// The `workqueue_*` figures of one queue.
#[derive(Clone, Debug)]
pub struct QueueMetrics {
    metrics: Metrics,
    name: &'static str,
}

impl QueueMetrics {
    /// An entry was added.
    pub fn added(&self) {
        self.metrics.0.families.queue_adds.get_or_create(&Name { name: self.name }).inc();
    }

    /// An entry was added again, since work on it had failed.
    pub fn retried(&self) {
        self.metrics.0.families.queue_retries.get_or_create(&Name { name: self.name }).inc();
    }

    /// So many entries wait.
    pub fn set_depth(&self, depth: usize) {
        let depth = i64::try_from(depth).unwrap_or(i64::MAX);
        self.metrics.0.families.queue_depth.get_or_create(&Name { name: self.name }).set(depth);
    }

    /// Work on an entry that had waited for so long begins; it ends when the answer is dropped.
    #[must_use]
    pub fn started(&self, waited: Duration) -> Work {
        let all = &self.metrics.0.families;
        all.queue_seconds.get_or_create(&Name { name: self.name }).observe(waited.as_secs_f64());
        Work { live: self.metrics.0.live.work(self.name), queue: self.clone() }
    }
}

/// Work on an entry of a queue, under way as long as this lives.
#[derive(Debug)]
pub struct Work {
    live: LiveWork,
    queue: QueueMetrics,
}

impl Drop for Work {
    fn drop(&mut self) {
        let all = &self.queue.metrics.0.families;
        let seconds = self.live.start.elapsed().as_secs_f64();
        all.work_seconds.get_or_create(&Name { name: self.queue.name }).observe(seconds);
    }
}

#[cfg(test)]
mod tests;
