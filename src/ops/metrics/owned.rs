//! How many of the buckets of connections this replica holds at the moment of the scrape: what no replica holds is not polled.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{Metrics, live::gauges};
use crate::ownership::Buckets;

/// The buckets, by the name of their Leases; none where there is but one replica.
#[derive(Clone, Debug, Default)]
pub(super) struct Owned(Arc<OnceLock<(String, Buckets)>>);

impl Metrics {
    /// The connections are divided into these buckets, whose Leases are called so (`taskwatch_lease_buckets`,
    /// `taskwatch_lease_buckets_held`). The first ones stay.
    pub fn buckets(&self, lease: String, buckets: Buckets) {
        let _ = self.0.owned.0.set((lease, buckets));
    }
}

impl Collector for Owned {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let one = |count: fn(&Buckets) -> usize| {
            let value = move |(lease, buckets): &(String, Buckets)| {
                ([("lease", lease.clone())], i64::try_from(count(buckets)).unwrap_or(i64::MAX))
            };
            self.0.get().into_iter().map(value)
        };
        gauges(
            &mut encoder,
            "taskwatch_lease_buckets",
            "Buckets that the connections are divided into among the replicas",
            one(Buckets::count),
        )?;
        gauges(
            &mut encoder,
            "taskwatch_lease_buckets_held",
            "Buckets whose Lease this replica holds",
            one(Buckets::held),
        )
    }
}
