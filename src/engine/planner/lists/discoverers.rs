//! The part of the planner for those who discover the tasks of a scope: what they want of its list, and what they are told.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    super::{
        Planner,
        doubt::Subject,
        polled_task::{Place, PolledTask, Reading},
        tasks::TaskId,
    },
    discovery::{Known, Survey, within},
    scope::{After, Came, Scope},
};
use crate::domain::failure::{Failure, FailureClass};
use crate::engine::{Discovery, WatchKey};

impl Planner {
    /// Registers a discoverer, or changes what it wants. It is told what is known of the scope where that is new enough; else the list is
    /// asked for as soon as may be.
    pub fn discover(&mut self, key: WatchKey, wanted: &Discovery, now: Instant) {
        let Discovery { tenant, scope, period, .. } = wanted;
        if self.keys.contains_key(&key) || self.discoverers.get(&key).is_some_and(|old| **old != **scope) {
            self.forget(&key);
        }
        let (floor, ceiling) = (self.settings.min_period, self.settings.max_period);
        let (requests_per_get, lists) = (self.requests_per_get(), self.settings.lists);
        let state = self.scopes.get_or_insert(scope, || Scope::new(requests_per_get, tenant.clone()));
        let (was_known, before) = (self.discoverers.contains_key(&key), state.survey_period(floor, ceiling));
        let is_new = state.discover(key.clone(), wanted, || Survey::new(lists, self.catalogues.lease()));
        let Some((name, _)) = self.scopes.named(scope) else { return };
        self.discoverers.insert(key, Arc::clone(&name));
        self.review(&name, now);
        // A new ticket asks for a new look, as far as there may be one.
        let newest = if was_known { floor } else { within(*period, floor, ceiling) };
        if is_new && !self.tell_newcomers(&name, newest, now) {
            self.newcomer_bears_witness(tenant, Subject::Scope(Arc::clone(&name)), now);
            if let Some(trouble) = self.gate.trouble().filter(|_| self.gate.is_silent(now)) {
                let failure = Arc::new(trouble.failure.clone());
                self.tell_discoverers(&name, &failure, now);
            }
            let at = self.scopes.get(&name).map_or(now, |state| state.not_before(floor, now));
            return self.list_at(&name, at);
        }
        let Some(state) = self.scopes.get(&name) else { return };
        let period = state.survey_period(floor, ceiling);
        if period < before {
            let at = state.not_before(state.period(period, ceiling), now);
            self.list_at(&name, at);
        }
    }

    /// Forgets a discoverer; what is known of the scope goes with the last.
    pub(in super::super) fn forget_discoverer(&mut self, key: &WatchKey) {
        let Some(name) = self.discoverers.remove(key) else { return };
        match self.scopes.get_mut(&name).map_or(After::Nothing, |state| state.forget_discoverer(key)) {
            After::Nothing => {}
            After::Unlist => self.list_never(&name),
            After::Dismiss => self.dismiss(&name),
        }
    }

    /// The connection has other bounds; `renewed`: it leads elsewhere, or has another credential.
    pub(in super::super) fn review_discovered(&mut self, renewed: bool, now: Instant) {
        let lists = self.settings.lists;
        for name in self.scopes.names() {
            let Some(survey) = self.scopes.get_mut(&name).and_then(Scope::survey) else { continue };
            if renewed {
                survey.renew();
            }
            if !survey.set_lists(lists) {
                continue;
            }
            self.tell_newcomers(&name, self.settings.min_period, now);
            self.review(&name, now);
            if self.scopes.get(&name).is_some_and(Scope::is_listed) {
                self.list_at(&name, now);
            } else {
                self.list_never(&name);
            }
        }
    }

    /// A list is at its end.
    pub(super) fn survey_came(&mut self, scope: &str, came: Came, poll: u64, now: Instant) {
        let Some(survey) = self.scopes.get_mut(scope).and_then(Scope::discovered) else { return };
        match came {
            Came::Whole => survey.is_whole(poll, now, &mut self.found),
            // Where more is refused, that has been told.
            Came::Cut if !survey.is_troubled() => {
                survey.troubled(&Arc::new(Failure::new(FailureClass::InvalidAnswer, NO_END)), now, &mut self.found);
            }
            Came::Cut | Came::Left | Came::GoesOn => {}
        }
    }

    /// Those who discover the tasks of a scope are told why these cannot be listed.
    pub(in super::super) fn tell_discoverers(&mut self, scope: &str, failure: &Arc<Failure>, now: Instant) {
        if let Some(survey) = self.scopes.get_mut(scope).and_then(Scope::discovered) {
            survey.troubled(failure, now, &mut self.found);
        }
    }

    /// All who discover are told why nothing can be asked for.
    pub(in super::super) fn tell_all_discoverers(&mut self, failure: &Arc<Failure>, now: Instant) {
        if self.discoverers.is_empty() {
            return;
        }
        for name in self.scopes.names() {
            self.tell_discoverers(&name, failure, now);
        }
    }

    fn tell_newcomers(&mut self, scope: &str, newest: std::time::Duration, now: Instant) -> bool {
        let survey = self.scopes.get_mut(scope).and_then(Scope::survey);
        survey.is_some_and(|survey| survey.tell_newcomers(newest, now, &mut self.found))
    }

    /// Tells somebody who has come to watch a task what a list has shown of it of late, where somebody discovers the tasks. Returns whether
    /// it did; the task then waits for its next turn.
    pub(in super::super) fn show_newcomer(&mut self, id: TaskId, key: &WatchKey, now: Instant) -> bool {
        if self.discoverers.is_empty() {
            return false;
        }
        let Some(polled) = self.tasks.get_mut(id) else { return false };
        let Some(state) = self.scopes.get_mut(&polled.task().scope) else { return false };
        let known = state.discovered().and_then(|survey| survey.shown(&polled.task().id, now));
        let Some(Known { task, at, next_job, seen, print }) = known else { return false };
        let (has_parts, is_part) = (!task.subtasks.is_empty(), task.parent_id.is_some());
        let is_first = !polled.is_seen();
        if !polled.was_shown(key, task, next_job, at, &mut self.out) {
            return false;
        }
        if is_first {
            // As if the list had shown it to this one: what it shows unchanged need not be read again.
            if has_parts {
                polled.has_part(seen);
            }
            polled.is_shown(seen, Reading::Unchanged);
            polled.keep_print((!is_part).then_some(print));
            if !is_part {
                state.remember(print, id);
            }
        }
        let is_idle = polled.place() == Place::Done;
        if is_idle && !self.tasks.get(id).is_some_and(PolledTask::is_settled) {
            self.await_turn(id, now);
        }
        true
    }
}

const NO_END: &str = "The upstream's list cannot be read to its end: it offers further pages and refuses to give them, or its pages never end";
