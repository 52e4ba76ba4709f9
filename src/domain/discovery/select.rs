//! Which tasks a `TaskWatchSet` watches: whose `TaskWatch` is to be created, and whose to be deleted.
//!
//! | a task of the catalogue that matches, and | is watched | its `TaskWatch`, where there is one |
//! |---|---|---|
//! | is among the newest `limit` | yes | stays |
//! | is beyond them | no | goes, unless the task has ended: then as below |
//! | has ended longer than the retention ago | no | goes, once it shows the end |
//!
//! The `TaskWatch` of a task that has ended stays for the retention, though the task is in another state than those that are asked for.
//! That of a task that is not in the catalogue stays until it is finished (`onNotFound` decides when), and for the retention.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    super::task::TaskState,
    catalogue::{Candidate, Catalogue},
    filter::Filter,
};
use crate::api::bounds::NEWEST_TASKS;

/// A `TaskWatch` of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child<'a> {
    /// The task that it watches.
    pub id: &'a str,
    /// It says so itself: its condition Finished is True.
    pub is_finished: bool,
    /// When the task ended: `completionTime` of its status, or else when Finished became True. None while it is not finished.
    pub ended: Option<Timestamp>,
}

/// What a set asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The most tasks that are watched.
    pub limit: usize,
    /// For how long the `TaskWatch` of a task that has ended is kept.
    pub retention: SignedDuration,
    /// Which tasks match.
    pub filter: &'a Filter,
}

/// What is watched, and what is to be done for that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// How many tasks match and have not ended longer than the retention ago.
    pub matched: usize,
    /// How many of them are beyond the limit; and [`Selection::unkept`].
    pub left_out: usize,
    /// How many tasks there was no room for, so that whether they match is not known.
    pub unkept: usize,
    /// How many of those that match are in which state.
    pub states: BTreeMap<TaskState, usize>,
    /// When the first of those that match and run began.
    pub oldest_running: Option<Timestamp>,
    /// Those to be named, [`NEWEST_TASKS`] at most: failed ones first, then running ones; the newest of each first.
    pub newest: Vec<Arc<Candidate>>,
    /// Those to be watched, the newest first.
    pub chosen: Vec<Arc<Candidate>>,
    /// Those of them that have no `TaskWatch` yet, the newest first.
    pub create: Vec<Arc<Candidate>>,
    /// The tasks whose `TaskWatch` is to be deleted.
    pub delete: Vec<String>,
    /// When this may change by time alone.
    pub next: Option<Timestamp>,
}

/// Decides which tasks of the catalogue are watched, where there are these `children` already.
#[must_use]
pub fn select(catalogue: &Catalogue, children: &[Child<'_>], wanted: &Wanted<'_>, now: Timestamp) -> Selection {
    let mut next = Next(None);
    let mut matched = Vec::new();
    let mut states = BTreeMap::new();
    let mut oldest_running: Option<Timestamp> = None;
    for task in catalogue.iter().filter(|task| wanted.filter.admits(task, now)) {
        let end = wanted.end_of(task);
        if end.is_some_and(|end| end <= now) {
            continue;
        }
        next.at(end);
        next.at(wanted.filter.until(task));
        *states.entry(task.state).or_default() += 1;
        if let Some(began) = task.started.or(task.created).filter(|_| task.state == TaskState::Running) {
            oldest_running = Some(oldest_running.map_or(began, |oldest| oldest.min(began)));
        }
        matched.push(task);
    }
    let count = matched.len();
    let newest = first(matched.clone(), NEWEST_TASKS, |a, b| rank(a).cmp(&rank(b)).then_with(|| newer_first(a, b)));
    let chosen = first(matched, wanted.limit, newer_first);

    let is_chosen: HashSet<&str> = chosen.iter().map(|task| &*task.id).collect();
    let is_watched: HashSet<&str> = children.iter().map(|child| child.id).collect();
    let others = children.iter().filter(|child| !is_chosen.contains(child.id));
    let delete = others.filter(|child| !wanted.keeps(child, catalogue.get(child.id).map(Arc::as_ref), now, &mut next));
    let delete = delete.map(|child| child.id.to_owned()).collect();
    let create = chosen.iter().filter(|task| !is_watched.contains(&*task.id)).map(Arc::clone).collect();
    Selection {
        matched: count,
        left_out: count - chosen.len() + catalogue.unkept(),
        unkept: catalogue.unkept(),
        states,
        oldest_running,
        newest,
        create,
        delete,
        next: next.0,
        chosen,
    }
}

impl Wanted<'_> {
    /// When the retention of a task runs out; none while it goes on, and where nothing tells when it ended.
    fn end_of(&self, task: &Candidate) -> Option<Timestamp> {
        let ended = task.ended.or(task.created).filter(|_| task.state.is_finished())?;
        Some(self.after(ended))
    }

    fn after(&self, ended: Timestamp) -> Timestamp {
        ended.checked_add(self.retention).unwrap_or(Timestamp::MAX)
    }

    /// Whether a child stays whose task is not chosen: as the list has shown that `task`, or has not.
    fn keeps(&self, child: &Child<'_>, task: Option<&Candidate>, now: Timestamp, next: &mut Next) -> bool {
        if let Some(task) = task {
            let has_ended = child.is_finished || task.state.is_finished();
            if !has_ended || !self.filter.admits_in_some_state(task, now) {
                return false;
            }
            next.at(self.filter.until(task));
        }
        // Whoever waits for the end must have had the chance to see it. And that a list does not show a task means nothing by itself.
        if !child.is_finished {
            return true;
        }
        let end = child.ended.map(|ended| self.after(ended)).or_else(|| self.end_of(task?));
        let stays = end.is_none_or(|end| now < end);
        if stays {
            next.at(end);
        }
        stays
    }
}

/// The first of some times.
struct Next(Option<Timestamp>);

impl Next {
    fn at(&mut self, time: Option<Timestamp>) {
        self.0 = self.0.into_iter().chain(time).min();
    }
}

/// The newest comes first. One whose time is not known is new; of the same time, the identifiers decide, so that the same are chosen
/// each time.
fn newer_first(a: &Candidate, b: &Candidate) -> Ordering {
    let created = |task: &Candidate| task.created.unwrap_or(Timestamp::MAX);
    created(b).cmp(&created(a)).then_with(|| a.id.cmp(&b.id))
}

/// Which states are named first.
fn rank(task: &Candidate) -> u8 {
    match task.state {
        TaskState::Failed => 0,
        TaskState::Running => 1,
        _ => 2,
    }
}

/// The first `count`, in order. Not all need to be sorted for that.
fn first(
    mut tasks: Vec<&Arc<Candidate>>,
    count: usize,
    order: impl Fn(&Candidate, &Candidate) -> Ordering,
) -> Vec<Arc<Candidate>> {
    if count < tasks.len() {
        tasks.select_nth_unstable_by(count, |a, b| order(a, b));
        tasks.truncate(count);
    }
    tasks.sort_unstable_by(|a, b| order(a, b));
    tasks.into_iter().map(Arc::clone).collect()
}

#[cfg(test)]
mod tests;
