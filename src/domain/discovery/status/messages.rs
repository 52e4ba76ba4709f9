//! Reasons and messages of a set. A message says what is so, then what to do about it; it holds no figure that moves by itself.

use std::time::Duration;

use crate::{
    api::TaskWatchSetSpec,
    domain::{
        conditions::{Remark, reason},
        discovery::{
            catalogue::Candidate,
            select::Selection,
            status::{Conflict, Why, found},
        },
        failure::{Failure, FailureClass},
        task::TaskState,
        text::clean,
    },
};

/// So many tasks or objects are named in a message.
const NAMED: usize = 3;
/// So much of the name of each, in bytes.
const NAME: usize = 128;
/// So much of what the upstream or the API server says, in bytes.
const SAID: usize = 384;

fn remark(reason: &str, message: impl Into<String>) -> Remark {
    Remark { reason: reason.to_owned(), message: message.into() }
}

pub(super) fn awaiting() -> Remark {
    remark(reason::AWAITING_LIST, "Waiting for the first whole list of the tasks from the upstream.")
}

pub(super) fn not_listable() -> Remark {
    let message = "The API of this connection cannot list its tasks, so that a TaskWatchSet cannot find any. \
                   Delete the set, and create a TaskWatch for each task.";
    remark(reason::LIST_NOT_SUPPORTED, message)
}

pub(super) fn suspended() -> Remark {
    let message = "Looking for tasks is suspended; set spec.suspend to false to resume. \
                   The TaskWatches that are there stay, and their tasks are polled.";
    remark(reason::SUSPENDED, message)
}

pub(super) fn current() -> Remark {
    remark(reason::OBSERVED, "The status shows what the upstream says.")
}

/// What is to be watched is watched.
pub(super) fn observed(selection: &Selection, spec: &TaskWatchSetSpec) -> Remark {
    let is_beyond = selection.left_out > selection.unkept;
    let mut message = match (selection.matched, is_beyond) {
        (0, _) => "No task matches at present.".to_owned(),
        (_, false) => "Each task that matches has a TaskWatch.".to_owned(),
        (_, true) => format!(
            "The newest tasks that match have a TaskWatch each. The others are left out (status.leftOut): spec.limit is {}.",
            spec.limit
        ),
    };
    if selection.unkept > 0 {
        message += " The operator has no room for some tasks of the list, and whether those match is not known: \
                    have its memory limit raised.";
    }
    remark(reason::OBSERVED, message)
}

pub(super) fn creating() -> Remark {
    remark(
        reason::CREATING,
        "TaskWatches are being created for tasks that match; status.watched says how many there are.",
    )
}

/// Tasks have failed.
pub(super) fn failed(selection: &Selection, spec: &TaskWatchSetSpec) -> Remark {
    let tasks = selection.newest.iter().filter(|task| task.state == TaskState::Failed).map(|task| of_failed(task));
    let count = selection.states.get(&TaskState::Failed).copied().unwrap_or(0);
    let which = if count == 1 { "A task that matches has failed" } else { "Tasks that match have failed" };
    let message = format!(
        "{which}: {}. A failed task counts until finishedRetentionSeconds ({} s) after its end.",
        list(tasks, count),
        spec.finished_retention_seconds
    );
    remark(reason::TASK_FAILED, message)
}

fn of_failed(task: &Candidate) -> String {
    let name = clean(found::name(task).unwrap_or(&task.id), NAME);
    match task.message.as_deref().map(|message| clean(message, SAID)) {
        Some(message) if !message.is_empty() => format!("{name} ({})", message.trim_end_matches('.')),
        _ => name,
    }
}

/// The first of `names`, and whether there are more than these of `count`.
fn list(names: impl Iterator<Item = String>, count: usize) -> String {
    let names: Vec<_> = names.take(NAMED).collect();
    match names.split_last() {
        Some(_) if count > names.len() => format!("{} and others", names.join(", ")),
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => names.concat(),
    }
}

/// Somebody else's objects are in the way.
pub(super) fn foreign(conflicts: &[Conflict]) -> Option<Remark> {
    let names: Vec<_> = conflicts.iter().filter(|conflict| conflict.why == Why::Foreign).collect();
    let count = names.len();
    let names = list(names.into_iter().map(|conflict| clean(&conflict.name, NAME * 2)), count);
    let message = match count {
        0 => return None,
        1 => format!(
            "The TaskWatch {names} is in the place of one that this set would create, and is not the set's: it is left as it is. \
             Delete it, or create it under another name."
        ),
        _ => format!(
            "The TaskWatches {names} are in the place of those that this set would create, and are not the set's: they are left as \
             they are. Delete them, or create them under other names."
        ),
    };
    Some(remark(reason::NAME_CONFLICT, message))
}

/// The API server refuses to create a child; that of a quota first.
pub(super) fn refused(conflicts: &[Conflict]) -> Option<Remark> {
    let quota = conflicts.iter().find_map(|conflict| match &conflict.why {
        Why::Quota(said) => Some(remark(
            reason::QUOTA_EXCEEDED,
            format!(
                "The namespace may have no more TaskWatches: {} Retrying. Raise its quota, or lower spec.limit.",
                sentence(said)
            ),
        )),
        _ => None,
    });
    let other = || {
        conflicts.iter().find_map(|conflict| match &conflict.why {
            Why::Refused(said) => Some(remark(
                reason::CREATION_REFUSED,
                format!(
                    "The API server refuses the TaskWatch {}: {} Retrying.",
                    clean(&conflict.name, NAME * 2),
                    sentence(said)
                ),
            )),
            _ => None,
        })
    };
    quota.or_else(other)
}

/// What somebody else says, as a sentence.
fn sentence(said: &str) -> String {
    let said = clean(said, SAID);
    let end = if said.is_empty() || said.ends_with(['.', '!', '?', '…']) { "" } else { "." };
    format!("{said}{end}")
}

/// The tasks cannot be listed.
pub(super) fn trouble(failure: &Failure) -> Remark {
    remark(failure.class.as_str(), explain(failure))
}

/// They could not be listed for `limit`.
pub(super) fn stale(failure: &Failure, limit: Duration) -> Remark {
    if passes(failure.class.as_str()) {
        let message = format!("No whole list for more than {} s. {}", limit.as_secs(), explain(failure));
        remark(reason::STALE, message)
    } else {
        trouble(failure)
    }
}

/// What happened, then what to do: of a set, where an advice names the fields of a `TaskWatch`.
fn explain(failure: &Failure) -> String {
    let advice = failure.advice();
    if !advice.contains("spec.task.") {
        return failure.explain();
    }
    let advice = match failure.class {
        FailureClass::ScopeNotFound => {
            "Check the account or service instance of the connection, and spec.scope; the status of the connection may say more."
        }
        _ => "Check the provider and the endpoint of the connection; its status may say more.",
    };
    format!("{} {advice}", failure.what())
}

/// Whether two reasons tell of trouble that a reader need not tell apart: what passes by itself comes in changing forms.
pub(super) fn same_trouble(a: &str, b: &str) -> bool {
    a == b || passes(a) && passes(b)
}

fn passes(reason: &str) -> bool {
    [FailureClass::UpstreamUnavailable, FailureClass::RateLimited].iter().any(|class| class.as_str() == reason)
}
