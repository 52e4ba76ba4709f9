//! Which row of the status contract a watch is in.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{
    Input, Observation,
    contract::{self, Row},
    deadline, later, refresh, words,
};
use crate::{
    api::{OnNotFound, TaskWatchStatus},
    domain::{
        availability::Reason,
        cadence,
        conditions::{self, find, reason},
        failure::Failure,
        task::{Task, TaskState},
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
    pub(super) fn of(status: &'a TaskWatchStatus) -> Self {
        let succeeded = find(&status.conditions, conditions::SUCCEEDED);
        let synced = find(&status.conditions, conditions::SYNCED);
        Self { status, row: row_of(status, succeeded, synced), succeeded, synced }
    }

    /// Since when Synced has been False for trouble in asking.
    fn in_trouble_since(&self) -> Option<Timestamp> {
        self.synced.filter(|_| matches!(self.row, Row::Trouble | Row::Stale)).map(|c| c.last_transition_time.0)
    }

    /// Whether the status was decided for the present spec.
    fn is_of(&self, input: &Input<'_>) -> bool {
        self.status.observed_generation == Some(input.meta.generation)
    }

    /// Whether the row still describes the watch while it is being asked for and there is no news.
    fn lasts(&self) -> bool {
        !matches!(self.row, Row::Untouched | Row::Suspended | Row::Unusable | Row::Waiting)
    }
}

/// The row that a status was written for: the inverse of [`contract::of`].
fn row_of(status: &TaskWatchStatus, succeeded: Option<&Condition>, synced: Option<&Condition>) -> Row {
    let is_true = |name| find(&status.conditions, name).is_some_and(|c| c.status == conditions::TRUE);
    let state = status.state.as_deref().unwrap_or_default();
    if is_true(conditions::FINISHED) {
        return match succeeded.map(|c| c.reason.as_str()) {
            Some(reason::DEADLINE_EXCEEDED) => Row::Deadline,
            Some(reason::TASK_GONE) => Row::Gone,
            _ if state == TaskState::Succeeded.as_str() => Row::Succeeded,
            _ if state == TaskState::Cancelled.as_str() => Row::Cancelled,
            _ if state == contract::LOST => Row::Lost,
            _ => Row::Failed,
        };
    }
    let Some(synced) = synced else { return Row::Untouched };
    match (synced.status.as_str(), synced.reason.as_str()) {
        (conditions::TRUE, _) if state == TaskState::Pending.as_str() => Row::Pending,
        (conditions::TRUE, _) if state == TaskState::Paused.as_str() => Row::Paused,
        (conditions::TRUE, _) => Row::Running,
        (_, reason::SUSPENDED) => Row::Suspended,
        (_, reason::TASK_NOT_FOUND) => Row::Missing,
        (conditions::FALSE, reason) => match Reason::of_word(reason) {
            Some(unavailable) => Row::without_connection(unavailable),
            None if is_true(conditions::STALLED) => Row::Stale,
            None => Row::Trouble,
        },
        _ => Row::Awaiting,
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
        let row = match task.state {
            TaskState::Pending => Row::Pending,
            TaskState::Running => Row::Running,
            TaskState::Paused => Row::Paused,
            TaskState::Succeeded => Row::Succeeded,
            TaskState::Failed => Row::Failed,
            TaskState::Cancelled => Row::Cancelled,
        };
        Self { seen: Some((task, at)), outcome: words::outcome(task).map(|text| (None, text)), ..Self::new(row) }
    }

    /// What the status says already.
    fn kept(known: &Known<'_>) -> Self {
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
        Observation::Seen { task, at } if asked(input) => Some(Verdict::of(task, at)),
        _ => None,
    };
    let seen = match seen {
        Some(verdict) if verdict.row.is_finished() => return verdict,
        other => other,
    };
    if deadline(input).is_some_and(|deadline| deadline <= now) {
        return out_of_time(input, known, seen);
    }
    if input.spec.suspend {
        return Verdict::new(Row::Suspended);
    }
    if let Err(unavailable) = input.connection {
        let sync = (unavailable.reason.as_str(), unavailable.message.clone());
        return Verdict::new(Row::without_connection(unavailable.reason)).with_sync(sync);
    }
    match input.observation {
        Observation::None => pending(input, known, now),
        Observation::NotFound { since, at, failure } => absent(input, known, (since, at), failure, now),
        Observation::Trouble { failure, since, .. } => trouble(input, known, failure, since, now),
        Observation::Seen { .. } => seen.unwrap_or_else(|| pending(input, known, now)),
    }
}

/// Whether the upstream is being asked: else what was observed before says nothing of now.
fn asked(input: &Input<'_>) -> bool {
    !input.spec.suspend && input.connection.is_ok()
}

/// A finished watch stays what it is, unless somebody asked to look again and the look showed the task.
fn finished<'a>(input: &Input<'a>, known: &Known<'a>, now: Timestamp) -> Verdict<'a> {
    match input.observation {
        Observation::Seen { task, at } if asked(input) && input.refreshed && refresh(input).is_some() => {
            let verdict = Verdict::of(task, at);
            if !verdict.row.is_finished() && deadline(input).is_some_and(|deadline| deadline <= now) {
                // It runs on; the time that it was given is over all the same.
                return out_of_time(input, Some(known), Some(verdict));
            }
            verdict
        }
        _ => Verdict::kept(known),
    }
}

fn out_of_time<'a>(input: &Input<'a>, known: Option<&Known<'a>>, seen: Option<Verdict<'a>>) -> Verdict<'a> {
    let limit = input.spec.active_deadline().unwrap_or_default();
    Verdict {
        seen: seen.and_then(|verdict| verdict.seen),
        not_found_since: known.and_then(|known| known.status.not_found_since.as_ref()).map(|since| since.0),
        outcome: Some((None, words::out_of_time(limit))),
        ..Verdict::new(Row::Deadline)
    }
}

/// No news yet: what the status says still holds, or a first answer is awaited.
fn pending<'a>(input: &Input<'a>, known: Option<&Known<'a>>, now: Timestamp) -> Verdict<'a> {
    if let Some(known) = known.filter(|known| known.lasts()) {
        return Verdict::kept(known);
    }
    let due = later(input.asking_since.max(input.meta.created), input.settings.first_answer);
    if due > now {
        return Verdict { hold: true, ..Verdict::new(Row::Awaiting).waking(due) };
    }
    Verdict::new(Row::Awaiting)
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
    let grace = input.spec.not_found_grace();
    let end = later(since, grace);
    let row = match input.spec.on_not_found {
        OnNotFound::Fail if end <= now => Row::Lost,
        OnNotFound::Succeed if end <= now => Row::Gone,
        _ => Row::Missing,
    };
    let verdict = Verdict { not_found_since: Some(since), ..Verdict::new(row) };
    if row == Row::Missing {
        let sync = (reason::TASK_NOT_FOUND.to_owned(), words::absent(failure, input.spec));
        let sync = said_before(input, known, row, reason::TASK_NOT_FOUND).unwrap_or(sync);
        let verdict = Verdict { not_found_since: Some(since), sync: Some(sync), ..keeping(known, row) };
        return if input.spec.on_not_found == OnNotFound::Retry { verdict } else { verdict.waking(end) };
    }
    Verdict { absent_at: Some(at), outcome: Some((None, words::lost(row, failure, grace))), ..verdict }
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
    let row = known.map_or(Row::Untouched, |known| known.row);
    let row = if stale_at <= now || row == Row::Stale && known.is_some_and(|known| known.is_of(input)) {
        Row::Stale
    } else if matches!(row, Row::Trouble | Row::Stale) {
        Row::Trouble
    } else if row == Row::Missing {
        // It reads the same in all but the reason; and the time at which Synced became False is not that of this trouble.
        return known.map_or_else(|| Verdict::new(Row::Missing), Verdict::kept).waking(stale_at);
    } else {
        let shown_at = later(since.max(awaited_since(known)), patience(input));
        // Synced has been False for another reason: it must not be read as the beginning of this trouble.
        if shown_at > now || matches!(row, Row::Unusable | Row::Waiting) {
            return pending(input, known, now).waking(shown_at).waking(stale_at);
        }
        Row::Trouble
    };
    let (reason, message) = words::trouble(row, failure, input.spec.stale_after());
    let sync = said_before(input, known, row, reason).unwrap_or_else(|| (reason.to_owned(), message));
    let verdict = Verdict { sync: Some(sync), ..keeping(known, row) };
    if row == Row::Stale { verdict } else { verdict.waking(stale_at) }
}

/// What the status says of the same trouble already; that stays: each answer has its own words, and each word would be a write.
fn said_before(input: &Input<'_>, known: Option<&Known<'_>>, row: Row, reason: &str) -> Option<(String, String)> {
    let known = known.filter(|known| known.row == row && known.is_of(input))?;
    let synced = known.synced.filter(|synced| words::same_trouble(&synced.reason, reason))?;
    Some((synced.reason.clone(), synced.message.clone()))
}

/// A row that tells nothing of the task: what is known of it stays.
fn keeping<'a>(known: Option<&Known<'_>>, row: Row) -> Verdict<'a> {
    match known.filter(|known| known.lasts()) {
        Some(known) => Verdict { row, sync: None, ..Verdict::kept(known) },
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
