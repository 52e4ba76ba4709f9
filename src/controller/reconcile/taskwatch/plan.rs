//! What is to be done about one `TaskWatch`. Pure: of what the index knows of it, whether it may use its connection, and the time.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use super::super::super::{
    check::ConnectionCheck,
    index::WatchEntry,
    kept::Kept,
    objects::WatchObject,
    search::{Lookup, Search, Trouble},
};
use crate::{
    api::TaskWatchStatus,
    domain::{
        availability::Reason,
        decide::{self, Decision, Event, Input, Observation, Poll, decide},
        failure::Failure,
        target::Target,
    },
    engine::{Discovery, Report, Subscription},
};

/// When to read a status again that was another one than is known.
const REREAD: Duration = Duration::from_secs(1);

/// How much later than a watch its connection may come, where both are applied at once.
const CONNECTION_LATE: Duration = Duration::from_secs(3);

/// What a plan rests on beside the watch and its connection.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The time of day.
    pub now: Timestamp,
    /// The same by the clock of waits.
    pub instant: Instant,
    /// The operator's settings.
    pub settings: decide::Settings,
    /// Whether the watch's namespace may be told all about its connection.
    pub tells_all: bool,
    /// Observations on the same account have yet to be looked at: that there is none of this task may be our own slowness.
    pub is_busy: bool,
}

/// What comes of planning.
#[derive(Debug)]
pub enum Planned {
    /// Nothing can be said yet: look again after this time.
    Later(Duration),
    /// It has to be looked for the task first.
    LookUp(Arc<WatchObject>, Lookup),
    /// This is to be done.
    Now(Box<Plan>),
}

/// What is to be done about a watch: [`Plan::note`] in the index, under its lock; the rest after that is let go of.
#[derive(Debug)]
pub struct Plan {
    /// The watch.
    pub object: Arc<WatchObject>,
    /// What to write, to tell and to delete.
    pub decision: Decision,
    /// When that was decided.
    pub decided: Timestamp,
    /// When what it rests on was seen.
    pub seen: Option<Timestamp>,
    /// Events of an earlier write, of which only now is known that it arrived.
    pub confirmed: Vec<Event>,
    /// What the engine is to be told.
    pub polling: Polling,
    /// When to look for the task again, if it is not known.
    pub look_at: Option<Instant>,
    /// The ticket of what is registered from now on.
    ticket: u64,
    /// The request to look that this plan is the first to act upon.
    requested: Option<String>,
    /// Since when the engine has been asked for it, our own slowness left out.
    asking_since: Timestamp,
    /// Whether the status shows all that was observed.
    is_shown: bool,
    /// Whether the watch is over.
    finished: bool,
}

/// What the engine is to be told of a watch.
#[derive(Debug, PartialEq)]
pub enum Polling {
    /// Nothing: it does what is wanted.
    Unchanged,
    /// To poll this.
    Register(Subscription),
    /// To tell of all tasks of a scope, of which it may be one.
    Discover(Discovery),
    /// Not to poll it any more.
    CallOff,
}

impl Plan {
    /// Notes in the index what is planned. What the engine is to be told counts as done: whoever removes the watch meanwhile calls that off.
    pub fn note(&self, entry: &mut WatchEntry) {
        entry.interest.is_planned(self.ticket, self.requested.as_ref(), self.asking_since);
        entry.is_sound();
        entry.published.is_looked_at(self.finished);
        if self.is_shown {
            entry.interest.is_shown();
        }
        match &self.polling {
            Polling::Unchanged => {}
            Polling::Register(watch) => entry.interest.register_task(watch.print(), self.decided),
            Polling::Discover(discovery) => {
                entry.interest.register(print(discovery));
            }
            Polling::CallOff => entry.call_off(),
        }
    }
}

/// Plans for a watch. `read` is its status as the API server has it, where only a digest is kept.
#[must_use]
pub fn plan(
    entry: &WatchEntry,
    read: Option<TaskWatchStatus>,
    check: &ConnectionCheck<'_>,
    context: &Context,
) -> Planned {
    let Context { now, instant, settings, tells_all, is_busy } = *context;
    if let Some(until) = entry.aside_until(instant) {
        return Planned::Later(until - instant);
    }
    let Some(stored) = stored(entry, read) else { return Planned::Later(REREAD) };
    let stored = stored.as_ref();
    let WatchEntry { object, published, interest, .. } = entry;
    if is_early(object, stored, check, now) {
        return Planned::Later(CONNECTION_LATE);
    }
    let handled = stored.and_then(|status| status.last_handled_reconcile_at.as_deref());
    let is_new = |requested: &&str| interest.requested() != Some(*requested) && handled != Some(*requested);
    let requested = object.requested_at().filter(is_new);
    let ticket = interest.ticket() + u64::from(requested.is_some());
    let ticket_for = requested.or(interest.requested());
    let observed = interest.observation();
    let asking_since = if is_busy && observed.is_none() { now } else { interest.since() };
    let own = (object.spec.period(), object.spec.max_period());
    let (period, max_period) = check.as_ref().map_or(own, |usable| usable.periods(&object.spec));
    let trouble = entry.search.as_ref().and_then(Search::trouble);
    let failure = observed.and_then(|(_, report)| report.failure()).or(trouble.map(|trouble| &*trouble.failure));
    let for_others = failure.filter(|_| !tells_all).map(Failure::for_others);
    let input = Input {
        meta: object.meta(),
        spec: &object.spec,
        status: stored,
        connection: check.as_ref().map(|usable| usable.scope),
        task: entry.target(),
        observation: observation(observed.map(|(_, report)| report), trouble, for_others.as_ref()),
        refreshed: ticket_for.is_some() && observed.is_some_and(|(asked_by, _)| *asked_by == ticket),
        asking_since: if interest.registered().is_some() { asking_since } else { now },
        not_found_since: entry.not_found_since(stored),
        period,
        settings,
        pace: published.pace(),
    };
    let is_seeking = input.is_seeking(now);
    let search = entry.search.as_ref().filter(|_| is_seeking);
    if let Some(look) = search.and_then(|search| search.look(object, instant)) {
        return Planned::LookUp(Arc::clone(object), look);
    }
    let decision = decide(&input, now);
    let usable = check.as_ref().ok().filter(|_| decision.poll == Poll::Keep);
    let task = match entry.target() {
        Target::Known(id) => usable.and_then(|usable| usable.task(id)),
        Target::Sought(_) => None,
    };
    // A request to look goes before what only takes its turn.
    let asked_for = ticket_for.is_some() && ticket_for != handled;
    let known = !asked_for && stored.is_some_and(|status| status.last_observed_time.is_some());
    let age = Duration::try_from(now.duration_since(unchanged_since(object, stored, now))).unwrap_or_default();
    let tenant = object.tenant();
    let is_listed = is_seeking && object.spec.task.latest.is_some();
    let discovery = check.as_ref().ok().filter(|usable| is_listed && usable.open).map(|usable| Discovery {
        tenant: tenant.clone(),
        scope: usable.scope.to_owned(),
        period,
        ticket,
    });
    let wanted =
        task.map(|task| Subscription { tenant, task, period, max_period, age, known, requested: asked_for, ticket });
    let seen = interest.seen();
    Planned::Now(Box::new(Plan {
        object: Arc::clone(object),
        decided: now,
        seen,
        confirmed: if decision.status.is_none() { published.arrived().to_vec() } else { Vec::new() },
        polling: polling(interest.registered(), wanted, discovery),
        look_at: search.and_then(Search::again),
        ticket,
        requested: requested.map(str::to_owned),
        asking_since,
        is_shown: seen.is_some() && decision.status.is_none() && decision.wake_at.is_none(),
        finished: stored.is_some_and(decide::is_finished),
        decision,
    }))
}

/// The status that the API server acknowledged last, where there is one. None at all where it is not to be had: it is another one by now,
/// and the watch of the API server will say so.
#[allow(clippy::option_option, reason = "there may be no status, and it may be unknown whether there is")]
fn stored(entry: &WatchEntry, read: Option<TaskWatchStatus>) -> Option<Option<TaskWatchStatus>> {
    match entry.published.status() {
        Some(kept) if kept.is_let_go() => read.filter(|read| Kept::pack(read).as_ref() == Some(kept)).map(Some),
        kept => Some(kept.and_then(Kept::unpack)),
    }
}

/// Whether the watch was made together with its connection, which is only later by a moment.
fn is_early(
    object: &WatchObject,
    stored: Option<&TaskWatchStatus>,
    check: &ConnectionCheck<'_>,
    now: Timestamp,
) -> bool {
    let is_blank = stored.is_none_or(|status| status.conditions.is_empty());
    // Either way: the API server's clock is another one.
    let is_young = now.duration_since(object.created).unsigned_abs() < CONNECTION_LATE;
    is_young && is_blank && matches!(check, Err(why) if why.reason == Reason::ConnectionNotFound)
}

/// What the engine said last, of the task or of the list in which it is sought; of a failure what `for_others` says, where that is all that
/// the watch's namespace may be told.
fn observation<'a>(
    report: Option<&'a Report<Timestamp>>,
    trouble: Option<&'a Trouble>,
    for_others: Option<&'a Failure>,
) -> Observation<'a> {
    if let Some(Trouble { failure, since, at }) = trouble {
        return Observation::Trouble { failure: for_others.unwrap_or(failure), since: *since, at: *at };
    }
    match report {
        None => Observation::None,
        Some(Report::Seen { task, at }) => Observation::Seen { task, at: *at },
        Some(Report::Missing { failure, since, at }) => {
            Observation::NotFound { since: *since, at: *at, failure: for_others.unwrap_or(failure) }
        }
        Some(Report::Trouble { failure, since, at }) => {
            Observation::Trouble { failure: for_others.unwrap_or(failure), since: *since, at: *at }
        }
    }
}

/// What the engine is to be told, who was asked for `registered`.
fn polling(registered: Option<u64>, wanted: Option<Subscription>, discovery: Option<Discovery>) -> Polling {
    let printed = wanted.as_ref().map(Subscription::print).or(discovery.as_ref().map(print));
    match (wanted, discovery) {
        _ if printed == registered => Polling::Unchanged,
        // It takes the place of the discovery.
        (Some(watch), _) => Polling::Register(watch),
        (None, Some(discovery)) => Polling::Discover(discovery),
        (None, None) => Polling::CallOff,
    }
}

/// A number that differs where the engine would do something else.
pub(super) fn print(discovery: &Discovery) -> u64 {
    let mut hasher = DefaultHasher::new();
    ("discovery", &discovery.scope, discovery.period, discovery.ticket).hash(&mut hasher);
    hasher.finish()
}

/// Since when the task's state has been what it is, as far as the object tells: the poll period grows from there.
fn unchanged_since(object: &WatchObject, status: Option<&TaskWatchStatus>, now: Timestamp) -> Timestamp {
    // One that had to be looked for has been found just now.
    let begin = if object.spec.task.id.is_some() { object.created } else { now };
    status.and_then(|status| status.last_observed_time.as_ref()).map_or(begin, |time| time.0)
}

#[cfg(test)]
mod tests;
