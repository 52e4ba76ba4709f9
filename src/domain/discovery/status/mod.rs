//! What a `TaskWatchSet` says: its counts, and whether it may be relied upon.
//!
//! [`decide`] is pure; all that it needs to remember is in the status that was written last, so that a restart changes nothing.
//!
//! | module | concern |
//! |---|---|
//! | `verdict` | in which situation the set is |
//! | `messages` | reasons and messages |
//! | `found` | the counts, and the tasks that are named |
//! | `turn` | whether Ready has changed after it had been steady |

mod found;
mod messages;
mod turn;
mod verdict;

#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

pub use self::turn::Turn;
use self::verdict::Verdict;
use super::select::Selection;
use crate::{
    api::{TaskWatchSetSpec, TaskWatchSetStatus, WatchPoll},
    domain::{
        availability::Unavailable,
        cadence::later,
        conditions::{self, READY, SYNCED, TRUE, abnormal, find, reason},
        decide::{Pace, Settings},
        failure::Failure,
        stored,
    },
};

/// All that the decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// `metadata.generation`
    pub generation: i64,
    /// The status that the API server acknowledged last; the schema's default counts as none.
    pub status: Option<&'a TaskWatchSetStatus>,
    /// What is asked for.
    pub spec: &'a TaskWatchSetSpec,
    /// The latest news of the tasks in this process.
    pub listing: Listing<'a>,
    /// How many `TaskWatch` objects of this set there are.
    pub watched: usize,
    /// Those that could not be created.
    pub conflicts: &'a [Conflict],
    /// When the status was written lately.
    pub pace: Pace,
    /// How Ready stood at the last decision.
    pub turn: Turn,
    /// The operator's settings.
    pub settings: Settings,
}

/// The latest news of the tasks.
#[derive(Clone, Copy, Debug)]
pub enum Listing<'a> {
    /// The connection cannot be used.
    Unavailable(&'a Unavailable),
    /// The API cannot list.
    NotListable,
    /// Nobody is to look.
    Suspended,
    /// There has been no whole list since this process began to ask.
    Awaiting,
    /// There has been one.
    Listed {
        /// What is watched by that.
        selection: &'a Selection,
        /// When the list was had.
        at: Timestamp,
    },
    /// The last try gave none.
    Failing {
        /// The last failure.
        failure: &'a Failure,
        /// The first one in a row.
        since: Timestamp,
        /// What is watched by the last whole list of this process, and when that was had.
        last: Option<(&'a Selection, Timestamp)>,
    },
}

/// A `TaskWatch` that could not be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Its name.
    pub name: String,
    /// Why not.
    pub why: Why,
}

/// Why a `TaskWatch` could not be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is one of that name, which is not the set's.
    Foreign,
    /// The namespace may have no more, in the words of the API server.
    Quota(String),
    /// The API server refuses it for another reason, in its words.
    Refused(String),
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// The whole status to write; none where a reader would see nothing new.
    pub status: Option<TaskWatchSetStatus>,
    /// When to decide again if nothing happens before; later than now.
    pub wake_at: Option<Timestamp>,
    /// How Ready stands now.
    pub turn: Turn,
}

impl<'a> Input<'a> {
    /// The status that the operator wrote last; the schema's default is none.
    fn written(&self) -> Option<&'a TaskWatchSetStatus> {
        self.status.filter(|status| status.observed_generation.is_some_and(|generation| generation >= 0))
    }

    fn poll(&self) -> Option<&'a WatchPoll> {
        self.spec.template.as_ref()?.spec.as_ref()?.poll.as_ref()
    }

    /// How long a set may go without a list.
    fn stale_after(&self) -> Duration {
        let seconds = self.poll().and_then(|poll| poll.stale_after_seconds).unwrap_or(WatchPoll::STALE_AFTER);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    /// How long trouble is kept from the status.
    fn patience(&self) -> Duration {
        let seconds = self.poll().and_then(|poll| poll.period_seconds).unwrap_or(WatchPoll::PERIOD);
        let period = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        self.settings.trouble.max(period.saturating_mul(3))
    }
}

/// Decides what is written of a set.
///
/// The selection of the input is best the one that was made after the creations of this turn: else each new task makes the set
/// unready for a moment.
#[must_use]
pub fn decide(input: &Input<'_>, now: Timestamp) -> Decision {
    let mut decision = Decision { turn: input.turn, ..Decision::default() };
    let Some(verdict) = verdict::judge(input, now) else { return decision };
    let old = input.written();
    let told = old.and_then(|old| find(&old.conditions, READY));
    decision.turn = input.turn.to(verdict.ready.0, told, now);
    let mut status = compose(input, old, &verdict, now);
    let mut wake = verdict.wake;
    match worth_writing(input, old, &status, decision.turn, now) {
        Worth::Write => {
            status.last_list_time = verdict.shown.map(|(_, at)| stored::time(at)).or(status.last_list_time);
            decision.status = Some(status);
        }
        Worth::At(time) => wake = wake.into_iter().chain([time]).min(),
        Worth::Nothing => {}
    }
    decision.wake_at = wake.filter(|wake| *wake > now);
    decision
}

/// The whole status of a verdict, but for the time of the list.
fn compose(
    input: &Input<'_>,
    old: Option<&TaskWatchSetStatus>,
    verdict: &Verdict<'_>,
    now: Timestamp,
) -> TaskWatchSetStatus {
    let kept = || old.cloned().unwrap_or_default();
    let found = verdict.shown.map_or_else(kept, |(selection, _)| found::of(selection, input.conflicts));
    let said = [
        Some((READY, verdict.ready.0, &verdict.ready.1)),
        Some((SYNCED, verdict.synced.0, &verdict.synced.1)),
        verdict.abnormal.map(|outlook| (abnormal(outlook), TRUE, &verdict.ready.1)),
    ];
    let before = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    found::fit(TaskWatchSetStatus {
        observed_generation: Some(input.generation),
        watched: Some(found::count(input.watched)),
        last_list_time: old.and_then(|old| old.last_list_time.clone()),
        conditions: conditions::build(said.into_iter().flatten(), before, input.generation, now),
        ..found
    })
}

/// Whether a status says something new.
enum Worth {
    Write,
    /// It does, and may be written then.
    At(Timestamp),
    Nothing,
}

fn worth_writing(
    input: &Input<'_>,
    old: Option<&TaskWatchSetStatus>,
    new: &TaskWatchSetStatus,
    turn: Turn,
    now: Timestamp,
) -> Worth {
    let Some(old) = old else { return Worth::Write };
    let due = |time: Option<Timestamp>| time.filter(|due| *due > now).map_or(Worth::Write, Worth::At);
    if found::without_progress(old) != found::without_progress(new) {
        let is_urgent =
            cannot_wait(old, new) || turns(old, new) && turn.was_steady() || fails(old, new) && input.pace.is_calm();
        return due(input.pace.due(now).filter(|_| !is_urgent));
    }
    if found::progress_step(old, new) < input.settings.progress_step.max(1) {
        return Worth::Nothing;
    }
    // One in the future is of a clock that was ahead: it says nothing of how long ago it is.
    let last = old.last_list_time.as_ref().map(|last| last.0).filter(|last| *last <= now);
    due(last.map(|last| later(last, input.settings.progress_every)))
}

fn is_ready(status: &TaskWatchSetStatus) -> bool {
    find(&status.conditions, READY).is_some_and(|ready| ready.status == TRUE)
}

/// Whether Ready has another status.
fn turns(old: &TaskWatchSetStatus, new: &TaskWatchSetStatus) -> bool {
    let ready = |status: &TaskWatchSetStatus| find(&status.conditions, READY).map(|ready| ready.status.clone());
    ready(old) != ready(new)
}

/// Whether a task that has failed makes the set unready. Where that comes and goes, it has the pace of everything else.
fn fails(old: &TaskWatchSetStatus, new: &TaskWatchSetStatus) -> bool {
    let has_failed = |ready: &Condition| ready.status != TRUE && ready.reason == reason::TASK_FAILED;
    is_ready(old) && find(&new.conditions, READY).is_some_and(has_failed)
}

/// Whether a reader must not be kept waiting for what is new: the first list, the answer to a change of the specification, that the set
/// has become ready.
fn cannot_wait(old: &TaskWatchSetStatus, new: &TaskWatchSetStatus) -> bool {
    old.observed_generation != new.observed_generation
        || old.matched.is_none() && new.matched.is_some()
        || !is_ready(old) && is_ready(new)
}
