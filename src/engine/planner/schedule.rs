//! What is next: the work of each tenant by its time, and whose turn it is. Where several tenants have work they take turns, a request
//! each, so that none of them waits behind another's thousands.
//!
//! Within a tenant, first to last: what continues a poll that has begun (sub-tasks, further pages), new watches, what is due. Every
//! fourth turn goes to what is due, so that a stream of new watches starves nobody.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use tokio::time::Instant;

use super::{Step, tasks::TaskId};
use crate::tenancy::{Tenant, share};

/// What waits for its time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    Task(TaskId),
    Scope(Arc<str>),
}

/// What is next, taken out of the schedule.
#[allow(clippy::large_enum_variant, reason = "at once taken apart")]
#[derive(Debug)]
pub(super) enum Next {
    Step(Step),
    New(TaskId),
    /// It was due at that time.
    Due(Instant, Item),
}

/// What waits, as it stands in the schedule.
#[derive(Debug)]
pub(super) enum Waiting<'s> {
    Step(&'s Step),
    New(TaskId),
    /// It is due at that time.
    Due(Instant, &'s Item),
}

/// The work of all tenants.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    lanes: HashMap<Tenant, Lane>,
    /// The tenants that have a lane, whose turn comes first.
    turns: VecDeque<Tenant>,
    arrivals: u64,
}

/// The work of one tenant.
#[derive(Debug, Default)]
struct Lane {
    steps: VecDeque<Step>,
    /// In the order of their coming.
    new: BTreeMap<u64, TaskId>,
    due: BTreeSet<(Instant, Item)>,
    turn: u8,
}

impl Schedule {
    /// Has an item asked for at that time.
    pub(super) fn put_due(&mut self, tenant: &Tenant, at: Instant, item: Item) {
        self.lane(tenant).due.insert((at, item));
    }

    /// Takes an item out again.
    pub(super) fn remove_due(&mut self, tenant: &Tenant, at: Instant, item: Item) {
        self.change(tenant, |lane| {
            lane.due.remove(&(at, item));
        });
    }

    /// Puts a task behind the new ones that are there. Returns its place among them.
    pub(super) fn put_new(&mut self, tenant: &Tenant, id: TaskId) -> u64 {
        self.arrivals += 1;
        let arrival = self.arrivals;
        self.lane(tenant).new.insert(arrival, id);
        arrival
    }

    /// Takes a new task out again.
    pub(super) fn remove_new(&mut self, tenant: &Tenant, arrival: u64) {
        self.change(tenant, |lane| {
            lane.new.remove(&arrival);
        });
    }

    /// How many new tasks a tenant has.
    pub(super) fn new_len(&self, tenant: &Tenant) -> usize {
        self.lanes.get(tenant).map_or(0, |lane| lane.new.len())
    }

    /// Has a poll continued that has begun.
    pub(super) fn put_step(&mut self, tenant: &Tenant, step: Step) {
        self.lane(tenant).steps.push_back(step);
    }

    /// Takes out all steps; or those alone that are not needed any more.
    pub(super) fn take_steps(&mut self, is_needed: impl Fn(&Step) -> bool) -> Vec<Step> {
        let mut taken = Vec::new();
        for lane in self.lanes.values_mut() {
            let (kept, dropped) = std::mem::take(&mut lane.steps).into_iter().partition(&is_needed);
            lane.steps = kept;
            let dropped: VecDeque<Step> = dropped;
            taken.extend(dropped);
        }
        self.drop_empty_lanes();
        taken
    }

    /// Whether any poll waits to be continued.
    pub(super) fn has_steps(&self) -> bool {
        self.lanes.values().any(|lane| !lane.steps.is_empty())
    }

    /// How many tenants have work that waits.
    pub(super) fn tenants(&self) -> usize {
        self.lanes.len()
    }

    /// Whether this tenant has.
    pub(super) fn has(&self, tenant: &Tenant) -> bool {
        self.lanes.contains_key(tenant)
    }

    /// When there is something to ask for; not in the future means now. `earliest` says when a tenant may ask; none: not before an answer
    /// comes.
    pub(super) fn next_at(&self, now: Instant, earliest: impl Fn(&Tenant) -> Option<Instant>) -> Option<Instant> {
        let at = |lane: &Lane| if lane.is_ready_at_once() { Some(now) } else { lane.due.first().map(|(at, _)| *at) };
        self.lanes.iter().filter_map(|(tenant, lane)| Some(at(lane)?.max(earliest(tenant)?))).min()
    }

    /// Takes out what is next, of the tenant whose turn it is among those that may ask now.
    pub(super) fn take(
        &mut self,
        now: Instant,
        earliest: impl Fn(&Tenant) -> Option<Instant>,
    ) -> Option<(Tenant, Next)> {
        let may = |tenant: &Tenant| earliest(tenant).is_some_and(|at| at <= now);
        let is_next = |tenant: &Tenant| may(tenant) && self.lanes.get(tenant).is_some_and(|lane| lane.is_ready(now));
        let at = self.turns.iter().position(is_next)?;
        let tenant = self.turns.remove(at)?;
        self.turns.push_back(tenant.clone());
        let next = self.lanes.get_mut(&tenant).and_then(|lane| lane.take(now))?;
        self.change(&tenant, |_| ());
        Some((tenant, next))
    }

    /// How much waits in all.
    pub(super) fn len(&self) -> usize {
        self.lanes.values().map(|lane| lane.steps.len() + lane.new.len() + lane.due.len()).sum()
    }

    /// What waits: of each tenant, the first `most` of each kind.
    pub(super) fn first(&self, most: usize) -> impl Iterator<Item = (&Tenant, Waiting<'_>)> {
        self.lanes.iter().flat_map(move |(tenant, lane)| {
            let steps = lane.steps.iter().take(most).map(Waiting::Step);
            let new = lane.new.values().take(most).map(|id| Waiting::New(*id));
            let due = lane.due.iter().take(most).map(|(at, item)| Waiting::Due(*at, item));
            steps.chain(new).chain(due).map(move |waiting| (tenant, waiting))
        })
    }

    /// How many tasks and lists wait for their time, and how many tasks are new.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> (usize, usize) {
        let lanes = self.lanes.values();
        lanes.fold((0, 0), |(due, new), lane| (due + lane.due.len(), new + lane.new.len()))
    }

    /// Whether an item waits there for that time.
    #[cfg(test)]
    pub(super) fn has_due(&self, tenant: &Tenant, at: Instant, item: &Item) -> bool {
        self.lanes.get(tenant).is_some_and(|lane| lane.due.contains(&(at, item.clone())))
    }

    /// Whether a task is there among the new ones, by its arrival.
    #[cfg(test)]
    pub(super) fn has_new(&self, tenant: &Tenant, arrival: u64, id: TaskId) -> bool {
        self.lanes.get(tenant).is_some_and(|lane| lane.new.get(&arrival) == Some(&id))
    }

    fn lane(&mut self, tenant: &Tenant) -> &mut Lane {
        if !self.lanes.contains_key(tenant) {
            self.turns.push_back(tenant.clone());
        }
        self.lanes.entry(tenant.clone()).or_default()
    }

    fn change(&mut self, tenant: &Tenant, change: impl FnOnce(&mut Lane)) {
        let Some(lane) = self.lanes.get_mut(tenant) else { return };
        change(lane);
        if lane.is_empty() {
            self.drop_empty_lanes();
        }
    }

    fn drop_empty_lanes(&mut self) {
        // The turn of the only tenant need not be kept; to make its lane anew for each request would be waste.
        if self.lanes.len() > 1 {
            self.lanes.retain(|_, lane| !lane.is_empty());
            self.turns.retain(|tenant| self.lanes.contains_key(tenant));
        }
    }
}

impl Lane {
    fn is_empty(&self) -> bool {
        !self.is_ready_at_once() && self.due.is_empty()
    }

    fn is_ready_at_once(&self) -> bool {
        !self.steps.is_empty() || !self.new.is_empty()
    }

    fn is_ready(&self, now: Instant) -> bool {
        self.is_ready_at_once() || self.due.first().is_some_and(|(at, _)| *at <= now)
    }

    fn take(&mut self, now: Instant) -> Option<Next> {
        if let Some(step) = self.steps.pop_front() {
            return Some(Next::Step(step));
        }
        self.turn = (self.turn + 1) % 4;
        let is_due = self.due.first().is_some_and(|(at, _)| *at <= now);
        if !(self.turn == 0 && is_due)
            && let Some((_, id)) = self.new.pop_first()
        {
            return Some(Next::New(id));
        }
        let (at, item) = self.due.pop_first().filter(|_| is_due)?;
        Some(Next::Due(at, item))
    }
}

/// What the tenants want in the long run, in requests per second.
#[derive(Debug, Default)]
pub(super) struct Demand {
    tenants: HashMap<Tenant, f64>,
    total: f64,
}

impl Demand {
    /// Less than this is a rounding error.
    const LEAST: f64 = 1e-9;

    /// A tenant wants so much more, or less.
    pub(super) fn add(&mut self, tenant: &Tenant, more: f64) {
        if more == 0.0 {
            return;
        }
        self.total += more;
        let demand = self.tenants.entry(tenant.clone()).or_default();
        *demand += more;
        if *demand < Self::LEAST {
            self.tenants.remove(tenant);
        }
        if self.tenants.is_empty() {
            self.total = 0.0;
        }
    }

    /// The sum.
    #[cfg(test)]
    pub(super) fn total(&self) -> f64 {
        self.total
    }

    /// By how much all periods would have to be stretched to fit into `rate`; 1 is not at all.
    pub(super) fn stretch(&self, rate: f64) -> f64 {
        (self.total / rate).max(1.0)
    }

    /// What a tenant wants, in requests per second.
    pub(super) fn of(&self, tenant: &Tenant) -> f64 {
        self.tenants.get(tenant).copied().unwrap_or_default()
    }

    /// By how much those of a tenant are: who wants less than its share is not stretched for those who want more.
    pub(super) fn stretch_of(&self, tenant: &Tenant, rate: f64) -> f64 {
        if self.total <= rate || self.tenants.len() < 2 {
            return self.stretch(rate);
        }
        let level = share::level(self.tenants.values().copied(), rate);
        self.tenants.get(tenant).map_or(1.0, |demand| (demand / level).max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_nothing_any_more_is_forgotten() {
        let [one, other] = ["one", "other"].map(|name| Tenant::namespace(&Arc::from(name)));
        let mut demand = Demand::default();
        demand.add(&one, 3.0);
        demand.add(&other, 0.1);
        assert!(demand.stretch_of(&one, 1.0) > 3.0 && demand.stretch_of(&other, 1.0) <= 1.0);
        // What is left by rounding is nothing.
        demand.add(&one, -2.9);
        demand.add(&one, 1e-12 - 0.1);
        assert_eq!(demand.tenants.keys().collect::<Vec<_>>(), [&other]);
        demand.add(&other, -0.1);
        assert!(demand.tenants.is_empty() && demand.total().abs() < 1e-9);
    }
}
