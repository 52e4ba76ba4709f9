//! How many requests each tenant of a shared connection may send, where that is limited. A list that serves several tenants is nobody's
//! own, and is not counted: a limit must not hold up the list of all.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::engine::budget::Budget;
use crate::tenancy::Tenant;

/// The budgets of more tenants than these are looked through for such as are full again.
const MANY: usize = 256;

/// The budgets of the tenants of a connection.
#[derive(Debug, Default)]
pub(super) struct TenantBudgets {
    /// Requests per second of each; none without a limit.
    per_second: Option<f64>,
    /// Of those who have sent something of late.
    budgets: HashMap<Tenant, Budget>,
    /// When all of them may have sent what they could.
    exhausted: Option<Instant>,
}

impl TenantBudgets {
    /// Full budgets.
    pub(super) fn new(per_second: Option<f64>) -> Self {
        Self { per_second, budgets: HashMap::new(), exhausted: None }
    }

    /// Takes over another limit. No budget is filled by that.
    pub(super) fn resize(&mut self, per_second: Option<f64>, now: Instant) {
        if per_second == self.per_second {
            return;
        }
        self.per_second = per_second;
        match per_second {
            None => self.budgets.clear(),
            Some(rate) => self.budgets.values_mut().for_each(|budget| budget.resize(rate, burst(rate), now)),
        }
    }

    /// Requests per second of one tenant; none without a limit.
    pub(super) fn rate_of(&self, tenant: &Tenant) -> Option<f64> {
        self.per_second.filter(|_| *tenant != Tenant::shared())
    }

    /// When a tenant may send its next request; not in the future means now.
    pub(super) fn ready_at(&self, tenant: &Tenant, now: Instant) -> Instant {
        match self.rate_of(tenant) {
            Some(rate) => match self.budgets.get(tenant) {
                Some(budget) => budget.ready_at(now),
                None => self.fresh(rate, now).ready_at(now),
            },
            None => now,
        }
    }

    /// A tenant sends a request.
    pub(super) fn spend(&mut self, tenant: &Tenant, now: Instant) {
        let Some(rate) = self.rate_of(tenant) else { return };
        if self.budgets.len() >= MANY {
            self.budgets.retain(|_, budget| !budget.is_full(now));
        }
        let fresh = self.fresh(rate, now);
        let budget = self.budgets.entry(tenant.clone()).or_insert(fresh);
        // Where what is asked is to find something out for all, it is sent although nothing is left.
        budget.take(now);
    }

    /// All tenants may have sent what they could just now: see [`Budget::exhaust`].
    pub(super) fn exhaust(&mut self, now: Instant) {
        self.exhausted = Some(now);
    }

    /// The budget of a tenant that has sent nothing of late.
    fn fresh(&self, rate: f64, now: Instant) -> Budget {
        let mut budget = Budget::new(rate, burst(rate), now);
        if let Some(at) = self.exhausted {
            budget.exhaust(at);
        }
        budget
    }
}

/// What may be sent at once: that of a second, and one at least.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are positive and at most thousands")]
fn burst(rate: f64) -> u32 {
    rate.ceil().clamp(1.0, 10_000.0) as u32
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::namespace(&Arc::from(name))
    }

    #[tokio::test(start_paused = true)]
    async fn each_has_a_budget_of_its_own_and_the_list_of_all_has_none() {
        let now = Instant::now();
        let mut budgets = TenantBudgets::new(Some(0.5));
        let [one, other] = ["one", "other"].map(tenant);
        for tenant in [&one, &Tenant::shared()] {
            assert_eq!(budgets.ready_at(tenant, now), now);
            budgets.spend(tenant, now);
        }
        assert_eq!(budgets.ready_at(&one, now), now + Duration::from_secs(2));
        assert_eq!(budgets.ready_at(&other, now), now);
        assert_eq!(budgets.ready_at(&Tenant::shared(), now), now);
        budgets.resize(Some(1.0), now);
        assert_eq!(budgets.ready_at(&one, now), now + Duration::from_secs(1), "raised, but not filled");
        budgets.resize(None, now);
        assert_eq!(budgets.ready_at(&one, now), now);
    }

    #[tokio::test(start_paused = true)]
    async fn an_exhausted_budget_fills_with_time() {
        let now = Instant::now();
        let mut budgets = TenantBudgets::new(Some(0.5));
        let one = tenant("one");
        budgets.exhaust(now);
        let ready = now + Duration::from_secs(2);
        assert_eq!(budgets.ready_at(&one, now), ready);
        budgets.spend(&one, ready);
        assert_eq!(budgets.ready_at(&one, ready), ready + Duration::from_secs(2));
        assert_eq!(budgets.ready_at(&tenant("other"), ready), ready);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_have_sent_nothing_of_late_are_forgotten() {
        let mut budgets = TenantBudgets::new(Some(1.0));
        for n in 0..4 * MANY {
            budgets.spend(&tenant(&n.to_string()), Instant::now());
            tokio::time::advance(Duration::from_millis(20)).await;
        }
        assert!(budgets.budgets.len() <= MANY, "{}", budgets.budgets.len());
    }
}
