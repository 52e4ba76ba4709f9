//! The status contract, tried on a watch that lives through a story.

mod ended;
mod guests;
mod limits;
mod mirror;
mod pace;
mod properties;
mod rows;
mod rules;
mod search;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Decision, Input, Meta, Observation, Pace, Settings, decide};
use crate::{
    api::{ConnectionReference, TaskReference, TaskWatchSpec, TaskWatchStatus},
    domain::{
        availability::{Reason, Unavailable},
        failure::{Failure, FailureClass},
        target::{Sought, Target},
        task::{Task, TaskError, TaskState},
        verdicts::{Verdicts, verdicts},
    },
};

/// When the watches of these tests were created.
const START: i64 = 1_767_225_600; // 2026-01-01T00:00:00Z

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(START + secs).unwrap()
}

fn spec() -> TaskWatchSpec {
    TaskWatchSpec {
        connection_ref: ConnectionReference { kind: crate::api::ConnectionKind::default(), name: "c".into() },
        task: TaskReference { id: Some("t".into()), ..TaskReference::default() },
        ready_when: crate::api::ReadyWhen::default(),
        poll: None,
        active_deadline_seconds: None,
        ttl_seconds_after_finished: None,
        on_not_found: crate::api::OnNotFound::default(),
        not_found_grace_seconds: 60,
        suspend: false,
    }
}

fn task(state: TaskState) -> Task {
    let mut task = Task::new("t", state, format!("{state:?}").to_uppercase());
    if state == TaskState::Failed {
        task.error = Some(Box::new(TaskError {
            code: Some("EVS.2024".into()),
            message: Some("The volume quota is used up.".into()),
            ..TaskError::default()
        }));
    }
    task
}

fn running(percent: u8) -> News {
    News::Seen(Task { percent: Some(percent), ..task(TaskState::Running) })
}

/// The latest news, as the engine would tell it.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
enum News {
    None,
    Seen(Task),
    NotFound { since: Timestamp },
    Trouble { class: FailureClass, since: Timestamp },
}

/// A watch, its surroundings, and the time.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Debug)]
struct World {
    spec: TaskWatchSpec,
    status: Option<TaskWatchStatus>,
    generation: i64,
    requested_at: Option<String>,
    tracked: bool,
    allow_ttl: bool,
    connection: Connection,
    /// Why it is not known yet which task it is.
    sought: Option<Sought>,
    news: News,
    refreshed: bool,
    asking_since: Timestamp,
    now: Timestamp,
    /// How far the clock was stepped since the status was written.
    step: SignedDuration,
    settings: Settings,
    pace: Pace,
    /// The upstream puts something new into each message.
    chatty: bool,
    /// The watch is of another namespace than its connection.
    is_guest: bool,
}

/// As [`Input::connection`], but owned.
type Connection = Result<&'static str, Unavailable>;

const USABLE: Connection = Ok("project");

impl World {
    fn new() -> Self {
        Self {
            spec: spec(),
            status: None,
            generation: 1,
            requested_at: None,
            tracked: false,
            allow_ttl: false,
            connection: USABLE,
            sought: None,
            news: News::None,
            refreshed: false,
            asking_since: at(0),
            now: at(0),
            step: SignedDuration::ZERO,
            settings: Settings::default(),
            pace: Pace::default(),
            chatty: false,
            is_guest: false,
        }
    }

    /// A decision at this time, with this news.
    fn decide(&self) -> Decision {
        let failure = match &self.news {
            News::Trouble { class, .. } => Failure::new(*class, "The upstream says no."),
            _ => Failure::new(FailureClass::NotFound, "No such task."),
        };
        let failure = if self.chatty {
            Failure { message: format!("Request {}: {}", self.now, failure.message), ..failure }
        } else {
            failure
        };
        let failure = if self.is_guest { failure.for_others() } else { failure };
        let observation = match &self.news {
            News::None => Observation::None,
            News::Seen(task) => Observation::Seen { task, at: self.now },
            News::NotFound { since } => Observation::NotFound { since: *since, at: self.now, failure: &failure },
            News::Trouble { since, .. } => Observation::Trouble { failure: &failure, since: *since, at: self.now },
        };
        let input = Input {
            meta: Meta {
                generation: self.generation,
                created: at(0),
                uid: "583d994c-199e-4f5e-85f1-35b50c556b04",
                requested_at: self.requested_at.as_deref(),
                tracked: self.tracked,
                allow_ttl: self.allow_ttl,
            },
            spec: &self.spec,
            status: self.status.as_ref(),
            connection: self.connection.as_ref().copied(),
            task: self.sought.as_ref().map_or(Target::Known("t"), Target::Sought),
            observation,
            refreshed: self.refreshed,
            asking_since: self.asking_since,
            not_found_since: self
                .status
                .as_ref()
                .and_then(|status| status.not_found_since.as_ref())
                .map(|since| since.0 + self.step),
            period: Duration::from_secs(10),
            settings: self.settings,
            pace: self.pace,
        };
        decide(&input, self.now)
    }

    /// Decides, and has the status stored as an API server would.
    fn act(&mut self) -> Decision {
        let decision = self.decide();
        if let Some(status) = &decision.status {
            self.status = Some(stored(status));
            self.pace = self.pace.written(self.now);
        }
        decision
    }

    /// The same after `secs` seconds from the start, with this news.
    fn then(&mut self, secs: i64, news: News) -> Decision {
        self.now = at(secs);
        self.news = news;
        self.act()
    }

    /// A restart of the operator.
    fn restart(&mut self, secs: i64) -> Decision {
        self.asking_since = at(secs);
        self.refreshed = false;
        self.pace = Pace::default();
        self.then(secs, News::None)
    }

    fn condition(&self, kind: &str) -> Option<&Condition> {
        crate::domain::conditions::find(&self.status.as_ref()?.conditions, kind)
    }

    /// Status and reason of a condition, as `True/TaskSucceeded`; a dash without it.
    fn shows(&self, kind: &str) -> String {
        self.condition(kind).map_or_else(|| "–".into(), |c| format!("{}/{}", c.status, c.reason))
    }

    /// What other tools make of it.
    fn verdicts(&self) -> Verdicts {
        verdicts("TaskWatch", self.generation, self.status.as_ref(), self.now)
    }

    fn state(&self) -> &str {
        self.status.as_ref().and_then(|status| status.state.as_deref()).unwrap_or("–")
    }
}

/// A status as it comes back from the API server: through JSON, times in whole seconds.
fn stored(status: &TaskWatchStatus) -> TaskWatchStatus {
    serde_json::from_value(serde_json::to_value(status).unwrap()).unwrap()
}
