//! The part of the planner that lets each polled task wait in its place: among the new ones, for its time, or for its scope's list.
//! [`Planner::put`] alone moves a task; it keeps everything in step that counts or holds tasks.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Planner, Step,
    job::JobKind,
    polled_task::{Place, PolledTask},
    schedule::Item,
    tasks::TaskId,
};
use crate::domain::cadence;
use crate::engine::coalesce::Mode;

impl Planner {
    /// Has a task asked for by itself.
    pub(super) fn get(&mut self, id: TaskId, now: Instant) -> Option<Step> {
        self.put(id, Place::InFlight);
        if let Some(polled) = self.tasks.get_mut(id) {
            polled.is_asked(now);
        }
        let task = Arc::clone(self.tasks.get(id)?.task());
        Some(Step::first(JobKind::Get(task)))
    }

    /// Removes a task that nobody watches any more. Returns whether it did.
    pub(super) fn sweep(&mut self, id: TaskId) -> bool {
        let unwatched = self.tasks.get(id).is_some_and(|polled| !polled.is_watched());
        if unwatched {
            self.put(id, Place::Done);
            self.tasks.remove(id);
        }
        unwatched
    }

    /// Lets a task wait for its next poll: in the queue, or for its scope's list.
    pub(super) fn await_turn(&mut self, id: TaskId, now: Instant) {
        let Some(task) = self.tasks.get(id).map(|polled| Arc::clone(polled.task())) else { return };
        self.review(&task.scope, now);
        let Some(polled) = self.tasks.get_mut(id) else { return };
        let (floor, ceiling) = (self.settings.min_period, self.settings.max_period);
        let hint = polled.take_hint(now);
        let scope = self.scopes.named(&task.scope).filter(|(_, scope)| scope.mode() == Mode::List);
        if let Some((scope, _)) = scope
            && !polled.is_solo()
        {
            let period = polled.period(floor, ceiling, None, now);
            self.put(id, Place::Listed);
            return self.list_at(&scope, now + period);
        }
        let period = polled.period(floor, ceiling, hint, now);
        let (seed, turn) = polled.next_turn();
        let requests = 1.0 + f64::from(u8::from(self.settings.subtasks && !self.subtasks_refused));
        let (tenant, demand) = (polled.lane().clone(), requests / period.as_secs_f64());
        self.demand.add(&tenant, polled.want(demand));
        let wait = cadence::stretched(period, self.stretch_of(&tenant), seed, turn);
        // Who has said how long to wait is not asked a moment sooner.
        let wait = if hint.is_some() { wait.max(period) } else { wait };
        self.put(id, Place::Due(now + wait));
    }

    /// Lets a task wait for its first poll after a restart, anywhere within its period.
    pub(super) fn spread(&mut self, id: TaskId, now: Instant) {
        self.await_turn(id, now);
        let Some(polled) = self.tasks.get_mut(id) else { return };
        if let Place::Due(due) = polled.place() {
            let at = now + cadence::part(due - now, polled.next_turn().0);
            self.put(id, Place::Due(at));
        }
    }

    pub(super) fn place(&self, id: TaskId) -> Place {
        self.tasks.get(id).map_or(Place::Done, PolledTask::place)
    }

    /// Moves a task; keeps the schedule, the scope's count and the demand in step.
    pub(super) fn put(&mut self, id: TaskId, place: Place) {
        let Some(polled) = self.tasks.get_mut(id) else { return };
        if (polled.place(), place) == (Place::Listed, Place::Listed) {
            // For each task of each list: nothing is to be kept in step.
            return;
        }
        // Whose turn it takes is looked at anew where it waits anew.
        let lane = polled.tenant().unwrap_or_else(|| polled.lane()).clone();
        match polled.place() {
            Place::Due(at) => self.schedule.remove_due(polled.lane(), at, Item::Task(id)),
            Place::Fresh(arrival) => self.schedule.remove_new(polled.lane(), arrival),
            Place::Listed | Place::InFlight | Place::Done => {}
        }
        if matches!(place, Place::Listed | Place::Done) || lane != *polled.lane() {
            let less = polled.want(0.0);
            self.demand.add(polled.lane(), less);
        }
        let place = match place {
            Place::Fresh(_) => Place::Fresh(self.schedule.put_new(&lane, id)),
            Place::Due(at) => {
                self.schedule.put_due(&lane, at, Item::Task(id));
                place
            }
            Place::Listed | Place::Done | Place::InFlight => place,
        };
        let from = polled.moved(place, lane);
        let task = Arc::clone(polled.task());
        self.placed(id, &task, from, place);
    }

    /// Puts a task into the lane of the new ones, behind those that are there.
    pub(super) fn put_first(&mut self, id: TaskId) {
        self.put(id, Place::Fresh(0));
    }

    /// Has a task asked for as soon as may be: at once where it has not been asked for of late, so that a stream of requests to look
    /// gets no more than the shortest period.
    pub(super) fn look_soon(&mut self, id: TaskId, now: Instant) {
        let asked = self.tasks.get(id).and_then(PolledTask::seen_by);
        match asked.map(|asked| asked + self.settings.min_period).filter(|at| *at > now) {
            Some(at) => self.put(id, Place::Due(at)),
            None => self.put_first(id),
        }
    }

    /// After a change of the credential: what waits is asked for anew, in its order but soon.
    pub(super) fn requeue_all(&mut self, now: Instant) {
        let waiting = self.tasks.iter().filter(|(_, polled)| matches!(polled.place(), Place::Due(_)));
        for id in waiting.map(|(id, _)| id).collect::<Vec<_>>() {
            if let Some(polled) = self.tasks.get_mut(id) {
                polled.forgive();
            }
            self.spread(id, now);
        }
        for scope in self.scopes.names() {
            self.list_at(&scope, now);
        }
    }
}
