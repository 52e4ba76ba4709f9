//! How long a task took: told once, along with the status that is the first to show its end.

use std::time::Duration;

use super::situation::Verdict;
use crate::{
    api::TaskWatchStatus,
    domain::task::{Task, TaskState},
};

/// A task that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub state: TaskState,
    /// How long it took, by the upstream's clock.
    pub took: Duration,
}

/// The end that a write is the first to show; none where the upstream does not tell how long the task took.
pub(super) fn of(old: Option<&TaskWatchStatus>, verdict: &Verdict<'_>) -> Option<Ended> {
    let (Task { state, start_time, completion_time, .. }, _) = verdict.seen?;
    let shown = old.and_then(|old| old.state.as_deref());
    let is_new = state.is_finished() && shown != Some(state.as_str());
    let took = completion_time.as_ref()?.duration_since(*start_time.as_ref()?);
    // Of a clock that was set back between the two, nothing can be told.
    Duration::try_from(took).ok().filter(|_| is_new).map(|took| Ended { state: *state, took })
}
