//! What is known of the entries of a list while it is read: who wants them, and which are as they were.

use std::sync::Arc;

use super::{
    super::{
        Planner,
        polled_task::{PolledTask, Reading},
    },
    discovery::Survey,
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
    /// Somebody discovers the tasks of the scope.
    is_discovered: bool,
    /// What the list shows is applied to those that are watched.
    serves_tasks: bool,
}

impl ListReader<'_> {
    /// How many entries somebody watches.
    #[must_use]
    pub fn served(&self) -> u32 {
        self.served
    }

    /// Whether an entry of this print is as it was when it was last applied, so that it need not be decoded.
    pub fn knows(&mut self, print: u64) -> bool {
        if self.is_discovered { self.is_catalogued(print) } else { self.is_applied(print) }
    }

    /// The same for those who discover: nobody who watches a task needs it either.
    fn is_catalogued(&mut self, print: u64) -> bool {
        let Some(task) = self.survey().and_then(|survey| survey.known(print)).map(Arc::clone) else { return false };
        if self.serves_tasks {
            let is_polled = |polled: &mut PolledTask| polled.is_polled();
            if task.parent_id.as_deref().and_then(|parent| self.find(parent)).is_some_and(is_polled) {
                return false;
            }
            let poll = self.poll;
            if let Some(polled) = self.find(&task.id).filter(|polled| !polled.is_read_by(poll) && polled.is_polled()) {
                if !polled.is_as_shown(print) {
                    return false;
                }
                polled.is_shown(poll, Reading::Unchanged);
                self.served += 1;
            }
        }
        let poll = self.poll;
        if let Some(survey) = self.survey() {
            survey.is_shown(&task.id, poll);
        }
        true
    }

    fn survey(&mut self) -> Option<&mut Survey> {
        self.planner.scopes.get_mut(&self.sought.scope).and_then(Scope::discovered)
    }

    /// The same for those who watch tasks.
    fn is_applied(&mut self, print: u64) -> bool {
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
        let is_watched = self.serves_tasks && self.is_watched(id, parent, print);
        if !self.is_discovered {
            return is_watched;
        }
        let poll = self.poll;
        let Some(survey) = self.survey() else { return is_watched };
        let is_new = survey.wants(id, print, poll);
        if is_new {
            survey.awaits(id, print, is_watched);
        }
        is_new || is_watched
    }

    /// The same for those who watch tasks.
    fn is_watched(&mut self, id: &str, parent: Option<&str>, print: u64) -> bool {
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
        let state = self.scopes.get(scope);
        let room = room.saturating_sub(state.map_or(0, Scope::found));
        let is_discovered = state.is_some_and(Scope::is_discovered);
        let serves_tasks = state.is_none_or(Scope::list_serves_tasks);
        let sought = TaskRef { scope: scope.to_owned(), id: String::new() };
        ListReader { planner: self, poll, sought, served: 0, room, is_discovered, serves_tasks }
    }
}
