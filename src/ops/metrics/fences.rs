//! Figures of what one tenant's objects, or one upstream, could have cost the others.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::Metrics;
use crate::ops::guard::Stage;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Resource {
    resource: String,
}

pub(super) struct Fences {
    panics: Family<StageLabel, Counter>,
    unreadable: Family<Resource, Gauge>,
    history_replaced: Family<Resource, Counter>,
}

impl Fences {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all =
            Self { panics: Family::default(), unreadable: Family::default(), history_replaced: Family::default() };
        for stage in Stage::ALL {
            all.panics.get_or_create(&StageLabel { stage: stage.as_str() }).inc_by(0);
        }
        registry.register(
            "taskwatch_panics",
            "Defects met over one object or answer, which was set aside",
            all.panics.clone(),
        );
        registry.register(
            "taskwatch_unreadable_objects",
            "Objects of the API server that cannot be read and are left out",
            all.unreadable.clone(),
        );
        registry.register(
            "taskwatch_history_replaced",
            "How often the API server told another history than before, as after etcd was restored",
            all.history_replaced.clone(),
        );
        all
    }
}

impl Metrics {
    /// Work on foreign input panicked at this stage.
    pub fn panicked(&self, stage: Stage) {
        self.0.fences.panics.get_or_create(&StageLabel { stage: stage.as_str() }).inc();
    }

    /// So many more, or fewer, objects of a resource (a plural, as `taskwatches`) cannot be read.
    pub fn unreadable_objects(&self, resource: &str, more: i64) {
        self.0.fences.unreadable.get_or_create(&Resource { resource: resource.to_owned() }).inc_by(more);
        self.0.fences.history_replaced.get_or_create(&Resource { resource: resource.to_owned() }).inc_by(0);
    }

    /// The API server tells another history of a resource than before.
    pub fn history_replaced(&self, resource: &str) {
        self.0.fences.history_replaced.get_or_create(&Resource { resource: resource.to_owned() }).inc();
    }
}
