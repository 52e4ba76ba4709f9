//! The status contract (design §2): what is written of a watch, what is told of it, and when to look again.
//!
//! [`decide`] is pure. All that it needs to remember is in the status that it wrote last; so a restart changes nothing.
//!
//! | module | concern |
//! |---|---|
//! | `situation` | which row of the table the watch is in |
//! | `contract` | the table: what each row says |
//! | `words` | reasons and messages |
//! | `mirror` | the upstream's task as fields of the status |
//! | `fit` | how large a status may be |
//! | `events` | what a change is worth telling |
//! | `pace` | how often a status may be written |

mod contract;
mod events;
mod fit;
mod mirror;
mod pace;
mod situation;
mod words;

#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;

use self::{
    contract::Row,
    mirror::Mirror,
    situation::{Known, Verdict},
};
pub use self::{
    events::{Event, EventType, TASK_OBSERVED},
    pace::Pace,
};
use super::{
    availability::{Reason, Unavailable},
    conditions,
    failure::Failure,
    stored,
    task::Task,
};
use crate::api::{TaskWatchSpec, TaskWatchStatus, bounds};

/// All that a decision rests on.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// Of the object's metadata.
    pub meta: Meta<'a>,
    /// What is asked for.
    pub spec: &'a TaskWatchSpec,
    /// The status that the API server acknowledged last; the schema's default counts as none.
    pub status: Option<&'a TaskWatchStatus>,
    /// The scope that the task is asked for in, the watch's or else the connection's own; or why the connection cannot be used.
    pub connection: Result<&'a str, &'a Unavailable>,
    /// The latest news of the task in this process.
    pub observation: Observation<'a>,
    /// The observation, good or bad, was asked for after the present [`Meta::requested_at`] was set.
    pub refreshed: bool,
    /// Since when this process has been asking for the task: its start, or when the connection became usable or the watch was resumed.
    pub asking_since: Timestamp,
    /// Since when the upstream has not known the task: `status.notFoundSince`, by the clock of now should it have been stepped.
    pub not_found_since: Option<Timestamp>,
    /// The present poll period.
    pub period: Duration,
    /// When the status was written lately.
    pub pace: Pace,
    /// The operator's settings.
    pub settings: Settings,
}

/// What counts of an object's metadata.
#[derive(Clone, Copy, Debug)]
pub struct Meta<'a> {
    /// `metadata.generation`
    pub generation: i64,
    /// `metadata.creationTimestamp`
    pub created: Timestamp,
    /// `metadata.uid`: spreads what many objects would do at the same time.
    pub uid: &'a str,
    /// The annotation `taskwatch.dev/requestedAt`, else `reconcile.fluxcd.io/requestedAt`.
    pub requested_at: Option<&'a str>,
    /// Argo CD, Flux or Helm tracks the object and would make it again.
    pub tracked: bool,
    /// The annotation `taskwatch.dev/allow-ttl` is `"true"`.
    pub allow_ttl: bool,
}

/// The latest news of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation<'a> {
    /// None since this process began to ask.
    None,
    /// The upstream showed it.
    Seen {
        /// The task.
        task: &'a Task,
        /// When it was asked for.
        at: Timestamp,
    },
    /// The upstream said that it does not know it.
    NotFound {
        /// The first time in a row, trouble in between not counted.
        since: Timestamp,
        /// The last time.
        at: Timestamp,
        /// In which words.
        failure: &'a Failure,
    },
    /// The upstream could not be asked, or gave no usable answer.
    Trouble {
        /// The last failure.
        failure: &'a Failure,
        /// The first one in a row.
        since: Timestamp,
        /// The last one.
        at: Timestamp,
    },
}

/// Settings of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Progress alone is written at most once in this time.
    pub progress_every: Duration,
    /// Progress alone is written in steps of so many points.
    pub progress_step: i32,
    /// So long a first answer is waited for before the status says that one is awaited.
    pub first_answer: Duration,
    /// So long, or three periods, trouble must last before the status shows it.
    pub trouble: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            progress_every: Duration::from_secs(30),
            progress_step: 5,
            first_answer: Duration::from_secs(2),
            trouble: Duration::from_secs(30),
        }
    }
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// The whole status to write; none where a reader would see nothing new.
    pub status: Option<TaskWatchStatus>,
    /// What to tell, once the status is written.
    pub events: Vec<Event>,
    /// Whether to go on asking.
    pub poll: Poll,
    /// Delete the object: its time to live is over.
    pub delete: bool,
    /// When to decide again if nothing happens before; not earlier than now.
    pub wake_at: Option<Timestamp>,
}

/// Whether to go on asking the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Poll {
    /// Ask.
    #[default]
    Keep,
    /// Do not: finished, suspended, or the connection cannot be used.
    Stop,
}

/// Decides what is written of a watch, what is told of it, and when to look again.
#[must_use]
pub fn decide(input: &Input<'_>, now: Timestamp) -> Decision {
    let old = input.status.filter(|status| status.observed_generation.is_some_and(|generation| generation >= 0));
    let known = old.map(Known::of);
    let mut verdict = situation::judge(input, known.as_ref(), now);
    let mut decision = Decision { poll: poll(input, &verdict), ..Decision::default() };
    if !verdict.hold {
        let status = compose(input, old, &verdict, now);
        match worth_writing(input, old, &status, now) {
            Worth::Write => {
                decision.events = events::of(input, known.as_ref(), &verdict, &status);
                decision.status = Some(status);
            }
            Worth::At(time) => verdict.wake.push(time),
            Worth::Nothing => {}
        }
    }
    verdict.wake.retain(|time| *time > now);
    if verdict.row.is_finished() {
        // Not before the end has been acknowledged: whoever waits for it must have had the chance to see it.
        if ttl_end(input, old).is_some_and(|end| end <= now) {
            return Decision { poll: Poll::Stop, delete: true, ..Decision::default() };
        }
        verdict.wake.extend(ttl_end(input, decision.status.as_ref().or(old)));
    } else {
        verdict.wake.extend(deadline(input));
    }
    decision.wake_at = verdict.wake.into_iter().min().map(|time| time.max(now));
    decision
}

/// Whether the status says that the watch is over.
#[must_use]
pub fn is_finished(status: &TaskWatchStatus) -> bool {
    conditions::find(&status.conditions, conditions::FINISHED).is_some_and(|c| c.status == conditions::TRUE)
}

/// Whether the status says of this generation that there are too many watches.
#[must_use]
pub fn tells_of_limit(status: &TaskWatchStatus, generation: i64) -> bool {
    status.observed_generation == Some(generation)
        && conditions::find(&status.conditions, conditions::SYNCED)
            .is_some_and(|c| c.reason == Reason::LimitExceeded.as_str())
}

/// When the watch's time is up.
fn deadline(input: &Input<'_>) -> Option<Timestamp> {
    input.spec.active_deadline().map(|limit| later(input.meta.created, limit))
}

/// When the object may go: the time to live counts from when it became finished.
fn ttl_end(input: &Input<'_>, status: Option<&TaskWatchStatus>) -> Option<Timestamp> {
    let ttl = input.spec.ttl().filter(|_| !keeps_ttl(input))?;
    let finished =
        conditions::find(&status?.conditions, conditions::FINISHED).filter(|c| c.status == conditions::TRUE)?;
    Some(later(finished.last_transition_time.0, ttl))
}

/// Whether the time to live is not acted upon, because whoever tracks the object would make it again.
fn keeps_ttl(input: &Input<'_>) -> bool {
    input.meta.tracked && !input.meta.allow_ttl
}

fn poll(input: &Input<'_>, verdict: &Verdict<'_>) -> Poll {
    let wanted = match verdict.row {
        Row::Suspended | Row::Unusable | Row::Waiting => false,
        row if row.is_finished() => {
            input.connection.is_ok() && !input.spec.suspend && refresh(input).is_some() && !looked(input)
        }
        _ => true,
    };
    if wanted { Poll::Keep } else { Poll::Stop }
}

/// Whether the look that was requested has been had, with whatever result.
fn looked(input: &Input<'_>) -> bool {
    input.refreshed && !matches!(input.observation, Observation::None)
}

/// The request to look that has not been acted upon yet.
fn refresh<'a>(input: &Input<'a>) -> Option<&'a str> {
    let handled = input.status.and_then(|status| status.last_handled_reconcile_at.as_deref());
    requested(input).filter(|requested| Some(*requested) != handled)
}

/// The request to look, as far as it is echoed.
fn requested<'a>(input: &Input<'a>) -> Option<&'a str> {
    input.meta.requested_at.map(|value| &value[..value.floor_char_boundary(bounds::ANNOTATION)])
}

/// The whole status of a verdict.
fn compose(input: &Input<'_>, old: Option<&TaskWatchStatus>, verdict: &Verdict<'_>, now: Timestamp) -> TaskWatchStatus {
    let kept = || old.map(Mirror::of).unwrap_or_default();
    let mut mirror = match verdict.seen {
        Some((task, at)) => {
            let scope = input.connection.ok().or(input.spec.task.scope.as_deref());
            Mirror::new(task, scope, at)
        }
        None => kept(),
    };
    if let Some(at) = verdict.absent_at {
        mirror.last_observed = Some(stored::time(at));
    }
    match verdict.row {
        Row::Gone => mirror.succeed(),
        Row::Lost => mirror.state = Some(contract::LOST.to_owned()),
        Row::Unusable => mirror.state = Some(conditions::UNKNOWN.to_owned()),
        _ => {}
    }
    let state = mirror.state.get_or_insert_with(|| conditions::UNKNOWN.to_owned()).clone();
    let conditions = contract::of(
        verdict.row,
        input.spec.ready_when,
        (&words::succeeded(verdict, &state), &words::synced(verdict)),
        old.map(|status| status.conditions.as_slice()).unwrap_or_default(),
        input.meta.generation,
        now,
    );
    let handled = requested(input).filter(|_| looked(input)).map(str::to_owned);
    fit::fit(mirror.into_status(TaskWatchStatus {
        observed_generation: Some(input.meta.generation),
        not_found_since: verdict.not_found_since.map(stored::time),
        last_handled_reconcile_at: handled.or_else(|| old.and_then(|old| old.last_handled_reconcile_at.clone())),
        conditions,
        ..TaskWatchStatus::default()
    }))
}

/// Whether a status says something new.
enum Worth {
    Write,
    /// It does, and may be written then.
    At(Timestamp),
    Nothing,
}

fn worth_writing(input: &Input<'_>, old: Option<&TaskWatchStatus>, new: &TaskWatchStatus, now: Timestamp) -> Worth {
    let Some(old) = old else { return Worth::Write };
    if mirror::without_progress(old) != mirror::without_progress(new) {
        let due = input.pace.due(now).filter(|_| !pace::cannot_wait(old, new));
        return due.map_or(Worth::Write, Worth::At);
    }
    let step = mirror::progress_step(old, new);
    if step < input.settings.progress_step.max(1) {
        return Worth::Nothing;
    }
    // One in the future is of a clock that was ahead: it says nothing of how long ago it is.
    let last = old.last_observed_time.as_ref().map(|last| last.0).filter(|last| *last <= now);
    match last.map(|last| later(last, input.settings.progress_every)) {
        Some(due) if due > now => Worth::At(due),
        _ => Worth::Write,
    }
}

/// `time` and `wait`; the end of time where that is beyond it.
fn later(time: Timestamp, wait: Duration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}
