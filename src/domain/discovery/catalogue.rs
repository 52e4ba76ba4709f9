//! The tasks of a scope, as its lists have shown them: what is needed to tell which of them are to be watched, and no more.

use std::{collections::HashMap, mem::size_of, sync::Arc};

use jiff::Timestamp;

use super::{
    super::{
        task::{Task, TaskState},
        text::clean,
    },
    texts::Texts,
};

/// So much of a task's complaint is kept, in bytes.
const MESSAGE: usize = 256;
/// A task has so many texts that others may have, too.
const COMMON: usize = 5;
/// What the allocator and the table take for one task beside its texts, in bytes.
const OVERHEAD: usize = 128;

/// A task that a list has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The upstream's identifier.
    pub id: Arc<str>,
    /// Kind of work.
    pub kind: Option<Arc<str>>,
    /// Machine name.
    pub name: Option<Arc<str>>,
    /// Name for people.
    pub display_name: Option<Arc<str>>,
    /// The resource worked on.
    pub resource: Option<Arc<str>>,
    /// Who started it.
    pub created_by: Option<Arc<str>>,
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
    /// What the tasks have in common.
    texts: Texts,
    bytes: usize,
    /// Tasks of the last whole list that there was no room for.
    unkept: usize,
}

impl Candidate {
    /// What is kept of a task.
    #[must_use]
    pub fn of(task: &Task) -> Self {
        let text = |text: &Option<String>| text.as_deref().map(Arc::from);
        let ended = task.completion_time.or(task.modified_time).filter(|_| task.state.is_finished());
        let message = task.error.as_ref().and_then(|error| error.message.as_deref());
        Self {
            id: Arc::from(task.id.as_str()),
            kind: text(&task.kind),
            name: text(&task.name),
            display_name: text(&task.display_name),
            resource: text(&task.resource),
            created_by: text(&task.created_by),
            parent_id: task.parent_id.as_deref().map(Box::from),
            state: task.state,
            percent: task.percent,
            message: message.map(|message| clean(message, MESSAGE).into()),
            created: task.created_time,
            started: task.start_time,
            ended,
        }
    }

    /// What it alone takes of memory, in bytes: without the texts that others may have, too.
    fn own_bytes(&self) -> usize {
        let texts = [&self.parent_id, &self.message].into_iter().flatten().map(|text| text.len());
        size_of::<Self>() + self.id.len() + texts.sum::<usize>() + OVERHEAD
    }

    /// The texts that others may have, too.
    fn common(&self) -> impl Iterator<Item = &Arc<str>> {
        [&self.kind, &self.name, &self.display_name, &self.resource, &self.created_by].into_iter().flatten()
    }

    fn common_mut(&mut self) -> impl Iterator<Item = &mut Arc<str>> {
        let Self { kind, name, display_name, resource, created_by, .. } = self;
        [kind, name, display_name, resource, created_by].into_iter().flatten()
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

    /// How many bytes more it takes to keep a task, in the place of what is known of it.
    #[must_use]
    pub fn growth(&self, task: &Candidate) -> usize {
        let texts: usize = task.common().map(|text| self.texts.growth(text)).sum();
        let old = self.get(&task.id).map_or(0, |old| old.own_bytes());
        (task.own_bytes() + texts).saturating_sub(old)
    }

    /// Keeps a task, in the place of what was known of it.
    pub fn put(&mut self, mut task: Candidate) {
        for text in task.common_mut() {
            self.bytes += self.texts.share(text);
        }
        self.bytes += task.own_bytes();
        if let Some(old) = self.tasks.insert(Arc::clone(&task.id), Arc::new(task)) {
            self.bytes -= old.own_bytes();
        }
        // More than there can be in use.
        if self.texts.len() > COMMON * self.tasks.len() {
            self.bytes -= self.texts.forget_unused();
        }
    }

    /// Forgets the tasks that are not to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        let mut less = 0;
        self.tasks.retain(|id, task| {
            let keeps = keep(id);
            if !keeps {
                less += task.own_bytes();
            }
            keeps
        });
        self.bytes -= less + self.texts.forget_unused();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_counted() {
        let mut catalogue = Catalogue::default();
        let backup = |id: &str, name: &str| {
            Candidate::of(&Task { name: Some(name.into()), ..Task::new(id, TaskState::Running, "running") })
        };
        let mut grown = Vec::new();
        for (id, name) in [("a", "x"), ("b", "x"), ("a", "x"), ("a", "y"), ("b", "y")] {
            let (before, growth) = (catalogue.bytes(), catalogue.growth(&backup(id, name)));
            catalogue.put(backup(id, name));
            assert_eq!(catalogue.bytes(), before + growth);
            grown.push(growth);
        }
        let text = grown[3];
        assert!(text > 0 && grown[1] == grown[0] - text, "{grown:?}");
        assert_eq!((grown[2], grown[4]), (0, 0));
        assert!(Arc::ptr_eq(catalogue.tasks["a"].name.as_ref().unwrap(), catalogue.tasks["b"].name.as_ref().unwrap()));
        catalogue.retain(|id| id == "b");
        assert_eq!((catalogue.len(), catalogue.bytes()), (1, grown[0]), "and the name that nobody has any more");
        assert!(catalogue.get("a").is_none() && catalogue.get("b").is_some());
        catalogue.retain(|_| false);
        assert_eq!(catalogue.bytes(), 0);
    }
}
