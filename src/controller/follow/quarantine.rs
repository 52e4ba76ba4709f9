//! Objects of a collection that cannot be read: each is set aside by itself, named in the log at growing intervals, and counted as
//! long as it is there. It is read again whenever it changes or is listed.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::ops::metrics::Metrics;

/// How long nothing more is said of an object: at first, and at most.
const SILENCE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_hours(1));
/// Objects that are known by name at most; more are set aside without being counted.
const MOST: usize = 10_000;

pub(super) struct Quarantine {
    kind: Cow<'static, str>,
    plural: Cow<'static, str>,
    metrics: Metrics,
    /// By UID.
    held: HashMap<String, Held>,
    /// The number of the present list.
    list: u64,
}

struct Held {
    told: Instant,
    silence: Duration,
    list: u64,
}

impl Quarantine {
    pub(super) fn new(kind: Cow<'static, str>, plural: Cow<'static, str>, metrics: Metrics) -> Self {
        metrics.unreadable_objects(&plural, 0);
        Self { kind, plural, metrics, held: HashMap::new(), list: 0 }
    }

    /// The object cannot be read, for this reason.
    pub(super) fn hold(&mut self, meta: &ObjectMeta, reason: &str) {
        let (now, list) = (Instant::now(), self.list);
        let uid = meta.uid.clone().unwrap_or_default();
        let is_full = self.held.len() >= MOST;
        let is_told = match self.held.get_mut(&uid) {
            Some(held) => {
                held.list = list;
                let is_due = now.saturating_duration_since(held.told) >= held.silence;
                if is_due {
                    (held.told, held.silence) = (now, (held.silence * 2).min(SILENCE.1));
                }
                is_due
            }
            None if is_full => false,
            None => {
                self.held.insert(uid, Held { told: now, silence: SILENCE.0, list });
                self.metrics.unreadable_objects(&self.plural, 1);
                true
            }
        };
        if is_told {
            let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
            warn!(kind = %self.kind, namespace, name, error = reason, "an object cannot be read; correct it, or delete it");
        }
    }

    /// The object can be read again, or was deleted.
    pub(super) fn release(&mut self, meta: &ObjectMeta) {
        if self.held.is_empty() {
            return;
        }
        if meta.uid.as_ref().is_some_and(|uid| self.held.remove(uid).is_some()) {
            self.metrics.unreadable_objects(&self.plural, -1);
            info!(kind = %self.kind, namespace = meta.namespace, name = meta.name, "an object is no longer unreadable");
        }
    }

    /// A list begins.
    pub(super) fn begin(&mut self) {
        self.list += 1;
    }

    /// The list is complete: what was not in it is no more.
    pub(super) fn complete(&mut self) {
        let (before, list) = (self.held.len(), self.list);
        self.held.retain(|_, held| held.list == list);
        let gone = i64::try_from(before - self.held.len()).unwrap_or_default();
        self.metrics.unreadable_objects(&self.plural, -gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(uid: &str) -> ObjectMeta {
        ObjectMeta { uid: Some(uid.to_owned()), name: Some(uid.to_owned()), ..ObjectMeta::default() }
    }

    #[test]
    fn an_object_counts_as_long_as_it_is_there_and_unreadable() {
        let metrics = Metrics::new();
        let mut quarantine = Quarantine::new("TaskWatch".into(), "taskwatches".into(), metrics.clone());
        let count = || {
            let text = metrics.render();
            let line = text.lines().find(|line| line.starts_with("taskwatch_unreadable_objects{"));
            line.unwrap().rsplit(' ').next().unwrap().parse::<i64>().unwrap()
        };
        assert_eq!(count(), 0);
        quarantine.begin();
        for uid in ["a", "b", "b", "c"] {
            quarantine.hold(&meta(uid), "no");
        }
        quarantine.complete();
        assert_eq!(count(), 3);
        quarantine.release(&meta("b"));
        quarantine.release(&meta("b"));
        quarantine.release(&meta("z"));
        assert_eq!(count(), 2);
        quarantine.begin();
        quarantine.hold(&meta("c"), "no");
        quarantine.complete();
        assert_eq!(count(), 1, "a was not listed");
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_object_is_told_of_less_and_less() {
        let mut quarantine = Quarantine::new("TaskWatch".into(), "taskwatches".into(), Metrics::new());
        let mut told = Vec::new();
        let start = Instant::now();
        for _ in 0..3 * 60 * 6 {
            let last = quarantine.held.get("a").map(|held| held.told);
            quarantine.hold(&meta("a"), "no");
            if quarantine.held["a"].told != last.unwrap_or(start - SILENCE.0) {
                told.push(start.elapsed().as_secs());
            }
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        assert_eq!(told, [0, 30, 90, 210, 450, 930, 1890, 3810, 7410]);
    }
}
