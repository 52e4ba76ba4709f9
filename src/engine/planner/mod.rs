//! What a connection asks next, and what an answer means for its queue: sans-IO, so that the invariants of design §3 can be tested
//! with any schedule. Time is a parameter; whoever runs a planner has the clock and the network.
//!
//! # The run loop
//!
//! ```text
//! loop {
//!     commands     reconfigure, watch, discover, forget, abandon_all    what the controller wants
//!     next         until it gives none                              jobs to send, each paid for
//!     news         take_deliveries, take_discovered, trouble, ...   what there is to tell
//!     wait         until when, and why (wake_at: when)              none: until an answer or a command comes
//!     answers      list_reader, slice_came; done                    what came of a job
//! }
//! ```
//!
//! - **Commands** and **answers** may come in any order, at any time; each is whole by itself, and sends nothing. After each, and at the
//!   time that `wait` gave, [`Planner::next`] is to be asked until it gives none: what `wait` says holds only from then on.
//! - [`Planner::next`] is the only one that gives jobs. A job that it gave is in flight until [`Planner::done`] is called with its number:
//!   exactly once, whatever became of it. After [`Planner::abandon_all`] no answer is awaited; one that comes all the same is ignored.
//! - `list_reader` and `slice_came` are for the parts of a list whose job is in flight, in their order; the last one comes with `done`.
//! - Everything that changes may leave news; they are taken out with [`Planner::take_deliveries`] and [`Planner::take_discovered`], and
//!   may wait.
//! - `now` never goes back.
//!
//! # Who decides what
//!
//! The planner holds its parts together; each decides one thing and keeps what it needs for that to itself. The rooms of `impl Planner`
//! beside this one: `places` (where each task waits), `answers` (what each means for its task), `refusals` (whose fault a failure is),
//! `lists` (a scope from one list), `agenda` (what is told of all that).

mod agenda;
mod answers;
mod breaker;
#[cfg(test)]
mod checks;
mod doubt;
mod gate;
mod job;
mod lists;
mod places;
mod polled_task;
mod refusals;
mod schedule;
mod subscriber;
mod tasks;
mod tenants;
mod token;
mod wait;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;

pub use self::{
    agenda::{Agenda, Upcoming, What},
    job::{Job, JobKind, Outcome, Settings},
    wait::{Wait, Why},
};
use self::{
    breaker::Trouble,
    doubt::{Doubt, Subject},
    gate::{Asking, Gate},
    lists::Scopes,
    polled_task::{Place, PolledTask},
    schedule::{Demand, Item, Next, Schedule},
    tasks::{TaskId, Tasks},
};
use crate::domain::task::{Task, TaskState};
use crate::engine::{Delivery, Discovered, Subscription, WatchKey, coalesce::Mode};
use crate::providers::Cursor;
use crate::tenancy::{Tenant, pool::Account};

/// What continues a poll that has begun.
#[derive(Debug)]
struct Step {
    kind: JobKind,
    /// As [`gate::Flight::partial`].
    partial: Option<Task>,
    /// As [`gate::Flight::poll`]; 0 where this is the first job.
    poll: u64,
}

/// The state of a connection's queue.
#[derive(Debug)]
pub struct Planner {
    /// The bounds that were given last.
    settings: Settings,
    /// Whether a request may be sent now; what is in flight. A task in flight has the place that says so, a scope in flight has a run.
    gate: Gate,
    /// Each task once, however many watch it: while somebody does, or its answer is awaited.
    tasks: Tasks,
    /// Which task each watch is of: `tasks` has it, with a subscriber of this key.
    keys: HashMap<WatchKey, TaskId>,
    /// Whose tasks each discoverer discovers: `scopes` has it, with a discoverer of this key.
    discoverers: HashMap<WatchKey, Arc<str>>,
    /// From what the room is taken for what is known of all tasks of a scope.
    catalogues: Account,
    /// The scopes with a task that is polled, with somebody who discovers, or with a list that is being read. Where a task waits and what its scope counts of it are
    /// changed together, by [`Planner::put`].
    scopes: Scopes,
    /// What waits, by tenant: each task whose place says so, each scope whose list is due. Changed by [`Planner::put`] and
    /// [`Planner::list_at`], never beside them.
    schedule: Schedule,
    /// What the tenants want: the sum of what is noted on tasks and scopes.
    demand: Demand,
    /// The refusals of which it is not known yet whose fault they are, and what is asked for to find out.
    doubt: Doubt,
    /// The upstream cannot filter by parent, and is not asked for sub-tasks again with this credential.
    subtasks_refused: bool,
    /// What is to be delivered, oldest first.
    out: Vec<Delivery<Instant>>,
    /// What discoverers are to be told, oldest first.
    found: Vec<Discovered<Instant>>,
}

impl Planner {
    /// A planner without watches. What is kept for discoverers is taken from `catalogues`.
    #[must_use]
    pub fn new(settings: Settings, catalogues: Account, now: Instant) -> Self {
        Self {
            gate: Gate::new(&settings, now),
            settings,
            tasks: Tasks::default(),
            keys: HashMap::new(),
            discoverers: HashMap::new(),
            catalogues,
            scopes: Scopes::default(),
            schedule: Schedule::default(),
            demand: Demand::default(),
            doubt: Doubt::default(),
            subtasks_refused: false,
            out: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Takes over new bounds. `renewed`: the credential or what it is sent to is another one, so that refusals of the old one are void,
    /// and what is still asked with it is asked for again.
    pub fn reconfigure(&mut self, settings: Settings, renewed: bool, now: Instant) {
        self.gate.resize(&settings, now);
        self.settings = settings;
        if renewed {
            self.doubt.forget();
            for refused in self.doubt.close() {
                self.settle_refused(&refused, true, now);
            }
            self.gate.renew(self.settings.exchanges);
            self.subtasks_refused = false;
            for step in self.schedule.take_steps(|_| false) {
                self.ask_again(step.kind, now);
            }
            self.requeue_all(now);
        }
        self.review_discovered(renewed, now);
    }

    /// Registers a watch, or changes it; a new ticket asks for a fresh observation. Who discovered until now only watches from then on.
    pub fn watch(&mut self, key: WatchKey, wanted: &Subscription, now: Instant) {
        let discoverer = self.discoverers.contains_key(&key).then(|| key.clone());
        self.watch_task(key, wanted, now);
        // Not before: what the lists have shown may be just what the watch has to be told.
        if let Some(key) = discoverer {
            self.forget_discoverer(&key);
        }
    }

    fn watch_task(&mut self, key: WatchKey, wanted: &Subscription, now: Instant) {
        if self.keys.get(&key).is_some_and(|id| self.tasks.id(&wanted.task) != Some(*id)) {
            self.forget(&key);
        }
        let id = self.tasks.id_or_insert(&wanted.task, |task| PolledTask::new(task, &wanted.tenant, wanted.age, now));
        let next_job = self.gate.next_job();
        let Some(polled) = self.tasks.get_mut(id) else { return };
        let is_first = !polled.is_watched();
        let owed = polled.watch(key.clone(), wanted, next_job, now);
        if owed && !wanted.known && !wanted.requested && self.show_newcomer(id, &key, now) {
            self.keys.insert(key, id);
            return;
        }
        if owed && let Some(lane) = self.tasks.get(id).map(|polled| polled.lane().clone()) {
            self.newcomer_bears_witness(&lane, Subject::Task(id), now);
        }
        if owed
            && self.gate.is_silent(now)
            && let Some(trouble) = self.gate.trouble()
            && let Some(polled) = self.tasks.get_mut(id)
        {
            // Nothing is asked for the time being: the newcomer is told why, as the others were.
            polled.troubled(&Arc::new(trouble.failure.clone()), next_job, now, &mut self.out);
        }
        self.keys.insert(key, id);
        if !owed || matches!(self.place(id), Place::InFlight | Place::Fresh(_)) {
            return;
        }
        if is_first && wanted.known {
            self.spread(id, now);
        } else {
            self.look_soon(id, now);
        }
        self.review(&wanted.task.scope, now);
    }

    /// Forgets a watch, or a discoverer; a task that nobody watches any more costs no request, nor does a list that nobody wants.
    pub fn forget(&mut self, key: &WatchKey) {
        self.forget_discoverer(key);
        let Some(id) = self.keys.remove(key) else { return };
        let Some(polled) = self.tasks.get_mut(id) else { return };
        polled.forget(key);
        // While its answer is awaited a task stays, so that nobody asks for the task a second time meanwhile.
        if polled.place() != Place::InFlight && !self.sweep(id) && self.is_settled(id) {
            self.put(id, Place::Done);
        }
    }

    /// The next request that may be sent now; none when all that is left must wait.
    pub fn next(&mut self, now: Instant) -> Option<Job> {
        self.end_undecided_doubt(now);
        if self.gate.is_silent(now) || self.gate.occupied(self.asking()).is_some() {
            return None;
        }
        self.drop_unneeded_steps(now);
        if !self.gate.admits(now) || self.work_at(now).is_none_or(|(at, _)| at > now) {
            return None;
        }
        let (step, tenant, lag) = if self.gate.needs_token(now) {
            (Step::first(JobKind::Authenticate), None, Duration::ZERO)
        } else if let Some((step, tenant)) = self.witness_step(now) {
            (step, Some(tenant), Duration::ZERO)
        } else {
            let (step, tenant, lag) = self.pick(now)?;
            (step, Some(tenant), lag)
        };
        Some(self.gate.send(step, tenant, lag, now))
    }

    /// When [`Self::next`] should be asked again, and why not now.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Wait {
        if let Some(why) = self.gate.occupied(self.asking()) {
            return Wait { until: None, why };
        }
        match self.work_at(now) {
            Some((at, why)) => self.gate.wait_for(at, why, now),
            None => self.gate.idle(),
        }
    }

    /// When [`Self::next`] should be asked again; none when only an answer or a command can change anything.
    #[must_use]
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        self.wait(now).until
    }

    /// What is to be delivered since the last call.
    pub fn take_deliveries(&mut self) -> Vec<Delivery<Instant>> {
        std::mem::take(&mut self.out)
    }

    /// What discoverers are to be told since the last call.
    pub fn take_discovered(&mut self) -> Vec<Discovered<Instant>> {
        std::mem::take(&mut self.found)
    }

    /// By how much the periods are stretched because the demand exceeds the budget; 1 is not at all.
    #[must_use]
    pub fn stretch(&self) -> f64 {
        self.demand.stretch(self.gate.rate())
    }

    /// The same for one tenant.
    fn stretch_of(&self, tenant: &Tenant) -> f64 {
        let (rate, own) = (self.gate.rate(), self.gate.rate_of(tenant));
        let within_own = own.map_or(1.0, |own| self.demand.of(tenant) / own);
        self.demand.stretch_of(tenant, rate).max(within_own)
    }

    /// What is wrong with the whole connection.
    #[must_use]
    pub fn trouble(&self) -> Option<&Trouble> {
        self.gate.trouble()
    }

    /// When an answer last was of use.
    #[must_use]
    pub fn last_success(&self) -> Option<Instant> {
        self.gate.last_success()
    }

    /// Until when the upstream asked to be left alone.
    #[must_use]
    pub fn retry_at(&self, now: Instant) -> Option<Instant> {
        self.gate.retry_at(now)
    }

    /// The upstream asked to be left alone for so long, as was heard before this planner began.
    pub fn silence(&mut self, wait: Duration, now: Instant) {
        self.gate.silence(Some(wait), now);
    }

    /// Whoever polled before this planner began may have spent all that the budget allows.
    pub fn exhaust(&mut self, now: Instant) {
        self.gate.exhaust(now);
    }

    /// How most tasks are polled; none without tasks to poll.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        self.scopes.mode_of_most()
    }

    /// How many of the polled tasks were last seen in this state; none: not seen yet.
    #[must_use]
    pub fn count(&self, state: Option<TaskState>) -> usize {
        self.tasks.values().filter(|polled| polled.is_polled() && polled.state() == state).count()
    }

    /// What continues a poll that nobody wants any more is not asked.
    fn drop_unneeded_steps(&mut self, now: Instant) {
        if !self.schedule.has_steps() {
            return;
        }
        let (tasks, scopes) = (&self.tasks, &self.scopes);
        let is_needed = |step: &Step| match &step.kind {
            JobKind::Subtasks(task) => {
                tasks.id(task).and_then(|id| tasks.get(id)).is_some_and(|polled| !polled.is_settled())
            }
            JobKind::List(scope, _) => scopes.is_awaited(scope),
            JobKind::Authenticate | JobKind::Get(_) => true,
        };
        for step in self.schedule.take_steps(is_needed) {
            self.ask_again(step.kind, now);
        }
    }

    /// Who asks: what the gate has to know of the rest.
    fn asking(&self) -> Asking {
        let in_flight = self.gate.flights().filter_map(|flight| flight.tenant.as_ref());
        let others = in_flight.filter(|tenant| !self.schedule.has(tenant));
        let waiting = self.schedule.tenants();
        Asking { is_shared: waiting > 1 || waiting == 1 && others.count() > 0, care: self.doubt.care() }
    }

    /// When there is something to ask, but for budget and breaker, and what it waits for.
    fn work_at(&self, now: Instant) -> Option<(Instant, Why)> {
        if self.doubt.asks_first() {
            return Some((now, Why::Due));
        }
        let places = self.gate.places(self.asking());
        let due = self.schedule.next_at(now, |tenant| self.gate.earliest(places, tenant, now));
        let due = due.map(|at| (at, Why::Due));
        due.into_iter().chain(self.doubt.until().map(|at| (at, Why::Doubt))).min_by_key(|(at, _)| *at)
    }

    fn pick(&mut self, now: Instant) -> Option<(Step, Tenant, Duration)> {
        loop {
            let places = self.gate.places(self.asking());
            let (tenant, next) = self.schedule.take(now, |tenant| self.gate.earliest(places, tenant, now))?;
            match next {
                Next::Step(step) => return Some((step, tenant, Duration::ZERO)),
                Next::New(id) => {
                    if self.put_off(id, now) || self.leave_to_list(id, now) {
                        continue;
                    }
                    return Some((self.get(id, now)?, tenant, Duration::ZERO));
                }
                Next::Due(at, Item::Task(id)) => {
                    if self.put_off(id, now) {
                        continue;
                    }
                    return Some((self.get(id, now)?, tenant, now - at));
                }
                Next::Due(at, Item::Scope(scope)) => {
                    if self.put_off_list(&scope, now) || self.put_off_doubtful_list(&scope, now) {
                        continue;
                    }
                    self.begin_run(&scope, now);
                    return Some((Step::first(JobKind::List(scope, None)), tenant, now - at));
                }
            }
        }
    }
}

impl Step {
    fn first(kind: JobKind) -> Self {
        Self { kind, partial: None, poll: 0 }
    }

    /// A further page of a list whose first page was asked for by the job `poll`.
    fn page(scope: &Arc<str>, cursor: Cursor, poll: u64) -> Self {
        Self { kind: JobKind::List(Arc::clone(scope), Some(cursor)), partial: None, poll }
    }
}
