//! What the tests ask of a planner's inside: whether its parts are in step, and what it still holds.

use std::collections::{HashMap, HashSet};

use super::{
    Item, JobKind, Place, Planner, PolledTask,
    lists::{Scope, Survey},
};
use crate::engine::coalesce::Mode;
use crate::tenancy::Tenant;

/// What a planner holds.
#[derive(Clone, Copy, Debug)]
pub struct Holdings {
    pub tasks: usize,
    pub scopes: usize,
    /// Tasks and lists that wait for their time, and new tasks.
    pub waiting: (usize, usize),
    pub has_steps: bool,
    pub demand: f64,
}

impl Planner {
    /// What it still holds.
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        Holdings {
            tasks: self.tasks.len(),
            scopes: self.scopes.len(),
            waiting: self.schedule.waiting(),
            has_steps: self.schedule.has_steps(),
            demand: self.demand.total(),
        }
    }

    /// Panics where two parts of the planner say different things.
    pub fn assert_in_step(&self) {
        self.assert_entries_have_their_places();
        self.assert_scopes_know_their_tasks();
        self.assert_flights_are_known();
        self.assert_watches_have_their_tasks();
        self.assert_demand_is_the_sum();
        self.assert_the_gate_knows_what_was_good();
        self.assert_discoverers_have_their_scopes();
    }

    /// Who discovers, and whose list is read for that.
    fn assert_discoverers_have_their_scopes(&self) {
        let mut discoverers = 0;
        for (name, scope) in self.scopes.iter() {
            let Some(survey) = scope.surveyed() else { continue };
            survey.assert_in_step();
            assert_eq!(survey.lists(), self.settings.lists, "{name}");
            assert!(!survey.lists() || scope.is_running() || scope.due().is_some(), "the list of {name} is forgotten");
            for (key, _) in survey.tenants() {
                discoverers += 1;
                assert_eq!(self.discoverers.get(key), Some(name), "{key}");
            }
        }
        assert_eq!(discoverers, self.discoverers.len(), "discoverers without their scope");
    }

    /// What has been good with the present credential is no news to the gate.
    fn assert_the_gate_knows_what_was_good(&self) {
        let goods = self.tasks.values().map(PolledTask::good).chain(self.scopes.iter().map(|(_, scope)| scope.good()));
        for good in goods {
            assert!(!self.gate.is_current(good) || self.gate.has_been_good(), "good by {good}");
        }
    }

    /// Each place that waits is in the schedule once, and nothing else is.
    fn assert_entries_have_their_places(&self) {
        let (mut due, mut new) = (0, 0);
        for (id, polled) in self.tasks.iter() {
            match polled.place() {
                Place::Due(at) => {
                    due += 1;
                    assert!(self.schedule.has_due(polled.lane(), at, &Item::Task(id)), "not in the queue: {polled:?}");
                }
                Place::Fresh(arrival) => {
                    new += 1;
                    assert!(self.schedule.has_new(polled.lane(), arrival, id), "not among the new ones: {polled:?}");
                }
                Place::Listed | Place::InFlight | Place::Done => {}
            }
        }
        for (name, scope) in self.scopes.iter() {
            if let Some(at) = scope.due() {
                due += 1;
                let item = Item::Scope(name.clone());
                assert!(self.schedule.has_due(scope.lane(), at, &item), "not in the queue: {scope:?}");
                assert!(scope.is_listed() && !scope.is_running(), "no list is due: {scope:?}");
                assert!(scope.is_discovered() || scope.mode() == Mode::List, "no task waits for a list: {scope:?}");
            }
        }
        assert_eq!(self.schedule.waiting(), (due, new), "the schedule has what nothing waits for");
    }

    fn assert_scopes_know_their_tasks(&self) {
        let mut members: HashMap<&str, HashMap<Tenant, usize>> = HashMap::new();
        let mut listed: HashMap<&str, HashSet<_>> = HashMap::new();
        for (id, polled) in self.tasks.iter().filter(|(_, polled)| polled.is_polled()) {
            let scope = polled.task().scope.as_str();
            *members.entry(scope).or_default().entry(polled.lane().clone()).or_default() += 1;
            if polled.place() == Place::Listed {
                listed.entry(scope).or_default().insert(id);
            }
        }
        for (name, scope) in self.scopes.iter() {
            let mut tenants = members.remove(&**name).unwrap_or_default();
            assert_eq!(scope.members(), tenants.values().sum::<usize>(), "members of {name}");
            for (_, tenant) in scope.surveyed().into_iter().flat_map(Survey::tenants) {
                *tenants.entry(tenant.clone()).or_default() += 1;
            }
            assert_eq!(*scope.tenants(), tenants, "tenants of {name}");
            assert_eq!(
                scope.listed().collect::<HashSet<_>>(),
                listed.remove(&**name).unwrap_or_default(),
                "what waits for the list of {name}"
            );
            assert!(scope.is_needed() || scope.is_running(), "{name} is not needed");
        }
        assert!(members.is_empty(), "tasks without their scopes: {members:?}");
    }

    fn assert_flights_are_known(&self) {
        for (number, job) in self.gate.numbered_flights() {
            assert!(number < self.gate.next_job() && job.poll <= number, "{job:?}");
            match &job.kind {
                // One with an older credential is not waited for.
                JobKind::Authenticate if !self.gate.is_current(number) => {}
                JobKind::Authenticate => assert!(self.gate.awaits_token(), "a token that nobody waits for"),
                JobKind::Get(task) | JobKind::Subtasks(task) => {
                    let place = self.tasks.id(task).map(|id| self.place(id));
                    assert_eq!(place, Some(Place::InFlight), "{task:?}");
                }
                JobKind::List(scope, _) => {
                    assert!(self.scopes.get(scope).is_some_and(Scope::is_running), "no run of {scope}");
                }
            }
        }
    }

    fn assert_watches_have_their_tasks(&self) {
        let subscribers = self.tasks.values().map(|polled| polled.keys().count()).sum::<usize>();
        assert_eq!(subscribers, self.keys.len());
        for (key, id) in &self.keys {
            let polled = self.tasks.get(*id);
            assert!(polled.is_some_and(|polled| polled.keys().any(|subscriber| subscriber == key)), "{key}");
        }
    }

    fn assert_demand_is_the_sum(&self) {
        let tasks = self.tasks.values().map(|polled| (polled.lane(), polled.demand()));
        let scopes = self.scopes.iter().map(|(_, scope)| (scope.lane(), scope.demand()));
        let mut sums: HashMap<&Tenant, f64> = HashMap::new();
        tasks.chain(scopes).for_each(|(tenant, demand)| *sums.entry(tenant).or_default() += demand);
        for (tenant, sum) in &sums {
            assert!((self.demand.of(tenant) - sum).abs() < 1e-6, "{tenant:?}: {} of {sum}", self.demand.of(tenant));
        }
        assert!((self.demand.total() - sums.values().sum::<f64>()).abs() < 1e-6, "{}", self.demand.total());
    }
}
