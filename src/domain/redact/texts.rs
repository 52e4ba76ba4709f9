//! The second net: all texts of what was read from an answer. What was put together, cleaned or cut on the way is looked at once more.

use super::Redactor;
use crate::domain::{
    failure::Failure,
    task::{ErrorDetail, StateDetail, Task, TaskError},
};

impl Redactor {
    /// Takes secrets out of all texts of a failure.
    pub fn redact_failure(&self, failure: &mut Failure) {
        let Failure { class: _, code, message, advice, http_status: _, retry_after: _, correlation_id } = failure;
        [code, message].into_iter().chain(correlation_id).for_each(|text| self.redact_text(text));
        let mut text = std::mem::take(advice).into_string();
        self.redact_text(&mut text);
        *advice = text.into();
    }

    /// Takes secrets out of all texts of a task and its sub-tasks.
    pub fn redact_task(&self, task: &mut Task) {
        let Task {
            id,
            name,
            display_name,
            kind,
            state: _,
            upstream_state,
            percent: _,
            parent_id,
            order: _,
            resource,
            created_by,
            created_time: _,
            modified_time: _,
            start_time: _,
            completion_time: _,
            error,
            outputs,
            state_details,
            subtasks,
        } = task;
        let mut redact = |text: &mut String| self.redact_text(text);
        [id, upstream_state].into_iter().for_each(&mut redact);
        [name, display_name, kind, parent_id, resource, created_by].into_iter().flatten().for_each(&mut redact);
        if let Some(error) = error {
            let TaskError { code, reason, message, http_status: _, correlation_id, details } = &mut **error;
            [code, reason, message, correlation_id].into_iter().flatten().for_each(&mut redact);
            for ErrorDetail { kind, value } in details {
                [kind, value].into_iter().for_each(&mut redact);
            }
        }
        outputs.iter_mut().flat_map(|(name, value)| [name, value]).for_each(&mut redact);
        for StateDetail { kind, title, detail } in state_details {
            [kind, title, detail].into_iter().for_each(&mut redact);
        }
        subtasks.texts_mut().for_each(&mut redact);
    }
}
