//! The rights in `deploy/rbac/` against what the operator asks of the API server, as its audit log has it.

use std::{collections::BTreeSet, path::PathBuf};

use serde::Deserialize;
use serde_json::Value;
use taskwatch_harness::{ControlPlaneOptions, OPERATOR, Workdir, workspace_root};

/// Verb, API group and resource, as `patch taskwatch.dev taskwatches/status`.
type Call = String;

/// The audit log of a control plane: what the operator's service account has asked for.
pub struct Audit {
    workdir: Workdir,
}

impl Audit {
    pub fn new() -> Self {
        let workdir = Workdir::new("audit").unwrap();
        let policy = serde_json::json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
            "rules": [{"level": "Metadata", "users": [OPERATOR]}, {"level": "None"}],
        });
        workdir.write("policy.json", &policy.to_string()).unwrap();
        Self { workdir }
    }

    /// What makes the API server write it.
    pub fn options(&self) -> ControlPlaneOptions {
        let path = |name: &str| self.workdir.path().join(name).display().to_string();
        let apiserver_args =
            vec![format!("--audit-policy-file={}", path("policy.json")), format!("--audit-log-path={}", path("log"))];
        ControlPlaneOptions { apiserver_args, ..ControlPlaneOptions::default() }
    }

    /// What was asked for so far; questions about rights and versions are left out.
    pub fn calls(&self) -> BTreeSet<Call> {
        let log = std::fs::read_to_string(self.workdir.path().join("log")).unwrap();
        let calls = log.lines().filter_map(|line| {
            let entry: Value = serde_json::from_str(line).unwrap();
            let object = entry.get("objectRef")?;
            let of = |key: &str| object[key].as_str().unwrap_or_default();
            let part = if of("subresource").is_empty() { String::new() } else { format!("/{}", of("subresource")) };
            let verb = entry["verb"].as_str()?;
            Some(format!("{verb} {} {}{part}", of("apiGroup"), of("resource")))
        });
        calls.collect()
    }
}

#[derive(Deserialize)]
struct Role {
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
}

/// What the manifests of the operator grant.
pub fn granted() -> BTreeSet<Call> {
    let directory: PathBuf = workspace_root().join("deploy/rbac");
    let mut granted = BTreeSet::new();
    for file in ["operator.yaml", "secrets.yaml"] {
        let text = std::fs::read_to_string(directory.join(file)).unwrap();
        for document in text.split("\n---\n") {
            let role: Role = serde_saphyr::from_str(document).unwrap();
            for rule in role.rules {
                for group in &rule.api_groups {
                    for resource in &rule.resources {
                        granted.extend(rule.verbs.iter().map(|verb| format!("{verb} {group} {resource}")));
                    }
                }
            }
        }
    }
    granted
}
