//! `TaskWatch`: one task of another system.

use std::time::Duration;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{schema, status::TaskWatchStatus};

/// What to watch, and how.
// The category must not be the name of a kind: `kubectl describe taskwatch x` would look for an x of every kind in it, and refuse.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "taskwatch.dev",
    version = "v1alpha1",
    kind = "TaskWatch",
    plural = "taskwatches",
    namespaced,
    status = "TaskWatchStatus",
    shortname = "tw",
    category = "taskwatch-all",
    derive = "PartialEq",
    doc = "A TaskWatch mirrors the state, progress and errors of one long-running task of another system into its status. It observes only: it never starts, cancels or repeats the task. Wait for it with `kubectl wait --for=condition=Finished` (either outcome) or `--for=condition=Ready` (success).",
    selectable = ".spec.connectionRef.name",
    selectable = ".spec.task.id",
    selectable = ".status.state"
)]
#[serde(rename_all = "camelCase")]
pub struct TaskWatchSpec {
    /// The connection through which the task is watched. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("connectionRef is immutable: delete the TaskWatch and create another"))]
    pub connection_ref: ConnectionReference,
    /// The task to watch. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("task is immutable: delete the TaskWatch and create another"))]
    pub task: TaskReference,
    /// When the condition Ready becomes True: `TaskSucceeded` (the default) when the task has succeeded, and never when it failed;
    /// `Observed` as soon as the status shows what the upstream says, whatever the outcome.
    #[serde(default)]
    pub ready_when: ReadyWhen,
    /// How often the upstream is asked. Each figure is kept within the bounds of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<WatchPoll>,
    /// How long the task may take, in seconds, counted from the creation of this object; suspension does not stop that clock.
    /// When it has passed, watching ends with `DeadlineExceeded`; the task itself is not touched. No limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 315_360_000))]
    pub active_deadline_seconds: Option<i32>,
    /// After how many seconds this object is deleted, counted from when the condition Finished became True. It is kept when absent.
    /// Objects that Argo CD, Flux or Helm track are kept, too, unless annotated `taskwatch.dev/allow-ttl: "true"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 315_360_000))]
    pub ttl_seconds_after_finished: Option<i32>,
    /// What it means when the upstream does not know the task, or no longer: `Fail` (the default) makes it Lost, `Succeed` counts it as
    /// succeeded (for tasks that the upstream forgets when they are done), `Retry` keeps polling until the deadline.
    #[serde(default)]
    pub on_not_found: OnNotFound,
    /// For how many seconds without a break the upstream must not know the task before `onNotFound` applies. Default: 60.
    /// Some systems show a new task only some seconds after they accepted it.
    #[serde(default = "default_not_found_grace")]
    #[schemars(range(min = 0, max = 86_400))]
    pub not_found_grace_seconds: i32,
    /// Stops asking the upstream; what is known stays shown. Default: false.
    #[serde(default)]
    pub suspend: bool,
}

/// Which connection to use.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionReference {
    /// The kind of the connection: `TaskConnection` (the default, of the same namespace) or `ClusterTaskConnection`.
    #[serde(default)]
    pub kind: ConnectionKind,
    /// The name of the connection.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
}

/// The kinds of connections.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectionKind {
    #[default]
    /// Of the same namespace.
    TaskConnection,
    /// Of the cluster, shared with the namespaces that it allows.
    ClusterTaskConnection,
}

impl ConnectionKind {
    /// The word of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TaskConnection => "TaskConnection",
            Self::ClusterTaskConnection => "ClusterTaskConnection",
        }
    }
}

/// Which task to watch.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct TaskReference {
    /// The task's identifier, as the upstream gave it when it accepted the task (Huawei Cloud: `job_id`). 1 to 1,024 characters: no
    /// blanks, control characters, `?`, `#` or `\`, and no empty part, `.` or `..` between slashes. Each provider takes less than that;
    /// where it does not take this one, the conditions say `InvalidSpec` and what it expects, and nothing is sent.
    #[schemars(schema_with = "schema::identifier")]
    pub id: String,
    /// The container of the task: Astra account, Huawei Cloud project, Cloud.ru service instance. Absent: that of the connection.
    /// Any other must be among the connection's `allowedScopes`, and an identifier as the provider has them, by the rules of `id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::identifier")]
    pub scope: Option<String>,
}

/// When an object is Ready.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReadyWhen {
    #[default]
    /// The task has succeeded.
    TaskSucceeded,
    /// The status is current, whatever it says.
    Observed,
}

/// What a task means that the upstream does not know.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnNotFound {
    #[default]
    /// It is Lost, which is a failure.
    Fail,
    /// It is done, which is a success.
    Succeed,
    /// Nothing: keep polling.
    Retry,
}

/// How often to ask.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.periodSeconds) || !has(self.maxPeriodSeconds) || self.maxPeriodSeconds >= self.periodSeconds").message("maxPeriodSeconds must not be less than periodSeconds"))]
pub struct WatchPoll {
    /// Seconds between two looks at a young task. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub period_seconds: Option<i32>,
    /// Seconds between two looks at an old task; the period grows towards it with the age of the task. Where the upstream says with a
    /// good answer how long to wait (`Retry-After`), the next look comes then, between `periodSeconds` and this. Default: 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub max_period_seconds: Option<i32>,
    /// After how many seconds without a good answer the status counts as stale: Synced is False, and so is Ready. Default: 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 604_800))]
    pub stale_after_seconds: Option<i32>,
}

impl WatchPoll {
    /// Seconds of [`WatchPoll::period_seconds`] where none are given.
    pub const PERIOD: i32 = 10;
    /// Seconds of [`WatchPoll::max_period_seconds`] where none are given.
    pub const MAX_PERIOD: i32 = 60;
    /// Seconds of [`WatchPoll::stale_after_seconds`] where none are given.
    pub const STALE_AFTER: i32 = 600;
}

fn default_not_found_grace() -> i32 {
    60
}

/// `seconds` as a duration; a negative figure, which the schema does not let pass, is none.
pub(super) fn seconds(seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

impl TaskWatchSpec {
    /// The period for a young task, before the connection's bounds.
    #[must_use]
    pub fn period(&self) -> Duration {
        seconds(self.poll.as_ref().and_then(|poll| poll.period_seconds).unwrap_or(WatchPoll::PERIOD))
    }

    /// The period for an old task, before the connection's bounds; never less than [`Self::period`].
    #[must_use]
    pub fn max_period(&self) -> Duration {
        let max = self.poll.as_ref().and_then(|poll| poll.max_period_seconds).unwrap_or(WatchPoll::MAX_PERIOD);
        seconds(max).max(self.period())
    }

    /// How long a mirror may go without a good answer.
    #[must_use]
    pub fn stale_after(&self) -> Duration {
        seconds(self.poll.as_ref().and_then(|poll| poll.stale_after_seconds).unwrap_or(WatchPoll::STALE_AFTER))
    }

    /// How long the upstream must not know the task.
    #[must_use]
    pub fn not_found_grace(&self) -> Duration {
        seconds(self.not_found_grace_seconds)
    }

    /// The time limit, counted from the creation of the object.
    #[must_use]
    pub fn active_deadline(&self) -> Option<Duration> {
        self.active_deadline_seconds.map(seconds)
    }

    /// The time to live, counted from the end.
    #[must_use]
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl_seconds_after_finished.map(seconds)
    }
}
