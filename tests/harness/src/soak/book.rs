//! What happened when, and what was found wrong.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What lay over a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// The operator did not run; at the end a new one did.
    OperatorAway,
    /// The operator was stopped (SIGSTOP).
    OperatorFrozen,
    /// The simulator did not run, or was stopped.
    UpstreamAway,
    /// The API server or etcd did not answer.
    ClusterAway,
    /// There was no CRD of `TaskWatch`, and so no object.
    CrdAway,
    /// A Secret changed.
    Rotated,
    /// An upstream said that it knows no task.
    Denied,
    /// The network of the connection of this number was in trouble.
    Network(usize),
    /// The operator's clock was ahead or behind.
    ClockOff,
}

/// Findings of one kind that are told in full.
const TOLD: usize = 8;

#[derive(Debug, Default)]
struct Inner {
    marks: Vec<(Mark, i64, i64)>,
    /// How far ahead the operator's clock may have been, and until when that may show.
    ahead: Vec<(i64, i64, i64)>,
    findings: BTreeMap<&'static str, Vec<String>>,
    counts: BTreeMap<String, u64>,
}

/// The record of a run.
pub(super) struct Book {
    start: Instant,
    verbose: bool,
    inner: Mutex<Inner>,
}

impl Book {
    pub(super) fn new(verbose: bool) -> Self {
        Self { start: Instant::now(), verbose, inner: Mutex::default() }
    }

    pub(super) fn mark(&self, mark: Mark, from: i64, to: i64) {
        self.lock().marks.push((mark, from, to));
    }

    /// The operator's clock goes ahead, now.
    pub(super) fn goes_ahead(&self, from: i64, until: i64, by_ms: i64) {
        self.lock().ahead.push((from, until, by_ms));
    }

    /// How far ahead the clock was at most by which a status was decided that is seen now.
    pub(super) fn ahead(&self, at: i64) -> i64 {
        let inner = self.lock();
        inner
            .ahead
            .iter()
            .filter(|(from, until, _)| (*from..=*until).contains(&at))
            .map(|(.., by)| *by)
            .fold(0, i64::max)
    }

    /// The spans of these kinds, in order.
    pub(super) fn marks(&self, kinds: &[Mark]) -> Vec<(i64, i64)> {
        let mut spans: Vec<_> = self
            .lock()
            .marks
            .iter()
            .filter(|(kind, ..)| kinds.contains(kind))
            .map(|(_, from, to)| (*from, *to))
            .collect();
        spans.sort_unstable();
        spans
    }

    /// Says what goes on.
    pub(super) fn say(&self, what: &str) {
        if self.verbose {
            println!("{:7.1} s  {what}", self.start.elapsed().as_secs_f64());
        }
    }

    /// Says it, and counts it under its first word.
    pub(super) fn act(&self, what: &str) {
        self.count(what.split([':', ' ', '-']).next().unwrap_or_default());
        self.say(what);
    }

    /// Counts it.
    pub(super) fn count(&self, what: &str) {
        *self.lock().counts.entry(what.to_owned()).or_default() += 1;
    }

    /// Something is wrong.
    pub(super) fn finding(&self, kind: &'static str, what: String) {
        println!("{:7.1} s  FINDING {kind}: {what}", self.start.elapsed().as_secs_f64());
        self.lock().findings.entry(kind).or_default().push(what);
    }

    /// The findings, the first of each kind in full.
    pub(super) fn report(&self) -> Vec<String> {
        let inner = self.lock();
        let mut lines = Vec::new();
        for (kind, found) in &inner.findings {
            lines.push(format!("{kind}: {}", found.len()));
            lines.extend(found.iter().take(TOLD).map(|what| format!("    {what}")));
        }
        lines
    }

    /// How often what was done.
    pub(super) fn counts(&self) -> String {
        let inner = self.lock();
        inner.counts.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
