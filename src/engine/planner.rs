//! What a connection asks next, and what an answer means for its queue: sans-IO, so that the invariants of design §3 can be tested
//! with any schedule. The actor sends what [`Planner::next`] gives and hands the answers to [`Planner::done`].
//!
//! Lanes, first to last: what continues a poll that has begun (sub-tasks, further pages), new watches, what is due. Every fourth
//! turn goes to what is due, so that a stream of new watches starves nobody.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Delivery, Watch, WatchKey,
    budget::Budget,
    coalesce::{Mode, ModeChoice},
    entry::{Entry, Place},
    hold::{Hold, Trouble},
    lists::Scope,
};
use crate::domain::{
    cadence,
    failure::{Failure, FailureClass},
    task::{Task, TaskRef},
};
use crate::providers::{Cursor, Page};

/// The bounds of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Requests per second in the long run, at least 1.
    pub requests_per_second: u32,
    /// Requests that may be sent at once after a rest.
    pub burst: u32,
    /// Requests in flight at a time, at least 1.
    pub max_in_flight: usize,
    /// The shortest period of a task.
    pub min_period: Duration,
    /// The longest period of a task.
    pub max_period: Duration,
    /// Lists or single requests.
    pub mode: ModeChoice,
    /// Whether the upstream lists tasks.
    pub lists: bool,
    /// Whether sub-tasks need a request of their own.
    pub subtasks: bool,
    /// Whether the credential is exchanged for a token first.
    pub exchanges: bool,
}

/// A request to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Rises with each job.
    pub id: u64,
    /// What to ask.
    pub kind: JobKind,
    /// How long it has waited beyond its time.
    pub lag: Duration,
}

/// What to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// A token for the credential.
    Authenticate,
    /// One task.
    Get(Arc<TaskRef>),
    /// The sub-tasks of one task.
    Subtasks(Arc<TaskRef>),
    /// A page of the tasks of a scope.
    List(Arc<str>, Option<Cursor>),
}

/// What a job brought.
#[derive(Debug)]
pub enum JobResult {
    /// A token, and how long it is good for where that is known.
    Token(Result<Option<Duration>, Failure>),
    /// A task.
    Task(Result<Task, Failure>),
    /// A page of a list, or the sub-tasks of a task.
    Page(Result<Page, Failure>),
}

/// A job in flight.
#[derive(Debug)]
struct Running {
    kind: JobKind,
    asked: Instant,
    /// The task that a sub-tasks job completes.
    partial: Option<Task>,
    /// The number of the poll's first job: what was asked first tells how old the answer is.
    poll: u64,
}

/// What continues a poll that has begun.
#[derive(Debug)]
pub(super) struct Step {
    kind: JobKind,
    partial: Option<Task>,
    poll: u64,
}

/// What waits for its time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    Task(Arc<TaskRef>),
    Scope(Arc<str>),
}

#[derive(Debug, PartialEq)]
enum Access {
    /// Nothing to exchange, or a token that is good until then; `proven` once the upstream has taken it.
    Open {
        renew_at: Option<Instant>,
        proven: bool,
        job: u64,
    },
    NeedsToken,
    Authenticating,
}

/// A token is renewed so long before its end, or at half its life where that is shorter.
const RENEW_MARGIN: Duration = Duration::from_secs(60);
/// A task that has been refused for want of a token, or by a rate limit, is asked for again as soon as that is mended.
const AT_ONCE: Duration = Duration::ZERO;

/// The state of a connection's queue.
#[derive(Debug)]
pub struct Planner {
    pub(super) settings: Settings,
    budget: Budget,
    pub(super) hold: Hold,
    access: Access,
    pub(super) entries: HashMap<Arc<TaskRef>, Entry>,
    keys: HashMap<WatchKey, Arc<TaskRef>>,
    pub(super) scopes: HashMap<Arc<str>, Scope>,
    pub(super) queue: BTreeSet<(Instant, Item)>,
    /// In the order of their coming.
    pub(super) fresh: BTreeMap<u64, Arc<TaskRef>>,
    arrivals: u64,
    pub(super) steps: VecDeque<Step>,
    jobs: HashMap<u64, Running>,
    next_job: u64,
    turn: u8,
    pub(super) demand: f64,
    pub(super) subtasks_refused: bool,
    last_success: Option<Instant>,
    pub(super) out: Vec<Delivery<Instant>>,
}

impl Planner {
    /// A planner without watches.
    #[must_use]
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            budget: Budget::new(settings.requests_per_second, settings.burst, now),
            access: Access::closed(&settings),
            settings,
            hold: Hold::default(),
            entries: HashMap::new(),
            keys: HashMap::new(),
            scopes: HashMap::new(),
            queue: BTreeSet::new(),
            fresh: BTreeMap::new(),
            arrivals: 0,
            steps: VecDeque::new(),
            jobs: HashMap::new(),
            next_job: 1,
            turn: 0,
            demand: 0.0,
            subtasks_refused: false,
            last_success: None,
            out: Vec::new(),
        }
    }

    /// Takes over new bounds. `renewed`: the credential or what it is sent to is another one, so that refusals of the old one are void.
    pub fn reconfigure(&mut self, settings: Settings, renewed: bool, now: Instant) {
        self.budget.resize(settings.requests_per_second, settings.burst, now);
        self.settings = settings;
        if renewed {
            self.hold.forgive();
            self.access = Access::closed(&self.settings);
            self.subtasks_refused = false;
            self.requeue_all(now);
        }
    }

    /// Registers a watch, or changes it; a new ticket asks for a fresh observation.
    pub fn watch(&mut self, key: WatchKey, watch: &Watch, now: Instant) {
        if self.keys.get(&key).is_some_and(|task| **task != watch.task) {
            self.forget(&key);
        }
        let task = match self.entries.get_key_value(&watch.task) {
            Some((task, _)) => Arc::clone(task),
            None => Arc::new(watch.task.clone()),
        };
        let next_job = self.next_job;
        let entry = self.entries.entry(Arc::clone(&task)).or_insert_with(|| Entry::new(watch.age, now));
        let is_first = entry.watchers.is_empty();
        let owed = entry.watch(key.clone(), watch, next_job, now);
        self.keys.insert(key, Arc::clone(&task));
        if !owed || matches!(self.place(&task), Place::InFlight | Place::Fresh(_)) {
            return;
        }
        if is_first && watch.known {
            self.spread(&task, now);
        } else {
            self.put_first(&task);
        }
        self.review(&task.scope, now);
    }

    /// Forgets a watch; a task that nobody watches any more costs no request.
    pub fn forget(&mut self, key: &WatchKey) {
        let Some(task) = self.keys.remove(key) else { return };
        let Some(entry) = self.entries.get_mut(&task) else { return };
        entry.watchers.retain(|watcher| watcher.key != *key);
        // While its answer is awaited an entry stays, so that nobody asks for the task a second time meanwhile.
        if entry.place != Place::InFlight {
            self.sweep(&task);
        }
    }

    /// The next request that may be sent now; none when all that is left must wait.
    pub fn next(&mut self, now: Instant) -> Option<Job> {
        if self.hold.until(now).is_some()
            || self.jobs.len() >= self.in_flight_limit()
            || self.work_at(now).is_none_or(|at| at > now)
        {
            return None;
        }
        if let Access::Open { renew_at: Some(at), .. } = self.access
            && at <= now
        {
            self.access = Access::NeedsToken;
        }
        if self.access == Access::Authenticating || self.budget.ready_at(now) > now {
            return None;
        }
        let (step, lag) = if self.access == Access::NeedsToken {
            self.access = Access::Authenticating;
            (Step::first(JobKind::Authenticate), Duration::ZERO)
        } else {
            self.pick(now)?
        };
        self.budget.take(now);
        let id = self.next_job;
        self.next_job += 1;
        let poll = if step.poll == 0 { id } else { step.poll };
        self.jobs.insert(id, Running { kind: step.kind.clone(), asked: now, partial: step.partial, poll });
        Some(Job { id, kind: step.kind, lag })
    }

    /// When [`Self::next`] should be asked again; none when only an answer or a new watch can change anything.
    #[must_use]
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        if self.jobs.len() >= self.in_flight_limit() || self.access == Access::Authenticating {
            return None;
        }
        let work = self.work_at(now)?.max(self.budget.ready_at(now));
        Some(self.hold.until(now).map_or(work, |until| until.max(work)))
    }

    /// Takes in what a job brought; `body` is the size of the answer in bytes.
    pub fn done(&mut self, id: u64, result: JobResult, body: usize, retry_after: Option<Duration>, now: Instant) {
        let Some(job) = self.jobs.remove(&id) else { return };
        let failure = match &result {
            JobResult::Token(Err(failure)) | JobResult::Task(Err(failure)) | JobResult::Page(Err(failure)) => {
                Some(failure.clone())
            }
            _ => None,
        };
        let again = failure.as_ref().is_some_and(|failure| self.refused(&job, failure, retry_after, now));
        if failure.is_none() && job.kind != JobKind::Authenticate {
            self.succeeded(&job, now);
        }
        match (job.kind, result) {
            (JobKind::Authenticate, JobResult::Token(Ok(life))) => {
                let renew_at = life.map(|life| now + life.saturating_sub(RENEW_MARGIN.min(life / 2)));
                self.access = Access::Open { renew_at, proven: false, job: id };
            }
            (JobKind::Authenticate, _) => self.access = Access::NeedsToken,
            (JobKind::Get(task), JobResult::Task(Ok(found))) => self.found(&task, found, job.poll, body, now),
            (JobKind::Get(task), JobResult::Task(Err(failure))) => {
                self.not_found(&task, &failure, again, job.poll, now)
            }
            (JobKind::Subtasks(task), JobResult::Page(page)) => {
                self.subtasks_came(&task, job.partial, page, again, job.poll, now);
            }
            (JobKind::List(scope, _), JobResult::Page(Ok(page))) => self.page_came(&scope, page, body, job.poll, now),
            (JobKind::List(scope, cursor), JobResult::Page(Err(failure))) => {
                self.page_failed(&scope, cursor.is_none(), &failure, again, job.poll, now);
            }
            // The actor answers each kind of job with its kind of result.
            (JobKind::Get(task) | JobKind::Subtasks(task), _) => self.put(&task, Place::Due(now)),
            (JobKind::List(scope, _), _) => self.end_run(&scope, now),
        }
    }

    /// The job's answer will not come: what it asked for is asked for anew.
    pub fn abandon(&mut self, id: u64, now: Instant) {
        let Some(job) = self.jobs.remove(&id) else { return };
        match job.kind {
            JobKind::Authenticate => self.access = Access::NeedsToken,
            JobKind::Get(task) | JobKind::Subtasks(task) => {
                if !self.sweep(&task) {
                    self.put(&task, Place::Due(now));
                }
            }
            JobKind::List(scope, _) => self.abandon_run(&scope, now),
        }
    }

    /// What is to be delivered since the last call.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Delivery<Instant>> {
        self.out.drain(..)
    }

    /// Whether somebody wants to know of this task or of its sub-tasks.
    #[must_use]
    pub fn wants(&self, task: &TaskRef) -> bool {
        self.entries.contains_key(task)
    }

    /// By how much the periods are stretched because the demand exceeds the budget; 1 is not at all.
    #[must_use]
    pub fn stretch(&self) -> f64 {
        (self.demand / self.budget.rate()).max(1.0)
    }

    /// What is wrong with the whole connection.
    #[must_use]
    pub fn trouble(&self) -> Option<&Trouble> {
        self.hold.trouble()
    }

    /// When an answer last was of use.
    #[must_use]
    pub fn last_success(&self) -> Option<Instant> {
        self.last_success
    }

    /// How most tasks are polled; none without tasks to poll.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        let largest = self.scopes.values().max_by_key(|scope| scope.members)?;
        Some(largest.mode)
    }

    /// How many tasks are polled, and how many requests are in flight.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.jobs.len())
    }

    fn in_flight_limit(&self) -> usize {
        if self.hold.is_probing() { 1 } else { self.settings.max_in_flight.max(1) }
    }

    /// When there is something to ask, but for budget and holds.
    fn work_at(&self, now: Instant) -> Option<Instant> {
        if self.steps.is_empty() && self.fresh.is_empty() { self.queue.first().map(|(at, _)| *at) } else { Some(now) }
    }

    fn pick(&mut self, now: Instant) -> Option<(Step, Duration)> {
        if let Some(step) = self.steps.pop_front() {
            return Some((step, Duration::ZERO));
        }
        self.turn = (self.turn + 1) % 4;
        let is_due = self.queue.first().is_some_and(|(at, _)| *at <= now);
        if !(self.turn == 0 && is_due) {
            while let Some((_, task)) = self.fresh.pop_first() {
                if !self.leave_to_list(&task, now) {
                    self.put(&task, Place::InFlight);
                    return Some((Step::first(JobKind::Get(task)), Duration::ZERO));
                }
            }
        }
        let (at, item) = self.queue.first().filter(|(at, _)| *at <= now).cloned()?;
        let lag = now - at;
        match item {
            Item::Task(task) => {
                self.put(&task, Place::InFlight);
                Some((Step::first(JobKind::Get(task)), lag))
            }
            Item::Scope(scope) => {
                self.queue.pop_first();
                self.begin_run(&scope, now);
                Some((Step::first(JobKind::List(scope, None)), lag))
            }
        }
    }

    /// What a failure means for the connection. Returns whether the request itself should simply be sent again later.
    fn refused(&mut self, job: &Running, failure: &Failure, retry_after: Option<Duration>, now: Instant) -> bool {
        if failure.class == FailureClass::NotFound && retry_after.is_none() {
            self.succeeded(job, now);
            return false;
        }
        let is_token = job.kind == JobKind::Authenticate;
        if failure.class == FailureClass::AuthenticationFailed && !is_token && self.settings.exchanges {
            match self.access {
                // The first refusal of a token that was good, or one of an older token: a new one may cure it.
                Access::Open { proven: true, .. } => {
                    self.access = Access::NeedsToken;
                    return true;
                }
                Access::Open { job: token, .. } if job.poll < token => return true,
                Access::Open { .. } => self.access = Access::NeedsToken,
                Access::NeedsToken | Access::Authenticating => return true,
            }
        }
        if self.hold.failed(failure, job.asked, is_token, retry_after, now) {
            if let Some(until) = self.hold.until(now) {
                self.budget.drain(until);
            }
            self.spread_trouble(failure, now);
        }
        matches!(failure.class, FailureClass::AuthenticationFailed | FailureClass::RateLimited)
    }

    fn succeeded(&mut self, job: &Running, now: Instant) {
        self.hold.succeeded(job.asked);
        self.last_success = Some(now);
        if let Access::Open { proven, job: token, .. } = &mut self.access
            && job.poll > *token
        {
            *proven = true;
        }
    }

    /// Tells every watcher of a trouble of the connection: while it lasts, hardly anything is polled.
    fn spread_trouble(&mut self, failure: &Failure, now: Instant) {
        let failure = Arc::new(failure.clone());
        let job = self.next_job;
        for entry in self.entries.values_mut().filter(|entry| entry.place != Place::Done) {
            entry.troubled(&failure, false, job, now, &mut self.out);
        }
    }

    fn found(&mut self, task: &Arc<TaskRef>, found: Task, poll: u64, body: usize, now: Instant) {
        let asks_subtasks = self.settings.subtasks && !self.subtasks_refused && found.parent_id.is_none();
        if let Some(scope) = self.scopes.get_mut(task.scope.as_str()) {
            scope.costs.get_took(1 + u32::from(asks_subtasks), body);
        }
        if asks_subtasks && self.entries.get(task).is_some_and(|entry| !entry.watchers.is_empty()) {
            self.steps.push_back(Step { kind: JobKind::Subtasks(Arc::clone(task)), partial: Some(found), poll });
        } else {
            self.observe(task, found, poll, now);
        }
    }

    fn subtasks_came(
        &mut self,
        task: &Arc<TaskRef>,
        partial: Option<Task>,
        page: Result<Page, Failure>,
        again: bool,
        poll: u64,
        now: Instant,
    ) {
        let Some(mut found) = partial else { return self.put(task, Place::Due(now)) };
        match page {
            Ok(page) => found.adopt(page.tasks),
            // An upstream that cannot filter has its task shown without parts, and is not asked again.
            Err(failure) if failure.class == FailureClass::InvalidRequest => self.subtasks_refused = true,
            Err(failure) if failure.class == FailureClass::NotFound => {}
            Err(failure) => return self.not_found(task, &failure, again, poll, now),
        }
        self.observe(task, found, poll, now);
    }

    /// Applies an observation, unless a newer one has been applied; says where the task waits next.
    pub(super) fn observe(&mut self, task: &Arc<TaskRef>, found: Task, poll: u64, now: Instant) {
        if self.sweep(task) {
            return;
        }
        let Some(entry) = self.entries.get_mut(task) else { return };
        let finished = found.state.is_finished();
        if poll >= entry.applied {
            entry.seen(found, poll, now, &mut self.out);
        }
        if entry.is_owing() {
            // Registered while this was in flight: not for it.
            self.put_first(task);
        } else if finished {
            self.put(task, Place::Done);
        } else {
            self.wait(task, now);
        }
    }

    fn not_found(&mut self, task: &Arc<TaskRef>, failure: &Failure, again: bool, poll: u64, now: Instant) {
        if self.sweep(task) {
            return;
        }
        let Some(entry) = self.entries.get_mut(task) else { return };
        if again {
            return self.put(task, Place::Due(now + AT_ONCE));
        }
        if poll >= entry.applied {
            if failure.class == FailureClass::NotFound {
                entry.missing(failure, poll, now, &mut self.out);
            } else {
                entry.troubled(&Arc::new(failure.clone()), true, poll, now, &mut self.out);
            }
        }
        if entry.is_owing() {
            self.put_first(task);
        } else {
            self.wait(task, now);
        }
    }

    /// Removes an entry that nobody watches any more. Returns whether it did.
    fn sweep(&mut self, task: &Arc<TaskRef>) -> bool {
        let unwatched = self.entries.get(task).is_some_and(|entry| entry.watchers.is_empty());
        if unwatched {
            self.put(task, Place::Done);
            self.entries.remove(task);
        }
        unwatched
    }

    /// Lets a task wait for its next poll: in the queue, or for its scope's list.
    pub(super) fn wait(&mut self, task: &Arc<TaskRef>, now: Instant) {
        self.review(&task.scope, now);
        let Some(entry) = self.entries.get_mut(task) else { return };
        let listed = !entry.solo && self.scopes.get(task.scope.as_str()).is_some_and(|scope| scope.mode == Mode::List);
        if listed {
            let next = entry.period(self.settings.min_period, self.settings.max_period, now);
            self.put(task, Place::Listed);
            return self.list_at(&Arc::from(task.scope.as_str()), now + next);
        }
        let period = entry.period(self.settings.min_period, self.settings.max_period, now);
        let seed = entry.seed();
        let requests = 1.0 + f64::from(u8::from(self.settings.subtasks && !self.subtasks_refused));
        self.demand += requests / period.as_secs_f64() - entry.demand;
        entry.demand = requests / period.as_secs_f64();
        let due = now + cadence::jittered(period.mul_f64(self.stretch()), seed);
        self.put(task, Place::Due(due));
    }

    /// Lets a task wait for its first poll after a restart, anywhere within its period.
    pub(super) fn spread(&mut self, task: &Arc<TaskRef>, now: Instant) {
        self.wait(task, now);
        let Some(entry) = self.entries.get_mut(task) else { return };
        if let Place::Due(due) = entry.place {
            #[allow(clippy::cast_precision_loss, reason = "a fraction")]
            let part = entry.seed() as f64 / u64::MAX as f64;
            let at = now + (due - now).mul_f64(part);
            self.put(task, Place::Due(at));
        }
    }

    pub(super) fn place(&self, task: &TaskRef) -> Place {
        self.entries.get(task).map_or(Place::Done, |entry| entry.place)
    }

    /// Moves an entry; keeps the queue, the scope's count and the demand in step.
    pub(super) fn put(&mut self, task: &Arc<TaskRef>, place: Place) {
        let Some(entry) = self.entries.get_mut(task) else { return };
        let old = std::mem::replace(&mut entry.place, place);
        match old {
            Place::Due(at) => drop(self.queue.remove(&(at, Item::Task(Arc::clone(task))))),
            Place::Fresh(arrival) => drop(self.fresh.remove(&arrival)),
            Place::Listed | Place::InFlight | Place::Done => {}
        }
        match place {
            Place::Due(at) => drop(self.queue.insert((at, Item::Task(Arc::clone(task))))),
            Place::Fresh(arrival) => drop(self.fresh.insert(arrival, Arc::clone(task))),
            Place::Listed | Place::Done => self.demand -= std::mem::take(&mut entry.demand),
            Place::InFlight => {}
        }
        self.placed(task, old, place);
    }

    /// Puts an entry into the lane of the new ones, behind those that are there.
    fn put_first(&mut self, task: &Arc<TaskRef>) {
        self.arrivals += 1;
        self.put(task, Place::Fresh(self.arrivals));
    }

    /// After a change of the credential: what waits is asked for anew, in its order but soon.
    fn requeue_all(&mut self, now: Instant) {
        let tasks: Vec<_> =
            self.entries.iter().filter(|(_, e)| matches!(e.place, Place::Due(_))).map(|(t, _)| Arc::clone(t)).collect();
        for task in tasks {
            if let Some(entry) = self.entries.get_mut(&task) {
                entry.failures = 0;
            }
            self.spread(&task, now);
        }
        let scopes: Vec<_> = self.scopes.keys().cloned().collect();
        for scope in scopes {
            self.list_at(&scope, now);
        }
    }
}

impl Step {
    fn first(kind: JobKind) -> Self {
        Self { kind, partial: None, poll: 0 }
    }

    /// A further page of a list whose first page was asked for by the job `poll`.
    pub(super) fn page(scope: &Arc<str>, cursor: Cursor, poll: u64) -> Self {
        Self { kind: JobKind::List(Arc::clone(scope), Some(cursor)), partial: None, poll }
    }
}

impl Access {
    fn closed(settings: &Settings) -> Self {
        if settings.exchanges { Self::NeedsToken } else { Self::Open { renew_at: None, proven: false, job: 0 } }
    }
}
