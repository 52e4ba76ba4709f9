//! One polled task, its watchers, and what it owes them.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::engine::{Delivery, Report, Watch, WatchKey};
use crate::{
    domain::{
        cadence::{self, Bounds},
        failure::{Failure, FailureClass},
        task::{Task, TaskRef, TaskState},
    },
    tenancy::Tenant,
};

/// Where an entry waits for its next poll. It is in exactly one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the lane of the new ones, by its arrival.
    Fresh(u64),
    /// In the queue, to be asked for by itself at this time.
    Due(Instant),
    /// Served by its scope's list.
    Listed,
    /// Being asked for.
    InFlight,
    /// Finished: costs no request.
    Done,
}

/// One watcher of an entry.
#[derive(Debug)]
pub struct Watcher {
    /// Who.
    pub key: WatchKey,
    /// On whose account.
    pub tenant: Tenant,
    /// What to echo.
    pub ticket: u64,
    /// Answers to jobs with a smaller number were asked for before this watch existed.
    pub from_job: u64,
    /// Whether the next report is due to it even if it says nothing new.
    pub owed: bool,
    /// Whether it has been told that the task is finished: nothing follows that but for a new ticket.
    pub settled: bool,
    /// The period at the start.
    pub period: Duration,
    /// The longest period.
    pub max_period: Duration,
}

/// What a list shows of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// What it showed before.
    Unchanged,
    /// Something else, of this print.
    Print(u64),
    /// A part of another task.
    Part,
    /// Something else, which is left to the next list.
    Later,
}

/// One polled task.
#[derive(Debug)]
pub struct Entry {
    /// Which.
    pub task: Arc<TaskRef>,
    /// Empty only until the first comes, and while an answer is awaited after the last has gone.
    pub watchers: Vec<Watcher>,
    /// Where it waits.
    pub place: Place,
    /// In whose turn.
    pub lane: Tenant,
    /// When it was last asked for by itself.
    pub asked: Option<Instant>,
    /// The job whose answer last showed that the credential is good for it; 0 for none.
    pub good: u64,
    /// Refusals of the credential in a row that were its own.
    pub refusals: u32,
    /// Missing from its scope's list: asked for by itself until a list shows it again.
    pub solo: bool,
    /// The first job that was asked after the last applied answer had come. An answer to an older one may show an older state, in
    /// whichever order they were sent: it is not applied.
    pub applied: u64,
    /// Failures of its own in a row.
    pub failures: u32,
    /// The poll's share of the demand, in requests per second.
    pub demand: f64,
    /// Lists have shown sub-tasks of it.
    pub parts: bool,
    /// The print of what the list last showed and was applied; an entry of the same print need not be decoded.
    pub print: Option<u64>,
    /// What the newest list shows that has an entry of it, by the list's first job.
    pub reading: Option<(u64, Reading)>,
    /// When the upstream would be asked again, by the last answer to a request for this task alone: for its next look only.
    pub hint: Option<Instant>,
    changed: Instant,
    fingerprint: Option<u64>,
    state: Option<TaskState>,
    missing_since: Option<Instant>,
    trouble: Option<(FailureClass, Instant)>,
    polls: u64,
}

impl Entry {
    /// A new entry without watchers, whose task has not changed for `age`.
    #[must_use]
    pub fn new(task: Arc<TaskRef>, tenant: &Tenant, age: Duration, now: Instant) -> Self {
        Self {
            task,
            watchers: Vec::new(),
            place: Place::Done,
            lane: tenant.clone(),
            asked: None,
            good: 0,
            refusals: 0,
            solo: false,
            applied: 0,
            failures: 0,
            demand: 0.0,
            parts: false,
            print: None,
            reading: None,
            hint: None,
            changed: now.checked_sub(age).unwrap_or(now),
            fingerprint: None,
            state: None,
            missing_since: None,
            trouble: None,
            polls: 0,
        }
    }

    /// Adds or replaces a watcher. Returns whether something is owed to it that it has not had yet.
    pub fn watch(&mut self, key: WatchKey, watch: &Watch, next_job: u64, now: Instant) -> bool {
        let (period, max_period) = (watch.period, watch.max_period);
        if let Some(old) = self.watchers.iter_mut().find(|watcher| watcher.key == key) {
            (old.period, old.max_period) = (period, max_period);
            if old.ticket == watch.ticket {
                return false;
            }
            (old.ticket, old.from_job, old.owed, old.settled) = (watch.ticket, next_job, true, false);
            self.changed = now;
            return true;
        }
        let (ticket, from_job) = (watch.ticket, next_job);
        // Nearly always the only one.
        self.watchers.reserve_exact(1);
        let tenant = watch.tenant.clone();
        self.watchers.push(Watcher { key, tenant, ticket, from_job, owed: true, settled: false, period, max_period });
        true
    }

    /// Whether the list whose first job was `poll` has shown it.
    #[must_use]
    pub fn is_read_by(&self, poll: u64) -> bool {
        self.reading.is_some_and(|(list, _)| list == poll)
    }

    /// On whose account it is asked for: that of its first watcher.
    #[must_use]
    pub fn tenant(&self) -> Option<&Tenant> {
        self.watchers.first().map(|watcher| &watcher.tenant)
    }

    /// Whether it has been seen at all.
    #[must_use]
    pub fn is_seen(&self) -> bool {
        self.state.is_some()
    }

    /// The state that was seen last.
    #[must_use]
    pub fn state(&self) -> Option<TaskState> {
        self.state
    }

    /// Whether a watcher waits for a report that it has been promised.
    #[must_use]
    pub fn is_owing(&self) -> bool {
        self.watchers.iter().any(|watcher| watcher.owed)
    }

    /// Whether all its watchers know that the task is finished.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.watchers.iter().all(|watcher| watcher.settled)
    }

    /// Whether nothing would be told of it that was told before.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        !self.is_owing() && self.trouble.is_none() && self.missing_since.is_none() && self.failures == 0
    }

    /// The time until the next poll, without stretch: the shortest that a watcher asks for, longer after failures. `hint` is how long the
    /// upstream said to wait, where it has.
    #[must_use]
    pub fn period(&self, floor: Duration, ceiling: Duration, hint: Option<Duration>, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.changed);
        let periods = self.watchers.iter().map(|watcher| {
            let bounds = Bounds { start: watcher.period, max: watcher.max_period, floor, ceiling };
            hint.map_or_else(|| cadence::period(bounds, age), |hint| cadence::hinted(bounds, hint))
        });
        cadence::after_failures(periods.min().unwrap_or(ceiling), self.failures, ceiling)
    }

    /// What its jitter comes from: a number of its own, and that of its poll.
    pub fn next_turn(&mut self) -> (u64, u64) {
        self.polls += 1;
        (cadence::seed(self.watchers.first().map_or("", |watcher| &watcher.key.0)), self.polls)
    }

    /// The answer to the job `poll` shows the task; `next_job` is the next that will be asked.
    pub fn seen(&mut self, task: Arc<Task>, poll: u64, next_job: u64, now: Instant, out: &mut Vec<Delivery<Instant>>) {
        let print = fingerprint(&task);
        let trouble = self.trouble.take().is_some();
        let missing = self.missing_since.take().is_some();
        let news = self.fingerprint.replace(print) != Some(print) || trouble || missing;
        if self.state.replace(task.state) != Some(task.state) {
            self.changed = now;
        }
        self.failures = 0;
        self.applied = next_job;
        self.print = None;
        self.deliver(news, poll, out, || Report::Seen { task, at: now });
    }

    /// The answer to the job `poll` says that the upstream does not know the task.
    pub fn missing(
        &mut self,
        failure: &Failure,
        poll: u64,
        next_job: u64,
        now: Instant,
        out: &mut Vec<Delivery<Instant>>,
    ) {
        let trouble = self.trouble.take().is_some();
        let news = self.missing_since.is_none() || trouble;
        let since = *self.missing_since.get_or_insert(now);
        self.failures = 0;
        self.applied = next_job;
        self.deliver(news, poll, out, || Report::Missing { failure: Arc::new(failure.clone()), since, at: now });
    }

    /// Nothing could be learnt of the task.
    pub fn troubled(&mut self, failure: &Arc<Failure>, poll: u64, now: Instant, out: &mut Vec<Delivery<Instant>>) {
        let since = self.trouble.map_or(now, |(_, since)| since);
        let news = self.trouble.replace((failure.class, since)).is_none_or(|(class, _)| class != failure.class);
        self.missing_since = None;
        self.deliver(news, poll, out, || Report::Trouble { failure: Arc::clone(failure), since, at: now });
    }

    /// Gives the report to all watchers where it is news, and in any case to those who are owed one. A watcher that the answer is
    /// too old for is owed the news.
    fn deliver(
        &mut self,
        news: bool,
        poll: u64,
        out: &mut Vec<Delivery<Instant>>,
        report: impl FnOnce() -> Report<Instant>,
    ) {
        for watcher in &mut self.watchers {
            watcher.owed |= news && !watcher.settled;
        }
        let concerned = |watcher: &Watcher| watcher.owed && watcher.from_job <= poll;
        if !self.watchers.iter().any(concerned) {
            return;
        }
        let report = report();
        let finished = matches!(&report, Report::Seen { task, .. } if task.state.is_finished());
        for watcher in self.watchers.iter_mut().filter(|watcher| concerned(watcher)) {
            (watcher.owed, watcher.settled) = (false, finished);
            out.push(Delivery { key: watcher.key.clone(), ticket: watcher.ticket, report: report.clone() });
        }
    }
}

/// A hash that tells two observations apart.
fn fingerprint(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
