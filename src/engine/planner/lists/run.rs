//! A list in progress: what its pages have shown so far, and whether it goes on.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use crate::domain::{subtasks::MAX_SUBTASKS, task::Task};
use crate::providers::Cursor;

/// Most pages of one list; an upstream whose pages never end is not followed further.
const MAX_PAGES: u32 = 200;
/// Lists that new watches ask for keep this distance.
pub(super) const LIST_SPACING: Duration = Duration::from_secs(1);
/// A list of which nothing could be taken, for want of room, is read again after this time.
const NO_ROOM: Duration = Duration::from_secs(3);

/// A list in progress.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// Whole pages that came, and the bytes of all.
    pages: u32,
    bytes: usize,
    /// What was shown and is not applied yet.
    found: Vec<Arc<Task>>,
    /// Parts among what was shown, by the task that they belong to.
    children: HashMap<String, Vec<Arc<Task>>>,
    /// Where it has been continued: an upstream that offers the same page again is not followed.
    cursors: HashSet<Cursor>,
    /// So many have been applied.
    applied: usize,
    /// Entries were left to the next list, for want of room.
    left: bool,
}

/// What a run has shown: the tasks, and parts by their task's identifier.
pub(super) type Shown = (Vec<Arc<Task>>, HashMap<String, Vec<Arc<Task>>>);

impl Run {
    /// A part of a page shows these.
    pub(super) fn take(&mut self, tasks: Vec<Arc<Task>>) {
        for task in &tasks {
            if let Some(parent) = &task.parent_id {
                let siblings = self.children.entry(parent.clone()).or_default();
                if siblings.len() < MAX_SUBTASKS && siblings.iter().all(|sibling| sibling.id != task.id) {
                    siblings.push(Arc::clone(task));
                }
            }
        }
        self.found.extend(tasks);
    }

    /// A page of that size is whole.
    pub(super) fn page_is_whole(&mut self, body: usize) {
        (self.pages, self.bytes) = (self.pages + 1, self.bytes + body);
    }

    /// Whether the page at `next` is to be asked for: once, and not without end.
    pub(super) fn goes_on_at(&mut self, next: &Cursor) -> bool {
        self.pages < MAX_PAGES && self.cursors.insert(next.clone())
    }

    /// An entry was left to the next list, for want of room.
    pub(super) fn leave_one(&mut self) {
        self.left = true;
    }

    /// Whether any was.
    pub(super) fn has_left_some(&self) -> bool {
        self.left
    }

    /// How many tasks wait to be applied.
    pub(super) fn found(&self) -> usize {
        self.found.len()
    }

    /// Takes out what was shown, to be applied.
    pub(super) fn take_shown(&mut self) -> Shown {
        self.applied += self.found.len();
        (std::mem::take(&mut self.found), std::mem::take(&mut self.children))
    }

    /// Its pages and bytes.
    pub(super) fn size(&self) -> (u32, usize) {
        (self.pages, self.bytes)
    }

    /// How long after its beginning the next list may begin, which is due after `next`: sooner where something was left, where tasks that
    /// have not been seen are `awaited`, or where another look was `requested`, which is given after the `shortest` period.
    pub(super) fn spacing(&self, next: Duration, awaited: bool, requested: bool, shortest: Duration) -> Duration {
        match self.left {
            true if self.applied > 0 => LIST_SPACING,
            true => next.min(NO_ROOM),
            false if awaited => LIST_SPACING,
            false if requested => next.min(shortest),
            false => next,
        }
    }
}
