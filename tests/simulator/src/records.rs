//! What was asked: a bounded log of requests, and counters that never forget.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use serde::Serialize;
use serde_json::{Value, json};

use crate::world::lock;

/// A line of the log.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) time_ms: i64,
    pub(crate) method: String,
    pub(crate) path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) query: String,
    pub(crate) route: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<String>,
    /// 0: there was no answer (reset, half-open).
    pub(crate) status: u16,
    pub(crate) auth: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) faults: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) connection: u64,
    /// The address that the connection comes from.
    pub(crate) peer: IpAddr,
    /// Requests of its scope that were being answered, this one included; 0 for a request without a scope.
    pub(crate) in_flight: u64,
}

#[derive(Debug, Default)]
struct Log {
    entries: VecDeque<Entry>,
    seq: u64,
    routes: BTreeMap<String, u64>,
    scopes: BTreeMap<String, u64>,
    bytes: u64,
}

/// A number that goes up and down, and the highest it was.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    now: AtomicI64,
    peak: AtomicI64,
}

impl Gauge {
    pub(crate) fn up(&self) {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(now, Ordering::Relaxed);
    }

    pub(crate) fn down(&self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }

    fn clear_peak(&self) {
        self.peak.store(self.now.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn json(&self) -> Value {
        json!({"now": self.now.load(Ordering::Relaxed), "peak": self.peak.load(Ordering::Relaxed)})
    }
}

/// The log, the counters and the gauges.
#[derive(Debug)]
pub(crate) struct Records {
    log: Mutex<Log>,
    capacity: usize,
    pub(crate) accepted: AtomicU64,
    pub(crate) open: Gauge,
    pub(crate) in_flight: Gauge,
    of_scopes: Mutex<HashMap<String, u64>>,
}

impl Records {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            log: Mutex::default(),
            capacity,
            accepted: AtomicU64::new(0),
            open: Gauge::default(),
            in_flight: Gauge::default(),
            of_scopes: Mutex::default(),
        }
    }

    /// A request of a scope is being answered; how many are.
    pub(crate) fn enter(&self, scope: &str) -> u64 {
        let mut scopes = lock(&self.of_scopes);
        let count = scopes.entry(scope.to_owned()).or_default();
        *count += 1;
        *count
    }

    /// A request of a scope has been answered, or its client has gone.
    pub(crate) fn leave(&self, scope: &str) {
        let mut scopes = lock(&self.of_scopes);
        if let Some(count) = scopes.get_mut(scope) {
            *count -= 1;
            if *count == 0 {
                scopes.remove(scope);
            }
        }
    }

    /// Notes a request; its number is given here.
    pub(crate) fn note(&self, mut entry: Entry) {
        let mut log = lock(&self.log);
        log.seq += 1;
        entry.seq = log.seq;
        log.bytes += entry.bytes;
        let route = format!("{} {}", entry.route, entry.status);
        *log.routes.entry(route).or_default() += 1;
        if let Some(scope) = &entry.scope {
            // A client that makes scopes up does not fill the memory.
            if log.scopes.len() < 10_000 || log.scopes.contains_key(scope) {
                *log.scopes.entry(scope.clone()).or_default() += 1;
            }
        }
        if self.capacity > 0 {
            if log.entries.len() >= self.capacity {
                log.entries.pop_front();
            }
            log.entries.push_back(entry);
        }
    }

    /// The entries after `since`, at most `limit`, and the number to go on from.
    pub(crate) fn read(&self, since: u64, limit: usize) -> Value {
        let log = lock(&self.log);
        let first = log.entries.partition_point(|e| e.seq <= since);
        let entries: Vec<&Entry> = log.entries.iter().skip(first).take(limit).collect();
        let next = entries.last().map_or(since.min(log.seq), |e| e.seq);
        json!({"next": next, "dropped": log.entries.front().map_or(log.seq, |e| e.seq - 1), "entries": entries})
    }

    pub(crate) fn clear_log(&self) {
        lock(&self.log).entries.clear();
    }

    pub(crate) fn counters(&self) -> Value {
        let log = lock(&self.log);
        json!({
            "requests": log.routes.values().sum::<u64>(),
            "routes": log.routes,
            "scopes": log.scopes,
            "bytes": log.bytes,
            "connections": {"accepted": self.accepted.load(Ordering::Relaxed), "open": self.open.json()},
            "inFlight": self.in_flight.json(),
        })
    }

    pub(crate) fn clear_counters(&self) {
        let mut log = lock(&self.log);
        log.routes.clear();
        log.scopes.clear();
        log.bytes = 0;
        self.accepted.store(0, Ordering::Relaxed);
        self.open.clear_peak();
        self.in_flight.clear_peak();
    }
}
