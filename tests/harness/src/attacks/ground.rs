//! The cluster on which the attacks are tried: who may do what in it, and calls of the API server as the attacker and as others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::{ADMIN, ControlPlane, ControlPlaneOptions, Identity, eventually, workspace_root};

/// The attacker's namespaces.
pub(super) const ATTACKER: [&str; 6] = ["tenant-a", "tenant-a1", "tenant-a2", "tenant-a3", "tenant-a4", "tenant-a5"];
/// The namespace whose polls and statuses are measured.
pub(super) const CANARY: &str = "tenant-b";
/// A namespace that some connections do not serve.
pub(super) const OUTSIDER: &str = "tenant-c";
/// The operator's own.
pub(super) const SYSTEM: &str = "taskwatch-system";
/// On every object of an attack.
pub(super) const LABEL: &str = "attack";

const GROUP: &str = "/apis/taskwatch.dev/v1alpha1";
const ATTACKERS_NAME: &str = "mallory";
/// How many objects are made at once, of all attacks together. Not more: an API server that shares two cores with all the rest would be
/// what is attacked, and that has fences of its own (API Priority and Fairness, quotas).
const AT_ONCE: usize = 8;
/// How long one call may take.
const CALL: Duration = Duration::from_secs(30);

/// The control plane, and two who call it.
pub(super) struct Ground {
    pub(super) plane: ControlPlane,
    admin: Client,
    attacker: Client,
    turns: Semaphore,
}

/// What became of a number of objects.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Made {
    pub(super) created: usize,
    pub(super) refused: usize,
}

impl Ground {
    /// Starts it: definitions, namespaces, the operator's rights by its manifests, and the attacker's.
    pub(super) async fn prepare() -> Result<Self> {
        let plane = ControlPlane::start_with(ControlPlaneOptions {
            identities: vec![Identity::new(ATTACKERS_NAME, &[])],
            // Thousands of objects are deleted after an attack.
            apiserver_args: vec!["--delete-collection-workers=16".to_owned()],
            ..Default::default()
        })
        .await?;
        let crds = workspace_root().join("crds").display().to_string();
        plane.kubectl(&["apply", "--filename", &crds]).await?.success()?;
        plane.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"]).await?.success()?;
        let (admin, attacker) = (plane.client(ADMIN).await?, plane.client(ATTACKERS_NAME).await?);
        let ground = Self { plane, admin, attacker, turns: Semaphore::new(AT_ONCE) };
        for namespace in ATTACKER.into_iter().chain([CANARY, OUTSIDER, SYSTEM]) {
            let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            ground.create(&body).await?;
        }
        for file in ["rbac/apiserver", "rbac/operator", "rbac/secrets", "operator/leases"] {
            let file = workspace_root().join(format!("deploy/{file}.yaml")).display().to_string();
            ground.plane.kubectl(&["apply", "--filename", &file]).await?.success()?;
        }
        for namespace in ATTACKER {
            ground.create(&role(namespace)).await?;
            ground.create(&binding(namespace)).await?;
        }
        let served = format!("{GROUP}/taskwatches");
        eventually(CALL, "TaskWatches are served", || ground.get(&served)).await?;
        Ok(ground)
    }

    /// Creates an object: as the attacker in the attacker's namespaces, else as the administrator.
    pub(super) async fn create(&self, object: &Value) -> Result<()> {
        let path = collection(object)?;
        let request = http::Request::post(&path)
            .header("content-type", "application/json")
            .header("accept", crate::bench::METADATA_ONLY)
            .body(serde_json::to_vec(object)?)?;
        self.send(self.caller(object), request).await.map(drop)
    }

    /// Creates objects, many at a time. That some are refused is no error: the admission is part of what defends.
    pub(super) async fn create_all(self: &Arc<Self>, objects: Vec<Value>) -> Result<Made> {
        // What others refer to first.
        let refers = |object: &Value| object["kind"] == "TaskWatch" || object["kind"] == "TaskWatchSet";
        let (watches, rest): (Vec<_>, Vec<_>) = objects.into_iter().partition(refers);
        let mut made = Made::default();
        for objects in [rest, watches] {
            let (objects, next) = (Arc::new(objects), Arc::new(AtomicUsize::new(0)));
            let mut workers = JoinSet::new();
            for _ in 0..AT_ONCE.min(objects.len()) {
                let (ground, objects, next) = (Arc::clone(self), Arc::clone(&objects), Arc::clone(&next));
                workers.spawn(async move {
                    let mut made = Made::default();
                    while let Some(object) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let _turn = ground.turns.acquire().await;
                        match ground.create(object).await {
                            Ok(()) => made.created += 1,
                            Err(_) => made.refused += 1,
                        }
                    }
                    made
                });
            }
            while let Some(part) = workers.join_next().await {
                let part = part?;
                made.created += part.created;
                made.refused += part.refused;
            }
        }
        Ok(made)
    }

    /// Lays a merge patch over an object; its status with `/status` in `part`.
    pub(super) async fn patch(&self, object: &Value, part: &str, patch: &Value) -> Result<()> {
        let name = object["metadata"]["name"].as_str().context("an object without a name")?;
        let request = http::Request::patch(format!("{}/{name}{part}", collection(object)?))
            .header("content-type", "application/merge-patch+json")
            .header("accept", crate::bench::METADATA_ONLY)
            .body(serde_json::to_vec(patch)?)?;
        // No tenant may write a status: the administrator does it where an attack wants it to be so.
        let caller = if part.is_empty() { self.caller(object) } else { &self.admin };
        self.send(caller, request).await.map(drop)
    }

    /// Deletes an object, whoever made it.
    pub(super) async fn delete(&self, object: &Value) -> Result<()> {
        let name = object["metadata"]["name"].as_str().context("an object without a name")?;
        let request = http::Request::delete(format!("{}/{name}", collection(object)?)).body(Vec::new())?;
        self.send(&self.admin, request).await.map(drop)
    }

    /// What the API server answers, as text.
    pub(super) async fn text(&self, path: &str) -> Result<String> {
        self.send(&self.admin, http::Request::get(path).body(Vec::new())?).await
    }

    /// The same as JSON.
    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.text(path).await?)?)
    }

    /// The `TaskWatch` objects of a namespace whose names begin with `prefix`.
    pub(super) async fn watches(&self, namespace: &str, prefix: &str) -> Result<Vec<Value>> {
        self.objects(&format!("{GROUP}/namespaces/{namespace}/taskwatches"), prefix).await
    }

    /// The `TaskConnection` objects of a namespace whose names begin with `prefix`.
    pub(super) async fn connections(&self, namespace: &str, prefix: &str) -> Result<Vec<Value>> {
        self.objects(&format!("{GROUP}/namespaces/{namespace}/taskconnections"), prefix).await
    }

    /// The events of a namespace about objects whose names begin with `prefix`.
    pub(super) async fn events(&self, namespace: &str, prefix: &str) -> Result<Vec<Value>> {
        let list = self.get(&format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events")).await?;
        let about = |event: &Value| event["regarding"]["name"].as_str().is_some_and(|name| name.starts_with(prefix));
        Ok(list["items"].as_array().into_iter().flatten().filter(|event| about(event)).cloned().collect())
    }

    async fn objects(&self, path: &str, prefix: &str) -> Result<Vec<Value>> {
        let list = self.get(path).await?;
        let named = |object: &Value| object["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(prefix));
        Ok(list["items"].as_array().into_iter().flatten().filter(|object| named(object)).cloned().collect())
    }

    /// Everything that the operator has shown: statuses of all kinds, and events.
    pub(super) async fn shown(&self) -> Result<String> {
        let mut all = String::new();
        for kind in ["taskwatches", "taskwatchsets", "taskconnections", "clustertaskconnections"] {
            let list = self.get(&format!("{GROUP}/{kind}")).await?;
            for object in list["items"].as_array().into_iter().flatten() {
                all += &object["status"].to_string();
                all.push('\n');
                texts(&object["status"], &mut all);
            }
        }
        let events = self.get("/apis/events.k8s.io/v1/events").await?;
        for event in events["items"].as_array().into_iter().flatten() {
            all += event["note"].as_str().unwrap_or_default();
            all.push('\n');
        }
        Ok(all)
    }

    /// Deletes all objects of attacks, and the events.
    pub(super) async fn clean(&self) -> Result<()> {
        let mut paths = vec![format!("{GROUP}/clustertaskconnections")];
        for namespace in ATTACKER.into_iter().chain([CANARY, OUTSIDER, SYSTEM]) {
            paths.extend(
                ["taskwatchsets", "taskwatches", "taskconnections"]
                    .map(|kind| format!("{GROUP}/namespaces/{namespace}/{kind}")),
            );
            paths.extend(["secrets", "configmaps"].map(|kind| format!("/api/v1/namespaces/{namespace}/{kind}")));
        }
        let delete = |path: String| async move {
            let path = format!("{path}?labelSelector={LABEL}");
            eventually(CALL * 6, "the objects of the attack are deleted", || async {
                self.send(&self.admin, http::Request::delete(&path).body(Vec::new())?).await.map(drop)
            })
            .await
        };
        futures::future::try_join_all(paths.into_iter().map(delete)).await.map(drop)
    }

    /// The administrator's client.
    pub(super) fn admin(&self) -> Client {
        self.admin.clone()
    }

    fn caller(&self, object: &Value) -> &Client {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        // The attacker's rights are made by somebody else.
        let is_right = object["kind"] == "Role" || object["kind"] == "RoleBinding";
        if ATTACKER.contains(&namespace) && !is_right { &self.attacker } else { &self.admin }
    }

    async fn send(&self, caller: &Client, request: http::Request<Vec<u8>>) -> Result<String> {
        let what = format!("{} {}", request.method(), request.uri());
        let call = tokio::time::timeout(CALL, caller.request_text(request)).await;
        call.with_context(|| format!("no answer to {what}"))?.with_context(|| what)
    }
}

/// All texts of a value, one a line, without the escapes of JSON.
pub(super) fn texts(value: &Value, all: &mut String) {
    match value {
        Value::String(text) => {
            all.push_str(text);
            all.push('\n');
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, all)),
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            all.push_str(name);
            all.push('\n');
            texts(member, all);
        }),
        _ => {}
    }
}

/// Where objects of its kind are created.
fn collection(object: &Value) -> Result<String> {
    let kind = object["kind"].as_str().context("an object without a kind")?;
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    Ok(match kind {
        "Namespace" => "/api/v1/namespaces".to_owned(),
        "ClusterTaskConnection" => format!("{GROUP}/clustertaskconnections"),
        "TaskWatch" => format!("{GROUP}/namespaces/{namespace}/taskwatches"),
        "TaskWatchSet" => format!("{GROUP}/namespaces/{namespace}/taskwatchsets"),
        "TaskConnection" => format!("{GROUP}/namespaces/{namespace}/taskconnections"),
        "Secret" => format!("/api/v1/namespaces/{namespace}/secrets"),
        "ConfigMap" => format!("/api/v1/namespaces/{namespace}/configmaps"),
        "Role" => format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles"),
        "RoleBinding" => format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings"),
        other => {
            ensure!(false, "no attack makes a {other}");
            String::new()
        }
    })
}

/// What a tenant may do in a namespace of its own.
fn role(namespace: &str) -> Value {
    let all = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
    "metadata": {"name": "tenant", "namespace": namespace},
    "rules": [
        {"apiGroups": ["taskwatch.dev"], "resources": ["taskwatches", "taskwatchsets", "taskconnections"], "verbs": all},
        {"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": all},
    ]})
}

fn binding(namespace: &str) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "tenant", "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": ATTACKERS_NAME}]})
}
