//! The part of the planner that lets each polled task wait in its place: among the new ones, for its time, or for its scope's list.
//! [`Planner::put`] alone moves a task; it keeps everything in step that counts or holds tasks.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Planner, Step, entry::Place, job::JobKind, schedule::Item, tasks::TaskId};
use crate::domain::cadence;
use crate::engine::coalesce::Mode;

impl Planner {
    /// Has a task asked for by itself.
    pub(super) fn get(&mut self, id: TaskId, now: Instant) -> Option<Step> {
        self.put(id, Place::InFlight);
        if let Some(entry) = self.tasks.get_mut(id) {
            entry.asked = Some(now);
        }
        let task = Arc::clone(&self.tasks.get(id)?.task);
        Some(Step::first(JobKind::Get(task)))
    }

    /// Removes an entry that nobody watches any more. Returns whether it did.
    pub(super) fn sweep(&mut self, id: TaskId) -> bool {
        let unwatched = self.tasks.get(id).is_some_and(|entry| entry.watchers.is_empty());
        if unwatched {
            self.put(id, Place::Done);
            self.tasks.remove(id);
        }
        unwatched
    }

    /// Lets a task wait for its next poll: in the queue, or for its scope's list.
    pub(super) fn await_turn(&mut self, id: TaskId, now: Instant) {
        let Some(task) = self.tasks.get(id).map(|entry| Arc::clone(&entry.task)) else { return };
        self.review(&task.scope, now);
        let Some(entry) = self.tasks.get_mut(id) else { return };
        let (floor, ceiling) = (self.settings.min_period, self.settings.max_period);
        let hint = entry.hint.take().map(|at| at.saturating_duration_since(now));
        let scope = self.scopes.get_key_value(task.scope.as_str()).filter(|(_, scope)| scope.mode() == Mode::List);
        if let Some((scope, _)) = scope
            && !entry.solo
        {
            let (scope, period) = (Arc::clone(scope), entry.period(floor, ceiling, None, now));
            self.put(id, Place::Listed);
            return self.list_at(&scope, now + period);
        }
        let period = entry.period(floor, ceiling, hint, now);
        let (seed, turn) = entry.next_turn();
        let requests = 1.0 + f64::from(u8::from(self.settings.subtasks && !self.subtasks_refused));
        let (tenant, demand) = (entry.lane.clone(), requests / period.as_secs_f64());
        self.demand.add(&tenant, demand - entry.demand);
        entry.demand = demand;
        let wait = cadence::stretched(period, self.stretch_of(&tenant), seed, turn);
        // Who has said how long to wait is not asked a moment sooner.
        let wait = if hint.is_some() { wait.max(period) } else { wait };
        self.put(id, Place::Due(now + wait));
    }

    /// Lets a task wait for its first poll after a restart, anywhere within its period.
    pub(super) fn spread(&mut self, id: TaskId, now: Instant) {
        self.await_turn(id, now);
        let Some(entry) = self.tasks.get_mut(id) else { return };
        if let Place::Due(due) = entry.place {
            let at = now + cadence::part(due - now, entry.next_turn().0);
            self.put(id, Place::Due(at));
        }
    }

    pub(super) fn place(&self, id: TaskId) -> Place {
        self.tasks.get(id).map_or(Place::Done, |entry| entry.place)
    }

    /// Moves an entry; keeps the schedule, the scope's count and the demand in step.
    pub(super) fn put(&mut self, id: TaskId, place: Place) {
        let Some(entry) = self.tasks.get_mut(id) else { return };
        if (entry.place, place) == (Place::Listed, Place::Listed) {
            // For each task of each list: nothing is to be kept in step.
            return;
        }
        let old = std::mem::replace(&mut entry.place, place);
        let old_lane = entry.lane.clone();
        match old {
            Place::Due(at) => self.schedule.remove_due(&old_lane, at, Item::Task(id)),
            Place::Fresh(arrival) => self.schedule.remove_new(&old_lane, arrival),
            Place::Listed | Place::InFlight | Place::Done => {}
        }
        // Whose turn it takes is looked at anew where it waits anew.
        let lane = entry.tenant().unwrap_or(&old_lane).clone();
        if matches!(place, Place::Listed | Place::Done) || lane != old_lane {
            self.demand.add(&old_lane, -std::mem::take(&mut entry.demand));
        }
        match place {
            Place::Due(at) => self.schedule.put_due(&lane, at, Item::Task(id)),
            Place::Fresh(_) => entry.place = Place::Fresh(self.schedule.put_new(&lane, id)),
            Place::Listed | Place::Done | Place::InFlight => {}
        }
        entry.lane = lane;
        let task = Arc::clone(&entry.task);
        self.placed(id, &task, (old, old_lane), place);
    }

    /// Puts an entry into the lane of the new ones, behind those that are there.
    pub(super) fn put_first(&mut self, id: TaskId) {
        self.put(id, Place::Fresh(0));
    }

    /// Has a task asked for as soon as may be: at once where it has not been asked for of late, so that a stream of requests to look
    /// gets no more than the shortest period.
    pub(super) fn look_soon(&mut self, id: TaskId, now: Instant) {
        let asked = self.tasks.get(id).and_then(|entry| entry.asked.filter(|_| entry.is_seen()));
        match asked.map(|asked| asked + self.settings.min_period).filter(|at| *at > now) {
            Some(at) => self.put(id, Place::Due(at)),
            None => self.put_first(id),
        }
    }

    /// After a change of the credential: what waits is asked for anew, in its order but soon.
    pub(super) fn requeue_all(&mut self, now: Instant) {
        let waiting = self.tasks.iter().filter(|(_, entry)| matches!(entry.place, Place::Due(_)));
        for id in waiting.map(|(id, _)| id).collect::<Vec<_>>() {
            if let Some(entry) = self.tasks.get_mut(id) {
                entry.failures = 0;
            }
            self.spread(id, now);
        }
        let scopes: Vec<_> = self.scopes.keys().cloned().collect();
        for scope in scopes {
            self.list_at(&scope, now);
        }
    }
}
