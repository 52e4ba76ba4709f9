//! The polled tasks of a connection, each in a numbered slot: thousands are gone through with every list, and a number is cheaper to
//! keep and to look up than the two texts that name a task.

use std::{collections::HashMap, sync::Arc};

use slab::Slab;

use super::entry::Entry;
use crate::domain::task::TaskRef;

/// The slot of a task; another task may have it when that one is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(usize);

/// The tasks.
#[derive(Debug, Default)]
pub struct Tasks {
    slots: Slab<Entry>,
    ids: HashMap<Arc<TaskRef>, TaskId>,
}

impl Tasks {
    /// The slot of a task.
    #[must_use]
    pub fn id(&self, task: &TaskRef) -> Option<TaskId> {
        self.ids.get(task).copied()
    }

    /// What stands in a slot.
    #[must_use]
    pub fn get(&self, id: TaskId) -> Option<&Entry> {
        self.slots.get(id.0)
    }

    /// What stands in a slot.
    pub fn get_mut(&mut self, id: TaskId) -> Option<&mut Entry> {
        self.slots.get_mut(id.0)
    }

    /// The slot of the entry's task, which is filled where the task has none.
    pub fn id_or_insert(&mut self, task: &TaskRef, entry: impl FnOnce(Arc<TaskRef>) -> Entry) -> TaskId {
        if let Some(id) = self.id(task) {
            return id;
        }
        let task = Arc::new(task.clone());
        let slot = self.slots.insert(entry(Arc::clone(&task)));
        let id = TaskId(slot);
        self.ids.insert(task, id);
        id
    }

    /// Empties a slot.
    pub fn remove(&mut self, id: TaskId) {
        if let Some(entry) = self.slots.try_remove(id.0) {
            self.ids.remove(entry.task());
        }
        if self.slots.is_empty() {
            *self = Self::default();
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (TaskId, &Entry)> {
        self.slots.iter().map(|(slot, entry)| (TaskId(slot), entry))
    }

    /// What stands in all slots.
    pub fn values(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().map(|(_, entry)| entry)
    }

    /// What stands in all slots.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.slots.iter_mut().map(|(_, entry)| entry)
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.slots.len()
    }
}
