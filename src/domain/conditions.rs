//! Conditions as all kinds have them: their words, and the one way to build them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{availability::Outlook, stored, text};
use crate::api::bounds::CONDITION_MESSAGE;

/// What became of the task.
pub const SUCCEEDED: &str = "Succeeded";
/// Whether the watch is over.
pub const FINISHED: &str = "Finished";
/// Whether the status shows what the upstream says.
pub const SYNCED: &str = "Synced";
/// Whether the object may be relied upon.
pub const READY: &str = "Ready";
/// Not ready, and that may pass by itself; there only while True, never along with [`STALLED`].
pub const RECONCILING: &str = "Reconciling";
/// Not ready until somebody acts; there only while True.
pub const STALLED: &str = "Stalled";

/// The status of a condition that holds.
pub const TRUE: &str = "True";
/// The status of one that does not.
pub const FALSE: &str = "False";
/// The status of one of which that is not known.
pub const UNKNOWN: &str = "Unknown";

/// Reasons, but for those that an enum has: [`super::availability::Reason`], [`super::failure::FailureClass`].
#[allow(missing_docs, reason = "each is what its word says; docs/status.md has them all")]
pub mod reason {
    pub const AWAITING_OBSERVATION: &str = "AwaitingObservation";
    /// The identifier of the task is not there yet.
    pub const AWAITING_TASK_ID: &str = "AwaitingTaskID";
    /// No task matches yet.
    pub const AWAITING_TASK: &str = "AwaitingTask";
    pub const TASK_PENDING: &str = "TaskPending";
    pub const TASK_RUNNING: &str = "TaskRunning";
    pub const TASK_PAUSED: &str = "TaskPaused";
    pub const TASK_SUCCEEDED: &str = "TaskSucceeded";
    pub const TASK_GONE: &str = "TaskGone";
    pub const TASK_FAILED: &str = "TaskFailed";
    pub const TASK_CANCELLED: &str = "TaskCancelled";
    pub const TASK_NOT_FOUND: &str = "TaskNotFound";
    pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
    pub const SUSPENDED: &str = "Suspended";
    pub const OBSERVED: &str = "Observed";
    pub const STALE: &str = "Stale";

    /// A connection that works.
    pub const CONNECTED: &str = "Connected";
    /// A connection that nobody uses.
    pub const IDLE: &str = "Idle";
    /// A connection whose upstream has not answered yet.
    pub const AWAITING_ANSWER: &str = "AwaitingAnswer";

    /// A set whose tasks have not been listed yet.
    pub const AWAITING_LIST: &str = "AwaitingList";
    /// A set, or a watch that asks for the latest task, whose API cannot list.
    pub const LIST_NOT_SUPPORTED: &str = "ListNotSupported";
    /// A set whose watches are not all there yet.
    pub const CREATING: &str = "Creating";
    /// A set that finds somebody else's watch in the place of one of its own.
    pub const NAME_CONFLICT: &str = "NameConflict";
    /// A set whose namespace may have no more watches.
    pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
    /// A set whose watches the API server refuses for another reason.
    pub const CREATION_REFUSED: &str = "CreationRefused";
}

/// A reason for programs and a message for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// One `CamelCase` word.
    pub reason: String,
    /// What is so, and what can be done about it.
    pub message: String,
}

/// The conditions of a status: of each its type, its status, and why; sorted by type. Messages are cleaned and cut; a transition time of
/// `old` stays where the status does.
pub fn build<'a>(
    said: impl IntoIterator<Item = (&'static str, &'static str, &'a Remark)>,
    old: &[Condition],
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let condition = |(kind, status, remark): (&str, &str, &Remark)| Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: remark.reason.clone(),
        message: text::clean(&remark.message, CONDITION_MESSAGE),
        observed_generation: Some(generation),
        last_transition_time: find(old, kind)
            .filter(|old| old.status == status)
            .map_or_else(|| stored::time(now), |old| old.last_transition_time.clone()),
    };
    let mut conditions: Vec<_> = said.into_iter().map(condition).collect();
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    conditions
}

/// The condition of a type.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// The type of the condition that goes with what keeps an object from being ready.
#[must_use]
pub const fn abnormal(outlook: Outlook) -> &'static str {
    match outlook {
        Outlook::MayPass => RECONCILING,
        Outlook::NeedsAction => STALLED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remark(reason: &str, message: &str) -> Remark {
        Remark { reason: reason.to_owned(), message: message.to_owned() }
    }

    #[test]
    fn a_transition_time_moves_only_with_the_status() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let late = at(5).checked_add(jiff::SignedDuration::from_millis(700)).unwrap();
        let why = remark("A", "a");
        let first = build([(SYNCED, FALSE, &why), (READY, FALSE, &why)], &[], 1, at(1));
        assert_eq!(first.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(), [READY, SYNCED], "sorted by type");
        let why = remark("B", "b");
        let second = build([(SYNCED, FALSE, &why), (READY, TRUE, &why)], &first, 2, late);
        let times: Vec<_> = second.iter().map(|c| c.last_transition_time.0).collect();
        assert_eq!(times, [at(5), at(1)], "in whole seconds, as it is stored");
        assert!(second.iter().all(|c| c.reason == "B" && c.message == "b" && c.observed_generation == Some(2)));
    }

    #[test]
    fn a_message_is_cleaned_and_as_long_as_the_schema_lets_it_be() {
        let why = remark("A", &format!("\u{1b}[31mred\n{}", "ä".repeat(CONDITION_MESSAGE)));
        let built = build([(READY, FALSE, &why)], &[], 1, Timestamp::UNIX_EPOCH);
        assert!(built[0].message.starts_with("red ä") && built[0].message.len() <= CONDITION_MESSAGE);
    }
}
