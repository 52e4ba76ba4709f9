//! One polled task, its subscribers, and what it owes them.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::subscriber::Subscriber;
use crate::engine::{Delivery, Report, Subscription, WatchKey};
use crate::{
    domain::{
        cadence,
        failure::{Failure, FailureClass},
        task::{Task, TaskRef, TaskState},
    },
    tenancy::Tenant,
};

/// Where a polled task waits for its next poll. It is in exactly one place.
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
pub struct PolledTask {
    task: Arc<TaskRef>,
    /// Empty only until the first comes, and while an answer is awaited after the last has gone.
    subscribers: Vec<Subscriber>,
    /// Where it waits.
    place: Place,
    /// In whose turn.
    lane: Tenant,
    /// When it was last asked for by itself.
    asked: Option<Instant>,
    /// The job whose answer last showed that the credential is good for it; 0 for none.
    good: u64,
    /// Refusals of the credential in a row that were its own.
    refusals: u32,
    /// Missing from its scope's list: asked for by itself until a list shows it again.
    solo: bool,
    /// The first job that was asked after the last applied answer had come. An answer to an older one may show an older state, in
    /// whichever order they were sent: it is not applied.
    applied: u64,
    /// Failures of its own in a row.
    failures: u32,
    /// The poll's share of the demand, in requests per second.
    demand: f64,
    /// Lists have shown sub-tasks of it.
    parts: bool,
    /// The print of what the list last showed and was applied; an entry of the same print need not be decoded.
    print: Option<u64>,
    /// What the newest list shows that has an entry of it, by the list's first job.
    reading: Option<(u64, Reading)>,
    /// When the upstream would be asked again, by the last answer to a request for this task alone: for its next look only.
    hint: Option<Instant>,
    changed: Instant,
    fingerprint: Option<u64>,
    state: Option<TaskState>,
    missing_since: Option<Instant>,
    trouble: Option<(FailureClass, Instant)>,
    polls: u64,
}

impl PolledTask {
    /// A new one without subscribers, which has not changed for `age`.
    #[must_use]
    pub fn new(task: Arc<TaskRef>, tenant: &Tenant, age: Duration, now: Instant) -> Self {
        Self {
            task,
            subscribers: Vec::new(),
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

    /// Adds or replaces a subscriber. Returns whether something is owed to it that it has not had yet.
    pub fn watch(&mut self, key: WatchKey, wanted: &Subscription, next_job: u64, now: Instant) -> bool {
        if let Some(old) = self.subscribers.iter_mut().find(|subscriber| subscriber.is(&key)) {
            let is_new = old.change(wanted, next_job);
            if is_new {
                self.changed = now;
            }
            return is_new;
        }
        // Nearly always the only one.
        self.subscribers.reserve_exact(1);
        self.subscribers.push(Subscriber::new(key, wanted, next_job));
        true
    }

    /// Removes a subscriber.
    pub fn forget(&mut self, key: &WatchKey) {
        self.subscribers.retain(|subscriber| !subscriber.is(key));
    }

    /// Which task it is.
    #[must_use]
    pub fn task(&self) -> &Arc<TaskRef> {
        &self.task
    }

    /// Whether anybody watches it.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        !self.subscribers.is_empty()
    }

    /// Who watches it.
    pub fn keys(&self) -> impl Iterator<Item = &WatchKey> {
        self.subscribers.iter().map(Subscriber::key)
    }

    /// Where it waits.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// In whose turn it waits.
    #[must_use]
    pub fn lane(&self) -> &Tenant {
        &self.lane
    }

    /// Whether it costs requests.
    #[must_use]
    pub fn is_polled(&self) -> bool {
        self.place != Place::Done
    }

    /// Whether it waits for its turn, by itself or for a list.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.place, Place::Due(_) | Place::Fresh(_) | Place::Listed)
    }

    /// Has it wait elsewhere, in the turn of `lane`. Returns where and in whose turn it waited. (Called by [`super::Planner::put`] alone, which
    /// keeps the schedule, the scope and the demand in step.)
    pub fn moved(&mut self, place: Place, lane: Tenant) -> (Place, Tenant) {
        debug_assert!(self.place != place || self.lane != lane || place != Place::Listed, "a move that is none");
        (std::mem::replace(&mut self.place, place), std::mem::replace(&mut self.lane, lane))
    }

    /// The poll's share of the demand is so large from now on, in requests per second. Returns by how much it grew.
    pub fn want(&mut self, demand: f64) -> f64 {
        demand - std::mem::replace(&mut self.demand, demand)
    }

    /// It is asked for by itself.
    pub fn is_asked(&mut self, now: Instant) {
        self.asked = Some(now);
    }

    /// When it was last asked for by itself.
    #[must_use]
    pub fn asked(&self) -> Option<Instant> {
        self.asked
    }

    /// When it was last asked for by itself, where an answer has shown it.
    #[must_use]
    pub fn seen_by(&self) -> Option<Instant> {
        self.asked.filter(|_| self.is_seen())
    }

    /// The job whose answer last showed that the credential is good for it; 0 for none.
    #[must_use]
    pub fn good(&self) -> u64 {
        self.good
    }

    /// The answer to this job showed that the credential is good for it.
    pub fn is_proven(&mut self, job: u64) {
        (self.good, self.refusals) = (job, 0);
    }

    /// The credential was refused for it alone. Returns how often it had been before, in a row.
    pub fn refused(&mut self) -> u32 {
        self.refusals += 1;
        self.refusals - 1
    }

    /// Whether the last answer refused it alone.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refusals > 0
    }

    /// One more failure of its own.
    pub fn failed(&mut self) {
        self.failures += 1;
    }

    /// Its failures were those of another credential.
    pub fn forgive(&mut self) {
        self.failures = 0;
    }

    /// Whether an answer to the poll that began with this job is not older than what has been applied.
    #[must_use]
    pub fn is_news(&self, poll: u64) -> bool {
        poll >= self.applied
    }

    /// The upstream would be asked again then, by an answer to a request for this task alone.
    pub fn set_hint(&mut self, hint: Option<Instant>) {
        self.hint = hint;
    }

    /// The same by the second answer of one look: it is over when both may be asked for again.
    pub fn add_hint(&mut self, hint: Option<Instant>) {
        self.hint = self.hint.max(hint);
    }

    /// How long the upstream said to wait, where it has: for the next look only.
    pub fn take_hint(&mut self, now: Instant) -> Option<Duration> {
        self.hint.take().map(|at| at.saturating_duration_since(now))
    }

    /// Whether it is asked for by itself, since its scope's list did not show it.
    #[must_use]
    pub fn is_solo(&self) -> bool {
        self.solo
    }

    /// Its scope's list did not show it.
    pub fn is_missing_from_list(&mut self) {
        self.solo = true;
    }

    /// Whether a list that it waits for may pass over an entry of this print: it would show nothing new.
    #[must_use]
    pub fn is_as_shown(&self, print: u64) -> bool {
        self.is_of(print) && self.place == Place::Listed && self.is_quiet() && !self.parts
    }

    /// Whether it was last applied from an entry of this print.
    #[must_use]
    pub fn is_of(&self, print: u64) -> bool {
        self.print == Some(print)
    }

    /// The list whose first job was `poll` has an entry of it.
    pub fn is_shown(&mut self, poll: u64, reading: Reading) {
        self.reading = Some((poll, reading));
    }

    /// The list whose first job was `poll` has a sub-task of it.
    pub fn has_part(&mut self, poll: u64) {
        self.parts = true;
        if self.reading == Some((poll, Reading::Unchanged)) {
            // Passed over as unchanged before its first sub-task came: as if missing, so that it is asked for by itself.
            (self.reading, self.print) = (None, None);
        }
    }

    /// What the list shows is about to be applied. Returns the print to be kept with it, where a later entry of that print need not be
    /// decoded.
    pub fn is_listed_again(&mut self, has_parts: bool, poll: u64) -> Option<u64> {
        self.solo = false;
        self.parts |= has_parts;
        match self.reading {
            Some((_, Reading::Print(print))) if self.is_news(poll) => Some(print),
            _ => None,
        }
    }

    /// What was applied came from an entry of this print.
    pub fn keep_print(&mut self, print: Option<u64>) {
        self.print = print;
    }

    /// Whether the list whose first job was `poll` should have shown it, and did not.
    #[must_use]
    pub fn is_missed_by(&self, poll: u64) -> bool {
        let shown = matches!(self.reading, Some((list, Reading::Unchanged | Reading::Later)) if list == poll);
        self.applied <= poll && !shown && self.subscribers.iter().all(|subscriber| subscriber.may_have(poll))
    }

    /// Whether the list whose first job was `poll` has shown it.
    #[must_use]
    pub fn is_read_by(&self, poll: u64) -> bool {
        self.reading.is_some_and(|(list, _)| list == poll)
    }

    /// On whose account it is asked for: that of its first subscriber.
    #[must_use]
    pub fn tenant(&self) -> Option<&Tenant> {
        self.subscribers.first().map(Subscriber::tenant)
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

    /// Whether a subscriber waits for a report that it has been promised.
    #[must_use]
    pub fn is_owing(&self) -> bool {
        self.subscribers.iter().any(Subscriber::is_owed)
    }

    /// Whether all its subscribers know that the task is finished.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.subscribers.iter().all(Subscriber::is_settled)
    }

    /// Whether nothing would be told of it that was told before.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        !self.is_owing() && self.trouble.is_none() && self.missing_since.is_none() && self.failures == 0
    }

    /// The time until the next poll, without stretch: the shortest that a subscriber asks for, longer after failures. `hint` is how long the
    /// upstream said to wait, where it has.
    #[must_use]
    pub fn period(&self, floor: Duration, ceiling: Duration, hint: Option<Duration>, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.changed);
        let periods = self.subscribers.iter().map(|subscriber| {
            let bounds = subscriber.bounds(floor, ceiling);
            hint.map_or_else(|| cadence::period(bounds, age), |hint| cadence::hinted(bounds, hint))
        });
        cadence::after_failures(periods.min().unwrap_or(ceiling), self.failures, ceiling)
    }

    /// What its jitter comes from: a number of its own, and that of its poll.
    pub fn next_turn(&mut self) -> (u64, u64) {
        self.polls += 1;
        (cadence::seed(self.subscribers.first().map_or("", |subscriber| &subscriber.key().0)), self.polls)
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

    /// A list had shown the task before this subscriber came, who is told of that, where it is what is known. What was asked since has the
    /// number `next_job` or a larger one. Returns whether it is.
    pub fn was_shown(
        &mut self,
        key: &WatchKey,
        task: Arc<Task>,
        next_job: u64,
        at: Instant,
        out: &mut Vec<Delivery<Instant>>,
    ) -> bool {
        let is_known = self.fingerprint == Some(fingerprint(&task)) && self.trouble.is_none();
        let is_first = !self.is_seen() && self.place == Place::Done;
        let Some(newcomer) = self.subscribers.iter_mut().find(|subscriber| subscriber.is(key)) else { return false };
        if is_known && self.missing_since.is_none() {
            out.push(newcomer.tell(Report::Seen { task, at }));
            return true;
        }
        if !is_first {
            return false;
        }
        newcomer.may_have_since(next_job);
        self.seen(task, next_job, next_job, at, out);
        true
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

    /// Gives the report to all subscribers where it is news, and in any case to those who are owed one. A subscriber that the answer is
    /// too old for is owed the news.
    fn deliver(
        &mut self,
        news: bool,
        poll: u64,
        out: &mut Vec<Delivery<Instant>>,
        report: impl FnOnce() -> Report<Instant>,
    ) {
        if news {
            self.subscribers.iter_mut().for_each(Subscriber::owe);
        }
        let mut concerned = self.subscribers.iter_mut().filter(|subscriber| subscriber.awaits(poll)).peekable();
        if concerned.peek().is_none() {
            return;
        }
        let report = report();
        out.extend(concerned.map(|subscriber| subscriber.tell(report.clone())));
    }
}

/// A hash that tells two observations apart.
fn fingerprint(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
impl PolledTask {
    /// The poll's share of the demand.
    pub fn demand(&self) -> f64 {
        self.demand
    }
}
