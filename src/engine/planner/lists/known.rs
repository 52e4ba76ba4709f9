//! What is known of the entries of a list while it is read: who wants them, and which are as they were.

use super::{
    super::{
        Planner,
        polled_task::{PolledTask, Reading},
    },
    scope::Scope,
};
use crate::domain::task::TaskRef;
use crate::providers::wire::list::Found;

/// Reads the list of a scope for a planner: what is as it was need not be decoded.
pub struct ListReader<'p> {
    planner: &'p mut Planner,
    /// The first job of the list.
    poll: u64,
    /// Room for what is looked up: a list has thousands of entries.
    sought: TaskRef,
    /// Entries that somebody watches.
    served: u32,
    /// So many more may be decoded.
    room: usize,
}

impl ListReader<'_> {
    /// How many entries somebody watches.
    #[must_use]
    pub fn served(&self) -> u32 {
        self.served
    }

    /// Whether an entry of this print is as it was when it was last applied, so that it need not be decoded.
    pub fn knows(&mut self, print: u64) -> bool {
        let Planner { scopes, tasks, .. } = &mut *self.planner;
        let id = scopes.get(&self.sought.scope).and_then(|scope| scope.shown_with(print));
        let Some(polled) = id.and_then(|id| tasks.get_mut(id)).filter(|polled| polled.is_of(print)) else {
            return false;
        };
        if polled.is_read_by(self.poll) {
            // An upstream that shows a task twice is believed the first time.
            return true;
        }
        let unchanged = polled.is_as_shown(print);
        if unchanged {
            polled.is_shown(self.poll, Reading::Unchanged);
            self.served += 1;
        }
        unchanged
    }

    fn find(&mut self, id: &str) -> Option<&mut PolledTask> {
        self.sought.id.clear();
        self.sought.id.push_str(id);
        let id = self.planner.tasks.id(&self.sought)?;
        self.planner.tasks.get_mut(id)
    }

    /// Which of the entries that were found in a list are to be decoded, one after another.
    #[must_use]
    pub fn choose(&mut self, found: &[Found]) -> Vec<bool> {
        found.iter().map(|entry| self.wants(&entry.id, entry.parent.as_deref(), entry.print)).collect()
    }

    /// Whether the entry of this task, which is part of `parent`, is to be decoded; `print` stands for its bytes.
    pub fn wants(&mut self, id: &str, parent: Option<&str>, print: u64) -> bool {
        let (poll, has_room) = (self.poll, self.room > 0);
        let is_part = parent.and_then(|parent| self.find(parent)).is_some_and(|parent| {
            parent.has_part(poll);
            true
        });
        let Some(polled) = self.find(id) else { return is_part };
        if polled.is_read_by(poll) {
            // An upstream that shows a task twice is believed the first time.
            return is_part;
        }
        // A part is decoded each time: somebody may come to watch the whole.
        let read = if parent.is_none() { Reading::Print(print) } else { Reading::Part };
        polled.is_shown(poll, if has_room { read } else { Reading::Later });
        self.served += 1;
        if has_room {
            self.room -= 1;
        } else if let Some(run) = self.planner.scopes.run(&self.sought.scope) {
            run.leave_one();
        }
        is_part || has_room
    }
}

impl Planner {
    /// The reader for the answer to a list's job; it decodes no more entries than there is `room` for.
    pub fn list_reader(&mut self, job: u64, scope: &str, room: usize) -> ListReader<'_> {
        let poll = self.gate.poll_of(job).unwrap_or(job);
        let found = self.scopes.get(scope).map_or(0, Scope::found);
        let sought = TaskRef { scope: scope.to_owned(), id: String::new() };
        ListReader { planner: self, poll, sought, served: 0, room: room.saturating_sub(found) }
    }
}
