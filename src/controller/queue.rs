//! A work queue with the semantics that Kubernetes controllers rely on: a key waits at most once, is worked on by at most one
//! worker, and what happens to it meanwhile brings it back once. It is bounded by the number of keys. Tenants take turns, so that
//! one with thousands of restless objects does not delay another's.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::Hash,
    sync::{Mutex, MutexGuard},
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{
    ops::metrics::{QueueMetrics, Work},
    sync::lock,
    tenancy::{Tenant, turns::Turns},
};

/// A key, on whose account it is worked on.
pub trait Key: Clone + Ord + Hash {
    /// Whose. The same for as long as the key is in the queue.
    fn tenant(&self) -> Tenant;
}

/// Room for more keys than these is given back when none waits: a start has thousands.
const ROOM: usize = 1024;

/// The queue.
#[derive(Debug)]
pub struct Queue<K> {
    metrics: QueueMetrics,
    state: Mutex<State<K>>,
    /// One permit for each change that may give a worker something to do.
    news: Notify,
}

#[derive(Debug)]
struct State<K> {
    ready: Turns<(K, Instant)>,
    /// Waiting in `ready`, or to be put there when the present work ends.
    dirty: HashSet<K>,
    processing: HashMap<K, Work>,
    delayed: BTreeSet<(Instant, K)>,
    delays: HashMap<K, Instant>,
    closed: bool,
}

impl<K: Key> Queue<K> {
    /// An empty queue that counts in `metrics`.
    #[must_use]
    pub fn new(metrics: QueueMetrics) -> Self {
        let state = State {
            ready: Turns::default(),
            dirty: HashSet::new(),
            processing: HashMap::new(),
            delayed: BTreeSet::new(),
            delays: HashMap::new(),
            closed: false,
        };
        Self { metrics, state: Mutex::new(state), news: Notify::new() }
    }

    /// Has the key worked on soon.
    pub fn add(&self, key: K) {
        let mut state = self.lock();
        self.make_ready(&mut state, key, Instant::now());
        drop(state);
        self.news.notify_one();
    }

    /// Has the key worked on again at that time, since the work on it failed.
    pub fn retry(&self, key: &K, at: Instant) {
        self.metrics.retried();
        self.set_alarm(key, Some(at));
    }

    /// Has the key worked on at that time, instead of any time given before; none calls that off.
    pub fn set_alarm(&self, key: &K, at: Option<Instant>) {
        let mut state = self.lock();
        if let Some(old) = state.delays.remove(key) {
            state.delayed.remove(&(old, key.clone()));
        }
        if let Some(at) = at {
            state.delays.insert(key.clone(), at);
            state.delayed.insert((at, key.clone()));
        }
        drop(state);
        self.news.notify_one();
    }

    /// The next key to work on; [`Self::done`] must follow. None when the queue is closed.
    pub async fn get(&self) -> Option<K> {
        loop {
            let news = self.news.notified();
            let wake = {
                let mut state = self.lock();
                if state.closed {
                    self.news.notify_one();
                    return None;
                }
                let now = Instant::now();
                self.ring(&mut state, now);
                if let Some((key, since)) = state.ready.pop() {
                    state.dirty.remove(&key);
                    state.processing.insert(key.clone(), self.metrics.started(now - since));
                    self.metrics.set_depth(state.ready.len());
                    if state.ready.is_empty() && state.dirty.capacity() > ROOM {
                        state.dirty.shrink_to_fit();
                    }
                    // There may be more for another worker.
                    self.news.notify_one();
                    return Some(key);
                }
                state.delayed.first().map(|(at, _)| *at)
            };
            match wake {
                Some(at) => {
                    tokio::select! {
                        () = news => {}
                        () = sleep_until(at) => {}
                    }
                }
                None => news.await,
            }
        }
    }

    /// The work on a key has ended.
    pub fn done(&self, key: &K) {
        let mut state = self.lock();
        state.processing.remove(key);
        if state.dirty.contains(key) {
            state.ready.push(&key.tenant(), (key.clone(), Instant::now()));
            drop(state);
            self.news.notify_one();
        }
    }

    /// Forgets a key's alarm and its place in the queue.
    pub fn remove(&self, key: &K) {
        let mut state = self.lock();
        if let Some(old) = state.delays.remove(key) {
            state.delayed.remove(&(old, key.clone()));
        }
        if state.dirty.remove(key) && !state.processing.contains_key(key) {
            state.ready.retain(&key.tenant(), |(waiting, _)| waiting != key);
        }
    }

    /// Wakes all workers with nothing to do, for good.
    pub fn close(&self) {
        self.lock().closed = true;
        self.news.notify_one();
    }

    /// Moves what is due from the alarms to the ready ones.
    fn ring(&self, state: &mut State<K>, now: Instant) {
        while let Some((at, key)) = state.delayed.first().filter(|(at, _)| *at <= now).cloned() {
            state.delayed.remove(&(at, key.clone()));
            state.delays.remove(&key);
            self.make_ready(state, key, now);
        }
    }

    fn make_ready(&self, state: &mut State<K>, key: K, now: Instant) {
        if state.closed || !state.dirty.insert(key.clone()) {
            return;
        }
        self.metrics.added();
        if !state.processing.contains_key(&key) {
            state.ready.push(&key.tenant(), (key, now));
            self.metrics.set_depth(state.ready.len());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        lock(&self.state)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::ops::metrics::Metrics;

    /// Keys of a hundred are one tenant's.
    impl Key for u32 {
        fn tenant(&self) -> Tenant {
            Tenant::namespace(&Arc::from((self / 100).to_string()))
        }
    }

    fn queue() -> Arc<Queue<u32>> {
        Arc::new(Queue::new(Metrics::new().queue("test")))
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_is_worked_on_by_one() {
        let queue = queue();
        queue.add(1);
        queue.add(1);
        queue.add(2);
        assert_eq!(queue.get().await, Some(1));
        queue.add(1);
        assert_eq!(queue.get().await, Some(2));
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.get()).await.is_err(), "1 is being worked on");
        queue.done(&1);
        assert_eq!(queue.get().await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_rings_once_at_the_newest_time() {
        let queue = queue();
        let start = Instant::now();
        queue.set_alarm(&1, Some(start + Duration::from_secs(5)));
        queue.set_alarm(&1, Some(start + Duration::from_secs(9)));
        assert_eq!(queue.get().await, Some(1));
        assert_eq!(start.elapsed().as_secs(), 9);
        queue.done(&1);
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.get()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_by_an_alarm_and_by_the_end_of_work() {
        let queue = queue();
        let waiting = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { (queue.get().await, queue.get().await) }
        });
        tokio::task::yield_now().await;
        let start = Instant::now();
        queue.set_alarm(&1, Some(start + Duration::from_secs(1)));
        tokio::time::sleep(Duration::from_secs(2)).await;
        queue.add(1);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "1 is being worked on");
        queue.done(&1);
        assert_eq!(waiting.await.unwrap(), (Some(1), Some(1)));
        assert_eq!(start.elapsed().as_secs(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_removed_does_not_come_back() {
        let nothing =
            async |queue: &Queue<u32>| tokio::time::timeout(Duration::from_secs(60), queue.get()).await.is_err();
        let queue = queue();
        queue.add(1);
        queue.remove(&1);
        queue.set_alarm(&2, Some(Instant::now()));
        queue.remove(&2);
        assert!(nothing(&queue).await, "neither what waited nor an alarm");
        queue.add(1);
        assert_eq!(queue.get().await, Some(1));
        queue.add(1);
        queue.remove(&1);
        queue.done(&1);
        assert!(nothing(&queue).await, "nor what was to come back after its work");
        queue.add(1);
        assert_eq!(queue.get().await, Some(1), "its work has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_with_many_keys_delays_nobody() {
        let queue = queue();
        (0..100).for_each(|key| queue.add(key));
        queue.add(100);
        assert_eq!([queue.get().await, queue.get().await], [Some(0), Some(100)]);
        // So with those whose alarms ring, and those that come back from their work.
        let now = Instant::now();
        queue.set_alarm(&200, Some(now));
        queue.add(100);
        queue.done(&100);
        assert_eq!([queue.get().await, queue.get().await, queue.get().await], [Some(1), Some(100), Some(200)]);
        queue.add(101);
        queue.remove(&101);
        queue.done(&100);
        assert_eq!(queue.get().await, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_queue_lets_all_workers_go() {
        let queue = queue();
        let workers: Vec<_> = (0..3)
            .map(|_| {
                tokio::spawn({
                    let queue = Arc::clone(&queue);
                    async move { queue.get().await }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.close();
        for worker in workers {
            assert_eq!(worker.await.unwrap(), None);
        }
    }
}
