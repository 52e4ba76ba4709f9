//! The scenario: what exists at the start, and how it moves. The same shapes are used by the admin calls.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Error;
use crate::faults::FaultSpec;

/// Whose API a scope belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Provider {
    CloudRu,
    HuaweiCloud,
    AstraControl,
}

impl Provider {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::CloudRu => "cloudRu",
            Self::HuaweiCloud => "huaweiCloud",
            Self::AstraControl => "astraControl",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::CloudRu, Self::HuaweiCloud, Self::AstraControl].into_iter().find(|p| p.word() == word)
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Scenario {
    /// For readers only.
    #[serde(rename = "description")]
    _description: String,
    pub(crate) scopes: Vec<ScopeSpec>,
    pub(crate) tasks: Vec<TaskSpec>,
    pub(crate) bulk: Vec<BulkSpec>,
    pub(crate) faults: Vec<FaultSpec>,
}

impl Scenario {
    /// Reads a scenario. An element of a list with `"repeat": n` stands for n elements, in whose strings `{n}` is 000, 001, ….
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let mut value: Value = serde_json::from_str(text).map_err(|e| Error::Scenario(e.to_string()))?;
        for list in ["scopes", "tasks", "bulk", "faults"] {
            if let Some(Value::Array(items)) = value.get_mut(list) {
                *items = items.drain(..).flat_map(repeat).collect();
            }
        }
        serde_json::from_value(value).map_err(|e| Error::Scenario(e.to_string()))
    }
}

fn repeat(mut item: Value) -> Vec<Value> {
    let Some(n) = item.as_object_mut().and_then(|o| o.remove("repeat")).and_then(|n| n.as_u64()) else {
        return vec![item];
    };
    (0..n.min(10_000)).map(|i| numbered(&item, &format!("{i:03}"))).collect()
}

fn numbered(value: &Value, n: &str) -> Value {
    match value {
        Value::String(s) => Value::String(s.replace("{n}", n)),
        Value::Array(items) => items.iter().map(|v| numbered(v, n)).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), numbered(v, n))).collect(),
        other => other.clone(),
    }
}

/// An Astra account, a Huawei Cloud project or a Cloud.ru service instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ScopeSpec {
    pub(crate) provider: Provider,
    pub(crate) id: String,
    /// A project's name, by which IAM tokens may be asked for.
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) credentials: Vec<Credential>,
    #[serde(default)]
    pub(crate) options: Options,
}

/// What opens a scope.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind", deny_unknown_fields)]
pub(crate) enum Credential {
    /// A token made by hand that never expires (Astra, upstreams.md §3.4; or any other, for simplicity).
    Token {
        token: String,
        /// Known, but not allowed: the problem number for Astra (11, 14); any number for the others.
        #[serde(default)]
        denied: Option<u32>,
    },
    /// IAM user of Huawei Cloud (upstreams.md §2.3).
    Password {
        user: String,
        password: String,
        domain: String,
        #[serde(default = "day")]
        token_seconds: f64,
        /// The token dies after this time although `expires_at` says otherwise.
        #[serde(default)]
        actual_token_seconds: Option<f64>,
    },
    /// AK/SK of Huawei Cloud (upstreams.md §2.3).
    AccessKey { access_key: String, secret_key: String },
    /// Any token that a real OpenStack Keystone vouches for, by its project's ID (OpenStack Identity API v3, "Validate and show
    /// information for token"). Plain HTTP only.
    Keystone {
        /// `http://host:port/v3`.
        url: String,
    },
    /// Service-account key of Cloud.ru (upstreams.md §1.5).
    Key {
        key_id: String,
        secret: String,
        #[serde(default = "hour")]
        token_seconds: f64,
        #[serde(default)]
        actual_token_seconds: Option<f64>,
    },
    /// Client credentials, RFC 6749 §4.4.
    Oauth2 {
        client_id: String,
        client_secret: String,
        #[serde(default = "hour")]
        token_seconds: f64,
        #[serde(default)]
        actual_token_seconds: Option<f64>,
        /// Scopes that may be asked for; empty: any.
        #[serde(default)]
        scopes: Vec<String>,
    },
}

fn day() -> f64 {
    86_400.0
}

fn hour() -> f64 {
    3600.0
}

/// The variants of the wire that are seen or suspected (upstreams.md).
#[derive(Debug, Clone, Copy, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(clippy::struct_excessive_bools)] // independent switches of three APIs
pub(crate) struct Options {
    /// Cloud.ru: how an Any is written (§1.1).
    pub(crate) any: AnyStyle,
    /// Cloud.ru: what `error` is on a task without one (§1.1).
    pub(crate) empty_error: EmptyError,
    /// Cloud.ru: a task's `error` is a string (§1.4).
    pub(crate) string_error: bool,
    /// Cloud.ru: errors of the API in the form of grpc-gateway before v2 (§1.4).
    pub(crate) legacy_errors: bool,
    /// Huawei Cloud: who refuses an expired token (§0.3).
    pub(crate) expired_token: TokenLayer,
    /// Huawei Cloud: where sub-jobs stand (§2.1).
    pub(crate) sub_jobs: SubJobsAt,
    /// Huawei Cloud: what fields without a value look like (§2.1).
    pub(crate) nulls: Nulls,
    /// Huawei Cloud: an access key is locked after 5 failures (§0.4). Off only where a test needs it.
    pub(crate) no_lock: bool,
    /// Astra: items a page; 0: all.
    pub(crate) page_size: usize,
    /// Astra: `continue` is accepted as a parameter, against the document (§3.3).
    pub(crate) accept_continue: bool,
    /// Astra: `endTime` is present while running, as in the published example (§3.1).
    pub(crate) end_time_while_running: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) enum AnyStyle {
    /// `typeUrl` and `value`: as the page of the API says (seed 000).
    #[default]
    TypeUrl,
    /// `@type`: as proto3 JSON says.
    AtType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) enum EmptyError {
    #[default]
    Absent,
    Null,
    /// `{"code":0,"message":"","details":[]}`.
    Zero,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) enum TokenLayer {
    /// 401 `APIGW.0307`.
    #[default]
    Gateway,
    /// 400 `Common.0013`.
    Service,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) enum SubJobsAt {
    /// `entities.sub_jobs`.
    #[default]
    Entities,
    /// `sub_jobs` beside `entities`.
    Top,
    /// `entities.sub_jobs_result` and `sub_jobs_list` (IMS).
    Images,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Nulls {
    /// As published: running: `end_time` "", no error keys; succeeded: both null.
    #[default]
    Published,
    Null,
    Absent,
    Empty,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TaskSpec {
    pub(crate) provider: Provider,
    pub(crate) scope: String,
    pub(crate) id: String,
    #[serde(flatten)]
    pub(crate) common: Common,
    /// Seconds before the start at which it was created and its steps began.
    #[serde(default)]
    pub(crate) ago: f64,
    #[serde(default)]
    pub(crate) steps: Vec<Step>,
    /// The steps begin again after this time.
    #[serde(default)]
    pub(crate) loop_seconds: Option<f64>,
}

/// What does not change while a task moves.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Common {
    /// `command`, `job_type` or `name`.
    pub(crate) name: Option<String>,
    /// Astra: `summary` and `description`.
    pub(crate) summary: Option<String>,
    /// Astra: `parentTaskID`.
    pub(crate) parent: Option<String>,
    /// Astra: `orderHint`.
    pub(crate) order_hint: Option<f64>,
    /// Astra: `resourceURI`.
    pub(crate) resource: Option<String>,
    /// `createdBy` or `userID`.
    pub(crate) created_by: Option<String>,
    /// Laid over the answer, key by key.
    pub(crate) fields: Map<String, Value>,
    /// Keys left out of the answer.
    pub(crate) remove: Vec<String>,
}

/// What a task is from `at` on. Percent, entities, metadata and response stay as in the step before when they are not given.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Step {
    /// Seconds since the task's start.
    pub(crate) at: f64,
    /// The upstream's own word.
    pub(crate) state: String,
    pub(crate) percent: Option<f64>,
    pub(crate) error: Option<TaskError>,
    /// Huawei Cloud.
    pub(crate) entities: Option<Map<String, Value>>,
    /// Huawei Cloud.
    pub(crate) sub_jobs: Option<Vec<SubJob>>,
    /// Astra: `stateDetails`.
    pub(crate) details: Vec<Value>,
    /// Cloud.ru: `{"typeUrl": …, "value": …}`.
    pub(crate) response: Option<Value>,
    /// Cloud.ru: likewise.
    pub(crate) metadata: Option<Value>,
    pub(crate) fields: Map<String, Value>,
    pub(crate) remove: Vec<String>,
    /// The upstream does not know the task during this step.
    pub(crate) gone: bool,
    /// The normalised state, where the word does not tell.
    pub(crate) truth: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct TaskError {
    /// A string for Huawei Cloud, a `google.rpc.Code` for Cloud.ru.
    pub(crate) code: Value,
    pub(crate) message: String,
    pub(crate) details: Vec<Value>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct SubJob {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) error: Option<TaskError>,
    pub(crate) entities: Option<Map<String, Value>>,
}

/// Many tasks at once.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BulkSpec {
    pub(crate) provider: Provider,
    pub(crate) scope: String,
    pub(crate) count: usize,
    /// Number of the first; IDs follow from the number alone.
    #[serde(default)]
    pub(crate) first: usize,
    #[serde(flatten)]
    pub(crate) common: Common,
    /// A state change per task in this time, evenly spread, for ever. Takes the place of `steps`.
    #[serde(default)]
    pub(crate) change_every_seconds: Option<f64>,
    #[serde(default)]
    pub(crate) steps: Vec<Step>,
    #[serde(default)]
    pub(crate) loop_seconds: Option<f64>,
    /// The tasks' starts are spread evenly over this time before now.
    #[serde(default)]
    pub(crate) spread_seconds: f64,
}
