//! What a set says, tried on one that lives through a story.

mod restart;
mod rows;
mod rules;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::json;

use super::*;
use crate::domain::{
    availability::Reason,
    discovery::{
        catalogue::{Candidate, Catalogue},
        filter::Filter,
        select::{Child, Wanted, select},
    },
    failure::FailureClass,
    task::{Task, TaskState},
    verdicts::{Verdicts, verdicts},
};

const START: i64 = 1_767_225_600; // 2026-01-01T00:00:00Z

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(START + secs).unwrap()
}

/// The latest news of the tasks, as the controller would tell it.
#[derive(Clone, Debug)]
enum News {
    Unavailable(Reason, &'static str),
    NotListable,
    Awaiting,
    Listed,
    /// The class, what the upstream says, since when, and whether there was a list before in this process.
    Failing(FailureClass, &'static str, i64, bool),
}

/// It cannot be listed since then, after it could.
fn trouble(since: i64) -> News {
    News::Failing(FailureClass::UpstreamUnavailable, "No.", since, true)
}

/// A set, the tasks of its account, and the time.
#[derive(Clone, Debug)]
struct World {
    spec: TaskWatchSetSpec,
    generation: i64,
    status: Option<TaskWatchSetStatus>,
    tasks: Catalogue,
    /// The tasks that are watched.
    children: Vec<String>,
    conflicts: Vec<Conflict>,
    news: News,
    /// When the last whole list was had.
    listed: i64,
    now: i64,
    pace: Pace,
    turn: Turn,
    /// The set is of another namespace than its connection.
    is_guest: bool,
}

fn task(id: &str, state: TaskState) -> Candidate {
    Candidate {
        display_name: Some(format!("Task {id}").into()),
        created: Some(at(-100)),
        started: Some(at(-90)),
        ended: state.is_finished().then(|| at(-10)),
        message: (state == TaskState::Failed).then(|| "The quota is used up.".into()),
        ..Candidate::of(&Task::new(id, state, "word"))
    }
}

impl World {
    /// With a running task that is watched.
    fn new() -> Self {
        let spec = json!({"connectionRef": {"name": "c"}, "limit": 2});
        let mut world = Self {
            spec: serde_json::from_value(spec).unwrap(),
            generation: 1,
            status: None,
            tasks: Catalogue::default(),
            children: vec!["1".to_owned()],
            conflicts: Vec::new(),
            news: News::Awaiting,
            listed: 0,
            now: 0,
            pace: Pace::default(),
            turn: Turn::default(),
            is_guest: false,
        };
        world.tasks.put(task("1", TaskState::Running));
        world
    }

    fn selection(&self) -> Selection {
        let filter = Filter::new(&self.spec.r#match.clone().unwrap_or_default());
        let retention = jiff::SignedDuration::from_secs(self.spec.finished_retention_seconds.into());
        let limit = usize::try_from(self.spec.limit).unwrap();
        let children: Vec<_> = self.children.iter().map(|id| Child { id, is_finished: false, ended: None }).collect();
        select(&self.tasks, &children, &Wanted { limit, retention, filter: &filter }, at(self.now))
    }

    fn decide(&self) -> Decision {
        let selection = self.selection();
        let unavailable = match self.news {
            News::Unavailable(reason, message) => Unavailable::new(reason, message),
            _ => Unavailable::new(Reason::InvalidSpec, ""),
        };
        let failure = match self.news {
            News::Failing(class, said, ..) => Failure::new(class, said),
            _ => Failure::new(FailureClass::NotFound, ""),
        };
        let failure = if self.is_guest { failure.for_others() } else { failure };
        let last = (&selection, at(self.listed));
        let listing = match self.news {
            _ if self.spec.suspend => Listing::Suspended,
            News::Unavailable(..) => Listing::Unavailable(&unavailable),
            News::NotListable => Listing::NotListable,
            News::Awaiting => Listing::Awaiting,
            News::Listed => Listing::Listed { selection: &selection, at: at(self.listed) },
            News::Failing(_, _, since, has_list) => {
                Listing::Failing { failure: &failure, since: at(since), last: has_list.then_some(last) }
            }
        };
        let input = Input {
            generation: self.generation,
            status: self.status.as_ref(),
            spec: &self.spec,
            listing,
            watched: self.children.len(),
            conflicts: &self.conflicts,
            pace: self.pace,
            turn: self.turn,
            settings: Settings::default(),
        };
        decide(&input, at(self.now))
    }

    /// Decides after `secs` seconds from the start, with this news, and has the status stored as an API server would.
    fn then(&mut self, secs: i64, news: News) -> Decision {
        self.now = secs;
        if matches!(news, News::Listed) {
            self.listed = secs;
        }
        self.news = news;
        let decision = self.decide();
        self.turn = decision.turn;
        if let Some(status) = &decision.status {
            self.status = Some(serde_json::from_value(serde_json::to_value(status).unwrap()).unwrap());
            assert_eq!(self.status.as_ref(), Some(status), "what is written comes back as it was");
            self.pace = self.pace.written(at(secs));
        }
        decision
    }

    /// The operator is started anew: it remembers nothing but what is stored.
    fn restart(&mut self) {
        (self.pace, self.turn) = (Pace::default(), Turn::default());
        self.news = News::Awaiting;
    }

    fn condition(&self, kind: &str) -> Option<&Condition> {
        find(&self.status.as_ref()?.conditions, kind)
    }

    /// Status and reason of a condition, as `True/Observed`; a dash without it.
    fn shows(&self, kind: &str) -> String {
        self.condition(kind).map_or_else(|| "–".into(), |c| format!("{}/{}", c.status, c.reason))
    }

    fn says(&self, kind: &str) -> &str {
        self.condition(kind).map_or("", |condition| condition.message.as_str())
    }

    /// What other tools make of it.
    fn verdicts(&self) -> Verdicts {
        verdicts("TaskWatchSet", self.generation, self.status.as_ref(), at(self.now))
    }
}

/// Nothing is to be written, and nothing is to be decided by time alone.
fn is_idle(decision: &Decision) -> bool {
    decision.status.is_none() && decision.wake_at.is_none()
}

/// The object of a conflict.
fn conflict(name: &str, why: Why) -> Conflict {
    Conflict { name: name.to_owned(), why }
}

fn many(world: &mut World, ids: std::ops::Range<u8>, state: TaskState) {
    ids.for_each(|id| world.tasks.put(task(&id.to_string(), state)));
}
