//! Reasons and messages. A message says what is so, then what to do about it (of a failure: `domain/advice.rs`); it holds no figure that moves by itself.

use std::time::Duration;

use crate::{
    api::{OnNotFound, TaskWatchSpec},
    domain::{
        conditions::reason,
        failure::{Failure, FailureClass},
        task::{Task, TaskError, TaskState},
    },
};

/// A reason and a message.
pub(super) type Says = (&'static str, &'static str);

pub(super) const AWAITING: Says = (reason::AWAITING_OBSERVATION, "Waiting for the first answer from the upstream.");
pub(super) const PENDING: Says = (reason::TASK_PENDING, "The task is waiting to start upstream.");
pub(super) const RUNNING: Says = (reason::TASK_RUNNING, "The task is running upstream.");
pub(super) const PAUSED: Says = (reason::TASK_PAUSED, "The task is paused upstream.");
pub(super) const SUCCESS: Says = (reason::TASK_SUCCEEDED, "The task has succeeded.");
pub(super) const FAILED: Says = (reason::TASK_FAILED, "The task has failed; the upstream does not say why.");
pub(super) const CANCELLED: Says = (reason::TASK_CANCELLED, "The task was cancelled upstream.");
pub(super) const SUSPENDED: Says = (reason::SUSPENDED, "Watching is suspended; set spec.suspend to false to resume.");

pub(super) const CURRENT: Says = (reason::OBSERVED, "The status shows what the upstream says.");
pub(super) const NOT_FOUND: Says = (reason::TASK_NOT_FOUND, "The upstream does not know the task.");
pub(super) const OVERDUE: Says = (reason::DEADLINE_EXCEEDED, "The deadline has passed; the task is no longer watched.");

/// What became of a task in the upstream's own words; none where it says none.
pub(super) fn outcome(task: &Task) -> Option<String> {
    let detail = || task.state_details.first().map(|detail| detail.detail.as_str()).filter(|text| !text.is_empty());
    match task.state {
        TaskState::Failed => task
            .error
            .as_deref()
            .and_then(error)
            .or_else(|| task.subtasks.cause().and_then(error))
            .or_else(|| detail().map(str::to_owned)),
        TaskState::Paused => detail().map(|detail| format!("The task is paused upstream: {detail}")),
        TaskState::Cancelled => task
            .error
            .as_deref()
            .and_then(error)
            .or_else(|| detail().map(str::to_owned))
            .map(|detail| format!("The task was cancelled upstream: {detail}")),
        TaskState::Pending | TaskState::Running | TaskState::Succeeded => None,
    }
}

fn error(error: &TaskError) -> Option<String> {
    let code = error.code.as_deref().or(error.reason.as_deref());
    match (&error.message, code) {
        (Some(message), Some(code)) => Some(format!("{message} ({code})")),
        (Some(message), None) => Some(message.clone()),
        (None, Some(code)) => Some(format!("The task has failed with code {code}.")),
        (None, None) => None,
    }
}

/// The task was not found in time.
pub(super) fn not_found_in_time(limit: Duration) -> String {
    let limit = limit.as_secs();
    format!(
        "Which task to watch did not become known within activeDeadlineSeconds ({limit} s). It is no longer looked for."
    )
}

pub(super) fn out_of_time(limit: Duration) -> String {
    let limit = limit.as_secs();
    format!(
        "The task did not finish within activeDeadlineSeconds ({limit} s). It is no longer watched, and may still be running."
    )
}

/// Not found, within the grace.
pub(super) fn absent(failure: &Failure, spec: &TaskWatchSpec) -> String {
    let grace = spec.not_found_grace_seconds;
    let then = match spec.on_not_found {
        OnNotFound::Retry => "Retrying (onNotFound: Retry).".to_owned(),
        OnNotFound::Fail => format!("It will be marked Lost if this continues for {grace} s."),
        OnNotFound::Succeed => {
            format!("It will be marked Succeeded if this continues for {grace} s (onNotFound: Succeed).")
        }
    };
    format!("{} {then}", failure.what())
}

/// Not found, after the grace.
pub(super) fn lost(failure: &Failure, spec: &TaskWatchSpec) -> String {
    let grace = spec.not_found_grace_seconds;
    match spec.on_not_found {
        OnNotFound::Succeed => {
            format!("Not found for {grace} s, which counts as success (onNotFound: Succeed). {}", failure.what())
        }
        OnNotFound::Fail | OnNotFound::Retry if spec.task.id.is_none() => format!(
            "Not found for {grace} s. {} Check status.task.id; to have the task looked for anew, delete this object and create it again.",
            failure.what()
        ),
        OnNotFound::Fail | OnNotFound::Retry => format!("Not found for {grace} s. {}", failure.explain()),
    }
}

/// Whether two reasons tell of trouble that a reader need not tell apart: what passes by itself comes in changing forms.
pub(super) fn same_trouble(a: &str, b: &str) -> bool {
    a == b || passes(a) && passes(b)
}

/// Whether trouble of this reason passes by itself.
fn passes(reason: &str) -> bool {
    [FailureClass::UpstreamUnavailable, FailureClass::RateLimited].iter().any(|class| class.as_str() == reason)
}

/// The upstream cannot be asked, for longer than `stale_after` where that is given: reason and message.
pub(super) fn trouble(failure: &Failure, stale_after: Option<Duration>) -> (&'static str, String) {
    match stale_after.filter(|_| passes(failure.class.as_str())) {
        Some(limit) => {
            let limit = limit.as_secs();
            (reason::STALE, format!("No usable answer for more than {limit} s. {}", failure.explain()))
        }
        None => (failure.class.as_str(), failure.explain()),
    }
}
