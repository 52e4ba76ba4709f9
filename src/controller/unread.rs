//! Observations that no worker has looked at yet. Each takes a kilobyte or more: lists are read no faster than they are taken up. Whoever
//! has many of them waiting holds up its own lists, not those of others.

use std::collections::HashMap;

use crate::tenancy::Tenant;

/// So many may wait of one tenant.
const OF_ONE: usize = 1_000;
/// So many in all; beyond that each tenant may have [`FLOOR`].
const OF_ALL: usize = 4_000;
const FLOOR: usize = 100;

/// How many wait, by the tenant whose connection brought them.
#[derive(Debug, Default)]
pub struct Unread {
    total: usize,
    tenants: HashMap<Tenant, usize>,
}

impl Unread {
    /// One more waits.
    pub fn add(&mut self, tenant: Tenant) {
        self.total += 1;
        *self.tenants.entry(tenant).or_default() += 1;
    }

    /// One has been looked at, or is not wanted any more.
    pub fn remove(&mut self, tenant: &Tenant) {
        let Some(count) = self.tenants.get_mut(tenant) else { return };
        self.total -= 1;
        *count -= 1;
        if *count == 0 {
            self.tenants.remove(tenant);
        }
    }

    /// How many more of this tenant may come.
    #[must_use]
    pub fn room(&self, tenant: &Tenant) -> usize {
        let most = OF_ALL.saturating_sub(self.total).clamp(FLOOR, OF_ONE);
        most.saturating_sub(self.of(tenant))
    }

    /// Whether so many wait that what is not known of this tenant's tasks may be our own slowness.
    #[must_use]
    pub fn is_busy(&self, tenant: &Tenant) -> bool {
        self.of(tenant) > OF_ONE / 2 || self.total > OF_ALL / 2
    }

    fn of(&self, tenant: &Tenant) -> usize {
        self.tenants.get(tenant).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn who_has_many_waiting_holds_up_nobody_else() {
        let tenant = |name: &str| Tenant::namespace(&Arc::from(name));
        let mut unread = Unread::default();
        for _ in 0..10_000 {
            unread.add(tenant("hot"));
        }
        assert_eq!((unread.room(&tenant("hot")), unread.room(&tenant("calm"))), (0, FLOOR));
        for _ in 0..9_000 {
            unread.remove(&tenant("hot"));
        }
        assert_eq!((unread.room(&tenant("hot")), unread.room(&tenant("calm"))), (0, OF_ONE));
        assert!(unread.is_busy(&tenant("hot")) && !unread.is_busy(&tenant("calm")));
        for _ in 0..1_000 {
            unread.remove(&tenant("hot"));
        }
        unread.remove(&tenant("hot"));
        assert_eq!((unread.total, unread.tenants.len(), unread.room(&tenant("hot"))), (0, 0, OF_ONE));
    }
}
