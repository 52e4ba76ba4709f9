//! `TaskConnection` and `ClusterTaskConnection`: an upstream endpoint and the credential for it.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    auth::ConnectionAuth,
    bounds::{KEY, PEM, WORD},
    provider::ConnectionProvider,
    schema,
    taskwatch::seconds,
};

/// Where the upstream is, how to prove who we are, and how much may be asked of it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "taskwatch.dev",
    version = "v1alpha1",
    kind = "TaskConnection",
    namespaced,
    status = "ConnectionStatus",
    shortname = "tc",
    category = "taskwatch-all",
    derive = "PartialEq",
    doc = "A TaskConnection is one endpoint of an upstream system and the credential for it. The TaskWatches of its own namespace may use it."
)]
#[serde(rename_all = "camelCase")]
pub struct TaskConnectionSpec {
    /// The system behind this connection: exactly one of `huaweiCloud`, `cloudRu`, `astraControl`.
    pub provider: ConnectionProvider,
    /// The credential: exactly one of `token`, `keystone`, `accessKey`, `cloudRuKey`, `oauth2`. Each names a Secret.
    pub auth: ConnectionAuth,
    /// How the server's certificate is verified. Verification cannot be switched off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// How much may be asked of the upstream, over all TaskWatches of this connection; token requests and repetitions count.
    #[serde(default)]
    pub rate_limit: RateLimit,
    /// Bounds on how often each task is polled, and in which way.
    #[serde(default)]
    pub poll: ConnectionPoll,
    /// How many seconds one request may take, from connecting to the last byte. Default: 15.
    #[serde(default = "default_request_timeout")]
    #[schemars(range(min = 1, max = 300))]
    pub request_timeout_seconds: i32,
    /// The scopes (Astra accounts, Huawei Cloud projects, Cloud.ru service instances) that TaskWatches may name beside the provider's
    /// own; `"*"` allows any that the credential reaches. Each is an identifier as the provider has them, else the connection says
    /// `InvalidSpec`. At most 64; none by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::scopes")]
    pub allowed_scopes: Vec<String>,
    /// Names of further results that `status.outputs` of the TaskWatches shows, as `private_ip` or `network.cidr`. Identifiers, names
    /// and URIs are shown unasked. Passwords, tokens, keys and the like never are, whether they are named here or not. At most 32; none
    /// by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::outputs")]
    pub outputs: Vec<String>,
}

/// A connection that is shared with the namespaces that it allows.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "taskwatch.dev",
    version = "v1alpha1",
    kind = "ClusterTaskConnection",
    status = "ConnectionStatus",
    shortname = "ctc",
    category = "taskwatch-all",
    derive = "PartialEq",
    doc = "A ClusterTaskConnection is a TaskConnection of the whole cluster: the TaskWatches of the namespaces that it allows may use it. Its Secrets are in the operator's own namespace."
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterTaskConnectionSpec {
    /// What it has in common with a TaskConnection.
    #[serde(flatten)]
    pub connection: TaskConnectionSpec,
    /// The namespaces whose TaskWatches may use this connection: those that are named, and those whose labels match. No namespace when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
    /// How much each namespace may use of this connection. No limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ConnectionLimits>,
}

/// How much each namespace may use of a connection.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionLimits {
    /// How many TaskWatches of one namespace are served. The oldest ones are; the others say so in their status. No limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub watches_per_namespace: Option<i32>,
    /// How many requests a minute are sent for the TaskWatches of one namespace; where they want more, their periods are stretched. A list
    /// that serves several namespaces is not counted. No limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 60_000))]
    pub requests_per_minute_per_namespace: Option<i32>,
}

/// Namespaces by name and by label.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AllowedNamespaces {
    /// Names of namespaces; at most 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::namespaces")]
    pub names: Vec<String>,
    /// Labels of namespaces. An empty selector (`{}`) matches every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub selector: Option<LabelSelector>,
}

/// How the server's certificate is verified.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.caBundle) && has(self.caBundleRef))").message("give either caBundle or caBundleRef, not both"))]
pub struct Tls {
    /// Certificates of the authorities to trust, in PEM; they replace the built-in ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = PEM))]
    pub ca_bundle: Option<String>,
    /// The object that holds these certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_ref: Option<CaBundleRef>,
    /// The host name that the certificate must have, where it differs from that of the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub server_name: Option<String>,
}

/// An object with certificates; of the same namespace, or the operator's own for a ClusterTaskConnection.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CaBundleRef {
    /// The kind of the object: `ConfigMap` (the default) or `Secret`.
    #[serde(default)]
    pub kind: CaBundleKind,
    /// The name of the object.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// The key that holds the certificates in PEM. Default: `ca.crt`.
    #[serde(default = "default_ca_key")]
    #[schemars(length(min = 1, max = KEY), pattern("^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// What may hold certificates.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CaBundleKind {
    #[default]
    /// A `ConfigMap`.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// How much may be asked.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.requests) == has(self.periodSeconds)").message("give requests and periodSeconds together, such as 200 requests in 300 seconds, or neither"))]
pub struct RateLimit {
    /// Requests per second, on average; does not count where `requests` and `periodSeconds` are given. Default: 5.
    #[serde(default = "default_requests_per_second")]
    #[schemars(range(min = 1, max = 1000))]
    pub requests_per_second: i32,
    /// Requests in each `periodSeconds`, on average: for an API that allows less than one in a second, or states its limit so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub requests: Option<i32>,
    /// The period of `requests`, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub period_seconds: Option<i32>,
    /// Requests that may follow one another at once after a pause. Default: 10.
    #[serde(default = "default_burst")]
    #[schemars(range(min = 1, max = 1000))]
    pub burst: i32,
    /// Requests that may be in flight at a time; of lists, at most two, and of those that an access key signs, at most three. Default: 8.
    #[serde(default = "default_max_in_flight")]
    #[schemars(range(min = 1, max = 256))]
    pub max_in_flight: i32,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            requests_per_second: default_requests_per_second(),
            requests: None,
            period_seconds: None,
            burst: default_burst(),
            max_in_flight: default_max_in_flight(),
        }
    }
}

/// How often each task may be polled.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minPeriodSeconds <= self.maxPeriodSeconds").message("maxPeriodSeconds must not be less than minPeriodSeconds"))]
pub struct ConnectionPoll {
    /// The shortest period that a TaskWatch gets, in seconds. Default: 5.
    #[serde(default = "default_min_period")]
    #[schemars(range(min = 1, max = 86_400))]
    pub min_period_seconds: i32,
    /// The longest period that a TaskWatch gets, in seconds. Default: 300.
    #[serde(default = "default_max_period")]
    #[schemars(range(min = 1, max = 86_400))]
    pub max_period_seconds: i32,
    /// How tasks are polled: `List` gets all of a scope at once, `Get` each by itself, `Auto` (the default) what costs less.
    /// Huawei Cloud has no list.
    #[serde(default)]
    pub mode: PollMode,
}

impl Default for ConnectionPoll {
    fn default() -> Self {
        Self {
            min_period_seconds: default_min_period(),
            max_period_seconds: default_max_period(),
            mode: PollMode::default(),
        }
    }
}

/// How tasks are polled.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PollMode {
    #[default]
    /// What costs fewer requests.
    Auto,
    /// All of a scope at once.
    List,
    /// Each by itself.
    Get,
}

fn default_requests_per_second() -> i32 {
    5
}

fn default_burst() -> i32 {
    10
}

fn default_max_in_flight() -> i32 {
    8
}

fn default_min_period() -> i32 {
    5
}

fn default_max_period() -> i32 {
    300
}

fn default_request_timeout() -> i32 {
    15
}

fn default_ca_key() -> String {
    "ca.crt".to_owned()
}

impl RateLimit {
    /// Requests per second, on average; may be below one.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        match (self.requests, self.period_seconds) {
            (Some(requests), Some(period)) => f64::from(requests.max(1)) / f64::from(period.max(1)),
            _ => f64::from(self.requests_per_second.max(1)),
        }
    }
}

impl ConnectionPoll {
    /// The shortest period.
    #[must_use]
    pub fn min_period(&self) -> Duration {
        seconds(self.min_period_seconds)
    }

    /// The longest period.
    #[must_use]
    pub fn max_period(&self) -> Duration {
        seconds(self.max_period_seconds)
    }
}

impl TaskConnectionSpec {
    /// What stands for any scope in [`Self::allowed_scopes`].
    pub const ANY_SCOPE: &'static str = "*";

    /// How long one request may take.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        seconds(self.request_timeout_seconds)
    }

    /// Whether a TaskWatch may name this scope: the provider's own, or one that is allowed beside it.
    #[must_use]
    pub fn allows_scope(&self, scope: &str) -> bool {
        self.provider.member().is_some_and(|provider| provider.scope() == scope)
            || self.allowed_scopes.iter().any(|allowed| allowed == Self::ANY_SCOPE || allowed == scope)
    }
}

/// The observed state of the connection.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct ConnectionStatus {
    /// The `metadata.generation` that this status was decided for; -1 until the operator has seen the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 9_007_199_254_740_991_i64))]
    pub observed_generation: Option<i64>,
    /// How many TaskWatches use this connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watches: Option<WatchCounts>,
    /// How most tasks are polled at present: List or Get. Expect others in later versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD))]
    pub mode: Option<String>,
    /// When the upstream last gave a good answer, by the operator's clock; brought up to date along with other changes, and every ten minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,
    /// The upstream asked not to be asked again before this time (Retry-After); only while that is more than a few seconds ahead. It is
    /// kept to after a restart, too, and by another replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_time: Option<Time>,
    /// The aspects of the state. Ready: the upstream answers and takes the credential. Only while True: Reconciling (trouble that may
    /// pass by itself) and Stalled (somebody has to act).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// How many TaskWatches use a connection.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WatchCounts {
    /// Those that are not finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = i32::MAX))]
    pub active: Option<i32>,
    /// Those that are finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = i32::MAX))]
    pub finished: Option<i32>,
}
