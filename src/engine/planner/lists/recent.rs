//! Tasks that lists have shown of late, as they were read: who comes to watch one of them is served at once.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::domain::task::Task;

/// A task is kept so long: 5,000 objects, the most that are made of one list, take their makers 100 s.
const KEEP: Duration = Duration::from_mins(2);
/// Most tasks that are kept of a scope.
const MOST: usize = 5_000;
/// What a task takes beside its texts, in bytes.
const OVERHEAD: usize = 768;

/// A task that a list has shown.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub task: Arc<Task>,
    /// When.
    pub at: Instant,
    /// The first job that was asked after that.
    pub next_job: u64,
}

/// The tasks that lists have shown of late. Of too many the newest are kept, by the upstream's clock: they are watched rather than others.
#[derive(Debug, Default)]
pub struct Recent {
    tasks: HashMap<Arc<str>, Sighting>,
    /// By age, the oldest first; one whose age is not known is new.
    ages: BTreeSet<(Timestamp, Arc<str>)>,
    bytes: usize,
}

impl Recent {
    /// What one task takes, in bytes.
    pub fn size(task: &Task) -> usize {
        let words = [&task.name, &task.display_name, &task.kind, &task.parent_id, &task.resource, &task.created_by];
        let error = task.error.as_deref().map_or(0, |error| {
            let texts = [&error.code, &error.reason, &error.message, &error.correlation_id];
            let details = error.details.iter().map(|detail| detail.kind.len() + detail.value.len());
            texts.into_iter().flatten().map(String::len).chain(details).sum()
        });
        let details = task.state_details.iter().map(|d| d.kind.len() + d.title.len() + d.detail.len());
        let outputs = task.outputs.iter().map(|(name, value)| name.len() + value.len());
        OVERHEAD
            + task.id.len()
            + error
            + words.into_iter().flatten().map(String::len).chain(details).chain(outputs).sum::<usize>()
    }

    /// What all of them take, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a task, in the place of what was known of it.
    pub fn keep(&mut self, id: &Arc<str>, shown: Sighting) {
        self.forget(id);
        self.bytes += Self::size(&shown.task);
        self.ages.insert((age(&shown.task), Arc::clone(id)));
        self.tasks.insert(Arc::clone(id), shown);
        if self.tasks.len() > MOST
            && let Some((_, oldest)) = self.ages.first().cloned()
        {
            self.forget(&oldest);
        }
    }

    /// A task, if it has been shown of late.
    pub fn get(&self, id: &str, now: Instant) -> Option<&Sighting> {
        self.tasks.get(id).filter(|shown| now.saturating_duration_since(shown.at) <= KEEP)
    }

    /// Forgets a task.
    pub fn forget(&mut self, id: &str) {
        if let Some((id, shown)) = self.tasks.remove_entry(id) {
            self.bytes -= Self::size(&shown.task);
            self.ages.remove(&(age(&shown.task), id));
        }
    }

    /// Forgets those that have been kept long enough.
    pub fn expire(&mut self, now: Instant) {
        let is_old = |shown: &Sighting| now.saturating_duration_since(shown.at) > KEEP;
        let old: Vec<_> = self.tasks.iter().filter(|(_, shown)| is_old(shown)).map(|(id, _)| Arc::clone(id)).collect();
        if old.len() == self.tasks.len() {
            *self = Self::default();
        }
        for id in &old {
            self.forget(id);
        }
    }
}

fn age(task: &Task) -> Timestamp {
    task.created_time.unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
impl Recent {
    /// Which they are.
    pub fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.tasks.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::task::{ErrorDetail, StateDetail, TaskError, TaskState};

    #[test]
    fn a_task_takes_what_its_texts_take() {
        let text = |length: usize| "x".repeat(length);
        let mut task = Task::new("id", TaskState::Failed, "word");
        let bare = Recent::size(&task);
        task.name = Some(text(10));
        task.outputs = vec![(text(1), text(200)), (text(3), text(4000))];
        task.state_details = vec![StateDetail { kind: text(5), title: text(60), detail: text(700) }];
        let details = vec![ErrorDetail { kind: text(20), value: text(8) }];
        task.error = Some(Box::new(TaskError { message: Some(text(90_000)), details, ..TaskError::default() }));
        assert_eq!(Recent::size(&task) - bare, 10 + 4204 + 765 + 90_028);
    }
}
