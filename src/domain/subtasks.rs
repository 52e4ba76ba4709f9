//! The parts of a task: how many are in which state, and a few of them. However many an upstream shows, they take little memory.

use super::{
    task::{Task, TaskError, TaskState},
    text::{clean, clean_option},
};
use crate::api::bounds::{SUBTASK_TEXT, SUBTASKS};

/// Most parts that are counted of one task.
pub const MAX_SUBTASKS: usize = 1000;

/// The parts of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Subtasks {
    /// How many are in each state, in the order of [`TaskState`].
    counts: [usize; 6],
    items: Vec<Subtask>,
    cause: Option<Box<TaskError>>,
}

/// One part, as it is shown; each text has at most [`SUBTASK_TEXT`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subtask {
    /// The upstream's identifier.
    pub id: String,
    /// Its name for people, else its machine name, else its kind of work.
    pub name: Option<String>,
    /// Its state, normalised.
    pub state: TaskState,
    /// The upstream's own word for the state.
    pub upstream_state: Option<String>,
    /// 0 to 100, floored.
    pub percent: Option<u8>,
    /// The upstream's code of what went wrong.
    pub error_code: Option<String>,
    /// What went wrong, in the upstream's words.
    pub error_message: Option<String>,
}

impl Subtasks {
    /// Of `parts` the first [`MAX_SUBTASKS`] in their order are counted; at most [`SUBTASKS`] are kept, failed ones first.
    #[must_use]
    pub fn of(mut parts: Vec<Task>) -> Self {
        parts.sort_by(|a, b| (a.order, &a.start_time, &a.id).cmp(&(b.order, &b.start_time, &b.id)));
        parts.truncate(MAX_SUBTASKS);
        let mut counts = [0; 6];
        for part in &parts {
            if let Some(count) = counts.get_mut(part.state as usize) {
                *count += 1;
            }
        }
        let (failed, others): (Vec<_>, Vec<_>) = parts.iter().partition(|part| part.state == TaskState::Failed);
        let says = |error: &&TaskError| error.message.is_some() || error.code.is_some() || error.reason.is_some();
        let cause = failed.iter().find_map(|part| part.error.as_deref().filter(says)).map(|error| {
            let message = error.message.as_deref().and_then(|text| clean_option(text, CAUSE));
            let (code, reason) = (short(error.code.as_deref()), short(error.reason.as_deref()));
            Box::new(TaskError { code, reason, message, ..TaskError::default() })
        });
        let items = failed.into_iter().chain(others).take(SUBTASKS).map(Subtask::of).collect();
        Self { counts, items, cause }
    }

    /// How many parts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of them are in this state.
    #[must_use]
    pub fn count(&self, state: TaskState) -> usize {
        self.counts.get(state as usize).copied().unwrap_or(0)
    }

    /// Those that are shown.
    #[must_use]
    pub fn items(&self) -> &[Subtask] {
        &self.items
    }

    /// All texts, for whoever has to take something out of them.
    pub fn texts_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let Self { counts: _, items, cause } = self;
        let of_items = items.iter_mut().flat_map(|part| {
            let Subtask { id, name, state: _, upstream_state, percent: _, error_code, error_message } = part;
            [id].into_iter().chain([name, upstream_state, error_code, error_message].into_iter().flatten())
        });
        let of_cause = cause.iter_mut().flat_map(|cause| {
            let TaskError { code, reason, message, http_status: _, correlation_id, details } = &mut **cause;
            let details = details.iter_mut().flat_map(|detail| [&mut detail.kind, &mut detail.value]);
            [code, reason, message, correlation_id].into_iter().flatten().chain(details)
        });
        of_items.chain(of_cause)
    }

    /// What the first failed part that says something says of its failure.
    #[must_use]
    pub fn cause(&self) -> Option<&TaskError> {
        self.cause.as_deref()
    }
}

/// Longest message of a cause, in bytes.
const CAUSE: usize = 512;

impl Subtask {
    fn of(part: &Task) -> Self {
        let error = part.error.as_deref().filter(|_| part.state != TaskState::Succeeded);
        Self {
            id: clean(&part.id, SUBTASK_TEXT),
            name: short(part.display_name.as_deref().or(part.name.as_deref()).or(part.kind.as_deref())),
            state: part.state,
            upstream_state: short(Some(&part.upstream_state)),
            percent: part.percent,
            error_code: error.and_then(|error| short(error.code.as_deref())),
            error_message: error.and_then(|error| short(error.message.as_deref())),
        }
    }
}

fn short(text: Option<&str>) -> Option<String> {
    clean_option(text?, SUBTASK_TEXT)
}
