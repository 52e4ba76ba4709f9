//! The rights in `deploy/rbac/` against what the operator asks of the API server, as its audit log has it.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use taskwatch_harness::{ControlPlaneOptions, OPERATOR, Workdir, workspace_root};

/// The role that an operator with `--discovery=false` does not need, and its binding.
pub const SETS: &str = "taskwatch-sets";

/// The manifests that say what the operator of a whole cluster may do.
const MANIFESTS: [&str; 4] = ["rbac/operator.yaml", "rbac/secrets.yaml", "rbac/apiserver.yaml", "operator/leases.yaml"];

/// What was asked of the API server.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// Verb, API group and resource, as `patch taskwatch.dev taskwatches/status`.
    what: String,
    namespace: String,
    name: String,
}

/// A part of a role: one verb for one resource.
#[derive(Debug)]
pub struct Right {
    /// As [`Call::what`].
    what: String,
    /// None: in all.
    namespace: Option<String>,
    /// None named: of any name.
    names: Vec<String>,
}

/// Where this runs, as on OpenShift, an object that blocks the deletion of another one is made by those who may update its finalizers.
const ENFORCEMENT: &str = "--enable-admission-plugins=OwnerReferencesPermissionEnforcement";
/// The rights that it looks for; no call shows them.
const UNSEEN: &str = "update taskwatch.dev taskwatchsets/finalizers";

impl Right {
    fn allows(&self, call: &Call) -> bool {
        self.what == call.what
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == call.namespace)
            && (self.names.is_empty() || self.names.contains(&call.name))
    }
}

/// What stands in the way of "each right is used, and nothing else is asked for".
pub fn differences(rights: &[Right], calls: &BTreeSet<Call>) -> Vec<String> {
    let unused = rights.iter().filter(|right| right.what != UNSEEN && !calls.iter().any(|call| right.allows(call)));
    let ungranted = calls.iter().filter(|call| !rights.iter().any(|right| right.allows(call)));
    let unused = unused.map(|right| format!("granted, not used: {right:?}"));
    unused.chain(ungranted.map(|call| format!("asked for, not granted: {call:?}"))).collect()
}

/// The audit log of a control plane.
pub struct Audit {
    workdir: Workdir,
}

impl Audit {
    /// What the operator's service account asks for.
    pub fn new() -> Self {
        Self::by(&serde_json::json!([{"level": "Metadata", "users": [OPERATOR]}, {"level": "None"}]))
    }

    /// What the rules of a policy say.
    pub fn by(rules: &Value) -> Self {
        let workdir = Workdir::new("audit").unwrap();
        let policy = serde_json::json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules,
        });
        workdir.write("policy.json", &policy.to_string()).unwrap();
        Self { workdir }
    }

    /// What makes the API server write it, and be as strict as any.
    pub fn options(&self) -> ControlPlaneOptions {
        let path = |name: &str| self.workdir.path().join(name).display().to_string();
        let apiserver_args = vec![
            format!("--audit-policy-file={}", path("policy.json")),
            format!("--audit-log-path={}", path("log")),
            ENFORCEMENT.to_owned(),
        ];
        ControlPlaneOptions { apiserver_args, ..ControlPlaneOptions::default() }
    }

    /// What was asked for so far, of resources.
    pub fn calls(&self) -> BTreeSet<Call> {
        self.entries().iter().filter_map(call).collect()
    }

    /// All that is written so far.
    pub fn entries(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.workdir.path().join("log")).unwrap();
        // The last one may be half written.
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// None: it was about no resource, but about `/version` and the like.
fn call(entry: &Value) -> Option<Call> {
    let object = entry.get("objectRef")?;
    let of = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
    let resource = match of("subresource") {
        part if part.is_empty() => of("resource"),
        part => format!("{}/{part}", of("resource")),
    };
    let what = format!("{} {} {resource}", entry["verb"].as_str()?, of("apiGroup"));
    Some(Call { what, namespace: of("namespace"), name: of("name") })
}

#[derive(Deserialize)]
struct Role {
    metadata: Metadata,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Metadata {
    namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// What the manifests of the operator of a whole cluster grant.
pub fn granted() -> Vec<Right> {
    MANIFESTS.iter().flat_map(|file| granted_by(file)).collect()
}

/// What one file below `deploy/` grants.
fn granted_by(file: &str) -> Vec<Right> {
    let text = std::fs::read_to_string(workspace_root().join("deploy").join(file)).unwrap();
    let roles = text.split("\n---\n").map(|text| serde_saphyr::from_str::<Role>(text).unwrap());
    roles.flat_map(rights).collect()
}

/// That each right of the cluster's roles is used is seen there (`cluster`); what is left without namespaces and cluster-wide connections
/// is what the operator of one namespace needs.
#[test]
fn the_namespaced_role_grants_what_the_clusters_roles_do_within_a_namespace() {
    let of = |files: &[&str]| -> BTreeSet<String> {
        files.iter().flat_map(|file| granted_by(file)).map(|right| right.what).collect()
    };
    let mut expected = of(&["rbac/operator.yaml", "rbac/secrets.yaml"]);
    let all = expected.len();
    expected.retain(|what| !what.contains(" clustertaskconnections") && !what.ends_with(" namespaces"));
    assert_eq!(all - expected.len(), 5, "two verbs of each, and the status");
    assert_eq!(of(&["namespaced/role.yaml"]), expected);
}

fn rights(role: Role) -> Vec<Right> {
    let mut rights = Vec::new();
    for rule in role.rules {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                rights.extend(rule.verbs.iter().map(|verb| Right {
                    what: format!("{verb} {group} {resource}"),
                    namespace: role.metadata.namespace.clone(),
                    names: rule.resource_names.clone(),
                }));
            }
        }
    }
    rights
}
