//! What each namespace uses of what all share: so the noisy one is found. Few series, however many namespaces there are.

use std::fmt;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use tokio::time::Instant;

use super::{Metrics, live::gauges};
use crate::tenancy::usage::{Rates, Usage};

/// So many namespaces are named for each figure, those with most of it; the others are one sum.
const NAMED: usize = 20;
/// The name of that sum.
const OTHER: &str = "other";

/// A figure: its metric, what that is, and where it stands.
type Figure = (&'static str, &'static str, fn(&Rates) -> f64);

const FIGURES: [Figure; 4] = [
    (
        "taskwatch_namespace_requests_per_second",
        "Requests to upstreams a second, of late: the 20 namespaces with most, and the others",
        |rates| rates.requests,
    ),
    (
        "taskwatch_namespace_bytes_per_second",
        "Bytes of upstreams' answers a second, of late: the 20 namespaces with most, and the others",
        |rates| rates.bytes,
    ),
    (
        "taskwatch_namespace_cpu_seconds_per_second",
        "Processing time of polling, in cores, of late: the 20 namespaces with most, and the others",
        |rates| rates.cpu,
    ),
    (
        "taskwatch_namespace_writes_per_second",
        "Writes to the Kubernetes API server a second, of late: the 20 namespaces with most, and the others",
        |rates| rates.writes,
    ),
];

/// Shows the account at a scrape.
#[derive(Debug)]
pub(super) struct TenantsCollector(pub(super) Usage);

impl Collector for TenantsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let rates = self.0.rates(Instant::now());
        for (metric, help, figure) in FIGURES {
            let all = rates.iter().map(|(tenant, rates)| (tenant.as_str(), figure(rates))).collect();
            let shown = top(all).into_iter().map(|(namespace, figure)| ([("namespace", namespace)], figure));
            gauges(&mut encoder, metric, help, shown)?;
        }
        Ok(())
    }
}

/// Those with most, and the sum of the others.
fn top(mut all: Vec<(&str, f64)>) -> Vec<(&str, f64)> {
    all.retain(|(_, figure)| *figure > 0.0);
    // One whose name is that of the sum is part of it: a series must not be there twice.
    all.sort_by(|a, b| (a.0 == OTHER).cmp(&(b.0 == OTHER)).then(b.1.total_cmp(&a.1)).then(a.0.cmp(b.0)));
    let named = all.iter().take(NAMED).filter(|(name, _)| *name != OTHER).count();
    let rest = all.split_off(named);
    if !rest.is_empty() {
        all.push((OTHER, rest.iter().map(|(_, figure)| figure).sum()));
    }
    all
}

impl Metrics {
    /// The account of what each tenant uses: whoever works on a tenant's account counts in it.
    #[must_use]
    pub fn usage(&self) -> &Usage {
        &self.0.usage
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tenancy::Tenant;

    #[test]
    fn those_with_most_are_named_and_the_others_are_one_sum() {
        let names: Vec<_> = (0..1000).map(|number| format!("n{number:03}")).collect();
        let all: Vec<_> = names.iter().zip(0..).map(|(name, figure)| (name.as_str(), f64::from(figure))).collect();
        let shown = top(all);
        assert_eq!(shown.len(), NAMED + 1);
        assert_eq!(shown[0], ("n999", 999.0));
        assert_eq!(shown[NAMED], (OTHER, (0..980).map(f64::from).sum()));
        assert_eq!(top(vec![("a", 1.0), ("other", 5.0)]), [("a", 1.0), ("other", 5.0)]);
        assert_eq!(top(vec![("a", 0.0)]), []);
    }

    #[test]
    fn the_noisy_one_shows_and_few_series_are_made_of_many_namespaces() {
        let metrics = Metrics::new();
        let quiet: Vec<_> = (0..500)
            .map(|number| metrics.usage().of(&Tenant::namespace(&Arc::from(format!("quiet-{number}")))))
            .collect();
        let noisy = metrics.usage().of(&Tenant::namespace(&Arc::from("noisy")));
        for usage in &quiet {
            usage.write();
        }
        (0..1000).for_each(|_| noisy.write());
        let text = metrics.render();
        let shown: Vec<_> =
            text.lines().filter(|line| line.starts_with("taskwatch_namespace_writes_per_second{")).collect();
        assert_eq!(shown.len(), NAMED + 1, "{shown:#?}");
        assert!(shown[0].contains("namespace=\"noisy\""), "{}", shown[0]);
        assert!(shown.iter().any(|line| line.contains("namespace=\"other\"")));
    }
}
