//! How much is written to the API server: one ceiling over statuses, events and deletions, divided fairly among the tenants.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::time::Instant;

use crate::sync::lock;
use crate::tenancy::{
    Tenant,
    ceiling::Ceiling,
    usage::{TenantUsage, Usage},
};

/// The figures of more tenants than these are looked up again.
const TENANTS: usize = 1024;

/// The limit of all writes. Clones are the same one.
#[derive(Clone, Debug)]
pub struct WriteLimit {
    ceiling: Ceiling,
    usage: Usage,
    /// Holds the figures of those who write: the account itself forgets whom nobody works for.
    writers: Arc<Mutex<HashMap<Tenant, Arc<TenantUsage>>>>,
}

impl WriteLimit {
    /// At most `per_second` writes over all tenants; zero for no bound.
    #[must_use]
    pub fn new(per_second: u32, usage: Usage, now: Instant) -> Self {
        let per_second = if per_second == 0 { f64::INFINITY } else { f64::from(per_second) };
        Self { ceiling: Ceiling::new(per_second, f64::INFINITY, now), usage, writers: Arc::default() }
    }

    /// One write on the account of `tenant`, to be sent now.
    ///
    /// # Errors
    /// When to come again, where the tenant has had its share.
    pub fn take(&self, tenant: &Tenant, now: Instant) -> Result<(), Instant> {
        self.ceiling.take(tenant, now)?;
        let mut writers = lock(&self.writers);
        if let Some(writer) = writers.get(tenant) {
            writer.write();
            return Ok(());
        }
        if writers.len() >= TENANTS {
            writers.clear();
        }
        writers.entry(tenant.clone()).or_insert_with(|| self.usage.of(tenant)).write();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn writes_are_bounded_over_all_and_counted_by_tenant() {
        let usage = Usage::default();
        let writes = WriteLimit::new(10, usage.clone(), Instant::now());
        let [greedy, modest] = ["greedy", "modest"].map(|name| Tenant::namespace(&Arc::from(name)));
        let mut got = [0, 0];
        for _ in 0..5 {
            got = [0, 0];
            for slice in 0..20 {
                for _ in 0..50 {
                    got[0] += u32::from(writes.take(&greedy, Instant::now()).is_ok());
                }
                got[1] += u32::from(slice % 10 == 0 && writes.take(&modest, Instant::now()).is_ok());
                tokio::time::advance(Duration::from_millis(50)).await;
            }
        }
        assert_eq!(got, [7, 2], "the modest one has what it wants, the greedy one the rest but for what is kept");
        let rates = usage.rates(Instant::now());
        assert_eq!(rates.len(), 2, "{rates:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_no_bound() {
        let writes = WriteLimit::new(0, Usage::default(), Instant::now());
        let tenant = Tenant::namespace(&Arc::from("any"));
        assert!((0..10_000).all(|_| writes.take(&tenant, Instant::now()).is_ok()));
    }
}
