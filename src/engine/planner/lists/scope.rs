//! The container of tasks that one list shows: how it is polled, whose tasks wait for its list, and the list that is being read.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    discovery::{Reading, Survey},
    run::{LIST_SPACING, Run, Shown},
};
use crate::domain::{
    cadence,
    failure::{BODY_TOO_LARGE, Failure, FailureClass},
    task::Task,
};
use crate::engine::{
    Discovery, WatchKey,
    coalesce::{Costs, Mode},
    planner::{polled_task::Place, tasks::TaskId},
};
use crate::providers::Page;
use crate::tenancy::Tenant;

/// How long an upstream that refuses further pages is not asked for them again.
const PAGING_REFUSED: Duration = Duration::from_mins(10);
/// So many answers in a row that are no list, and the scope is polled by single requests.
const UNREADABLE_LISTS: u32 = 3;

/// The container of tasks that one list shows.
#[derive(Debug)]
pub struct Scope {
    /// How its tasks are polled.
    mode: Mode,
    /// How many tasks of it are polled at all: the sum of `tenants`, but for those who discover.
    members: usize,
    /// What either way costs.
    costs: Costs,
    /// The tasks whose place is the list.
    listed: HashSet<TaskId>,
    /// How many of its tasks, and of those who discover, are on whose account.
    tenants: HashMap<Tenant, usize>,
    /// In whose turn its list is asked for.
    lane: Tenant,
    /// The job whose answer last showed that the credential is good for it; 0 for none.
    good: u64,
    /// Whose entry of the list was last applied with this print; what is not so any more may still stand here.
    prints: HashMap<u64, TaskId>,
    /// When its list is asked for next: the schedule has it, in this lane, for this time. None while it is being read.
    due: Option<Instant>,
    /// The list that is being read.
    run: Option<Run>,
    /// When the last list was first asked for.
    began: Option<Instant>,
    /// The upstream offers further pages but refuses to give them (Astra tasks, upstreams.md §3.3).
    paging_refused_until: Option<Instant>,
    /// Answers in a row that were no list.
    failures: u32,
    /// Since the last list, a task of the scope could be asked for: if lists fail, the list itself is at fault.
    gets_work: bool,
    /// The list's share of the demand of its lane, in requests per second.
    demand: f64,
    /// How many lists have ended, for the jitter.
    runs: u64,
    /// All its tasks, where somebody discovers them: the list is asked for although no task waits for it.
    survey: Option<Box<Survey>>,
}

/// A task's move, from a place in a tenant's turn to another.
#[derive(Debug)]
pub struct Move {
    pub from: (Place, Tenant),
    pub to: (Place, Tenant),
}

/// What a scope asks for after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Nothing,
    /// Its list is not to be asked for any more.
    Unlist,
    /// It is to be forgotten: there is nothing to poll.
    Dismiss,
}

/// What is to be changed in the schedule and in the demand, so that they are in step with a scope's list.
#[derive(Debug)]
pub struct Rescheduled {
    /// It does not wait there any more.
    pub was: Option<Instant>,
    /// The lane that it leaves, and that it comes to; it takes its demand along.
    pub from: Tenant,
    pub to: Tenant,
    pub demand: f64,
}

/// What follows from a page that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// The list goes on at the page's cursor.
    GoesOn,
    /// The list has shown all that there is.
    Whole,
    /// It has not: something was left to the next list, for want of room.
    Left,
    /// It has not: it is read no further.
    Cut,
}

/// What follows from a page that did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// What has been shown is all that there is to have.
    Enough,
    /// Those who wait for the list are told.
    Told,
}

impl Scope {
    /// A scope without tasks.
    pub fn new(requests_per_get: u32, lane: Tenant) -> Self {
        Self {
            mode: Mode::Get,
            members: 0,
            costs: Costs::new(requests_per_get),
            listed: HashSet::new(),
            tenants: HashMap::new(),
            lane,
            good: 0,
            prints: HashMap::new(),
            due: None,
            run: None,
            began: None,
            paging_refused_until: None,
            failures: 0,
            gets_work: false,
            demand: 0.0,
            runs: 0,
            survey: None,
        }
    }

    /// How its tasks are polled.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// From now on its tasks are polled so.
    pub fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
    }

    /// How to poll its tasks, by what either way costs.
    pub fn choose(&self, now: Instant) -> Mode {
        // A list that is read for those who discover serves the tasks for nothing.
        let is_free = self.is_discovered() && self.costs.list_is_usable(now);
        if is_free { Mode::List } else { self.costs.choose(self.mode, self.members, now) }
    }

    /// How many tasks of it are polled at all.
    pub fn members(&self) -> usize {
        self.members
    }

    /// The tasks that wait for its list.
    pub fn listed(&self) -> impl ExactSizeIterator<Item = TaskId> {
        self.listed.iter().copied()
    }

    /// In whose turn its list is asked for.
    pub fn lane(&self) -> &Tenant {
        &self.lane
    }

    /// The job whose answer last showed that the credential is good for it; 0 for none.
    pub fn good(&self) -> u64 {
        self.good
    }

    /// The answer to this job showed that the credential is good for it; 0: it is not.
    pub fn set_good(&mut self, job: u64) {
        self.good = job;
    }

    /// Whether the list is wanted: a task waits for it, or somebody discovers the tasks.
    pub fn is_awaited(&self) -> bool {
        !self.listed.is_empty() || self.is_discovered()
    }

    /// Whether it is to be asked for, by and by.
    pub fn is_listed(&self) -> bool {
        self.is_discovered() || self.mode == Mode::List && !self.listed.is_empty()
    }

    /// Whether its list may be asked for now.
    pub fn may_be_listed(&self) -> bool {
        self.is_listed() && self.run.is_none()
    }

    /// Whether what its list shows is applied to its tasks. Where they are polled one by one the list is for those who discover.
    pub fn list_serves_tasks(&self) -> bool {
        self.mode == Mode::List || !self.is_discovered()
    }

    /// Whether the list is asked for on account of those who discover.
    pub fn is_discovered(&self) -> bool {
        self.survey.as_deref().is_some_and(Survey::lists)
    }

    /// Whether there is anything to do for it: tasks that are polled, or somebody who discovers.
    pub fn is_needed(&self) -> bool {
        self.members > 0 || self.survey.is_some()
    }

    /// What is known of all its tasks, where somebody discovers them.
    pub fn surveyed(&self) -> Option<&Survey> {
        self.survey.as_deref()
    }

    /// The shortest period of those who discover, where there is a list.
    pub(super) fn survey_period(&self, floor: Duration, ceiling: Duration) -> Option<Duration> {
        self.surveyed().filter(|survey| survey.lists())?.shortest(floor, ceiling)
    }

    /// What is known of all its tasks, where somebody discovers them.
    pub(super) fn survey(&mut self) -> Option<&mut Survey> {
        self.survey.as_deref_mut()
    }

    /// The same, where there is a list.
    pub(super) fn discovered(&mut self) -> Option<&mut Survey> {
        self.survey().filter(|survey| survey.lists())
    }

    /// Somebody discovers its tasks, or wants something else of them. Returns whether there is something to be told that has not been.
    pub(super) fn discover(&mut self, key: WatchKey, wanted: &Discovery, new: impl FnOnce() -> Survey) -> bool {
        let (old, is_new) = self.survey.get_or_insert_with(|| Box::new(new())).discover(key, wanted);
        if old.as_ref() != Some(&wanted.tenant) {
            if let Some(old) = old {
                self.count(&old, false);
            }
            self.count(&wanted.tenant, true);
        }
        is_new
    }

    /// Somebody does not discover them any more.
    pub fn forget_discoverer(&mut self, key: &WatchKey) -> After {
        if let Some(tenant) = self.survey().and_then(|survey| survey.forget(key)) {
            self.count(&tenant, false);
        }
        self.survey = self.survey.take().filter(|survey| !survey.is_forgotten());
        if !self.is_needed() && self.run.is_none() {
            After::Dismiss
        } else if self.is_listed() {
            After::Nothing
        } else {
            After::Unlist
        }
    }

    /// Takes in what was decoded of its list. Returns what those who watch tasks need of it.
    pub(super) fn sift(&mut self, tasks: Vec<Arc<Task>>, reading: &Reading) -> Vec<Arc<Task>> {
        let serves_tasks = self.list_serves_tasks();
        let Some(survey) = self.discovered() else { return tasks };
        let left = survey.take_in(tasks, reading);
        if serves_tasks { left } else { Vec::new() }
    }

    /// Whether its list can be relied upon.
    pub fn lists_work(&self) -> bool {
        self.failures == 0
    }

    /// Whether its list is being read.
    pub fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// When the list is due.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The list's share of the demand of its lane, in requests per second.
    #[cfg(test)]
    pub fn demand(&self) -> f64 {
        self.demand
    }

    /// In whose turn the list is to be asked for: that of the only tenant, else one that all who share lists have together.
    fn tenant(&self) -> Tenant {
        let mut tenants = self.tenants.keys();
        match (tenants.next(), tenants.next()) {
            (Some(only), None) => only.clone(),
            _ => Tenant::shared(),
        }
    }

    /// A task of it moves.
    pub fn moved(&mut self, id: TaskId, Move { from: (old, old_lane), to: (new, lane) }: &Move) -> After {
        match (*old == Place::Done, *new == Place::Done) {
            (true, false) => {
                self.members += 1;
                self.count(lane, true);
            }
            (false, true) => {
                self.members -= 1;
                self.count(old_lane, false);
            }
            (false, false) if lane != old_lane => {
                self.count(old_lane, false);
                self.count(lane, true);
            }
            _ => {}
        }
        if *new == Place::Listed {
            self.listed.insert(id);
        } else if *old == Place::Listed {
            self.listed.remove(&id);
        }
        debug_assert!(self.listed.len() <= self.members, "who waits for the list is polled");
        if !self.is_needed() && self.run.is_none() {
            After::Dismiss
        } else if *old == Place::Listed && !self.is_awaited() {
            After::Unlist
        } else {
            After::Nothing
        }
    }

    /// A task of it, or somebody who discovers, came to a tenant, or left it.
    fn count(&mut self, tenant: &Tenant, came: bool) {
        let count = self.tenants.entry(tenant.clone()).or_default();
        debug_assert!(came || *count > 0, "a task leaves the tenant that it came to");
        *count = if came { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.tenants.remove(tenant);
        }
    }

    /// Has the list asked for at `at` or earlier, where it is wanted. Returns what is to be changed in the schedule, which is to
    /// have it then for that time.
    pub fn list_at(&mut self, at: Instant) -> Option<Rescheduled> {
        let has_earlier = self.run.is_some() || self.due.is_some_and(|due| due <= at);
        if !self.is_listed() || has_earlier {
            return None;
        }
        let was = self.due.replace(at);
        let to = self.tenant();
        let from = std::mem::replace(&mut self.lane, to.clone());
        Some(Rescheduled { was, from, to, demand: self.demand })
    }

    /// The list is not due any more. Returns when it was, and in whose turn.
    pub fn unschedule(&mut self) -> Option<(Instant, &Tenant)> {
        Some((self.due.take()?, &self.lane))
    }

    /// The schedule has just given the list out.
    pub fn is_taken(&mut self) {
        self.due = None;
    }

    /// Changes what the list wants of its lane. Returns by how much.
    pub fn want(&mut self, demand: f64) -> (&Tenant, f64) {
        let more = demand - std::mem::replace(&mut self.demand, demand);
        (&self.lane, more)
    }

    /// The soonest that a list may begin which new watches ask for.
    pub fn soonest(&self, now: Instant) -> Instant {
        self.not_before(LIST_SPACING, now)
    }

    /// So long after the last list began; not in the past.
    pub fn not_before(&self, spacing: Duration, now: Instant) -> Instant {
        self.began.map_or(now, |began| now.max(began + spacing))
    }

    /// The list is about to be asked for.
    pub fn begin(&mut self, now: Instant) {
        debug_assert!(self.run.is_none() && self.due.is_none(), "one list of a scope at a time");
        (self.run, self.began) = (Some(Run::default()), Some(now));
        if let Some(survey) = self.survey() {
            survey.begins();
        }
    }

    /// The list that is being read.
    pub(super) fn run(&mut self) -> Option<&mut Run> {
        self.run.as_mut()
    }

    /// How much of the list that is being read waits to be applied.
    pub fn found(&self) -> usize {
        self.run.as_ref().map_or(0, Run::found)
    }

    /// A page came whole. Returns what follows; none where no list is being read.
    pub fn page_came(&mut self, page: Page, body: usize, now: Instant) -> Option<Came> {
        let may_go_on = page.total > 0 && self.paging_refused_until.is_none_or(|until| until <= now);
        let run = self.run.as_mut()?;
        run.take(page.tasks);
        run.page_is_whole(body);
        let came = match page.next {
            Some(next) if may_go_on && run.goes_on_at(&next) => return Some(Came::GoesOn),
            Some(_) => Came::Cut,
            None if run.has_left_some() => Came::Left,
            None => Came::Whole,
        };
        let (pages, bytes) = run.size();
        self.costs.list_took(pages, bytes);
        (self.failures, self.gets_work) = (0, false);
        Some(came)
    }

    /// A page did not come.
    pub fn page_failed(&mut self, failure: &Failure, is_first: bool, now: Instant) -> Failed {
        let class = failure.class;
        if !is_first && class == FailureClass::InvalidRequest {
            self.paging_refused_until = Some(now + PAGING_REFUSED);
            return Failed::Enough;
        }
        // An upstream that is not there is the breaker's business; one that gives a first page and no second is there.
        // So is one that answers single requests meanwhile.
        let absent = is_first && class == FailureClass::UpstreamUnavailable && !self.gets_work;
        self.failures += u32::from(!absent);
        let unusable = match class {
            FailureClass::InvalidRequest | FailureClass::NotFound | FailureClass::PermissionDenied => true,
            FailureClass::InvalidAnswer if failure.code == BODY_TOO_LARGE => true,
            _ => self.failures >= UNREADABLE_LISTS,
        };
        if unusable {
            self.costs.list_is_unusable(now);
        }
        self.gets_work = false;
        Failed::Told
    }

    /// A single request for one of its tasks took so much.
    pub fn get_took(&mut self, requests: u32, bytes: usize) {
        self.gets_work = true;
        self.costs.get_took(requests, bytes);
    }

    /// Takes out what the list has shown so far, to be applied; none where no list is being read.
    pub(super) fn take_shown(&mut self) -> Option<Shown> {
        self.run.as_mut().map(Run::take_shown)
    }

    /// The list is over.
    pub(super) fn end(&mut self, now: Instant) -> Run {
        if let Some(survey) = self.survey() {
            survey.ends(now);
        }
        self.run.take().unwrap_or_default()
    }

    /// The period of the list, where the `shortest` of its tasks is so long: longer after failures.
    pub fn period(&self, shortest: Option<Duration>, ceiling: Duration) -> Duration {
        cadence::after_failures(shortest.unwrap_or(ceiling), self.failures, ceiling)
    }

    /// The number of the list that ends now, for its jitter.
    pub fn next_turn(&mut self) -> u64 {
        self.runs += 1;
        self.runs - 1
    }

    /// Whose entry the list last showed with this print.
    pub fn shown_with(&self, print: u64) -> Option<TaskId> {
        self.prints.get(&print).copied()
    }

    /// The list showed an entry of this print, which was applied.
    pub fn remember(&mut self, print: u64, id: TaskId) {
        self.prints.insert(print, id);
    }

    /// Lets go of prints that are not those of any entry, where they are many.
    pub fn forget_prints(&mut self, is_shown: impl Fn(u64, TaskId) -> bool) {
        if self.prints.len() > 2 * self.listed.len() {
            self.prints.retain(|print, id| is_shown(*print, *id));
            self.prints.shrink_to_fit();
        }
    }

    /// How many of its tasks, and of those who discover, are on whose account.
    #[cfg(test)]
    pub fn tenants(&self) -> &HashMap<Tenant, usize> {
        &self.tenants
    }
}
