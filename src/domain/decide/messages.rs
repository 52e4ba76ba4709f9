//! Reasons and messages. A message says what is so, and what can be done about it; it holds no figure that moves by itself.

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

pub(super) const AWAITING: Says = (reason::AWAITING_OBSERVATION, "The upstream has not been seen to answer yet.");
pub(super) const PENDING: Says = (reason::TASK_PENDING, "The task waits to be started upstream.");
pub(super) const RUNNING: Says = (reason::TASK_RUNNING, "The task is running upstream.");
pub(super) const PAUSED: Says = (reason::TASK_PAUSED, "The task is paused upstream.");
pub(super) const SUCCESS: Says = (reason::TASK_SUCCEEDED, "The task has succeeded.");
pub(super) const FAILED: Says = (reason::TASK_FAILED, "The task has failed; the upstream does not say why.");
pub(super) const CANCELLED: Says = (reason::TASK_CANCELLED, "The task was cancelled upstream.");
pub(super) const SUSPENDED: Says = (reason::SUSPENDED, "Watching is suspended; set spec.suspend to false to go on.");

pub(super) const CURRENT: Says = (reason::OBSERVED, "The status shows what the upstream says.");
pub(super) const NOT_FOUND: Says = (reason::TASK_NOT_FOUND, "The upstream says that it does not know the task.");
pub(super) const OVERDUE: Says =
    (reason::DEADLINE_EXCEEDED, "The time for the task is over; it is not watched any more.");

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

pub(super) fn out_of_time(limit: Duration) -> String {
    let limit = limit.as_secs();
    format!(
        "The {limit} s of activeDeadlineSeconds are over; the task is not watched any more, and may be running still."
    )
}

/// Not found, within the grace.
pub(super) fn absent(failure: &Failure, spec: &TaskWatchSpec) -> String {
    let upstream = sentence(failure);
    let grace = spec.not_found_grace_seconds;
    let then = match spec.on_not_found {
        OnNotFound::Retry => "Asking on (onNotFound: Retry).".to_owned(),
        OnNotFound::Fail => format!("It counts as lost when that lasts for {grace} s."),
        OnNotFound::Succeed => format!("It counts as succeeded when that lasts for {grace} s (onNotFound: Succeed)."),
    };
    format!("The upstream does not know the task: {upstream} {then}")
}

/// Not found, after the grace.
pub(super) fn lost(failure: &Failure, spec: &TaskWatchSpec) -> String {
    let upstream = sentence(failure);
    let grace = spec.not_found_grace_seconds;
    let as_success = match spec.on_not_found {
        OnNotFound::Succeed => ", which counts as success (onNotFound: Succeed)",
        OnNotFound::Fail | OnNotFound::Retry => "",
    };
    format!("The upstream has not known the task for {grace} s{as_success}: {upstream}")
}

/// Whether two reasons tell of trouble that a reader need not tell apart: what passes by itself comes in changing forms.
pub(super) fn same_trouble(a: &str, b: &str) -> bool {
    let passes = [FailureClass::UpstreamUnavailable.as_str(), FailureClass::RateLimited.as_str()];
    a == b || passes.contains(&a) && passes.contains(&b)
}

/// The upstream cannot be asked, for longer than `stale_after` where that is given: reason and message.
pub(super) fn trouble(failure: &Failure, stale_after: Option<Duration>) -> (&'static str, String) {
    let (passes, advice) = match failure.class {
        FailureClass::UpstreamUnavailable => {
            (true, "Asking on; if it lasts, check the connection's endpoint and the way there.")
        }
        FailureClass::RateLimited => (true, "Asking on more slowly; if it lasts, lower rateLimit on the connection."),
        FailureClass::AuthenticationFailed => (false, "Put a valid credential into the Secret of the connection."),
        FailureClass::PermissionDenied => {
            (false, "Give the credential the right to read tasks, or name another one on the connection.")
        }
        FailureClass::ScopeNotFound | FailureClass::NotFound => {
            (false, "Check task.scope, and the project, account or service instance of the connection.")
        }
        FailureClass::InvalidRequest => (false, "Check task.id, and the provider of the connection."),
        FailureClass::InvalidAnswer => (false, "Check that the connection's endpoint is the API of its provider."),
    };
    let upstream = sentence(failure);
    match stale_after.filter(|_| passes) {
        Some(limit) => {
            let limit = limit.as_secs();
            (reason::STALE, format!("No good answer for more than {limit} s: {upstream} {advice}"))
        }
        None => (failure.class.as_str(), format!("{upstream} {advice}")),
    }
}

/// A failure's own words, ended as a sentence.
fn sentence(failure: &Failure) -> String {
    let text = failure.message.trim_end();
    let text = if text.is_empty() { failure.class.as_str() } else { text };
    let told = failure.code.is_empty() || text.contains(&failure.code);
    let code = if told { String::new() } else { format!(" ({})", failure.code) };
    let text = text.strip_suffix('.').unwrap_or(text);
    format!("{text}{code}.")
}
