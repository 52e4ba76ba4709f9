//! The polled tasks of a connection, each in a numbered slot: thousands are gone through with every list, and a number is cheaper to
//! keep and to look up than the two texts that name a task.

use std::{collections::HashMap, sync::Arc};

use slab::Slab;

use super::polled_task::PolledTask;
use crate::domain::task::TaskRef;

/// The slot of a task; another task may have it when that one is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(usize);

/// The tasks.
#[derive(Debug, Default)]
pub struct Tasks {
    slots: Slab<PolledTask>,
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
    pub fn get(&self, id: TaskId) -> Option<&PolledTask> {
        self.slots.get(id.0)
    }

    /// What stands in a slot.
    pub fn get_mut(&mut self, id: TaskId) -> Option<&mut PolledTask> {
        self.slots.get_mut(id.0)
    }

    /// The slot of a task, which is filled where it has none.
    pub fn id_or_insert(&mut self, task: &TaskRef, polled: impl FnOnce(Arc<TaskRef>) -> PolledTask) -> TaskId {
        if let Some(id) = self.id(task) {
            return id;
        }
        let task = Arc::new(task.clone());
        let slot = self.slots.insert(polled(Arc::clone(&task)));
        let id = TaskId(slot);
        self.ids.insert(task, id);
        id
    }

    /// Empties a slot.
    pub fn remove(&mut self, id: TaskId) {
        if let Some(polled) = self.slots.try_remove(id.0) {
            self.ids.remove(polled.task());
        }
        if self.slots.is_empty() {
            *self = Self::default();
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (TaskId, &PolledTask)> {
        self.slots.iter().map(|(slot, polled)| (TaskId(slot), polled))
    }

    /// What stands in all slots.
    pub fn values(&self) -> impl Iterator<Item = &PolledTask> {
        self.slots.iter().map(|(_, polled)| polled)
    }

    /// What stands in all slots.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut PolledTask> {
        self.slots.iter_mut().map(|(_, polled)| polled)
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.slots.len()
    }
}
