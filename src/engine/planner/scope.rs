//! The container of tasks that one list shows: how it is polled, whose tasks wait for its list, and the list that is being read.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio::time::Instant;

use super::tasks::TaskId;
use crate::domain::{subtasks::MAX_SUBTASKS, task::Task};
use crate::engine::coalesce::{Costs, Mode};
use crate::providers::Cursor;
use crate::tenancy::Tenant;

/// The container of tasks that one list shows.
#[derive(Debug)]
pub struct Scope {
    /// How its tasks are polled.
    pub mode: Mode,
    /// How many tasks of it are polled at all.
    pub members: usize,
    /// What either way costs.
    pub costs: Costs,
    pub(super) listed: HashSet<TaskId>,
    /// How many of its tasks are on whose account.
    pub(super) tenants: HashMap<Tenant, usize>,
    /// In whose turn its list is asked for.
    pub(super) lane: Tenant,
    /// The job whose answer last showed that the credential is good for it; 0 for none.
    pub(super) good: u64,
    /// Whose entry of the list was last applied with this print; what is not so any more may still stand here.
    pub(super) prints: HashMap<u64, TaskId>,
    pub(super) due: Option<Instant>,
    pub(super) run: Option<Run>,
    pub(super) began: Option<Instant>,
    /// The upstream offers further pages but refuses to give them (Astra tasks, upstreams.md §3.3).
    pub(super) paging_refused_until: Option<Instant>,
    /// Answers in a row that were no list.
    pub(super) failures: u32,
    /// Since the last list, a task of the scope could be asked for: if lists fail, the list itself is at fault.
    pub gets_work: bool,
    pub(super) demand: f64,
    pub(super) runs: u64,
}

/// A list in progress.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) pages: u32,
    pub(super) bytes: usize,
    pub(super) found: Vec<Arc<Task>>,
    pub(super) children: HashMap<String, Vec<Arc<Task>>>,
    pub(super) cursors: HashSet<Cursor>,
    /// So many have been applied.
    pub(super) applied: usize,
    /// Entries were left to the next list, for want of room.
    pub(super) left: bool,
}

impl Scope {
    pub(super) fn new(requests_per_get: u32, lane: Tenant) -> Self {
        Self {
            mode: Mode::Get,
            members: 0,
            costs: Costs::new(requests_per_get),
            listed: HashSet::new(),
            tenants: HashMap::new(),
            lane,
            good: 0,
            prints: HashMap::new(),
            due: None,
            run: None,
            began: None,
            paging_refused_until: None,
            failures: 0,
            gets_work: false,
            demand: 0.0,
            runs: 0,
        }
    }

    /// Whether a task waits for the list.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        !self.listed.is_empty()
    }

    /// Whether its list may be asked for now.
    pub(super) fn may_be_listed(&self) -> bool {
        self.mode == Mode::List && self.is_awaited() && self.run.is_none()
    }

    /// In whose turn the list is to be asked for: that of the only tenant, else one that all who share lists have together.
    pub(super) fn tenant(&self) -> Tenant {
        let mut tenants = self.tenants.keys();
        match (tenants.next(), tenants.next()) {
            (Some(only), None) => only.clone(),
            _ => Tenant::shared(),
        }
    }

    /// A task of it came to a tenant, or left it.
    pub(super) fn count(&mut self, tenant: &Tenant, came: bool) {
        let count = self.tenants.entry(tenant.clone()).or_default();
        *count = if came { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.tenants.remove(tenant);
        }
    }
}

impl Run {
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
}
