//! Observations that no worker has looked at yet: bounded in all, and shared fairly by tenants.

use std::collections::HashMap;

use crate::tenancy::Tenant;

/// So many may wait for a worker before lists are read no further: each takes a kilobyte or more.
const MOST: usize = 1_000;

/// How many there are.
#[derive(Debug, Default)]
pub(super) struct Unread {
    total: usize,
    /// None is zero.
    tenants: HashMap<Tenant, usize>,
}

impl Unread {
    /// One more.
    pub(super) fn add(&mut self, tenant: Tenant) {
        self.total += 1;
        *self.tenants.entry(tenant).or_default() += 1;
    }

    /// One less.
    pub(super) fn remove(&mut self, tenant: &Tenant) {
        if let Some(count) = self.tenants.get_mut(tenant) {
            self.total = self.total.saturating_sub(1);
            *count -= 1;
            if *count == 0 {
                self.tenants.remove(tenant);
            }
        }
    }

    /// Whether so many wait that what is not known of this tenant's tasks may be our own slowness.
    pub(super) fn is_busy(&self, tenant: &Tenant) -> bool {
        self.of(tenant) > MOST / 4 || self.total > MOST * 3 / 4
    }

    /// How many more a tenant may have: as many as are free then, so that there is always something left for others.
    pub(super) fn room(&self, tenant: &Tenant) -> usize {
        let free = MOST.saturating_sub(self.total);
        (free + 1).saturating_sub(self.of(tenant)) / 2
    }

    fn of(&self, tenant: &Tenant) -> usize {
        self.tenants.get(tenant).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_tenant_has_half_of_all_and_leaves_room_for_others() {
        let [greedy, other] = ["greedy", "other"].map(|name| Tenant::namespace(&Arc::from(name)));
        let mut unread = Unread::default();
        while unread.room(&greedy) > 0 {
            unread.add(greedy.clone());
        }
        assert_eq!((unread.total, unread.room(&other)), (MOST / 2, MOST / 4));
        assert_eq!((unread.is_busy(&greedy), unread.is_busy(&other)), (true, false));
        while unread.room(&other) > 0 {
            unread.add(other.clone());
        }
        assert!(unread.total < MOST * 4 / 5, "{unread:?}");
        for _ in 0..MOST {
            unread.remove(&greedy);
        }
        assert_eq!(unread.tenants.len(), 1);
        assert_eq!(unread.total, unread.tenants[&other]);
    }
}
