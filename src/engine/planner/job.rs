//! What a planner is told of its connection, what it asks, and what comes back.

use std::{sync::Arc, time::Duration};

use crate::domain::{
    failure::Failure,
    task::{Task, TaskRef},
};
use crate::engine::coalesce::ModeChoice;
use crate::providers::{Cursor, Page};

/// The bounds of a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Requests per second in the long run; may be below one.
    pub requests_per_second: f64,
    /// Requests that may be sent at once after a rest.
    pub burst: u32,
    /// Requests in flight at a time, at least 1.
    pub max_in_flight: usize,
    /// The shortest period of a task.
    pub min_period: Duration,
    /// The longest period of a task.
    pub max_period: Duration,
    /// Lists or single requests.
    pub mode: ModeChoice,
    /// Whether the upstream lists tasks.
    pub lists: bool,
    /// Whether sub-tasks need a request of their own.
    pub subtasks: bool,
    /// Whether the credential is exchanged for a token first.
    pub exchanges: bool,
}

/// A request to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Rises with each job.
    pub id: u64,
    /// What to ask.
    pub kind: JobKind,
    /// How long it has waited beyond its time.
    pub lag: Duration,
}

/// What to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// A token for the credential.
    Authenticate,
    /// One task.
    Get(Arc<TaskRef>),
    /// The sub-tasks of one task.
    Subtasks(Arc<TaskRef>),
    /// A page of the tasks of a scope.
    List(Arc<str>, Option<Cursor>),
}

/// What a job brought.
#[allow(clippy::large_enum_variant, reason = "one for each answer, at once taken apart")]
#[derive(Debug)]
pub enum JobResult {
    /// A token, and how long it is good for where that is known.
    Token(Result<Option<Duration>, Failure>),
    /// A task.
    Task(Result<Task, Failure>),
    /// A page of a list, or the sub-tasks of a task.
    Page(Result<Page, Failure>),
}

impl JobResult {
    /// Why it brought nothing.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Token(Err(failure)) | Self::Task(Err(failure)) | Self::Page(Err(failure)) => Some(failure),
            _ => None,
        }
    }
}
