//! Figures that are summed up at the moment of the scrape, so that what has ended cannot leave a trace in them.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet},
    metrics::MetricType,
};

use crate::sync::lock;

/// What is alive now.
#[derive(Debug, Default)]
pub(super) struct Live {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    connections: HashMap<u64, Connection>,
    // Empty queues stay, to be shown as such.
    work: BTreeMap<&'static str, HashMap<u64, Instant>>,
    /// When each watch of the API server last told something.
    watches: HashMap<u64, (String, Instant)>,
}

#[derive(Debug)]
struct Connection {
    provider: Arc<str>,
    up: bool,
    tasks: BTreeMap<&'static str, u64>,
    stretch: f64,
    throttled: bool,
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn connection(self: &Arc<Self>, provider: Arc<str>) -> ConnectionMetrics {
        let mut state = self.lock();
        let key = state.take_key();
        let connection = Connection {
            provider: Arc::clone(&provider),
            up: false,
            tasks: BTreeMap::new(),
            stretch: 1.0,
            throttled: false,
        };
        state.connections.insert(key, connection);
        ConnectionMetrics { live: Arc::clone(self), key, provider }
    }

    pub(super) fn watch(self: &Arc<Self>, resource: String) -> WatchMetrics {
        let mut state = self.lock();
        let key = state.take_key();
        state.watches.insert(key, (resource, Instant::now()));
        WatchMetrics { live: Arc::clone(self), key }
    }

    pub(super) fn queue(&self, name: &'static str) {
        self.lock().work.entry(name).or_default();
    }

    pub(super) fn work(self: &Arc<Self>, queue: &'static str) -> LiveWork {
        let mut state = self.lock();
        let key = state.take_key();
        let start = Instant::now();
        state.work.entry(queue).or_default().insert(key, start);
        LiveWork { live: Arc::clone(self), queue, key, start }
    }
}

impl State {
    fn take_key(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// The figures of one connection; they count as long as this lives.
#[derive(Debug)]
pub struct ConnectionMetrics {
    live: Arc<Live>,
    key: u64,
    provider: Arc<str>,
}

impl ConnectionMetrics {
    /// The label `provider`.
    #[must_use]
    pub fn provider(&self) -> &Arc<str> {
        &self.provider
    }

    /// Whether the upstream answers and takes the credential (`taskwatch_connection_up`).
    pub fn set_up(&self, up: bool) {
        self.change(|connection| connection.up = up);
    }

    /// How many tasks are in `state`, a word of `status.state` (`taskwatch_tasks`).
    pub fn set_tasks(&self, state: &'static str, count: u64) {
        self.change(|connection| {
            connection.tasks.insert(state, count);
        });
    }

    /// How many times longer than wanted the periods are, 1 or more (`taskwatch_period_stretch` shows the largest).
    pub fn set_period_stretch(&self, ratio: f64) {
        self.change(|connection| connection.stretch = ratio.max(1.0));
    }

    /// Whether its tenant is delayed for having used its share of processing time (`taskwatch_connections_throttled`).
    pub fn set_throttled(&self, throttled: bool) {
        self.change(|connection| connection.throttled = throttled);
    }

    fn change(&self, change: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.live.lock().connections.get_mut(&self.key) {
            change(connection);
        }
    }
}

impl Drop for ConnectionMetrics {
    fn drop(&mut self) {
        self.live.lock().connections.remove(&self.key);
    }
}

/// The figure of one watch of the API server; it counts as long as this lives.
#[derive(Debug)]
pub struct WatchMetrics {
    live: Arc<Live>,
    key: u64,
}

impl WatchMetrics {
    /// The watch told something, or was begun anew (`taskwatch_watch_last_event_seconds`).
    pub fn now(&self) {
        if let Some((_, last)) = self.live.lock().watches.get_mut(&self.key) {
            *last = Instant::now();
        }
    }
}

impl Drop for WatchMetrics {
    fn drop(&mut self) {
        self.live.lock().watches.remove(&self.key);
    }
}

/// Work that is under way as long as this lives.
#[derive(Debug)]
pub(super) struct LiveWork {
    live: Arc<Live>,
    queue: &'static str,
    key: u64,
    pub(super) start: Instant,
}

impl Drop for LiveWork {
    fn drop(&mut self) {
        if let Some(work) = self.live.lock().work.get_mut(self.queue) {
            work.remove(&self.key);
        }
    }
}

/// Shows [`Live`] at a scrape.
#[derive(Debug)]
pub(super) struct LiveCollector(pub(super) Arc<Live>);

impl Collector for LiveCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (mut all, mut up) = (BTreeMap::<_, u64>::new(), BTreeMap::<_, u64>::new());
        let (mut tasks, mut throttled) = (BTreeMap::<_, u64>::new(), BTreeMap::<_, u64>::new());
        let mut stretch: f64 = 1.0;
        let (mut unfinished, mut longest) = (BTreeMap::new(), BTreeMap::new());
        let mut silent = BTreeMap::<_, f64>::new();
        {
            let state = self.0.lock();
            for connection in state.connections.values() {
                *all.entry(Arc::clone(&connection.provider)).or_default() += 1;
                *up.entry(Arc::clone(&connection.provider)).or_default() += u64::from(connection.up);
                *throttled.entry(Arc::clone(&connection.provider)).or_default() += u64::from(connection.throttled);
                for (task_state, count) in &connection.tasks {
                    *tasks.entry((Arc::clone(&connection.provider), *task_state)).or_default() += count;
                }
                stretch = stretch.max(connection.stretch);
            }
            for (resource, last) in state.watches.values() {
                let seconds = silent.entry(resource.clone()).or_default();
                *seconds = seconds.max(last.elapsed().as_secs_f64());
            }
            for (queue, work) in &state.work {
                let seconds = || work.values().map(|start| start.elapsed().as_secs_f64());
                unfinished.insert(*queue, seconds().fold(0.0, |sum, one| sum + one));
                longest.insert(*queue, seconds().fold(0.0, f64::max));
            }
        }
        let provider = |(provider, count)| ([("provider", provider)], count);
        let queue = |(queue, seconds)| ([("name", queue)], seconds);
        gauges(&mut encoder, "taskwatch_connections", "Connections that are served", all.into_iter().map(provider))?;
        gauges(
            &mut encoder,
            "taskwatch_connection_up",
            "Connections whose upstream answers and takes the credential",
            up.into_iter().map(provider),
        )?;
        gauges(
            &mut encoder,
            "taskwatch_connections_throttled",
            "Connections whose tenant is delayed for having used its share of processing time",
            throttled.into_iter().map(provider),
        )?;
        gauges(
            &mut encoder,
            "taskwatch_tasks",
            "Polled tasks by the state that was seen last",
            tasks
                .into_iter()
                .map(|((provider, state), count)| ([("provider", provider), ("state", Arc::from(state))], count)),
        )?;
        encoder
            .encode_descriptor(
                "taskwatch_period_stretch",
                "How many times longer than wanted the poll periods of the busiest connection are",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&stretch)?;
        gauges(
            &mut encoder,
            "taskwatch_watch_last_event_seconds",
            "Seconds since a watch of the API server last told of an object; the longest of each resource",
            silent.into_iter().map(|(resource, seconds)| ([("resource", resource)], seconds)),
        )?;
        gauges(
            &mut encoder,
            "workqueue_unfinished_work_seconds",
            "Seconds of work under way, summed over the workers",
            unfinished.into_iter().map(queue),
        )?;
        gauges(
            &mut encoder,
            "workqueue_longest_running_processor_seconds",
            "Seconds that the longest work under way has taken so far",
            longest.into_iter().map(queue),
        )
    }
}

/// Writes the gauges of one metric.
pub(super) fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (L, V)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        metric.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}
