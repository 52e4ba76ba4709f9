//! The part of the planner that says how many requests may be in flight, and whose.

use std::collections::HashMap;

use super::{Planner, Running};
use crate::tenancy::Tenant;

/// Who may have one more request in flight.
pub(super) struct Places<'p> {
    jobs: &'p HashMap<u64, Running>,
    is_shared: bool,
    limit: usize,
}

impl<'p> Places<'p> {
    pub(super) fn of(jobs: &'p HashMap<u64, Running>, is_shared: bool, limit: usize) -> Self {
        Self { jobs, is_shared, limit }
    }

    /// Where there are several tenants, each may have as many in flight as are free: so none of them fills all places with requests that
    /// are not answered.
    pub(super) fn are_free_for(&self, tenant: &Tenant) -> bool {
        if !self.is_shared || self.jobs.is_empty() {
            return true;
        }
        let own = self.jobs.values().filter(|job| job.tenant.as_ref() == Some(tenant)).count();
        own < self.limit.saturating_sub(self.jobs.len()).max(1)
    }
}

impl Planner {
    /// Whether nothing more can be sent before an answer comes.
    pub(super) fn is_occupied(&self) -> bool {
        self.jobs.len() >= self.in_flight_limit() || self.access.is_waiting()
    }

    pub(super) fn in_flight_limit(&self) -> usize {
        let limit = self.settings.max_in_flight.max(1);
        if self.ask_first.is_some() {
            return limit;
        }
        let is_careful = self.hold.is_probing() || !self.access.is_proven() || self.doubt.is_open();
        // Of two tenants each may try: one whose request is not answered does not hold up the other.
        if is_careful { limit.min(if self.is_shared() { 2 } else { 1 }) } else { limit }
    }

    /// Whether there are several tenants with requests that wait or are in flight.
    pub(super) fn is_shared(&self) -> bool {
        let in_flight = self.jobs.values().filter_map(|job| job.tenant.as_ref());
        let others = in_flight.filter(|tenant| !self.schedule.has(tenant));
        let waiting = self.schedule.tenants();
        waiting > 1 || waiting == 1 && others.count() > 0
    }

    pub(super) fn places(&self) -> Places<'_> {
        Places::of(&self.jobs, self.is_shared(), self.in_flight_limit())
    }
}
