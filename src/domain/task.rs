//! The provider-neutral task: what any upstream's answer is decoded into.

use jiff::Timestamp;

use super::subtasks::Subtasks;

/// Where a task lives upstream. Two `TaskWatch` objects that name the same one share its polls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskRef {
    /// The container of the task: Astra account, Huawei Cloud project, Cloud.ru service instance.
    pub scope: String,
    /// The task's identifier within the scope.
    pub id: String,
}

/// What an upstream says of a task, in the words of the status contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskState {
    /// Accepted, not started.
    Pending,
    /// Being worked on. Unknown upstream words count as this, too: they are never terminal.
    Running,
    /// Paused or pausing; may last.
    Paused,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Stopped before its end.
    Cancelled,
}

impl TaskState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Running, Self::Paused, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// Whether the task has ended and will not change again.
    #[must_use]
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// The word of `status.state`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Paused => "Paused",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
        }
    }
}

/// One upstream task as observed. Every text is already cleaned and bounded (see [`super::text`]); however large an answer was, what is
/// kept of one task takes at most [`TASK_BYTES`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    /// The upstream's identifier.
    pub id: String,
    /// Machine name, as `astra.backup`.
    pub name: Option<String>,
    /// Name for people, as Astra's `summary`.
    pub display_name: Option<String>,
    /// Kind of work: Huawei Cloud `job_type`, Cloud.ru `command`.
    pub kind: Option<String>,
    /// The state, normalised.
    pub state: TaskState,
    /// The upstream's own word for the state, as sent.
    pub upstream_state: String,
    /// 0 to 100, floored; the upstream's own figure.
    pub percent: Option<u8>,
    /// The task that this one is part of.
    pub parent_id: Option<String>,
    /// Rank among its siblings, smallest first (Astra `orderHint`).
    pub order: i64,
    /// The resource worked on: an identifier or URI.
    pub resource: Option<String>,
    /// Who started it.
    pub created_by: Option<String>,
    /// When it was made, by the upstream's clock.
    pub created_time: Option<Timestamp>,
    /// When it last changed, by the upstream's clock.
    pub modified_time: Option<Timestamp>,
    /// When work began, by the upstream's clock.
    pub start_time: Option<Timestamp>,
    /// When work ended; only set when the state is a finished one.
    pub completion_time: Option<Timestamp>,
    /// Why it failed, or what it complains of.
    pub error: Option<Box<TaskError>>,
    /// Identifiers of results; at most [`MAX_OUTPUTS`] and [`OUTPUT_BYTES`] (see
    /// [`super::outputs`]). Of two with one name the last counts.
    pub outputs: Vec<(String, String)>,
    /// Why it is in this state (Astra `stateDetails`); at most [`MAX_STATE_DETAILS`].
    pub state_details: Vec<StateDetail>,
    /// Its parts.
    pub subtasks: Subtasks,
}

// As many as the schema lets there be.
pub use crate::api::bounds::{
    ERROR_DETAILS as MAX_ERROR_DETAILS, OUTPUTS as MAX_OUTPUTS, STATE_DETAILS as MAX_STATE_DETAILS,
};
/// Most bytes of memory that one task takes with all that it holds.
#[cfg(any(test, feature = "checks"))]
pub const TASK_BYTES: usize = 32 << 10;
/// Most bytes that the names and values of one task's outputs take together.
pub const OUTPUT_BYTES: usize = 3 << 10;
/// Most bytes that the texts of one task's [`Task::state_details`] take together.
pub const STATE_DETAIL_BYTES: usize = 3 << 10;
/// Most bytes that the texts of one error's [`TaskError::details`] take together.
pub const ERROR_DETAIL_BYTES: usize = 2 << 10;

impl Task {
    /// A task of which nothing but its identity and state is known.
    #[must_use]
    pub fn new(id: impl Into<String>, state: TaskState, upstream_state: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            name: None,
            display_name: None,
            kind: None,
            state,
            upstream_state: upstream_state.into(),
            percent: None,
            parent_id: None,
            order: 0,
            resource: None,
            created_by: None,
            created_time: None,
            modified_time: None,
            start_time: None,
            completion_time: None,
            error: None,
            outputs: Vec::new(),
            state_details: Vec::new(),
            subtasks: Subtasks::default(),
        }
    }

    /// Takes `parts` in as its sub-tasks.
    pub fn adopt(&mut self, parts: Vec<Task>) {
        self.subtasks = Subtasks::of(parts);
    }

    /// Leaves out the last of what has no room: see [`STATE_DETAIL_BYTES`] and [`ERROR_DETAIL_BYTES`].
    pub fn fit(&mut self) {
        within(&mut self.state_details, STATE_DETAIL_BYTES, |detail| {
            detail.kind.len() + detail.title.len() + detail.detail.len()
        });
        if let Some(error) = &mut self.error {
            within(&mut error.details, ERROR_DETAIL_BYTES, |detail| detail.kind.len() + detail.value.len());
        }
    }
}

/// Keeps the first of `items` that have `room` together.
fn within<T>(items: &mut Vec<T>, mut room: usize, size: fn(&T) -> usize) {
    items.retain(|item| {
        room.checked_sub(size(item)).is_some_and(|left| {
            room = left;
            true
        })
    });
    items.shrink_to_fit();
}

/// The error of a task (not of a poll).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TaskError {
    /// The upstream's code, as text: `EVS.2024`, `7`.
    pub code: Option<String>,
    /// A CamelCase word for it, where the upstream has one.
    pub reason: Option<String>,
    /// What the upstream says, for people.
    pub message: Option<String>,
    /// The HTTP status that the upstream names for it.
    pub http_status: Option<u16>,
    /// The upstream's identifier for support questions.
    pub correlation_id: Option<String>,
    /// Further details; at most [`MAX_ERROR_DETAILS`].
    pub details: Vec<ErrorDetail>,
}

/// One entry of a `google.rpc.Status`' details, or its like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ErrorDetail {
    /// Type name or URL.
    pub kind: String,
    /// Its content as text.
    pub value: String,
}

/// One entry of Astra's `stateDetails`, or its like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StateDetail {
    /// Type name or URL.
    pub kind: String,
    /// Short title.
    pub title: String,
    /// The explanation.
    pub detail: String,
}
