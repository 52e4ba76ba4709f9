//! The polling core: one actor per connection owns its HTTP client, its token, its budget and its queue. It knows nothing of
//! Kubernetes but keys, and keeps nothing on disk: all can be rebuilt from the objects and the upstream.
//!
//! | module | what it decides or does |
//! |---|---|
//! | [`planner`] | what to ask next, and what an answer means for the queue: sans-IO, the invariants of design §3 live here |
//! | [`lists`] | the part of the planner that serves a scope from one list |
//! | `answers` | the part of the planner that takes answers in |
//! | [`entry`] | one polled task and its watchers |
//! | [`job`] | what a planner is told, what it asks, what comes back |
//! | [`access`] | the token: when one is needed, and what a refusal means |
//! | [`hold`] | when to be silent: `Retry-After`, outages, refused credentials |
//! | [`budget`] | requests per second |
//! | [`coalesce`] | list or single requests |
//! | [`actor`] | runs a planner: sends its jobs, decodes the answers, delivers the reports |

//pub mod actor;
pub mod access;
mod answers;
pub mod budget;
pub mod coalesce;
pub mod entry;
pub mod hold;
pub mod job;
pub mod lists;
pub mod planner;

use std::{sync::Arc, time::Duration};

use crate::domain::{
    failure::Failure,
    task::{Task, TaskRef},
};

/// Who watches a task: the UID of an object. An object of the same name that is made later has another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchKey(pub Arc<str>);

/// What a watcher asks of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// What to poll.
    pub task: TaskRef,
    /// The period at the start.
    pub period: Duration,
    /// What the period grows to with the task's age.
    pub max_period: Duration,
    /// How long the task has been watched without a change.
    pub age: Duration,
    /// Whether the watcher already has an observation: then its next poll takes its turn, else it comes first.
    pub known: bool,
    /// Echoed by each delivery. Answers to what was asked before the watch was registered with this ticket are not delivered.
    pub ticket: u64,
}

/// What became known of a task, at the times of a clock `T`.
#[derive(Clone, Debug, PartialEq)]
pub enum Report<T> {
    /// The upstream showed it.
    Seen {
        /// As it is.
        task: Arc<Task>,
        /// When the answer came.
        at: T,
    },
    /// The upstream says that it does not know it.
    Missing {
        /// In its words.
        failure: Arc<Failure>,
        /// When it first said so, without a break.
        since: T,
        /// When the answer came.
        at: T,
    },
    /// Nothing could be learnt.
    Trouble {
        /// Why.
        failure: Arc<Failure>,
        /// Since when, without a break.
        since: T,
        /// When the newest failure came.
        at: T,
    },
}

/// A report for one watcher.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery<T> {
    /// For whom.
    pub key: WatchKey,
    /// The ticket that the watch was registered with when this was asked for.
    pub ticket: u64,
    /// What.
    pub report: Report<T>,
}

#[cfg(test)]
mod tests;
