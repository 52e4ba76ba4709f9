//! The operator's identity and rights: the service account and the roles of `deploy/`, in the demo's namespaces.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{NAMESPACE, SYSTEM_NAMESPACE};
use crate::{Kubectl, Workdir, workspace_root};

/// The namespace of `deploy/`, which the demo's own stands for.
const DEPLOYED: &str = "taskwatch-system";
const KINDS: [&str; 5] = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
/// The demo may stay up for a day.
const TOKEN_LASTS: &str = "--duration=24h";

/// What `deploy/` grants, as manifests.
async fn manifests(kubectl: &Kubectl) -> Result<String> {
    let deploy = workspace_root().join("deploy").display().to_string();
    let all = kubectl.run(&["kustomize", &deploy]).await?.success()?;
    let ours = all.split("\n---\n").filter(|document| {
        let kind = document.lines().find_map(|line| line.strip_prefix("kind: "));
        kind.is_some_and(|kind| KINDS.contains(&kind))
    });
    Ok(ours.collect::<Vec<_>>().join("\n---\n").replace(DEPLOYED, SYSTEM_NAMESPACE))
}

/// Grants it, and returns the kubeconfig of the service account. The namespaces exist.
pub(super) async fn grant(kubectl: &Kubectl, workdir: &Workdir) -> Result<PathBuf> {
    kubectl.apply(&manifests(kubectl).await?).await?.success()?;
    // As the README says, in each namespace with TaskConnections.
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "taskwatch-secret-reader", "namespace": NAMESPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "taskwatch-secret-reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "taskwatch", "namespace": SYSTEM_NAMESPACE}],
    });
    kubectl.apply(&binding.to_string()).await?.success()?;
    let create = ["create", "token", "taskwatch", "--namespace", SYSTEM_NAMESPACE, TOKEN_LASTS];
    let token = kubectl.run(&create).await?.success()?;
    let view = ["config", "view", "--raw", "--minify", "--flatten", "--output", "json"];
    let mut config = serde_json::from_str::<Value>(&kubectl.run(&view).await?.success()?)?;
    let user = config.pointer_mut("/users/0/user").context("the kubeconfig has no user")?;
    *user = json!({"token": token.trim()});
    workdir.write("kubeconfig-operator", &config.to_string())
}

/// Withdraws it.
pub(super) async fn withdraw(kubectl: &Kubectl) -> Result<()> {
    let manifests = manifests(kubectl).await?;
    kubectl.delete(&manifests).await?.success().map(drop).context("the rights of the operator are not withdrawn")
}
