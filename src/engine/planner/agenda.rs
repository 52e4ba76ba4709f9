//! What a connection asks next, for people who want to know why nothing happens.

use tokio::time::Instant;

use super::{
    JobKind, Planner, Step,
    lists::Scope,
    schedule::{Item, Waiting},
    tasks::TaskId,
};
use crate::engine::WatchKey;
use crate::tenancy::Tenant;

/// So much of each kind is told.
const TOLD: usize = 10;
/// So many of those who watch a task.
const WATCHERS: usize = 3;

/// What a connection asks next.
#[derive(Debug)]
pub struct Agenda {
    /// What is in flight, oldest first: of the first ones, what is asked, and since when.
    pub in_flight: Vec<(&'static str, Instant)>,
    /// How much is in flight.
    pub in_flight_count: usize,
    /// What waits, first to last: the first ones.
    pub next: Vec<Upcoming>,
    /// How much waits.
    pub waiting: usize,
    /// How many tasks are polled, by themselves or by a list.
    pub polled: usize,
}

/// Something that waits to be asked for.
#[derive(Debug)]
pub struct Upcoming {
    /// What.
    pub what: What,
    /// When it is due; none: as soon as may be.
    pub due: Option<Instant>,
    /// In whose turn.
    pub tenant: Tenant,
    /// Who watches the task: the first ones.
    pub watchers: Vec<WatchKey>,
}

/// What waits to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A task that is watched since a moment.
    NewTask,
    /// A task.
    Task,
    /// A list, for which so many tasks wait; and for those who discover tasks, too.
    List { tasks: usize, is_discovered: bool },
    /// The sub-tasks of a task that was seen.
    Subtasks,
    /// A further page of a list.
    Page,
}

impl Planner {
    /// What is asked next. Why it is not asked now, [`Self::wait`] says.
    #[must_use]
    pub fn agenda(&self) -> Agenda {
        let mut in_flight: Vec<_> = self.gate.flights().map(|flight| (flight.kind.operation(), flight.asked)).collect();
        in_flight.sort_by_key(|(_, asked)| *asked);
        in_flight.truncate(TOLD);
        let mut next: Vec<_> =
            self.schedule.first(TOLD).map(|(tenant, waiting)| self.upcoming(tenant, &waiting)).collect();
        next.sort_by_key(|upcoming| upcoming.due);
        next.truncate(TOLD);
        Agenda {
            in_flight,
            in_flight_count: self.gate.flights().len(),
            next,
            waiting: self.schedule.len(),
            polled: self.tasks.values().filter(|polled| polled.is_polled()).count(),
        }
    }

    fn upcoming(&self, tenant: &Tenant, waiting: &Waiting<'_>) -> Upcoming {
        let (what, due, id) = match waiting {
            Waiting::Step(Step { kind: JobKind::Subtasks(task), .. }) => (What::Subtasks, None, self.tasks.id(task)),
            Waiting::Step(_) => (What::Page, None, None),
            Waiting::New(id) => (What::NewTask, None, Some(*id)),
            Waiting::Due(at, Item::Task(id)) => (What::Task, Some(*at), Some(*id)),
            Waiting::Due(at, Item::Scope(scope)) => {
                let scope = self.scopes.get(scope);
                let tasks = scope.map_or(0, |scope| scope.listed().len());
                let is_discovered = scope.is_some_and(Scope::is_discovered);
                (What::List { tasks, is_discovered }, Some(*at), None)
            }
        };
        Upcoming { what, due, tenant: tenant.clone(), watchers: id.map(|id| self.watchers(id)).unwrap_or_default() }
    }

    fn watchers(&self, id: TaskId) -> Vec<WatchKey> {
        let polled = self.tasks.get(id);
        polled.into_iter().flat_map(|polled| polled.keys().take(WATCHERS).cloned()).collect()
    }
}
