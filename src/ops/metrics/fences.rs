//! Figures of what one tenant's objects, or one upstream, could have cost the others.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::Metrics;
use crate::ops::guard::Stage;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

pub(super) struct Fences {
    panics: Family<StageLabel, Counter>,
}

impl Fences {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all = Self { panics: Family::default() };
        for stage in Stage::ALL {
            all.panics.get_or_create(&StageLabel { stage: stage.as_str() }).inc_by(0);
        }
        registry.register(
            "taskwatch_panics",
            "Defects met over one object or answer, which was set aside",
            all.panics.clone(),
        );
        all
    }
}

impl Metrics {
    /// Work on foreign input panicked at this stage.
    pub fn panicked(&self, stage: Stage) {
        self.0.fences.panics.get_or_create(&StageLabel { stage: stage.as_str() }).inc();
    }
}
