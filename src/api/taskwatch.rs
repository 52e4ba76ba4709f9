//! `TaskWatch`: one task of another system.

use std::time::Duration;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    bounds::{KEY, WORD},
    schema,
    status::TaskWatchStatus,
};

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

/// Which task to watch: by its identifier, or by where that is to be found.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::exactly_one("way to name the task", ["id", "idFrom", "latest"].into_iter()))]
pub struct TaskReference {
    /// The task's identifier, as the upstream gave it when it accepted the task (Huawei Cloud: `job_id`). 1 to 1,024 characters: no
    /// blanks, control characters, `?`, `#` or `\`, and no empty part, `.` or `..` between slashes. Each provider takes less than that;
    /// where it does not take this one, the conditions say `InvalidSpec` and what it expects, and nothing is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::identifier")]
    pub id: Option<String>,
    /// Where the task's identifier is to be found, once somebody has put it there: for manifests that are written before the task
    /// exists. It is looked for until it is there; then it is fixed, shown in `status.task.id`, and not read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_from: Option<Box<TaskIdSource>>,
    /// The newest task that matches, of those that the upstream lists. It is looked for until there is one; then that one is fixed, and
    /// shown in `status.task.id`. Only for systems that can list their tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<Box<LatestTask>>,
    /// The container of the task: Astra account, Huawei Cloud project, Cloud.ru service instance. Absent: that of the connection.
    /// Any other must be among the connection's `allowedScopes`, and an identifier as the provider has them, by the rules of `id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::identifier")]
    pub scope: Option<String>,
}

/// Where an identifier is to be found: exactly one of the members, in the namespace of the TaskWatch.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::exactly_one("source", ["configMapKeyRef", "secretKeyRef"].into_iter()))]
pub struct TaskIdSource {
    /// A key of a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyReference>,
    /// A key of a Secret that has the label `taskwatch.dev/id-from: "true"`: what it holds is shown in the status, where also those can
    /// read it who may not read Secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyReference>,
}

/// The member of a [`TaskIdSource`] that is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySource<'a> {
    /// Of a ConfigMap.
    ConfigMap(&'a KeyReference),
    /// Of a Secret.
    Secret(&'a KeyReference),
}

impl TaskIdSource {
    /// The member that is given; none where that is none or both, which the schema does not let pass.
    #[must_use]
    pub fn member(&self) -> Option<KeySource<'_>> {
        match (&self.config_map_key_ref, &self.secret_key_ref) {
            (Some(reference), None) => Some(KeySource::ConfigMap(reference)),
            (None, Some(reference)) => Some(KeySource::Secret(reference)),
            _ => None,
        }
    }
}

impl<'a> KeySource<'a> {
    /// The kind of the object.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::ConfigMap(_) => "ConfigMap",
            Self::Secret(_) => "Secret",
        }
    }

    /// Which key of which object.
    #[must_use]
    pub fn reference(self) -> &'a KeyReference {
        match self {
            Self::ConfigMap(reference) | Self::Secret(reference) => reference,
        }
    }
}

/// A key of an object of the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct KeyReference {
    /// The name of the object.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// The key. Blanks and line breaks around its value do not count.
    #[schemars(length(min = 1, max = KEY))]
    pub key: String,
}

/// Which of the tasks that are listed: the newest for which all that is given holds. Parts of other tasks are left aside.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct LatestTask {
    /// The task's type or name is like this pattern, in which `*` stands for any characters and `?` for one, as `astra.backup*`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = WORD))]
    pub kind: Option<String>,
    /// The task's name or display name contains this text, such as a marker that a pipeline puts there. Upper and lower case count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = WORD))]
    pub name_contains: Option<String>,
    /// The URI or identifier of the resource that the task works on contains this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = WORD))]
    pub resource: Option<String>,
    /// The task was started by this user, as the upstream names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = WORD))]
    pub created_by: Option<String>,
    /// Which tasks are new enough: `ObjectCreation` (the default), those that were created after this object, or up to a minute before it,
    /// for clocks that differ; `Any`, all, also those whose time of creation is not known.
    #[serde(default)]
    pub not_before: NotBefore,
}

/// From when on tasks count.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NotBefore {
    #[default]
    /// From when the object was created, less a minute.
    ObjectCreation,
    /// All.
    Any,
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
