//! The part of the planner that serves all tasks of a scope from one list: which scopes are, and when their lists are due.
//!
//! What a scope knows and decides for itself is in `scope`, a list in progress in `run`; `pages` takes in what comes, `known` says while a
//! list arrives what of it need not be decoded. A list is read for those who discover tasks, too: `discoverers` says what becomes of that
//! here, `discovery` what is known of all tasks of a scope and who has been told it, `recent` keeps those that were shown of late.

mod discoverers;
mod discovery;
mod known;
mod pages;
mod recent;
mod run;
mod scope;
mod scopes;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

#[cfg(test)]
pub(super) use self::discovery::Survey;
use self::scope::{After, Move};
pub(super) use self::{scope::Scope, scopes::Scopes};
use super::{
    Planner,
    polled_task::{Place, PolledTask},
    schedule::Item,
    tasks::TaskId,
};
use crate::domain::task::TaskRef;
use crate::engine::coalesce::{Mode, ModeChoice};
use crate::tenancy::Tenant;

/// Up to so many new watches are asked for singly at once, even where a list serves the scope.
const FRESH_BY_GET: usize = 4;
/// Most lists of a connection that are read at a time: each may hold megabytes of an upstream's text.
const LISTS_AT_A_TIME: usize = 2;
/// A list that has to wait for others is looked at again after this time.
const LIST_TURN: Duration = Duration::from_millis(250);

impl Planner {
    /// Keeps the scope's counts in step with a move of one of its tasks, from a place in a tenant's turn to another.
    pub(super) fn placed(&mut self, id: TaskId, task: &TaskRef, from: (Place, Tenant), to: Place) {
        let lane = self.tasks.get(id).map_or_else(|| from.1.clone(), |polled| polled.lane().clone());
        let requests_per_get = self.requests_per_get();
        let scope = self.scopes.get_or_insert(&task.scope, || Scope::new(requests_per_get, lane.clone()));
        match scope.moved(id, &Move { from, to: (to, lane) }) {
            After::Nothing => {}
            After::Unlist => self.list_never(&task.scope),
            After::Dismiss => self.dismiss(&task.scope),
        }
    }

    /// How many requests a look at one task takes: its parts, where they are asked for, are another.
    fn requests_per_get(&self) -> u32 {
        1 + u32::from(self.settings.subtasks)
    }

    /// Forgets a scope that is not needed.
    fn dismiss(&mut self, scope: &str) {
        self.list_never(scope);
        self.scopes.remove(scope);
    }

    /// Chooses anew how a scope is polled, and carries the change out.
    pub(super) fn review(&mut self, scope: &str, now: Instant) {
        let Some((name, state)) = self.scopes.named(scope) else { return };
        let mode = match self.settings.mode {
            _ if !self.settings.lists => Mode::Get,
            ModeChoice::Get => Mode::Get,
            ModeChoice::List => Mode::List,
            ModeChoice::Auto => state.choose(now),
        };
        if mode == state.mode() {
            return;
        }
        let moved: Vec<_> = match mode {
            Mode::List => {
                let is_due =
                    |polled: &PolledTask| matches!(polled.place(), Place::Due(_)) && polled.task().scope == *name;
                self.tasks.iter().filter(|(_, polled)| is_due(polled) && !polled.is_solo()).map(|(id, _)| id).collect()
            }
            Mode::Get => state.listed().collect(),
        };
        if let Some(state) = self.scopes.get_mut(&name) {
            state.set_mode(mode);
        }
        for id in moved {
            match mode {
                Mode::List => self.put(id, Place::Listed),
                Mode::Get => self.spread(id, now),
            }
        }
        match mode {
            Mode::List => self.list_at(&name, now),
            Mode::Get if self.scopes.get(&name).is_some_and(Scope::is_discovered) => {}
            Mode::Get => self.list_never(&name),
        }
    }

    /// Whether a new watch is better served by its scope's list than by a request of its own; if so, leaves it to that.
    pub(super) fn leave_to_list(&mut self, id: TaskId, now: Instant) -> bool {
        let Some(polled) = self.tasks.get(id) else { return false };
        let Some((name, scope)) = self.scopes.named(&polled.task().scope) else { return false };
        if scope.mode() != Mode::List
            || !scope.lists_work()
            || polled.is_solo()
            || self.schedule.new_len(polled.lane()) < FRESH_BY_GET
        {
            return false;
        }
        let soonest = scope.soonest(now);
        self.put(id, Place::Listed);
        self.list_at(&name, soonest);
        true
    }

    /// Has the scope's list asked for at `at` or earlier, where it is wanted; nothing while one is in progress: its end says
    /// when the next is due.
    pub(super) fn list_at(&mut self, scope: &Arc<str>, at: Instant) {
        let Some(change) = self.scopes.get_mut(scope).and_then(|state| state.list_at(at)) else { return };
        if let Some(was) = change.was {
            self.schedule.remove_due(&change.from, was, Item::Scope(Arc::clone(scope)));
        }
        if change.from != change.to {
            self.demand.add(&change.from, -change.demand);
            self.demand.add(&change.to, change.demand);
        }
        self.schedule.put_due(&change.to, at, Item::Scope(Arc::clone(scope)));
    }

    /// Takes the scope's list out of the queue.
    fn list_never(&mut self, scope: &str) {
        self.unschedule_list(scope);
        if let Some(state) = self.scopes.get_mut(scope) {
            let (lane, less) = state.want(0.0);
            self.demand.add(lane, less);
        }
    }

    fn unschedule_list(&mut self, scope: &str) {
        if let Some((name, due, lane)) = self.scopes.unschedule(scope) {
            self.schedule.remove_due(lane, due, Item::Scope(name));
        }
    }

    /// Whether the scope's list has to wait for others that are being read; it is looked at again soon.
    pub(super) fn put_off_list(&mut self, scope: &Arc<str>, now: Instant) -> bool {
        let waits = self.scopes.running() >= LISTS_AT_A_TIME;
        if waits {
            self.put_off_list_until(scope, now + LIST_TURN);
        }
        waits
    }

    /// The scope's list, whose turn it was, is due at `at` instead.
    pub(super) fn put_off_list_until(&mut self, scope: &Arc<str>, at: Instant) {
        if let Some(state) = self.scopes.get_mut(scope) {
            state.is_taken();
        }
        self.list_at(scope, at);
    }

    /// The scope's list, if it is due, is so at `at` at the earliest.
    pub(super) fn list_not_before(&mut self, scope: &Arc<str>, at: Instant) {
        if self.scopes.get(scope).and_then(Scope::due).is_some_and(|due| due < at) {
            self.unschedule_list(scope);
            self.list_at(scope, at);
        }
    }

    /// The scope's list is about to be asked for.
    pub(super) fn begin_run(&mut self, scope: &Arc<str>, now: Instant) {
        self.unschedule_list(scope);
        if let Some(state) = self.scopes.get_mut(scope) {
            state.begin(now);
        }
    }
}
