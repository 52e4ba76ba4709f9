//! The counts of a set, and the tasks that it names.

use crate::{
    api::{
        FoundTask, TaskWatchSetStatus,
        bounds::{CONDITION_MESSAGE, IDENTIFIER, NEWEST_TASKS, WORD},
    },
    domain::{
        discovery::{
            catalogue::Candidate,
            select::Selection,
            status::{Conflict, Why},
        },
        stored,
        task::TaskState,
        text::clean_option,
    },
};

/// Largest status, in bytes as the API server stores it.
const STATUS_BYTES: usize = 32 << 10;

/// The part of a status that shows what was found.
pub(super) fn of(selection: &Selection, conflicts: &[Conflict]) -> TaskWatchSetStatus {
    // What a quota refuses is all that is still to be created, though one refusal was enough to tell.
    let is_full = conflicts.iter().any(|conflict| matches!(conflict.why, Why::Quota(_)));
    let waiting = selection.create.len();
    let refused = if is_full { waiting } else { waiting.min(conflicts.len()) };
    TaskWatchSetStatus {
        matched: Some(count(selection.matched)),
        left_out: Some(count(selection.left_out + refused)),
        states: selection.states.iter().map(|(state, tasks)| (state.as_str().to_owned(), count(*tasks))).collect(),
        oldest_running_time: selection.oldest_running.map(stored::time),
        newest: selection.newest.iter().take(NEWEST_TASKS).map(|task| found(task)).collect(),
        ..TaskWatchSetStatus::default()
    }
}

/// A count as the API has it.
pub(super) fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// What a task is called: its name for people, else its machine name, else its type.
pub(super) fn name(task: &Candidate) -> Option<&str> {
    let names = [&task.display_name, &task.name, &task.kind];
    names.into_iter().flatten().map(AsRef::as_ref).find(|name: &&str| !name.is_empty())
}

fn found(task: &Candidate) -> FoundTask {
    // Some upstreams leave an error of the way on a task that reached its end.
    let message = task.message.as_deref().filter(|_| task.state != TaskState::Succeeded);
    FoundTask {
        task_id: clean_option(&task.id, IDENTIFIER),
        name: name(task).and_then(|name| clean_option(name, WORD)),
        state: Some(task.state.as_str().to_owned()),
        percent: task.percent.map(|percent| i32::from(percent.min(100))),
        message: message.and_then(|message| clean_option(message, CONDITION_MESSAGE)),
    }
}

/// `status`, in at most [`STATUS_BYTES`]: the last of the tasks that are named are left out.
pub(super) fn fit(mut status: TaskWatchSetStatus) -> TaskWatchSetStatus {
    while stored::size(&status) > STATUS_BYTES && status.newest.pop().is_some() {}
    status
}

/// A status without what is written only along with something else: the progress of tasks, and the time of the list.
pub(super) fn without_progress(status: &TaskWatchSetStatus) -> TaskWatchSetStatus {
    let mut status = status.clone();
    status.last_list_time = None;
    for task in &mut status.newest {
        task.percent = None;
    }
    status
}

/// By how many points the progress of a task has moved most; a figure that comes or goes is a whole way.
pub(super) fn progress_step(old: &TaskWatchSetStatus, new: &TaskWatchSetStatus) -> i32 {
    let steps = old.newest.iter().zip(&new.newest).map(|(old, new)| match (old.percent, new.percent) {
        (Some(old), Some(new)) => (new - old).abs(),
        (None, None) => 0,
        _ => 100,
    });
    steps.max().unwrap_or(0)
}
