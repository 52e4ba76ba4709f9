//! What became of the spans of traces.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::Metrics;

/// What became of a span (`result` of `taskwatch_trace_spans_total`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanResult {
    /// Taken by the collector.
    Sent,
    /// Not sent: too many were waiting.
    Dropped,
    /// The collector did not take it.
    Failed,
}

impl SpanResult {
    const ALL: [Self; 3] = [Self::Sent, Self::Dropped, Self::Failed];

    fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Label {
    result: &'static str,
}

pub(super) struct Spans(Family<Label, Counter>);

impl Spans {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let spans = Family::<Label, Counter>::default();
        for result in SpanResult::ALL {
            spans.get_or_create(&Label { result: result.as_str() }).inc_by(0);
        }
        registry.register("taskwatch_trace_spans", "Spans of traces, by what became of them", spans.clone());
        Self(spans)
    }
}

impl Metrics {
    /// That became of so many spans.
    pub fn trace_spans(&self, result: SpanResult, count: u64) {
        self.0.spans.0.get_or_create(&Label { result: result.as_str() }).inc_by(count);
    }
}
