//! The status contract (design §2): what is written of a watch, what is told of it, and when to look again.
//!
//! [`decide`] is pure. All that it needs to remember is in the status that it wrote last; so a restart changes nothing.
//!
//! | module | concern |
//! |---|---|
//! | `situation` | which row of the table the watch is in |
//! | `input` | what a decision rests on |
//! | `contract` | the table: what each row says, whether it polls, which event it has |
//! | `messages` | reasons and messages |
//! | `mirror` | the upstream's task as fields of the status |
//! | `fit` | how large a status may be |
//! | `events` | what a change is worth telling |
//! | `ended` | how long the task took |
//! | `pace` | how often a status may be written |

mod contract;
mod ended;
mod events;
mod fit;
mod input;
mod messages;
mod mirror;
mod pace;
mod situation;

#[cfg(test)]
mod tests;

use jiff::Timestamp;

use self::{
    contract::Polled,
    mirror::Mirror,
    situation::{Known, Verdict},
};
pub use self::{
    contract::{is_finished, tells_of_limit},
    ended::Ended,
    events::{Event, EventType, TASK_OBSERVED},
    input::{Input, Meta, Observation, Settings},
    pace::Pace,
};
use super::{cadence::later, conditions, stored, target::Target};
use crate::api::TaskWatchStatus;

/// What to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// The whole status to write; none where a reader would see nothing new.
    pub status: Option<TaskWatchStatus>,
    /// What to tell, once the status is written.
    pub events: Vec<Event>,
    /// That the task has ended, where the status is the first to show it.
    pub ended: Option<Ended>,
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
    let old = input.written();
    let known = old.and_then(Known::of);
    let mut verdict = situation::judge(input, known.as_ref(), now);
    let mut decision = Decision { poll: poll(input, &verdict), ..Decision::default() };
    if !verdict.hold {
        let status = compose(input, known.as_ref(), &verdict, now);
        match worth_writing(input, old, &status, now) {
            Worth::Write => {
                decision.events = events::of(input, known.as_ref(), &verdict, &status);
                decision.ended = ended::of(old, &verdict);
                decision.status = Some(status);
            }
            Worth::At(time) => verdict.wake.push(time),
            Worth::Nothing => {}
        }
    }
    verdict.wake.retain(|time| *time > now);
    if verdict.row.is_finished() {
        // Not before the end has been acknowledged: whoever waits for it must have had the chance to see it.
        if input.ttl_end(old).is_some_and(|end| end <= now) {
            return Decision { poll: Poll::Stop, delete: true, ..Decision::default() };
        }
        verdict.wake.extend(input.ttl_end(decision.status.as_ref().or(old)));
    } else {
        verdict.wake.extend(input.deadline());
    }
    decision.wake_at = verdict.wake.into_iter().min().map(|time| time.max(now));
    decision
}

fn poll(input: &Input<'_>, verdict: &Verdict<'_>) -> Poll {
    let wanted = match verdict.row.line().polled {
        Polled::Always | Polled::Search => true,
        Polled::Never => false,
        Polled::IfRequested => input.is_asking() && input.wants_refresh() && !input.has_looked(),
    };
    if wanted { Poll::Keep } else { Poll::Stop }
}

/// The whole status of a verdict.
fn compose(input: &Input<'_>, known: Option<&Known<'_>>, verdict: &Verdict<'_>, now: Timestamp) -> TaskWatchStatus {
    let old = input.written();
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
    if let Target::Known(id) = input.task {
        mirror.name(id);
    }
    if known.is_some_and(|known| known.row.is_search()) {
        // It was not the task's.
        mirror.state = verdict.seen.map(|(task, _)| task.state.as_str().to_owned());
    }
    if let Some(state) = verdict.row.line().state {
        mirror.put_state(state);
    }
    let state = mirror.state.get_or_insert_with(|| conditions::UNKNOWN.to_owned()).clone();
    let conditions = contract::of(
        verdict.row,
        input.spec.ready_when,
        (&verdict.succeeded(&state), &verdict.synced()),
        old.map(|status| status.conditions.as_slice()).unwrap_or_default(),
        input.meta.generation,
        now,
    );
    let handled = input.requested().filter(|_| input.has_looked()).map(str::to_owned);
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
