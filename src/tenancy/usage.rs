//! What each tenant has used lately: so the one that uses most is found at a glance.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::Tenant;

use crate::sync::lock;

/// A figure of the past counts half after this time.
const HALF_LIFE: Duration = Duration::from_secs(20);

/// The figures of all tenants. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct Usage(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Weak: a tenant is forgotten with the last that works on its account.
    tenants: HashMap<Tenant, Weak<TenantUsage>>,
    rates: HashMap<Tenant, Rates>,
    measured: Option<Instant>,
}

/// What is done on one tenant's account.
#[derive(Debug, Default)]
pub struct TenantUsage {
    requests: AtomicU64,
    bytes: AtomicU64,
    cpu_nanos: AtomicU64,
    writes: AtomicU64,
}

/// Uses a second, of late.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Requests to upstreams.
    pub requests: f64,
    /// Bytes of their answers.
    pub bytes: f64,
    /// Seconds of processing time.
    pub cpu: f64,
    /// Writes to the API server, events included.
    pub writes: f64,
}

impl TenantUsage {
    /// A request was sent to an upstream.
    pub fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// So much of an answer was read.
    pub fn bytes(&self, count: usize) {
        self.bytes.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Relaxed);
    }

    /// So much time was used.
    pub fn cpu(&self, time: Duration) {
        self.cpu_nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// A write was sent to the API server.
    pub fn write(&self) {
        self.writes.fetch_add(1, Relaxed);
    }

    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    fn take(&self) -> Rates {
        let take = |figure: &AtomicU64| figure.swap(0, Relaxed) as f64;
        Rates {
            requests: take(&self.requests),
            bytes: take(&self.bytes),
            cpu: take(&self.cpu_nanos) / 1e9,
            writes: take(&self.writes),
        }
    }
}

impl Rates {
    fn combine(self, other: Self, with: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            requests: with(self.requests, other.requests),
            bytes: with(self.bytes, other.bytes),
            cpu: with(self.cpu, other.cpu),
            writes: with(self.writes, other.writes),
        }
    }

    /// Whether hardly anything is left of it.
    fn is_over(self) -> bool {
        self.requests < 1e-3 && self.bytes < 1.0 && self.cpu < 1e-6 && self.writes < 1e-3
    }
}

impl Usage {
    /// The figures of a tenant, to count in.
    #[must_use]
    pub fn of(&self, tenant: &Tenant) -> Arc<TenantUsage> {
        let mut state = lock(&self.0);
        if let Some(usage) = state.tenants.get(tenant).and_then(Weak::upgrade) {
            return usage;
        }
        let usage = Arc::default();
        state.tenants.insert(tenant.clone(), Arc::downgrade(&usage));
        usage
    }

    /// The rates of all tenants that have used anything of late. To be asked for at intervals of some seconds.
    #[must_use]
    pub fn rates(&self, now: Instant) -> Vec<(Tenant, Rates)> {
        let mut state = lock(&self.0);
        let State { tenants, rates, measured } = &mut *state;
        let passed = measured.map_or(Duration::from_secs(1), |last| now.saturating_duration_since(last));
        if passed >= Duration::from_secs(1) {
            *measured = Some(now);
            let kept = 0.5_f64.powf(passed.as_secs_f64() / HALF_LIFE.as_secs_f64());
            for rate in rates.values_mut() {
                *rate = rate.combine(*rate, |rate, _| rate * kept);
            }
            tenants.retain(|tenant, usage| {
                let Some(usage) = usage.upgrade() else { return false };
                let fresh = usage.take();
                if !fresh.is_over() {
                    let per_second = |rate: f64, fresh: f64| rate + fresh / passed.as_secs_f64() * (1.0 - kept);
                    let rate = rates.entry(tenant.clone()).or_default();
                    *rate = rate.combine(fresh, per_second);
                }
                true
            });
            rates.retain(|_, rate| !rate.is_over());
        }
        rates.iter().map(|(tenant, rates)| (tenant.clone(), *rates)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_noisy_tenant_shows_within_a_minute_and_fades_when_it_is_quiet() {
        let usage = Usage::default();
        let tenant = Tenant::namespace(&Arc::from("noisy"));
        let noisy = usage.of(&tenant);
        for _ in 0..12 {
            for _ in 0..500 {
                noisy.request();
            }
            noisy.bytes(5_000);
            tokio::time::advance(Duration::from_secs(5)).await;
            let _ = usage.rates(Instant::now());
        }
        let rates = usage.rates(Instant::now());
        assert!(
            matches!(rates.as_slice(), [(who, rates)] if *who == tenant && (80.0..=101.0).contains(&rates.requests)),
            "{rates:?}"
        );
        tokio::time::advance(Duration::from_mins(20)).await;
        assert!(usage.rates(Instant::now()).is_empty());
        drop(noisy);
        tokio::time::advance(Duration::from_secs(5)).await;
        let _ = usage.rates(Instant::now());
        assert!(usage.0.lock().unwrap().tenants.is_empty(), "nobody works for it any more");
    }
}
