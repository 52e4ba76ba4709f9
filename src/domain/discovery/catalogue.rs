//! The tasks of a scope, as its lists have shown them: what is needed to tell which of them are to be watched, and no more.

use std::{collections::HashMap, mem::size_of, sync::Arc};

use jiff::Timestamp;

use super::super::{
    task::{Task, TaskState},
    text::clean,
};

/// So much of a task's complaint is kept, in bytes.
const MESSAGE: usize = 256;
/// What the allocator and the table take for one task beside its texts, in bytes.
const OVERHEAD: usize = 128;

/// A task that a list has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The upstream's identifier.
    pub id: Arc<str>,
    /// Kind of work.
    pub kind: Option<Box<str>>,
    /// Machine name.
    pub name: Option<Box<str>>,
    /// Name for people.
    pub display_name: Option<Box<str>>,
    /// The resource worked on.
    pub resource: Option<Box<str>>,
    /// Who started it.
    pub created_by: Option<Box<str>>,
    /// The task that it is part of.
    pub parent_id: Option<Box<str>>,
    /// The state, normalised.
    pub state: TaskState,
    /// 0 to 100.
    pub percent: Option<u8>,
    /// Why it failed, or what it complains of; cut.
    pub message: Option<Box<str>>,
    /// When it was made, by the upstream's clock.
    pub created: Option<Timestamp>,
    /// When work began, by the upstream's clock.
    pub started: Option<Timestamp>,
    /// When it ended, by the upstream's clock, or else last changed; none while it has not ended.
    pub ended: Option<Timestamp>,
}

/// The tasks of a scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    tasks: HashMap<Arc<str>, Arc<Candidate>>,
    bytes: usize,
    /// Tasks of the last whole list that there was no room for.
    unkept: usize,
}

impl Candidate {
    /// What is kept of a task.
    #[must_use]
    pub fn of(task: &Task) -> Self {
        let text = |text: &Option<String>| text.as_deref().map(Box::from);
        let ended = task.completion_time.or(task.modified_time).filter(|_| task.state.is_finished());
        let message = task.error.as_ref().and_then(|error| error.message.as_deref());
        Self {
            id: Arc::from(task.id.as_str()),
            kind: text(&task.kind),
            name: text(&task.name),
            display_name: text(&task.display_name),
            resource: text(&task.resource),
            created_by: text(&task.created_by),
            parent_id: text(&task.parent_id),
            state: task.state,
            percent: task.percent,
            message: message.map(|message| clean(message, MESSAGE).into()),
            created: task.created_time,
            started: task.start_time,
            ended,
        }
    }

    /// What it takes of memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = [
            &self.kind,
            &self.name,
            &self.display_name,
            &self.resource,
            &self.created_by,
            &self.parent_id,
            &self.message,
        ];
        let texts: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
        size_of::<Self>() + self.id.len() + texts + OVERHEAD
    }
}

impl Catalogue {
    /// The task of this identifier.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<Candidate>> {
        self.tasks.get(id)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Candidate>> {
        self.tasks.values()
    }

    /// How many there are.
    #[cfg(test)]
    #[allow(clippy::len_without_is_empty, reason = "for tests")]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// What they take of memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many tasks the last whole list had that there was no room for.
    #[must_use]
    pub fn unkept(&self) -> usize {
        self.unkept
    }

    /// Says how many tasks there was no room for.
    pub fn set_unkept(&mut self, unkept: usize) {
        self.unkept = unkept;
    }

    /// Keeps a task, in the place of what was known of it.
    pub fn put(&mut self, task: Candidate) {
        self.bytes += task.bytes();
        if let Some(old) = self.tasks.insert(Arc::clone(&task.id), Arc::new(task)) {
            self.bytes -= old.bytes();
        }
    }

    /// Forgets the tasks that are not to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        let mut less = 0;
        self.tasks.retain(|id, task| {
            let keeps = keep(id);
            if !keeps {
                less += task.bytes();
            }
            keeps
        });
        self.bytes -= less;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_counted() {
        let mut catalogue = Catalogue::default();
        for id in ["a", "b", "a"] {
            catalogue.put(Candidate::of(&Task::new(id, TaskState::Running, "running")));
        }
        let one = Candidate::of(&Task::new("a", TaskState::Running, "running")).bytes();
        assert_eq!((catalogue.len(), catalogue.bytes()), (2, 2 * one));
        catalogue.retain(|id| id == "b");
        assert_eq!((catalogue.len(), catalogue.bytes()), (1, one));
        assert!(catalogue.get("a").is_none() && catalogue.get("b").is_some());
    }
}
