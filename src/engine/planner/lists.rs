//! The part of the planner that serves all tasks of a scope from one list.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Planner, Step,
    entry::{Entry, Place, Reading},
    schedule::Item,
    scope::{Run, Scope},
    tasks::TaskId,
};
use crate::domain::{
    cadence,
    failure::{BODY_TOO_LARGE, Failure, FailureClass},
    task::TaskRef,
};
use crate::engine::coalesce::{Mode, ModeChoice};
use crate::providers::{Page, Reader};
use crate::tenancy::Tenant;

/// Most pages of one list; an upstream whose pages never end is not followed further.
const MAX_PAGES: u32 = 200;
/// Up to so many new watches are asked for singly at once, even where a list serves the scope.
const FRESH_BY_GET: usize = 4;
/// How long an upstream that refuses further pages is not asked for them again.
const PAGING_REFUSED: Duration = Duration::from_mins(10);
/// Lists that new watches ask for keep this distance.
const LIST_SPACING: Duration = Duration::from_secs(1);
/// A list of which nothing could be taken, for want of room, is read again after this time.
const NO_ROOM: Duration = Duration::from_secs(3);
/// Most lists of a connection that are read at a time: each may hold megabytes of an upstream's text.
const LISTS_AT_A_TIME: usize = 2;
/// A list that has to wait for others is looked at again after this time.
const LIST_TURN: Duration = Duration::from_millis(250);
/// So many answers in a row that are no list, and the scope is polled by single requests.
const UNREADABLE_LISTS: u32 = 3;

/// Reads the list of a scope for a planner: what is as it was need not be decoded.
pub struct ListReader<'p> {
    planner: &'p mut Planner,
    /// The first job of the list.
    poll: u64,
    /// Room for what is looked up: a list has thousands of entries.
    sought: TaskRef,
    /// Entries that somebody watches.
    served: u32,
    /// So many more may be decoded.
    room: usize,
}

impl ListReader<'_> {
    /// How many entries somebody watches.
    #[must_use]
    pub fn served(&self) -> u32 {
        self.served
    }

    /// Whether an entry of this print is as it was when it was last applied, so that it need not be decoded.
    pub fn knows(&mut self, print: u64) -> bool {
        let Planner { scopes, tasks, .. } = &mut *self.planner;
        let id = scopes.get(self.sought.scope.as_str()).and_then(|scope| scope.prints.get(&print));
        let Some(entry) = id.and_then(|id| tasks.get_mut(*id)).filter(|entry| entry.print == Some(print)) else {
            return false;
        };
        if entry.is_read_by(self.poll) {
            // An upstream that shows a task twice is believed the first time.
            return true;
        }
        let unchanged = entry.place == Place::Listed && entry.is_quiet() && !entry.parts;
        if unchanged {
            entry.reading = Some((self.poll, Reading::Unchanged));
            self.served += 1;
        }
        unchanged
    }

    fn find(&mut self, id: &str) -> Option<&mut Entry> {
        self.sought.id.clear();
        self.sought.id.push_str(id);
        let id = self.planner.tasks.id(&self.sought)?;
        self.planner.tasks.get_mut(id)
    }
}

impl Reader for ListReader<'_> {
    fn wants(&mut self, id: &str, parent: Option<&str>, print: u64) -> bool {
        let (poll, has_room) = (self.poll, self.room > 0);
        let is_part = parent.and_then(|parent| self.find(parent)).is_some_and(|parent| {
            parent.parts = true;
            if parent.reading == Some((poll, Reading::Unchanged)) {
                // Passed over as unchanged before its first sub-task came: as if missing, so that it is asked for by itself.
                (parent.reading, parent.print) = (None, None);
            }
            true
        });
        let Some(entry) = self.find(id) else { return is_part };
        if entry.is_read_by(poll) {
            // An upstream that shows a task twice is believed the first time.
            return is_part;
        }
        // A part is decoded each time: somebody may come to watch the whole.
        let read = if parent.is_none() { Reading::Print(print) } else { Reading::Part };
        entry.reading = Some((poll, if has_room { read } else { Reading::Later }));
        self.served += 1;
        if has_room {
            self.room -= 1;
        } else if let Some(run) = self.planner.scopes.get_mut(self.sought.scope.as_str()).and_then(|s| s.run.as_mut()) {
            run.left = true;
        }
        is_part || has_room
    }
}

impl Planner {
    /// The reader for the answer to a list's job; it decodes no more entries than there is `room` for.
    pub fn list_reader(&mut self, job: u64, scope: &str, room: usize) -> ListReader<'_> {
        let poll = self.gate.poll_of(job).unwrap_or(job);
        let found = self.scopes.get(scope).and_then(|scope| scope.run.as_ref()).map_or(0, |run| run.found.len());
        let sought = TaskRef { scope: scope.to_owned(), id: String::new() };
        ListReader { planner: self, poll, sought, served: 0, room: room.saturating_sub(found) }
    }

    /// Keeps the scope's counts in step with a move of one of its tasks, from a place in a tenant's turn to another.
    pub(super) fn placed(&mut self, id: TaskId, task: &TaskRef, (old, old_lane): (Place, Tenant), new: Place) {
        let requests_per_get = 1 + u32::from(self.settings.subtasks);
        let lane = self.tasks.get(id).map_or_else(|| old_lane.clone(), |entry| entry.lane.clone());
        if !self.scopes.contains_key(task.scope.as_str()) {
            self.scopes.insert(Arc::from(task.scope.as_str()), Scope::new(requests_per_get, lane.clone()));
        }
        let Some(scope) = self.scopes.get_mut(task.scope.as_str()) else { return };
        match (old == Place::Done, new == Place::Done) {
            (true, false) => {
                scope.members += 1;
                scope.count(&lane, true);
            }
            (false, true) => {
                scope.members -= 1;
                scope.count(&old_lane, false);
            }
            (false, false) if lane != old_lane => {
                scope.count(&old_lane, false);
                scope.count(&lane, true);
            }
            _ => {}
        }
        if new == Place::Listed {
            scope.listed.insert(id);
        } else if old == Place::Listed {
            scope.listed.remove(&id);
        }
        let (is_empty, is_unawaited) = (scope.members == 0, old == Place::Listed && !scope.is_awaited());
        if is_empty && scope.run.is_none() {
            self.dismiss(&task.scope);
        } else if is_unawaited {
            self.list_never(&task.scope);
        }
    }

    /// Forgets a scope that has nothing to poll.
    fn dismiss(&mut self, scope: &str) {
        self.list_never(scope);
        self.scopes.remove(scope);
    }

    /// Chooses anew how a scope is polled, and carries the change out.
    pub(super) fn review(&mut self, scope: &str, now: Instant) {
        let Some((name, state)) = self.scopes.get_key_value(scope) else { return };
        let name = Arc::clone(name);
        let mode = match self.settings.mode {
            _ if !self.settings.lists => Mode::Get,
            ModeChoice::Get => Mode::Get,
            ModeChoice::List => Mode::List,
            ModeChoice::Auto => state.costs.choose(state.mode, state.members, now),
        };
        if mode == state.mode {
            return;
        }
        let moved: Vec<_> = match mode {
            Mode::List => {
                let is_due = |entry: &Entry| matches!(entry.place, Place::Due(_)) && entry.task.scope == *name;
                self.tasks.iter().filter(|(_, entry)| is_due(entry) && !entry.solo).map(|(id, _)| id).collect()
            }
            Mode::Get => state.listed.iter().copied().collect(),
        };
        if let Some(state) = self.scopes.get_mut(&name) {
            state.mode = mode;
        }
        for id in moved {
            match mode {
                Mode::List => self.put(id, Place::Listed),
                Mode::Get => self.spread(id, now),
            }
        }
        match mode {
            Mode::List => self.list_at(&name, now),
            Mode::Get => self.list_never(&name),
        }
    }

    /// Whether a new watch is better served by its scope's list than by a request of its own; if so, leaves it to that.
    pub(super) fn leave_to_list(&mut self, id: TaskId, now: Instant) -> bool {
        let Some(entry) = self.tasks.get(id) else { return false };
        let Some((name, scope)) = self.scopes.get_key_value(entry.task.scope.as_str()) else { return false };
        if scope.mode != Mode::List
            || scope.failures > 0
            || entry.solo
            || self.schedule.new_len(&entry.lane) < FRESH_BY_GET
        {
            return false;
        }
        let soonest = scope.began.map_or(now, |began| now.max(began + LIST_SPACING));
        let name = Arc::clone(name);
        self.put(id, Place::Listed);
        self.list_at(&name, soonest);
        true
    }

    /// Has the scope's list asked for at `at` or earlier, where a task waits for it; nothing while one is in progress: its end says
    /// when the next is due.
    pub(super) fn list_at(&mut self, scope: &Arc<str>, at: Instant) {
        let Some(state) = self.scopes.get_mut(scope) else { return };
        let has_earlier = state.run.is_some() || state.due.is_some_and(|due| due <= at);
        if state.mode != Mode::List || !state.is_awaited() || has_earlier {
            return;
        }
        if let Some(old) = state.due.replace(at) {
            self.schedule.remove_due(&state.lane, old, Item::Scope(Arc::clone(scope)));
        }
        let lane = state.tenant();
        if lane != state.lane {
            self.demand.add(&state.lane, -state.demand);
            self.demand.add(&lane, state.demand);
            state.lane = lane;
        }
        self.schedule.put_due(&state.lane, at, Item::Scope(Arc::clone(scope)));
    }

    /// Takes the scope's list out of the queue.
    fn list_never(&mut self, scope: &str) {
        self.unschedule_list(scope);
        if let Some(state) = self.scopes.get_mut(scope) {
            self.demand.add(&state.lane, -std::mem::take(&mut state.demand));
        }
    }

    fn unschedule_list(&mut self, scope: &str) {
        let Some(name) = self.scopes.get_key_value(scope).map(|(name, _)| Arc::clone(name)) else { return };
        if let Some(state) = self.scopes.get_mut(scope)
            && let Some(due) = state.due.take()
        {
            self.schedule.remove_due(&state.lane, due, Item::Scope(name));
        }
    }

    /// Whether the scope's list has to wait for others that are being read; it is looked at again soon.
    pub(super) fn put_off_list(&mut self, scope: &Arc<str>, now: Instant) -> bool {
        let waits = self.scopes.values().filter(|state| state.run.is_some()).count() >= LISTS_AT_A_TIME;
        if waits {
            self.put_off_list_until(scope, now + LIST_TURN);
        }
        waits
    }

    /// The scope's list, whose turn it was, is due at `at` instead.
    pub(super) fn put_off_list_until(&mut self, scope: &Arc<str>, at: Instant) {
        if let Some(state) = self.scopes.get_mut(scope) {
            state.due = None;
        }
        self.list_at(scope, at);
    }

    /// The scope's list, if it is due, is so at `at` at the earliest.
    pub(super) fn list_not_before(&mut self, scope: &Arc<str>, at: Instant) {
        if self.scopes.get(scope).is_some_and(|state| state.due.is_some_and(|due| due < at)) {
            self.unschedule_list(scope);
            self.list_at(scope, at);
        }
    }

    /// The scope's list is about to be asked for.
    pub(super) fn begin_run(&mut self, scope: &Arc<str>, now: Instant) {
        self.unschedule_list(scope);
        if let Some(state) = self.scopes.get_mut(scope) {
            (state.run, state.began) = (Some(Run::default()), Some(now));
        }
    }

    /// A slice of a page came, of which there is more.
    pub fn slice_came(&mut self, scope: &str, slice: Page) {
        if let Some(run) = self.scopes.get_mut(scope).and_then(|state| state.run.as_mut()) {
            run.take(slice.tasks);
        }
    }

    /// A page came: the next one is asked for, or the list is whole.
    pub(super) fn page_came(&mut self, scope: &Arc<str>, page: Page, body: usize, poll: u64, now: Instant) {
        let Some(state) = self.scopes.get_mut(scope) else { return };
        let Some(run) = &mut state.run else { return };
        let may_go_on = page.total > 0 && state.paging_refused_until.is_none_or(|until| until <= now);
        let next = page.next.clone();
        run.take(page.tasks);
        (run.pages, run.bytes) = (run.pages + 1, run.bytes + body);
        match next {
            Some(next) if may_go_on && run.pages < MAX_PAGES && run.cursors.insert(next.clone()) => {
                self.schedule.put_step(&state.lane, Step::page(scope, next, poll));
            }
            _ => {
                state.costs.list_took(run.pages, run.bytes);
                (state.failures, state.gets_work) = (0, false);
                self.apply_run(scope, poll, now);
                self.confirm_missing(scope, poll, now);
                self.end_run(scope, now);
            }
        }
    }

    /// A page did not come. `again`: for want of a token, or by a rate limit, so that the list is asked for as soon as that is mended.
    pub(super) fn page_failed(
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
        let Some(state) = self.scopes.get_mut(scope) else { return };
        let class = failure.class;
        if !is_first && class == FailureClass::InvalidRequest {
            state.paging_refused_until = Some(now + PAGING_REFUSED);
            self.confirm_missing(scope, poll, now);
            return self.end_run(scope, now);
        }
        // An upstream that is not there is the hold's business; one that gives a first page and no second is there.
        // So is one that answers single requests meanwhile.
        let absent = is_first && class == FailureClass::UpstreamUnavailable && !state.gets_work;
        state.failures += u32::from(!absent);
        let unusable = match class {
            FailureClass::InvalidRequest | FailureClass::NotFound | FailureClass::PermissionDenied => true,
            FailureClass::InvalidAnswer if failure.code == BODY_TOO_LARGE => true,
            _ => state.failures >= UNREADABLE_LISTS,
        };
        if unusable {
            state.costs.list_is_unusable(now);
        }
        state.gets_work = false;
        let mut waiting = state.listed.iter().copied().collect::<Vec<_>>();
        let reason = Arc::new(failure.clone());
        waiting.retain(|id| {
            let Some(entry) = self.tasks.get_mut(*id).filter(|entry| entry.applied <= poll) else { return false };
            entry.troubled(&reason, poll, now, &mut self.out);
            true
        });
        self.end_run(scope, now);
        if class == FailureClass::UpstreamUnavailable
            && let Some(id) = waiting.first().filter(|id| self.place(**id) == Place::Listed)
        {
            // Is it the upstream or only the list? A single request tells.
            self.put(*id, Place::Due(now));
        }
    }

    /// Drops the list in progress, and has it asked for anew.
    pub(super) fn restart_run(&mut self, scope: &Arc<str>, now: Instant) {
        self.end_run(scope, now);
        if self.scopes.get(scope).is_some_and(Scope::is_awaited) {
            self.list_at(scope, now);
        }
    }

    /// What the list has shown so far is applied.
    fn apply_run(&mut self, scope: &Arc<str>, poll: u64, now: Instant) {
        let Some(run) = self.scopes.get_mut(scope).and_then(|state| state.run.as_mut()) else { return };
        let (shown, mut children) = (std::mem::take(&mut run.found), std::mem::take(&mut run.children));
        run.applied += shown.len();
        let mut sought = TaskRef { scope: scope.to_string(), id: String::new() };
        for mut found in shown {
            sought.id.clone_from(&found.id);
            let Some(id) = self.tasks.id(&sought) else { continue };
            let Some(entry) = self.tasks.get_mut(id) else { continue };
            if matches!(entry.place, Place::InFlight | Place::Done) {
                continue;
            }
            if let Some(children) = children.remove(&found.id) {
                Arc::make_mut(&mut found).adopt(children.into_iter().map(Arc::unwrap_or_clone).collect());
            }
            entry.solo = false;
            entry.parts |= !found.subtasks.is_empty();
            let print = match entry.reading {
                Some((_, Reading::Print(print))) if poll >= entry.applied => Some(print),
                _ => None,
            };
            self.observe(id, found, poll, now);
            if let Some(entry) = self.tasks.get_mut(id) {
                entry.print = print;
            }
            if let (Some(print), Some(state)) = (print, self.scopes.get_mut(scope)) {
                state.prints.insert(print, id);
            }
        }
    }

    /// What a list should have shown and did not is asked for once by itself, before it counts as not found.
    fn confirm_missing(&mut self, scope: &Arc<str>, poll: u64, now: Instant) {
        let Some(state) = self.scopes.get(scope) else { return };
        let is_missing = |id: &&TaskId| {
            self.tasks.get(**id).is_some_and(|entry| {
                let shown = matches!(entry.reading, Some((list, Reading::Unchanged | Reading::Later)) if list == poll);
                entry.applied <= poll && !shown && entry.watchers.iter().all(|watcher| watcher.from_job <= poll)
            })
        };
        let missing: Vec<_> = state.listed.iter().filter(is_missing).copied().collect();
        for id in missing {
            if let Some(entry) = self.tasks.get_mut(id) {
                entry.solo = true;
            }
            self.put(id, Place::Due(now));
        }
    }

    /// Says when the scope's next list is due.
    pub(super) fn end_run(&mut self, scope: &Arc<str>, now: Instant) {
        let Some(state) = self.scopes.get_mut(scope) else { return };
        let run = state.run.take().unwrap_or_default();
        let pages = run.pages.max(1);
        if state.members == 0 {
            return self.dismiss(scope);
        }
        self.review(scope, now);
        let Some(state) = self.scopes.get(scope) else { return };
        if state.mode != Mode::List || state.listed.is_empty() {
            return self.list_never(scope);
        }
        let (floor, ceiling) = (self.settings.min_period, self.settings.max_period);
        let listed = || state.listed.iter().filter_map(|id| self.tasks.get(*id));
        let period = listed().map(|entry| entry.period(floor, ceiling, None, now)).min().unwrap_or(ceiling);
        let period = period.saturating_mul(1 << state.failures.min(6)).min(ceiling.max(period));
        let demand = f64::from(pages) / period.as_secs_f64();
        let owing = |is_seen: bool| listed().any(|entry| entry.is_owing() && entry.is_seen() == is_seen);
        let (awaited, requested) = (state.failures == 0 && owing(false), state.failures == 0 && owing(true));
        let (began, runs, lane) = (state.began, state.runs, state.lane.clone());
        self.demand.add(&lane, demand - state.demand);
        let next = cadence::stretched(period, self.stretch_of(&lane), cadence::seed(scope), runs);
        let spacing = match run.left {
            true if run.applied > 0 => LIST_SPACING,
            true => next.min(NO_ROOM),
            false if awaited => LIST_SPACING,
            false if requested => next.min(floor),
            false => next,
        };
        let at = began.map_or(now, |began| now.max(began + spacing));
        if let Some(state) = self.scopes.get_mut(scope) {
            (state.demand, state.runs) = (demand, runs + 1);
            if state.prints.len() > 2 * state.listed.len() {
                let is_shown =
                    |print: u64, id: TaskId| self.tasks.get(id).is_some_and(|entry| entry.print == Some(print));
                state.prints.retain(|print, id| is_shown(*print, *id));
                state.prints.shrink_to_fit();
            }
        }
        self.list_at(scope, at);
    }
}
