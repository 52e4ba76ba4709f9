//! Which row of the status contract a watch is in.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{
    contract::Row,
    input::{Input, Observation},
    messages,
};
use crate::{
    api::{OnNotFound, TaskWatchStatus},
    domain::{
        availability::Unavailable,
        cadence::{self, later},
        conditions::{self, Remark, find, reason},
        failure::Failure,
        target::{Sought, Target},
        task::Task,
    },
};

/// What the last status says, read back.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub status: &'a TaskWatchStatus,
    pub row: Row,
    pub succeeded: Option<&'a Condition>,
    pub synced: Option<&'a Condition>,
}

impl<'a> Known<'a> {
    /// None where the status is not one that a row of the contract writes.
    pub(super) fn of(status: &'a TaskWatchStatus) -> Option<Self> {
        let succeeded = find(&status.conditions, conditions::SUCCEEDED);
        let synced = find(&status.conditions, conditions::SYNCED);
        Some(Self { status, row: Row::of_status(status)?, succeeded, synced })
    }

    /// Since when Synced has been False for trouble in asking.
    fn in_trouble_since(&self) -> Option<Timestamp> {
        self.synced.filter(|_| matches!(self.row, Row::Trouble | Row::Stale)).map(|c| c.last_transition_time.0)
    }

    /// Whether the status was decided for the present spec.
    fn is_of(&self, input: &Input<'_>) -> bool {
        self.status.observed_generation == Some(input.meta.generation)
    }
}

/// The row that a watch is in now, and why.
#[derive(Debug)]
pub(super) struct Verdict<'a> {
    pub row: Row,
    /// The observation to show; without one, the last one stays.
    pub seen: Option<(&'a Task, Timestamp)>,
    /// When the upstream said that it does not know the task, where that is what the status shows.
    pub absent_at: Option<Timestamp>,
    pub not_found_since: Option<Timestamp>,
    /// What became of the task: reason (the row's own where none) and message.
    pub outcome: Option<(Option<String>, String)>,
    /// How the mirror is: reason and message, where the row has no fixed ones.
    pub sync: Option<(String, String)>,
    /// Write nothing yet.
    pub hold: bool,
    /// Times at which the verdict may change by itself.
    pub wake: Vec<Timestamp>,
}

impl<'a> Verdict<'a> {
    fn new(row: Row) -> Self {
        Self {
            row,
            seen: None,
            absent_at: None,
            not_found_since: None,
            outcome: None,
            sync: None,
            hold: false,
            wake: Vec::new(),
        }
    }

    /// The row of a good observation.
    fn of(task: &'a Task, at: Timestamp) -> Self {
        Self {
            seen: Some((task, at)),
            outcome: messages::outcome(task).map(|text| (None, text)),
            ..Self::new(Row::of_task(task.state))
        }
    }

    /// What the status says already; since when the task has not been known, by the clock of now, should the next to judge be another
    /// process that knows of no other.
    fn kept(input: &Input<'_>, known: &Known<'_>) -> Self {
        Self { not_found_since: input.not_found_since, ..Self::ended(known) }
    }

    /// What the status says already, and will go on saying.
    fn ended(known: &Known<'_>) -> Self {
        Self {
            not_found_since: known.status.not_found_since.as_ref().map(|since| since.0),
            outcome: known.succeeded.map(|c| (Some(c.reason.clone()), c.message.clone())),
            sync: known.synced.map(|c| (c.reason.clone(), c.message.clone())),
            ..Self::new(known.row)
        }
    }

    fn with_sync(mut self, (reason, message): (&str, String)) -> Self {
        self.sync = Some((reason.to_owned(), message));
        self
    }

    /// What Succeeded says, with the last known `state` of the task.
    pub(super) fn succeeded(&self, state: &str) -> Remark {
        let (reason, message) = self.row.outcome(state);
        let (kept, text) = self.outcome.clone().unwrap_or_else(|| (None, message.to_owned()));
        Remark { reason: kept.unwrap_or_else(|| reason.to_owned()), message: text }
    }

    /// What Synced says.
    pub(super) fn synced(&self) -> Remark {
        let (reason, message) = self.sync.clone().unwrap_or_else(|| {
            let (reason, message) = self.row.sync();
            (reason.to_owned(), message.to_owned())
        });
        Remark { reason, message }
    }

    fn waking(mut self, time: Timestamp) -> Self {
        self.wake.push(time);
        self
    }
}

/// Finds the row. Earlier rules win over later ones.
pub(super) fn judge<'a>(input: &Input<'a>, known: Option<&Known<'a>>, now: Timestamp) -> Verdict<'a> {
    if let Some(known) = known.filter(|known| known.row.is_finished()) {
        return finished(input, known, now);
    }
    let seen = match input.observation {
        Observation::Seen { task, at } if input.is_asking() => Some(Verdict::of(task, at)),
        _ => None,
    };
    let seen = match seen {
        Some(verdict) if verdict.row.is_finished() => return verdict,
        other => other,
    };
    if input.is_overdue(now) {
        return out_of_time(input, known, seen);
    }
    if input.spec.suspend {
        return Verdict::new(Row::Suspended);
    }
    if let Err(unavailable) = input.connection {
        return unusable(unavailable);
    }
    if let Target::Sought(Sought::Unusable(why)) = input.task {
        return unusable(why);
    }
    match input.observation {
        Observation::Trouble { failure, since, .. } => trouble(input, known, failure, since, now),
        _ if matches!(input.task, Target::Sought(_)) => pending(input, known, now),
        Observation::None => pending(input, known, now),
        Observation::NotFound { since, at, failure } => absent(input, known, (since, at), failure, now),
        Observation::Seen { .. } => seen.unwrap_or_else(|| pending(input, known, now)),
    }
}

fn unusable<'a>(why: &Unavailable) -> Verdict<'a> {
    Verdict::new(Row::without_connection(why.reason)).with_sync((why.reason.as_str(), why.message.clone()))
}

/// A finished watch stays what it is, unless somebody asked to look again and the look showed the task.
fn finished<'a>(input: &Input<'a>, known: &Known<'a>, now: Timestamp) -> Verdict<'a> {
    match input.observation {
        Observation::Seen { task, at } if input.is_asking() && input.refreshed && input.wants_refresh() => {
            let verdict = Verdict::of(task, at);
            if !verdict.row.is_finished() && input.is_overdue(now) {
                // It runs on; the time that it was given is over all the same.
                return out_of_time(input, Some(known), Some(verdict));
            }
            verdict
        }
        _ => Verdict::ended(known),
    }
}

fn out_of_time<'a>(input: &Input<'a>, known: Option<&Known<'a>>, seen: Option<Verdict<'a>>) -> Verdict<'a> {
    let limit = input.spec.active_deadline().unwrap_or_default();
    Verdict {
        seen: seen.and_then(|verdict| verdict.seen),
        not_found_since: known.and(input.not_found_since),
        outcome: Some((
            None,
            match input.task {
                Target::Known(_) => messages::out_of_time(limit),
                Target::Sought(_) => messages::not_found_in_time(limit),
            },
        )),
        ..Verdict::new(Row::Deadline)
    }
}

/// No news yet: what the status says still holds, or a first answer is awaited.
fn pending<'a>(input: &Input<'a>, known: Option<&Known<'a>>, now: Timestamp) -> Verdict<'a> {
    if let Target::Sought(sought) = input.task {
        return unknown(input, known, sought, now);
    }
    if let Some(known) = known.filter(|known| known.row.lasts()) {
        return Verdict::kept(input, known);
    }
    let due = later(input.asking_since.max(input.meta.created), input.settings.first_answer);
    if due > now && !input.is_untold() {
        return Verdict { hold: true, ..Verdict::new(Row::Awaiting).waking(due) };
    }
    Verdict::new(Row::Awaiting)
}

/// Which task it is, is not known yet.
fn unknown<'a>(input: &Input<'a>, known: Option<&Known<'a>>, sought: &Sought, now: Timestamp) -> Verdict<'a> {
    let (row, message) = match sought {
        Sought::Identifier(message) => (Row::Unnamed, message),
        Sought::Match(message) => (Row::Unmatched, message),
        Sought::Unlisted(message) => (Row::Unlisted, message),
        Sought::Unusable(why) => return unusable(why),
    };
    let reason = row.sync().0;
    let outcome = row.is_search().then(|| (None, message.clone()));
    let verdict = Verdict { outcome, ..Verdict::new(row) }.with_sync((reason, message.clone()));
    // Where all is applied at once, it is there in a moment.
    let due = later(input.meta.created, input.settings.first_answer);
    if known.is_none() && due > now { Verdict { hold: true, ..verdict.waking(due) } } else { verdict }
}

/// The upstream says that it does not know the task.
fn absent<'a>(
    input: &Input<'a>,
    known: Option<&Known<'a>>,
    (since, at): (Timestamp, Timestamp),
    failure: &Failure,
    now: Timestamp,
) -> Verdict<'a> {
    let since = input.not_found_since.map_or(since, |before| before.min(since));
    let end = later(since, input.spec.not_found_grace());
    let row = match input.spec.on_not_found {
        OnNotFound::Fail if end <= now => Row::Lost,
        OnNotFound::Succeed if end <= now => Row::Gone,
        _ => Row::Missing,
    };
    let verdict = Verdict { not_found_since: Some(since), ..Verdict::new(row) };
    if row == Row::Missing {
        let sync = (reason::TASK_NOT_FOUND.to_owned(), messages::absent(failure, input.spec));
        let sync = said_before(input, known, row, reason::TASK_NOT_FOUND).unwrap_or(sync);
        let verdict = Verdict { not_found_since: Some(since), sync: Some(sync), ..keeping(input, known, row) };
        return if input.spec.on_not_found == OnNotFound::Retry { verdict } else { verdict.waking(end) };
    }
    Verdict { absent_at: Some(at), outcome: Some((None, messages::lost(failure, input.spec))), ..verdict }
}

/// The upstream cannot be asked.
fn trouble<'a>(
    input: &Input<'a>,
    known: Option<&Known<'a>>,
    failure: &Failure,
    since: Timestamp,
    now: Timestamp,
) -> Verdict<'a> {
    // After a restart `since` begins anew; the condition remembers.
    let first = known.and_then(Known::in_trouble_since).map_or(since, |before| before.min(since));
    let stale_at = later(first, input.spec.stale_after());
    let before = known.map(|known| known.row);
    let row = if stale_at <= now || before == Some(Row::Stale) && known.is_some_and(|known| known.is_of(input)) {
        Row::Stale
    } else if matches!(before, Some(Row::Trouble | Row::Stale)) {
        Row::Trouble
    } else if before == Some(Row::Missing) {
        // It reads the same in all but the reason; and the time at which Synced became False is not that of this trouble.
        return known.map_or_else(|| Verdict::new(Row::Missing), |known| Verdict::kept(input, known)).waking(stale_at);
    } else {
        let shown_at = later(since.max(awaited_since(known)), patience(input));
        // Synced has been False for another reason: it must not be read as the beginning of this trouble.
        if shown_at > now || matches!(before, Some(Row::Unusable | Row::Unlisted | Row::Waiting)) {
            return pending(input, known, now).waking(shown_at).waking(stale_at);
        }
        Row::Trouble
    };
    let stale_after = (row == Row::Stale).then(|| input.spec.stale_after());
    let (reason, message) = messages::trouble(failure, stale_after);
    let sync = said_before(input, known, row, reason).unwrap_or_else(|| (reason.to_owned(), message));
    let verdict = Verdict { sync: Some(sync), ..keeping(input, known, row) };
    if row == Row::Stale { verdict } else { verdict.waking(stale_at) }
}

/// What the status says of the same trouble already; that stays: each answer has its own words, and each word would be a write.
fn said_before(input: &Input<'_>, known: Option<&Known<'_>>, row: Row, reason: &str) -> Option<(String, String)> {
    let known = known.filter(|known| known.row == row && known.is_of(input))?;
    let synced = known.synced.filter(|synced| messages::same_trouble(&synced.reason, reason))?;
    Some((synced.reason.clone(), synced.message.clone()))
}

/// A row that tells nothing of the task: what is known of it stays.
fn keeping<'a>(input: &Input<'_>, known: Option<&Known<'_>>, row: Row) -> Verdict<'a> {
    match known.filter(|known| known.row.lasts()) {
        Some(known) => Verdict { row, sync: None, ..Verdict::kept(input, known) },
        None => Verdict::new(row),
    }
}

/// Since when a first answer has been awaited; the beginning of time where one was had.
fn awaited_since(known: Option<&Known<'_>>) -> Timestamp {
    known
        .filter(|known| known.row == Row::Awaiting)
        .and_then(|known| known.synced)
        .map_or(Timestamp::MIN, |synced| synced.last_transition_time.0)
}

/// How long trouble is kept from the status. Watches of one connection are spread, so that an outage's writes are, too.
fn patience(input: &Input<'_>) -> Duration {
    let base = input.settings.trouble.max(input.period.saturating_mul(3));
    base + cadence::part(base / 5, cadence::seed(input.meta.uid))
}
