//! How long the tasks of upstreams took.

use std::{sync::Arc, time::Duration};

use prometheus_client::{encoding::EncodeLabelSet, metrics::histogram::Histogram, registry::Registry};

use super::{Metrics, Seconds};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct End {
    provider: Arc<str>,
    state: &'static str,
}

pub(super) struct Ended(Seconds<End>);

impl Ended {
    pub(super) fn register(registry: &mut Registry) -> Self {
        // From ten seconds to a week: tasks are backups and clusters as well as volumes.
        let buckets = || {
            Histogram::new([
                10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 86400.0,
                259_200.0, 604_800.0,
            ])
        };
        let all = Self(Seconds::new_with_constructor(buckets));
        registry.register(
            "taskwatch_task_duration_seconds",
            "Seconds that a task took by the upstream's clock, counted when its end was first shown",
            all.0.clone(),
        );
        all
    }
}

impl Metrics {
    /// The status of a `TaskWatch` shows for the first time that its task has ended: in `state`, a word of `status.state`, after so long.
    pub fn task_ended(&self, provider: impl Into<Arc<str>>, state: &'static str, took: Duration) {
        let end = End { provider: provider.into(), state };
        self.0.ended.0.get_or_create(&end).observe(took.as_secs_f64());
    }
}
