//! The status of a `TaskWatch`. Every field is optional, and every word is an open set for readers.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    bounds::{
        ANNOTATION, ERROR_DETAILS, IDENTIFIER, MESSAGE, OUTPUTS, STATE_DETAILS, SUBTASK_TEXT, SUBTASKS, VALUE, WORD,
    },
    schema,
};

/// What is known of the task, and how well it is known.
// The default makes an object that nobody has looked at read as "in progress": kstatus takes an empty status for done.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct TaskWatchStatus {
    /// The `metadata.generation` that this status was decided for; -1 until the operator has seen the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 9_007_199_254_740_991_i64))]
    pub observed_generation: Option<i64>,
    /// The task's state in one word: Pending (also while it is not known yet which task it is), Running, Paused, Succeeded, Failed, Cancelled, Lost (the upstream does not know the task)
    /// or Unknown (not seen yet). Expect others in later versions. The last known state stays while the upstream cannot be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD))]
    pub state: Option<String>,
    /// Which task it is, and what the upstream says of its identity, in its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskStatus>,
    /// How far the task is. Absent where neither the upstream nor the sub-tasks tell. Written at most every 30 s while nothing else
    /// changes (an option of the operator).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressStatus>,
    /// The parts of the task, where the upstream shows any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subtasks: Option<SubtasksStatus>,
    /// The error of the task itself, as the upstream tells it. Errors in asking the upstream are in the condition Synced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorStatus>,
    /// What the task made: identifiers, names and URIs of results, such as `volume_id` (Huawei Cloud `entities`, Cloud.ru `response`,
    /// Astra `resourceURI`), and those that the connection names in `spec.outputs`; at most 32. What looks like a secret is left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "outputs_schema")]
    pub outputs: BTreeMap<String, String>,
    /// Why the task is in its state, where the upstream explains it (Astra `stateDetails`); at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = STATE_DETAILS), extend("x-kubernetes-list-type" = "atomic"))]
    pub state_details: Vec<StateDetailStatus>,
    /// When work on the task began, by the upstream's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the task ended, by the upstream's clock; only once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// When the observation that this status shows was made, by the operator's clock. Written only together with another change:
    /// an old time here does not mean that nobody has looked since (see the condition Synced).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_observed_time: Option<Time>,
    /// Since when, without a break, the upstream has said that it does not know the task, by the operator's clock; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_found_since: Option<Time>,
    /// The last value of the annotation `taskwatch.dev/requestedAt` (or `reconcile.fluxcd.io/requestedAt`) that was acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = ANNOTATION))]
    pub last_handled_reconcile_at: Option<String>,
    /// The aspects of the state. Succeeded: what became of the task. Finished: it has ended, on either outcome. Synced: this status is
    /// what the upstream says now. Ready: the object may be relied upon (see `spec.readyWhen`). Only while True: Reconciling (not at its
    /// end yet) and Stalled (somebody has to act).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// The task in the upstream's own words.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// The task's identifier: there as soon as it is known which task it is, also where it was looked for (`spec.task.idFrom`, `.latest`);
    /// it stays the same from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = IDENTIFIER))]
    pub id: Option<String>,
    /// The container of the task that was asked: Astra account, Huawei Cloud project, Cloud.ru service instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = IDENTIFIER))]
    pub scope: Option<String>,
    /// The machine name of the task (Astra `name`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD))]
    pub name: Option<String>,
    /// The name for people (Astra `summary`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD))]
    pub display_name: Option<String>,
    /// The kind of work (Huawei Cloud `job_type`, Cloud.ru `command`).
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD))]
    pub kind: Option<String>,
    /// The upstream's own word for the state, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD))]
    pub upstream_state: Option<String>,
    /// The identifier of the task that this one is part of.
    #[serde(default, rename = "parentID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD))]
    pub parent_id: Option<String>,
    /// The resource that is worked on: an identifier or URI (Astra `resourceURI`, Cloud.ru `metadata`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = VALUE))]
    pub resource: Option<String>,
    /// Who started the task: an identifier of the upstream's (Cloud.ru `createdBy`, Astra `userID`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD))]
    pub created_by: Option<String>,
    /// When the task was accepted, by the upstream's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<Time>,
    /// When the task last changed, by the upstream's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_time: Option<Time>,
}

/// How far the task is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProgressStatus {
    /// How much is done, in percent, rounded down: 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<i32>,
    /// The same as text for tables: `20%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub display: Option<String>,
    /// Where the figure comes from: Reported by the upstream, or Derived from the sub-tasks (or from success, which is 100 %).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub source: Option<String>,
}

/// The parts of the task: how many are in which state, and the most telling of them.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SubtasksStatus {
    /// How many parts the task has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub total: Option<i32>,
    /// How many of them have not begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub pending: Option<i32>,
    /// How many of them are being worked on, or paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub running: Option<i32>,
    /// How many of them have succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub succeeded: Option<i32>,
    /// How many of them have failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub failed: Option<i32>,
    /// How many of them were cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub cancelled: Option<i32>,
    /// At most 32 of the parts: the failed ones first, then in the upstream's order. Absent where the whole status would be too large.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = SUBTASKS), extend("x-kubernetes-list-type" = "atomic"))]
    pub items: Vec<SubtaskStatus>,
}

/// One part of the task.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SubtaskStatus {
    /// The part's identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = SUBTASK_TEXT))]
    pub id: Option<String>,
    /// The part's name, or its kind of work where it has no name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = SUBTASK_TEXT))]
    pub name: Option<String>,
    /// The part's state, in the words of `status.state`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = SUBTASK_TEXT))]
    pub state: Option<String>,
    /// The upstream's own word for the state, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = SUBTASK_TEXT))]
    pub upstream_state: Option<String>,
    /// How much of it is done, in percent, rounded down: 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<i32>,
    /// The upstream's code of what went wrong, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = SUBTASK_TEXT))]
    pub error_code: Option<String>,
    /// What went wrong, in the upstream's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = SUBTASK_TEXT))]
    pub error_message: Option<String>,
}

/// The error of the task, as the upstream tells it; control characters are taken out.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ErrorStatus {
    /// The upstream's code, as text: `EVS.2024`, `7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD))]
    pub code: Option<String>,
    /// A word for the code, where the upstream has one: `PERMISSION_DENIED`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD))]
    pub reason: Option<String>,
    /// What the upstream says, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MESSAGE))]
    pub message: Option<String>,
    /// The HTTP status that the upstream names for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 999))]
    pub http_status: Option<i32>,
    /// The upstream's identifier for questions to its support.
    #[serde(default, rename = "correlationID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD))]
    pub correlation_id: Option<String>,
    /// Further details (`google.rpc.Status` `details` and their like); at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = ERROR_DETAILS), extend("x-kubernetes-list-type" = "atomic"))]
    pub details: Vec<ErrorDetailStatus>,
}

/// One detail of an error.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ErrorDetailStatus {
    /// The name or URL of the detail's type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD))]
    pub kind: Option<String>,
    /// The detail as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = VALUE))]
    pub value: Option<String>,
}

/// One explanation of the task's state.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StateDetailStatus {
    /// The name or URL of the explanation's type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD))]
    pub kind: Option<String>,
    /// A short title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD))]
    pub title: Option<String>,
    /// The explanation, in the upstream's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MESSAGE))]
    pub detail: Option<String>,
}

fn outputs_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": OUTPUTS,
        "additionalProperties": {"type": "string", "maxLength": VALUE},
    })
}
