//! The upstream's task as fields of the status.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{
        ErrorDetailStatus, ErrorStatus, ProgressStatus, StateDetailStatus, SubtaskStatus, SubtasksStatus, TaskStatus,
        TaskWatchStatus,
        bounds::{ERROR_DETAILS, IDENTIFIER, MESSAGE, OUTPUTS, STATE_DETAILS, SUBTASK_TEXT, SUBTASKS, VALUE, WORD},
    },
    domain::{
        stored,
        subtasks::{Subtask, Subtasks},
        task::{Task, TaskError, TaskState},
        text,
    },
};

const REPORTED: &str = "Reported";
const DERIVED: &str = "Derived";

/// The part of a status that shows the task.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Mirror {
    pub state: Option<String>,
    pub last_observed: Option<Time>,
    task: Option<TaskStatus>,
    progress: Option<ProgressStatus>,
    subtasks: Option<SubtasksStatus>,
    error: Option<ErrorStatus>,
    outputs: BTreeMap<String, String>,
    state_details: Vec<StateDetailStatus>,
    start: Option<Time>,
    completion: Option<Time>,
}

impl Mirror {
    /// What a status shows.
    pub(super) fn of(status: &TaskWatchStatus) -> Self {
        let status = status.clone();
        Self {
            state: status.state,
            last_observed: status.last_observed_time,
            task: status.task,
            progress: status.progress,
            subtasks: status.subtasks,
            error: status.error,
            outputs: status.outputs,
            state_details: status.state_details,
            start: status.start_time,
            completion: status.completion_time,
        }
    }

    /// What is to be shown of a task.
    pub(super) fn new(task: &Task, scope: Option<&str>, at: Timestamp) -> Self {
        Self {
            state: Some(task.state.as_str().to_owned()),
            last_observed: Some(stored::time(at)),
            task: Some(TaskStatus {
                id: word(&task.id, IDENTIFIER),
                scope: scope.and_then(|scope| word(scope, IDENTIFIER)),
                name: words(task.name.as_deref()),
                display_name: words(task.display_name.as_deref()),
                kind: words(task.kind.as_deref()),
                upstream_state: word(&task.upstream_state, WORD),
                parent_id: words(task.parent_id.as_deref()),
                resource: task.resource.as_deref().and_then(|text| word(text, VALUE)),
                created_by: words(task.created_by.as_deref()),
                created_time: task.created_time.map(stored::time),
                modified_time: task.modified_time.map(stored::time),
            }),
            progress: progress(task),
            subtasks: subtasks(&task.subtasks),
            // Some upstreams leave an error of the way on a task that reached its end.
            error: task.error.as_deref().filter(|_| task.state != TaskState::Succeeded).and_then(error),
            outputs: task
                .outputs
                .iter()
                .filter_map(|(key, value)| Some((word(key, WORD)?, text::clean(value, VALUE))))
                .take(OUTPUTS)
                .collect(),
            state_details: task
                .state_details
                .iter()
                .take(STATE_DETAILS)
                .map(|detail| StateDetailStatus {
                    kind: word(&detail.kind, WORD),
                    title: word(&detail.title, WORD),
                    detail: word(&detail.detail, MESSAGE),
                })
                .collect(),
            start: task.start_time.map(stored::time),
            completion: task.completion_time.filter(|_| task.state.is_finished()).map(stored::time),
        }
    }

    /// Which task it is, though nothing may have been seen of it yet.
    pub(super) fn name(&mut self, id: &str) {
        self.task.get_or_insert_default().id = word(id, IDENTIFIER);
    }

    /// A state that is not the upstream's word; of what counts as a success nothing is left to do.
    pub(super) fn put_state(&mut self, state: &str) {
        if state == TaskState::Succeeded.as_str() {
            self.progress = Some(percent(100, DERIVED));
        }
        self.state = Some(state.to_owned());
    }

    /// `status` with these fields.
    pub(super) fn into_status(self, status: TaskWatchStatus) -> TaskWatchStatus {
        TaskWatchStatus {
            state: self.state,
            task: self.task,
            progress: self.progress,
            subtasks: self.subtasks,
            error: self.error,
            outputs: self.outputs,
            state_details: self.state_details,
            start_time: self.start,
            completion_time: self.completion,
            last_observed_time: self.last_observed,
            ..status
        }
    }
}

fn word(text: &str, max: usize) -> Option<String> {
    text::clean_option(text, max)
}

fn words(text: Option<&str>) -> Option<String> {
    text.and_then(|text| word(text, WORD))
}

/// The upstream's figure; else what the sub-tasks, or success, say.
fn progress(task: &Task) -> Option<ProgressStatus> {
    if let Some(reported) = task.percent {
        return Some(percent(i32::from(reported), REPORTED));
    }
    match task.state {
        TaskState::Succeeded => Some(percent(100, DERIVED)),
        TaskState::Failed | TaskState::Cancelled => None,
        _ if task.subtasks.is_empty() => None,
        _ => {
            let ends = [TaskState::Succeeded, TaskState::Failed, TaskState::Cancelled];
            let finished: usize = ends.into_iter().map(|state| task.subtasks.count(state)).sum();
            let share = finished * 100 / task.subtasks.len();
            Some(percent(i32::try_from(share).unwrap_or(100), DERIVED))
        }
    }
}

fn percent(figure: i32, source: &str) -> ProgressStatus {
    let figure = figure.clamp(0, 100);
    ProgressStatus { percent: Some(figure), display: Some(format!("{figure}%")), source: Some(source.to_owned()) }
}

fn subtasks(parts: &Subtasks) -> Option<SubtasksStatus> {
    if parts.is_empty() {
        return None;
    }
    let figure = |count: usize| i32::try_from(count).ok();
    let count = |state| figure(parts.count(state));
    Some(SubtasksStatus {
        total: figure(parts.len()),
        pending: count(TaskState::Pending),
        running: figure(parts.count(TaskState::Running) + parts.count(TaskState::Paused)),
        succeeded: count(TaskState::Succeeded),
        failed: count(TaskState::Failed),
        cancelled: count(TaskState::Cancelled),
        items: parts.items().iter().take(SUBTASKS).map(subtask).collect(),
    })
}

fn subtask(part: &Subtask) -> SubtaskStatus {
    let short = |text: &Option<String>| text.as_deref().and_then(|text| word(text, SUBTASK_TEXT));
    SubtaskStatus {
        id: word(&part.id, SUBTASK_TEXT),
        name: short(&part.name),
        state: Some(part.state.as_str().to_owned()),
        upstream_state: short(&part.upstream_state),
        percent: part.percent.map(|percent| i32::from(percent.min(100))),
        error_code: short(&part.error_code),
        error_message: short(&part.error_message),
    }
}

fn error(error: &TaskError) -> Option<ErrorStatus> {
    let shown = ErrorStatus {
        code: words(error.code.as_deref()),
        reason: words(error.reason.as_deref()),
        message: error.message.as_deref().and_then(|text| word(text, MESSAGE)),
        http_status: error.http_status.map(|status| i32::from(status.min(999))),
        correlation_id: words(error.correlation_id.as_deref()),
        details: error
            .details
            .iter()
            .take(ERROR_DETAILS)
            .map(|detail| ErrorDetailStatus { kind: word(&detail.kind, WORD), value: word(&detail.value, VALUE) })
            .collect(),
    };
    (shown != ErrorStatus::default()).then_some(shown)
}

/// Whether the status shows something that the upstream said of the task.
pub(super) fn has_seen(status: &TaskWatchStatus) -> bool {
    status.task.as_ref().is_some_and(|task| task.upstream_state.is_some())
}

/// A status without what is written only along with something else: progress, and the times that move with every look.
pub(super) fn without_progress(status: &TaskWatchStatus) -> TaskWatchStatus {
    let mut status = status.clone();
    status.last_observed_time = None;
    status.progress = None;
    if let Some(task) = &mut status.task {
        task.modified_time = None;
    }
    for part in status.subtasks.iter_mut().flat_map(|subtasks| &mut subtasks.items) {
        part.percent = None;
    }
    status
}

/// By how many points the progress of a task has moved; a figure that comes or goes is a whole way.
pub(super) fn progress_step(old: &TaskWatchStatus, new: &TaskWatchStatus) -> i32 {
    let figure = |status: &TaskWatchStatus| status.progress.as_ref().and_then(|progress| progress.percent);
    let parts = |status: &TaskWatchStatus| -> Vec<Option<i32>> {
        status.subtasks.iter().flat_map(|subtasks| &subtasks.items).map(|part| part.percent).collect()
    };
    let step = |old: Option<i32>, new: Option<i32>| match (old, new) {
        (Some(old), Some(new)) => (new - old).abs(),
        (None, None) => 0,
        _ => 100,
    };
    let of_parts = parts(old).into_iter().zip(parts(new)).map(|(old, new)| step(old, new)).max();
    step(figure(old), figure(new)).max(of_parts.unwrap_or(0))
}
