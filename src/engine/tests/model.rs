//! An upstream that is a table: tasks with states, lists with pages, and every fault that the design names.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::domain::{
    failure::{BODY_TOO_LARGE, Failure, FailureClass},
    task::{Task, TaskRef, TaskState},
};
use crate::engine::planner::{JobKind, Outcome};
use crate::providers::{Cursor, Page};

/// What may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Down,
    Refused,
    Forbidden,
    Limited(Option<u64>),
    Overloaded(u64),
    GarbageList,
    HugeList,
    ListDown,
    LaterPagesDown,
    ContinueRefused,
    RepeatedCursor,
    DuplicatedItems,
    MissingItems,
    SubtasksRefused,
    SubtasksGarbage,
    FilterIgnored,
    TokenDown,
    TokenRefused,
    TokenNotFound,
    /// None: a good answer that asks to be asked again after so many seconds.
    Hinted(u64),
}

/// The state of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub state: TaskState,
    pub hidden_from_list: bool,
}

/// The whole upstream.
#[derive(Debug)]
pub struct Upstream {
    pub rows: BTreeMap<TaskRef, Row>,
    pub page_size: usize,
    pub latency: Duration,
    /// Whether a token is needed.
    pub exchanges: bool,
    /// What a token's life is said to be, and what it is.
    pub token_life: (Option<Duration>, Duration),
    pub token_until: Option<Instant>,
    /// Whether each task of a list is followed by a part of it.
    pub children_in_lists: bool,
    pub fault: Option<Fault>,
    /// Every so many-th request meets with the fault.
    pub every: u64,
    /// Only requests for scopes whose name begins so meet with the fault.
    pub only: Option<&'static str>,
    /// How long the answers for these take, where that is another time than for the others.
    pub only_latency: Option<Duration>,
    /// Rises with each answer; each task tells it in its `order`, each "not found" in its message.
    pub stamp: u64,
}

/// An answer, as the actor hands it to the planner.
pub struct Answer {
    pub result: Outcome,
    pub retry_after: Option<Duration>,
    pub stamp: u64,
}

impl Upstream {
    pub fn new() -> Self {
        Self {
            rows: BTreeMap::new(),
            page_size: 100,
            latency: Duration::from_millis(50),
            exchanges: false,
            token_life: (Some(Duration::from_hours(1)), Duration::from_hours(1)),
            token_until: None,
            children_in_lists: false,
            fault: None,
            every: 1,
            only: None,
            only_latency: None,
            stamp: 0,
        }
    }

    pub fn set(&mut self, task: &TaskRef, state: TaskState) {
        self.rows.insert(task.clone(), Row { state, hidden_from_list: false });
    }

    fn is_hit(&self, kind: &JobKind) -> bool {
        let scope = match kind {
            JobKind::Authenticate => return self.only.is_none(),
            JobKind::Get(task) | JobKind::Subtasks(task) => task.scope.as_str(),
            JobKind::List(scope, _) => scope,
        };
        self.only.is_none_or(|only| scope.starts_with(only))
    }

    pub fn latency_of(&self, kind: &JobKind) -> Duration {
        self.only_latency.filter(|_| self.is_hit(kind)).unwrap_or(self.latency)
    }

    pub fn answer(&mut self, kind: &JobKind, now: Instant) -> Answer {
        self.stamp += 1;
        let fault = self.fault.filter(|_| self.stamp.is_multiple_of(self.every) && self.is_hit(kind));
        let fail = |class| Failure::new(class, self.stamp.to_string());
        let failure = match (fault, kind) {
            (Some(Fault::Down), _) | (Some(Fault::TokenDown), JobKind::Authenticate) => {
                Some((FailureClass::UpstreamUnavailable, None))
            }
            (Some(Fault::TokenRefused), JobKind::Authenticate) => Some((FailureClass::AuthenticationFailed, None)),
            (Some(Fault::TokenNotFound), JobKind::Authenticate) => Some((FailureClass::NotFound, None)),
            (Some(Fault::Limited(wait)), _) => Some((FailureClass::RateLimited, wait)),
            (Some(Fault::Overloaded(wait)), _) => Some((FailureClass::UpstreamUnavailable, Some(wait))),
            (_, JobKind::Authenticate) => None,
            (Some(Fault::Refused), _) => Some((FailureClass::AuthenticationFailed, None)),
            _ if self.exchanges && self.token_until.is_none_or(|until| until <= now) => {
                Some((FailureClass::AuthenticationFailed, None))
            }
            (Some(Fault::Forbidden), _) => Some((FailureClass::PermissionDenied, None)),
            (Some(Fault::ListDown), JobKind::List(..)) | (Some(Fault::LaterPagesDown), JobKind::List(_, Some(_))) => {
                Some((FailureClass::UpstreamUnavailable, None))
            }
            (Some(Fault::GarbageList | Fault::HugeList), JobKind::List(..)) => {
                Some((FailureClass::InvalidAnswer, None))
            }
            (Some(Fault::ContinueRefused), JobKind::List(_, Some(_)))
            | (Some(Fault::SubtasksRefused), JobKind::Subtasks(_)) => Some((FailureClass::InvalidRequest, None)),
            (Some(Fault::SubtasksGarbage), JobKind::Subtasks(_)) => Some((FailureClass::InvalidAnswer, None)),
            _ => None,
        };
        let (result, wait) = if let Some((class, wait)) = failure {
            let mut failure = fail(class);
            if fault == Some(Fault::HugeList) {
                failure.code = BODY_TOO_LARGE.into();
            }
            let result = Outcome::failed(kind, failure);
            (result, wait)
        } else {
            let result = self.good(kind, fault, now);
            // That a task is not known is no good answer.
            let is_good = result.failure().is_none();
            (result, if let Some(Fault::Hinted(wait)) = fault { is_good.then_some(wait) } else { None })
        };
        let retry_after = wait.map(Duration::from_secs);
        Answer { result, retry_after, stamp: self.stamp }
    }

    fn good(&mut self, kind: &JobKind, fault: Option<Fault>, now: Instant) -> Outcome {
        match kind {
            JobKind::Authenticate => {
                self.token_until = Some(now + self.token_life.1);
                Outcome::Token(Ok(self.token_life.0))
            }
            JobKind::Get(task) => match self.rows.get(task) {
                Some(row) => Outcome::Task(Ok(self.show(&task.id, *row))),
                None => Outcome::Task(Err(Failure::new(FailureClass::NotFound, self.stamp.to_string()))),
            },
            JobKind::Subtasks(task) => {
                let mut tasks = vec![Arc::new(part(&task.id))];
                if fault == Some(Fault::FilterIgnored) {
                    tasks.push(Arc::new(Task::new("stranger", TaskState::Failed, "failed")));
                }
                Outcome::Subtasks(Ok(Page { total: tasks.len(), tasks, next: None }))
            }
            JobKind::List(scope, cursor) => {
                let from = cursor.as_ref().map_or(0, |cursor| cursor.0.parse().unwrap());
                let hides = fault == Some(Fault::MissingItems);
                let all: Vec<_> = self
                    .rows
                    .iter()
                    .filter(|(task, row)| *task.scope == **scope && !row.hidden_from_list)
                    .enumerate()
                    .filter(|(number, _)| !(hides && number % 3 == 0))
                    .map(|(_, (task, row))| Arc::new(self.show(&task.id, *row)))
                    .collect();
                let mut tasks: Vec<_> = all.iter().skip(from).take(self.page_size).cloned().collect();
                if self.children_in_lists {
                    tasks = tasks.into_iter().flat_map(|task| [Arc::new(part(&task.id)), task]).collect();
                }
                if fault == Some(Fault::DuplicatedItems)
                    && let Some(first) = tasks.first().cloned()
                {
                    tasks.push(first);
                }
                let next = match fault {
                    Some(Fault::RepeatedCursor) => Some(0),
                    _ => (from + self.page_size < all.len()).then_some(from + self.page_size),
                };
                Outcome::List(Ok(Page { total: tasks.len(), tasks, next: next.map(|next| Cursor(next.to_string())) }))
            }
        }
    }

    fn show(&self, id: &str, row: Row) -> Task {
        let mut task = Task::new(id, row.state, "word");
        task.order = i64::try_from(self.stamp).unwrap();
        task
    }
}

fn part(parent: &str) -> Task {
    let mut part = Task::new(format!("{parent}-1"), TaskState::Running, "running");
    part.parent_id = Some(parent.into());
    part
}
