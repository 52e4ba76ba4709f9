//! `TaskWatchSet`: one `TaskWatch` for each task that matches.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    bounds::{CONDITION_MESSAGE, IDENTIFIER, NEWEST_TASKS, WORD},
    schema,
    taskwatch::{ConnectionReference, OnNotFound, ReadyWhen, WatchPoll},
};

/// Which tasks to watch, and how.
// Connection and scope are immutable: the TaskWatches of a set that was pointed elsewhere would be left behind, since no list would tell any
// more what became of their tasks.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "taskwatch.dev",
    version = "v1alpha1",
    kind = "TaskWatchSet",
    plural = "taskwatchsets",
    namespaced,
    status = "TaskWatchSetStatus",
    shortname = "tws",
    category = "taskwatch-all",
    derive = "PartialEq",
    doc = "A TaskWatchSet finds the tasks of an account that match, and keeps one TaskWatch for each, as a ReplicaSet keeps Pods: it creates them when tasks appear, and deletes them some time after the tasks have ended. It needs an upstream that can list its tasks, which Huawei Cloud cannot. It observes only: it never starts, cancels or repeats a task. Deleting it deletes its TaskWatches, unless with `kubectl delete --cascade=orphan`.",
    selectable = ".spec.connectionRef.name"
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.scope) == has(oldSelf.scope) && (!has(self.scope) || self.scope == oldSelf.scope)").message("scope is immutable: delete the TaskWatchSet and create another"),
    validation = Rule::new("self.readyWhen != 'NoneFailed' || !has(self.match) || !has(self.match.states) || size(self.match.states) == 0 || 'Failed' in self.match.states").message("readyWhen: NoneFailed looks at the tasks that match: give Failed among match.states, or no states")
)]
pub struct TaskWatchSetSpec {
    /// The connection through which tasks are found and watched. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("connectionRef is immutable: delete the TaskWatchSet and create another"))]
    pub connection_ref: ConnectionReference,
    /// The container whose tasks are found: Astra account, Cloud.ru service instance. Absent: that of the connection. Any other must be
    /// among the connection's `allowedScopes`, and an identifier as the provider has them. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::identifier")]
    pub scope: Option<String>,
    /// Which tasks match: those for which everything that is given here is true. Absent or empty: every task that is not a part of
    /// another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#match: Option<TaskMatch>,
    /// How many tasks are watched at most, 1 to 5,000; where more match, the newest are. `status.leftOut` says how many are left out.
    /// Default: 100.
    #[serde(default = "default_limit")]
    #[schemars(range(min = 1, max = 5_000))]
    pub limit: i32,
    /// For how many seconds the TaskWatch of a finished task is kept, counted from the end of the task; it is deleted then. A task that
    /// ended longer ago is not watched at all, and does not count as a match. Default: 3600.
    #[serde(default = "default_retention")]
    #[schemars(range(min = 0, max = 315_360_000))]
    pub finished_retention_seconds: i32,
    /// Stops looking for tasks: no TaskWatch is created, changed or deleted. Those that exist go on being polled. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// When the condition Ready is True: `Observed` (the default) when each task that is to be watched has a TaskWatch; `NoneFailed` when,
    /// in addition, none of the tasks that match has failed. With `NoneFailed`, `match.states` must be absent or name Failed.
    #[serde(default)]
    pub ready_when: SetReadyWhen,
    /// What the TaskWatches look like: labels, annotations, and settings of their `spec`. A change is applied to those that exist, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<WatchTemplate>,
}

/// Which tasks match; everything that is given must be true.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct TaskMatch {
    /// The task is in one of these states: Pending, Running, Paused, Succeeded, Failed or Cancelled; in any when absent. A task that ends
    /// while it is watched keeps its TaskWatch for `finishedRetentionSeconds`, even if its last state is not given here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::task_states")]
    pub states: Vec<String>,
    /// The type or the name of the task matches one of these patterns, as a whole: `*` stands for any characters, `?` for exactly one,
    /// such as `astra.backup*`. Upper and lower case differ. At most 32 patterns of up to 256 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::patterns")]
    pub types: Vec<String>,
    /// The name or the display name of the task contains this text, such as a marker that a pipeline puts there. Upper and lower case
    /// differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = WORD))]
    pub name_contains: Option<String>,
    /// The URI or identifier of the resource that the task works on (`status.task.resource` of a TaskWatch) contains this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = IDENTIFIER))]
    pub resource: Option<String>,
    /// The task was started by this user: the whole identifier, as the upstream gives it (`status.task.createdBy` of a TaskWatch).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = WORD))]
    pub created_by: Option<String>,
    /// `TopLevel` (the default): only tasks that are not a part of another one. `All`: parts of tasks, too.
    #[serde(default)]
    pub parents: TaskParents,
    /// The task was created at most so many seconds ago, by the upstream's clock. A task whose time of creation is not known counts as
    /// new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 315_360_000))]
    pub newer_than_seconds: Option<i32>,
}

/// Whether parts of tasks count.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TaskParents {
    #[default]
    /// Only tasks that are not a part of another one.
    TopLevel,
    /// Tasks, and the parts of tasks.
    All,
}

/// When a set is Ready.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SetReadyWhen {
    #[default]
    /// Each task that is to be watched has a TaskWatch.
    Observed,
    /// The same, and none of the tasks that match has failed.
    NoneFailed,
}

/// What the TaskWatches of a set look like.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WatchTemplate {
    /// Labels and annotations that each TaskWatch gets. Those that others put there are left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// Settings that each TaskWatch gets in its `spec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<TemplateSpec>,
}

/// The metadata of each TaskWatch of a set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMetadata {
    /// Labels, at most 32. Keys with the prefix `taskwatch.dev/` are set by the operator, and refused here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::template_labels")]
    pub labels: BTreeMap<String, String>,
    /// Annotations, at most 32 of up to 1,024 characters. Keys with the prefix `taskwatch.dev/` are set by the operator, and refused here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::template_annotations")]
    pub annotations: BTreeMap<String, String>,
}

/// The settings of each TaskWatch of a set; its connection and its task are given by the set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TemplateSpec {
    /// When a TaskWatch is Ready: `TaskSucceeded` (the default) or `Observed`, as in a TaskWatch.
    #[serde(default)]
    pub ready_when: ReadyWhen,
    /// How long a task may take, in seconds, counted from the creation of its TaskWatch; then watching it ends with `DeadlineExceeded`,
    /// and the task itself is not touched. No limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 315_360_000))]
    pub active_deadline_seconds: Option<i32>,
    /// What it means when the upstream no longer knows a task: `Fail` (the default) makes it Lost, `Succeed` counts it as succeeded,
    /// `Retry` keeps polling until the deadline. Only then is the TaskWatch of a task that the list no longer shows deleted.
    #[serde(default)]
    pub on_not_found: OnNotFound,
    /// For how many seconds without a break the upstream must not know a task before `onNotFound` applies. Default: 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub not_found_grace_seconds: Option<i32>,
    /// How often the upstream is asked, for each task and for the list in which tasks are found. Each figure is kept within the bounds of
    /// the connection. After `staleAfterSeconds` without a list, the set is no longer Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<WatchPoll>,
}

/// What a set has found.
// The default makes an object that nobody has looked at read as "in progress": kstatus takes an empty status for done.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct TaskWatchSetStatus {
    /// The `metadata.generation` that this status was decided for; -1 until the operator has seen the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 9_007_199_254_740_991_i64))]
    pub observed_generation: Option<i64>,
    /// How many tasks match; those that ended longer than `spec.finishedRetentionSeconds` ago do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = i32::MAX))]
    pub matched: Option<i32>,
    /// How many TaskWatches this set has at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = i32::MAX))]
    pub watched: Option<i32>,
    /// How many tasks are not watched although they match: those beyond `spec.limit`, and those that the operator has no room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = i32::MAX))]
    pub left_out: Option<i32>,
    /// How many of the tasks that match are in each state, by the words of `status.state` of a TaskWatch. States without a task are left
    /// out. Expect other words in later versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::state_counts")]
    pub states: BTreeMap<String, i32>,
    /// When the task began that has been running the longest of those that match, by the upstream's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_running_time: Option<Time>,
    /// At most 20 of the tasks that match: failed ones first, then running ones, then others; the newest first among each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = NEWEST_TASKS), extend("x-kubernetes-list-type" = "atomic"))]
    pub newest: Vec<FoundTask>,
    /// When the tasks were last listed, by the operator's clock. Written only together with another change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_list_time: Option<Time>,
    /// The aspects of the state. Synced: this status is what the upstream says now. Ready: each task that is to be watched has a TaskWatch
    /// (and what else `spec.readyWhen` asks for). Only while True: Reconciling (not there yet) and Stalled (somebody has to act).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// A task that matches, in brief.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FoundTask {
    /// The task's identifier.
    #[serde(rename = "taskID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = IDENTIFIER))]
    pub task_id: Option<String>,
    /// The task's name for people, or its machine name where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD))]
    pub name: Option<String>,
    /// The task's state, by the words of `status.state` of a TaskWatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD))]
    pub state: Option<String>,
    /// How much is done, in percent, rounded down: 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<i32>,
    /// What went wrong, in the upstream's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = CONDITION_MESSAGE))]
    pub message: Option<String>,
}

fn default_limit() -> i32 {
    100
}

fn default_retention() -> i32 {
    3600
}
