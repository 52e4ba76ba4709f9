//! The upstream systems that a connection can speak to. A new one is a member of [`ConnectionProvider`], and its type's `MEMBER` is one of
//! [`MEMBERS`].

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{bounds::WORD, schema};

/// The system behind a connection: exactly one of the members.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::exactly_one("provider", MEMBERS.iter().map(|member| member.name)))]
pub struct ConnectionProvider {
    /// Huawei Cloud jobs: EVS and every service whose jobs have the same shape (ECS, BMS, SDRS, EIP, VPC), also of Open Telekom Cloud
    /// and FlexibleEngine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub huawei_cloud: Option<HuaweiCloud>,
    /// Tasks of Cloud.ru (formerly SberCloud) Managed OpenShift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_ru: Option<CloudRu>,
    /// Tasks of NetApp Astra Control, Service or Center.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub astra_control: Option<AstraControl>,
}

/// What every member of [`ConnectionProvider`] has.
#[derive(Debug)]
pub struct ProviderMember {
    /// Its name in the API: also that of metrics and flags.
    pub name: &'static str,
    /// The name of its field that holds the scope of a task that names none.
    pub scope_field: &'static str,
    /// Its endpoint and its scope, where it is given.
    read: fn(&ConnectionProvider) -> Option<(&str, &str)>,
}

/// All members of [`ConnectionProvider`].
pub const MEMBERS: &[&ProviderMember] = &[&HuaweiCloud::MEMBER, &CloudRu::MEMBER, &AstraControl::MEMBER];

/// The one member that a [`ConnectionProvider`] has.
#[derive(Clone, Copy, Debug)]
pub struct ProviderRef<'a> {
    member: &'static ProviderMember,
    endpoint: &'a str,
    scope: &'a str,
}

impl ConnectionProvider {
    /// The member that is given; none unless it is exactly one, which the schema sees to.
    #[must_use]
    pub fn member(&self) -> Option<ProviderRef<'_>> {
        let of = |member: &&'static ProviderMember| {
            (member.read)(self).map(|(endpoint, scope)| ProviderRef { member, endpoint, scope })
        };
        let mut given = MEMBERS.iter().filter_map(of);
        given.next().filter(|_| given.next().is_none())
    }
}

impl<'a> ProviderRef<'a> {
    /// The member's name: metric label and `--provider` of `taskwatch decode`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.member.name
    }

    /// The base URL that requests go to.
    #[must_use]
    pub fn endpoint(self) -> &'a str {
        self.endpoint
    }

    /// The scope of a task that names none.
    #[must_use]
    pub fn scope(self) -> &'a str {
        self.scope
    }

    /// The name of the member's field that [`Self::scope`] is.
    #[must_use]
    pub fn scope_field(self) -> &'static str {
        self.member.scope_field
    }
}

/// A service of Huawei Cloud whose jobs are at `/v1/{project_id}/jobs/{job_id}`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HuaweiCloud {
    /// The base URL of the service in its region, as `https://evs.eu-west-101.myhuaweicloud.eu`; `/v1/…/jobs/…` is added to it.
    #[schemars(schema_with = "schema::url")]
    pub endpoint: String,
    /// The identifier of the project that the jobs belong to (console: My Credentials, Projects).
    #[serde(rename = "projectID")]
    #[schemars(schema_with = "schema::identifier")]
    pub project_id: String,
}

impl HuaweiCloud {
    /// As a member of [`ConnectionProvider`].
    pub const MEMBER: ProviderMember = ProviderMember {
        name: "huaweiCloud",
        scope_field: "projectID",
        read: |given| given.huawei_cloud.as_ref().map(|spec| (spec.endpoint.as_str(), spec.project_id.as_str())),
    };
}

/// A Managed OpenShift service instance of Cloud.ru.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CloudRu {
    /// The base URL of the API; `/openshift/v1/…/tasks/…` is added to it. The vendor publishes no common host.
    #[schemars(schema_with = "schema::url")]
    pub endpoint: String,
    /// The identifier of the service instance that the tasks belong to.
    #[serde(rename = "serviceInstanceID")]
    #[schemars(schema_with = "schema::identifier")]
    pub service_instance_id: String,
    /// How the words of the tasks' `status` are read. The vendor publishes no list of them; absent lists mean the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub states: Option<CloudRuStates>,
}

impl CloudRu {
    /// As a member of [`ConnectionProvider`].
    pub const MEMBER: ProviderMember = ProviderMember {
        name: "cloudRu",
        scope_field: "serviceInstanceID",
        read: |given| given.cloud_ru.as_ref().map(|spec| (spec.endpoint.as_str(), spec.service_instance_id.as_str())),
    };
}

/// The vocabulary of a Cloud.ru task's `status`. Words are compared without regard to case; one that is in no list counts as running.
/// A list that is given replaces the operator's own for that state.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CloudRuStates {
    /// Status words that mean the task is accepted but has not started. At most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::state_words")]
    pub pending: Option<Vec<String>>,
    /// Status words that mean the task is running. At most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::state_words")]
    pub running: Option<Vec<String>>,
    /// Status words that mean the task is paused or pausing. At most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::state_words")]
    pub paused: Option<Vec<String>>,
    /// Status words that mean the task succeeded. At most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::state_words")]
    pub succeeded: Option<Vec<String>>,
    /// Status words that mean the task failed. At most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::state_words")]
    pub failed: Option<Vec<String>>,
    /// Status words that mean the task was cancelled. At most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::state_words")]
    pub cancelled: Option<Vec<String>>,
    /// A prefix that is removed from each word before it is compared, as `TASK_STATUS_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD))]
    pub strip_prefix: Option<String>,
    /// Whether a task with a non-empty `error` has failed, whatever its word. Default: true. Set it to false where the system tells
    /// of an error while it still rolls back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_decides: Option<bool>,
    /// Whether a task with a non-empty `response` and a word that is in no list has succeeded. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_decides: Option<bool>,
}

/// An account of Astra Control.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AstraControl {
    /// The base URL: `https://astra.netapp.io` for the Service, your own host for a Center; `/accounts/…/core/v1/tasks` is added to it.
    #[schemars(schema_with = "schema::url")]
    pub endpoint: String,
    /// The identifier of the account (web interface: API Access).
    #[serde(rename = "accountID")]
    #[schemars(schema_with = "schema::identifier")]
    pub account_id: String,
}

impl AstraControl {
    /// As a member of [`ConnectionProvider`].
    pub const MEMBER: ProviderMember = ProviderMember {
        name: "astraControl",
        scope_field: "accountID",
        read: |given| given.astra_control.as_ref().map(|spec| (spec.endpoint.as_str(), spec.account_id.as_str())),
    };
}
