//! The pages of a list come, or do not: what they show is applied, and the next list is given its time.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    super::{Planner, Step, polled_task::Place, tasks::TaskId},
    discovery::{Reading, Survey},
    scope::{Came, Failed, Scope},
};
use crate::domain::{
    cadence,
    failure::{Failure, FailureClass},
    task::TaskRef,
};
use crate::providers::Page;

impl Planner {
    /// A slice of a page came, of which there is more.
    pub fn slice_came(&mut self, job: u64, scope: &str, slice: Page, now: Instant) {
        let reading = Reading { poll: self.gate.poll_of(job).unwrap_or(job), next_job: self.gate.next_job(), now };
        let Some(state) = self.scopes.get_mut(scope) else { return };
        let tasks = state.sift(slice.tasks, &reading);
        if let Some(run) = state.run() {
            run.take(tasks);
        }
    }

    /// A page came: the next one is asked for, or the list is whole.
    pub(in super::super) fn page_came(&mut self, scope: &Arc<str>, page: Page, body: usize, poll: u64, now: Instant) {
        let reading = Reading { poll, next_job: self.gate.next_job(), now };
        let Some(state) = self.scopes.get_mut(scope) else { return };
        let page = Page { tasks: state.sift(page.tasks, &reading), ..page };
        let next = page.next.clone();
        match (state.page_came(page, body, now), next) {
            (None, _) => {}
            (Some(Came::GoesOn), Some(next)) => self.schedule.put_step(state.lane(), Step::page(scope, next, poll)),
            (Some(came), _) => {
                self.apply_run(scope, poll, now);
                self.confirm_missing(scope, poll, now);
                self.survey_came(scope, came, poll, now);
                self.end_run(scope, now);
            }
        }
    }

    /// A page did not come. `again`: for want of a token, or by a rate limit, so that the list is asked for as soon as that is mended.
    pub(in super::super) fn page_failed(
        &mut self,
        scope: &Arc<str>,
        is_first: bool,
        failure: &Failure,
        again: bool,
        poll: u64,
        now: Instant,
    ) {
        self.apply_run(scope, poll, now);
        if again {
            return self.restart_run(scope, now);
        }
        match self.scopes.get_mut(scope).map(|state| state.page_failed(failure, is_first, now)) {
            None => {}
            Some(Failed::Enough) => {
                self.confirm_missing(scope, poll, now);
                self.tell_discoverers(scope, &Arc::new(failure.clone()), now);
                self.end_run(scope, now);
            }
            Some(Failed::Told) => {
                let told = self.tell_listed(scope, failure, poll, now);
                self.tell_discoverers(scope, &Arc::new(failure.clone()), now);
                self.end_run(scope, now);
                if failure.class == FailureClass::UpstreamUnavailable
                    && let Some(id) = told.filter(|id| self.place(*id) == Place::Listed)
                {
                    // Is it the upstream or only the list? A single request tells.
                    self.put(id, Place::Due(now));
                }
            }
        }
    }

    /// Tells those who wait for the list of its failure. Returns the first of those who were.
    fn tell_listed(&mut self, scope: &str, failure: &Failure, poll: u64, now: Instant) -> Option<TaskId> {
        let reason = Arc::new(failure.clone());
        let mut first = None;
        for id in self.scopes.get(scope)?.listed() {
            let Some(polled) = self.tasks.get_mut(id).filter(|polled| polled.is_news(poll)) else { continue };
            polled.troubled(&reason, poll, now, &mut self.out);
            first = first.or(Some(id));
        }
        first
    }

    /// Drops the list in progress, and has it asked for anew.
    pub(in super::super) fn restart_run(&mut self, scope: &Arc<str>, now: Instant) {
        self.end_run(scope, now);
        if self.scopes.is_awaited(scope) {
            self.list_at(scope, now);
        }
    }

    /// What the list has shown so far is applied.
    fn apply_run(&mut self, scope: &Arc<str>, poll: u64, now: Instant) {
        let Some((shown, mut children)) = self.scopes.get_mut(scope).and_then(Scope::take_shown) else { return };
        let mut sought = TaskRef { scope: scope.to_string(), id: String::new() };
        for mut found in shown {
            sought.id.clone_from(&found.id);
            let Some(id) = self.tasks.id(&sought) else { continue };
            let Some(polled) = self.tasks.get_mut(id) else { continue };
            if !polled.is_waiting() {
                continue;
            }
            if let Some(children) = children.remove(&found.id) {
                Arc::make_mut(&mut found).adopt(children.into_iter().map(Arc::unwrap_or_clone).collect());
            }
            let print = polled.is_listed_again(!found.subtasks.is_empty(), poll);
            self.observe(id, found, poll, now);
            if let Some(polled) = self.tasks.get_mut(id) {
                polled.keep_print(print);
            }
            if let (Some(print), Some(state)) = (print, self.scopes.get_mut(scope)) {
                state.remember(print, id);
            }
        }
    }

    /// What a list should have shown and did not is asked for once by itself, before it counts as not found.
    fn confirm_missing(&mut self, scope: &Arc<str>, poll: u64, now: Instant) {
        let Some(state) = self.scopes.get(scope) else { return };
        let is_missing = |id: &TaskId| self.tasks.get(*id).is_some_and(|polled| polled.is_missed_by(poll));
        let missing: Vec<_> = state.listed().filter(is_missing).collect();
        for id in missing {
            if let Some(polled) = self.tasks.get_mut(id) {
                polled.is_missing_from_list();
            }
            self.put(id, Place::Due(now));
        }
    }

    /// Says when the scope's next list is due.
    pub(in super::super) fn end_run(&mut self, scope: &Arc<str>, now: Instant) {
        let Some(state) = self.scopes.get_mut(scope) else { return };
        let run = state.end(now);
        if !state.is_needed() {
            return self.dismiss(scope);
        }
        self.review(scope, now);
        let Some(state) = self.scopes.get_mut(scope) else { return };
        if !state.is_listed() {
            return self.list_never(scope);
        }
        let (floor, ceiling) = (self.settings.min_period, self.settings.max_period);
        let listed = || state.listed().filter_map(|id| self.tasks.get(id));
        let shortest = listed().map(|polled| polled.period(floor, ceiling, None, now)).min();
        let shortest = shortest.into_iter().chain(state.survey_period(floor, ceiling)).min();
        let is_owing = |is_seen: bool| listed().any(|polled| polled.is_owing() && polled.is_seen() == is_seen);
        let is_awaited = is_owing(false) || state.surveyed().is_some_and(Survey::is_owing);
        let (awaited, requested) = (state.lists_work() && is_awaited, state.lists_work() && is_owing(true));
        let period = state.period(shortest, ceiling);
        let (lane, more) = state.want(f64::from(run.size().0.max(1)) / period.as_secs_f64());
        self.demand.add(lane, more);
        let stretch = self.demand.stretch_of(lane, self.gate.rate());
        let next = cadence::stretched(period, stretch, cadence::seed(scope), state.next_turn());
        let at = state.not_before(run.spacing(next, awaited, requested, floor), now);
        state.forget_prints(|print, id| self.tasks.get(id).is_some_and(|polled| polled.is_of(print)));
        self.list_at(scope, at);
    }
}
