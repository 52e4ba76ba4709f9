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
    /// The same for each tenant where several share the connection; none for no limit.
    pub requests_per_second_of_tenant: Option<f64>,
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

impl JobKind {
    /// Of which scope it is, and of which task.
    #[must_use]
    pub fn about(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::Authenticate => (None, None),
            Self::Get(task) | Self::Subtasks(task) => (Some(&task.scope), Some(&task.id)),
            Self::List(scope, _) => (Some(scope), None),
        }
    }

    /// The word for it, in metrics and traces.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Get(_) => "get",
            Self::Subtasks(_) => "subtasks",
            Self::List(..) => "list",
        }
    }
}

/// What became of a job: of each kind of job, what it brought or why it brought nothing. Of a token `T` the planner wants to know only how
/// long it is good for, where that is known.
#[allow(clippy::large_enum_variant, reason = "one for each answer, at once taken apart")]
#[derive(Debug)]
pub enum Outcome<T = Option<Duration>> {
    /// Of [`JobKind::Authenticate`].
    Token(Result<T, Failure>),
    /// Of [`JobKind::Get`].
    Task(Result<Task, Failure>),
    /// Of [`JobKind::Subtasks`].
    Subtasks(Result<Page, Failure>),
    /// Of [`JobKind::List`]: the rest of a page, whose slices came before.
    List(Result<Page, Failure>),
}

impl<T> Outcome<T> {
    /// A job of this kind brought nothing.
    #[must_use]
    pub fn failed(kind: &JobKind, failure: Failure) -> Self {
        match kind {
            JobKind::Authenticate => Self::Token(Err(failure)),
            JobKind::Get(_) => Self::Task(Err(failure)),
            JobKind::Subtasks(_) => Self::Subtasks(Err(failure)),
            JobKind::List(..) => Self::List(Err(failure)),
        }
    }

    /// Why it brought nothing.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Token(result) => result.as_ref().err(),
            Self::Task(result) => result.as_ref().err(),
            Self::Subtasks(result) | Self::List(result) => result.as_ref().err(),
        }
    }

    /// The same, with something else of the token.
    pub fn map_token<U>(self, map: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::Token(result) => Outcome::Token(result.map(map)),
            Self::Task(result) => Outcome::Task(result),
            Self::Subtasks(result) => Outcome::Subtasks(result),
            Self::List(result) => Outcome::List(result),
        }
    }
}
