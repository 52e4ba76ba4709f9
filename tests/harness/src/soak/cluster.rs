//! The API server's side of a soak: what is applied, changed and deleted there.

use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::{
    Api, Client,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
        Preconditions,
    },
};
use serde_json::{Value, json};

use super::model::{Connection, FLEETING, HOME, SETS, SYSTEM, Way};
use crate::{ADMIN, ControlPlane, eventually, workspace_root};

/// How long one call may take before it counts as lost.
const CALL: Duration = Duration::from_secs(8);
/// How long something that must be done is tried.
const INSIST: Duration = Duration::from_secs(60);
/// The quota that comes and goes.
const QUOTA: &str = "none";
/// The operator's service account, as `deploy/` names it.
const ACCOUNT: &str = "taskwatch";

/// Calls of the API server.
#[derive(Clone)]
pub(super) struct Cluster {
    client: Client,
}

/// The kind of an object of ours.
pub(super) fn kind(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("taskwatch.dev", "v1alpha1", kind), plural)
}

impl Cluster {
    /// With the CRDs, the namespaces and the operator's rights.
    pub(super) async fn prepare(plane: &ControlPlane) -> Result<Self> {
        let cluster = Self { client: plane.client(ADMIN).await? };
        cluster.apply_crds(plane).await?;
        for namespace in [HOME, FLEETING, SETS, SYSTEM] {
            cluster.make_namespace(namespace).await?;
        }
        let rights =
            ["apiserver", "operator", "secrets"].map(|file| workspace_root().join(format!("deploy/rbac/{file}.yaml")));
        for file in rights {
            plane.kubectl(&["apply", "--filename", &file.display().to_string()]).await?.success()?;
        }
        Ok(cluster)
    }

    pub(super) async fn apply_crds(&self, plane: &ControlPlane) -> Result<()> {
        let directory = workspace_root().join("crds").display().to_string();
        let apply = || async { plane.kubectl(&["apply", "--filename", &directory]).await?.success() };
        eventually(INSIST, "the CRDs are applied", apply).await?;
        plane.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"]).await?.success()?;
        eventually(INSIST, "TaskWatches are served", || async { self.list().await.map(drop) }).await
    }

    pub(super) async fn make_namespace(&self, name: &str) -> Result<()> {
        let body =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"soak": "yes"}}});
        self.create(&core("Namespace", "namespaces"), None, body).await
    }

    /// Deletes a namespace as its controller does: with all of ours in it.
    pub(super) async fn delete_namespace(&self, name: &str) -> Result<()> {
        let namespaces = self.api(&core("Namespace", "namespaces"), None);
        eventually(INSIST, "the namespace is being deleted", || async {
            call(namespaces.delete(name, &DeleteParams::default())).await.map(drop)
        })
        .await?;
        // Sets first: what belongs to them would come back.
        for resource in [
            kind("TaskWatchSet", "taskwatchsets"),
            kind("TaskWatch", "taskwatches"),
            kind("TaskConnection", "taskconnections"),
            core("Secret", "secrets"),
        ] {
            let api = self.api(&resource, Some(name));
            eventually(INSIST, "the namespace is emptied", || async {
                call(api.delete_collection(&DeleteParams::default(), &ListParams::default())).await.map(drop)
            })
            .await?;
        }
        let body =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": []}});
        eventually(INSIST, "the namespace is gone", || async {
            let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(serde_json::to_vec(&body)?)?;
            let _ = call(self.client.request_text(request)).await;
            anyhow::ensure!(call(namespaces.get_opt(name)).await?.is_none(), "it is there");
            Ok(())
        })
        .await
    }

    /// A connection and its Secret.
    pub(super) async fn make_connection(&self, connection: &Connection, upstream: &Way) -> Result<()> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": connection.name},
            "stringData": connection.secret_data(&connection.secret(connection.serial)),
        });
        self.create(&core("Secret", "secrets"), Some(connection.secret_namespace()), secret).await?;
        let (resource, namespace) = if connection.shared {
            (kind("ClusterTaskConnection", "clustertaskconnections"), None)
        } else {
            (kind("TaskConnection", "taskconnections"), Some(connection.namespace))
        };
        self.create(&resource, namespace, connection.manifest(upstream)).await
    }

    /// The operator's service account.
    pub(super) async fn make_account(&self) -> Result<()> {
        let body = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}});
        self.create(&core("ServiceAccount", "serviceaccounts"), Some(SYSTEM), body).await
    }

    /// A token of the operator's service account that lives as long as this Secret, which is made for it.
    pub(super) async fn token(&self, secret: &str) -> Result<String> {
        let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}});
        self.create(&core("Secret", "secrets"), Some(SYSTEM), body).await?;
        eventually(INSIST, "a token is given out", || async {
            let uid = call(self.api(&core("Secret", "secrets"), Some(SYSTEM)).get(secret)).await?.metadata.uid;
            let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {
                "expirationSeconds": 7200, "boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": secret, "uid": uid}}});
            let request = http::Request::post(format!("/api/v1/namespaces/{SYSTEM}/serviceaccounts/{ACCOUNT}/token"))
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(serde_json::to_vec(&body)?)?;
            let answer: Value = call(self.client.request(request)).await?;
            answer["status"]["token"].as_str().map(str::to_owned).context("no token in the answer")
        })
        .await
    }

    pub(super) async fn remove_bound_secret(&self, name: &str) -> Result<()> {
        self.remove(&core("Secret", "secrets"), SYSTEM, name).await
    }

    pub(super) async fn set_secret(&self, connection: &Connection, secret: &str) -> Result<()> {
        let api = self.api(&core("Secret", "secrets"), Some(connection.secret_namespace()));
        let patch = json!({"stringData": connection.secret_data(secret)});
        eventually(INSIST, "the Secret is changed", || async {
            call(api.patch(connection.name, &PatchParams::default(), &Patch::Merge(&patch))).await.map(drop)
        })
        .await
    }

    pub(super) async fn remove_secret(&self, connection: &Connection) -> Result<()> {
        self.remove(&core("Secret", "secrets"), connection.secret_namespace(), connection.name).await
    }

    async fn remove(&self, resource: &ApiResource, namespace: &str, name: &str) -> Result<()> {
        let api = self.api(resource, Some(namespace));
        eventually(INSIST, &format!("{} {name} is removed", resource.kind), || async {
            let _ = call(api.delete(name, &DeleteParams::default())).await;
            anyhow::ensure!(call(api.get_opt(name)).await?.is_none(), "it is there");
            Ok(())
        })
        .await
    }

    /// One try: churn goes on whatever becomes of it.
    pub(super) async fn make_watch(&self, object: Value) -> Result<()> {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let object: DynamicObject = serde_json::from_value(object)?;
        call(self.watches(&namespace).create(&PostParams::default(), &object)).await.map(drop)
    }

    pub(super) async fn change_watch(&self, namespace: &str, name: &str, patch: &Value) -> Result<()> {
        call(self.watches(namespace).patch(name, &PatchParams::default(), &Patch::Merge(patch))).await.map(drop)
    }

    pub(super) async fn delete_watch(&self, namespace: &str, name: &str) -> Result<()> {
        call(self.watches(namespace).delete(name, &DeleteParams::default())).await.map(drop)
    }

    /// Deletes the watch of this UID, and no successor of its name.
    pub(super) async fn delete_this(&self, namespace: &str, name: &str, uid: &str) -> Result<()> {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        call(self.watches(namespace).delete(name, &params)).await.map(drop)
    }

    pub(super) async fn make_set(&self, set: Value) -> Result<()> {
        self.create(&kind("TaskWatchSet", "taskwatchsets"), Some(SETS), set).await
    }

    pub(super) async fn change_set(&self, name: &str, patch: &Value) -> Result<()> {
        let api = self.api(&kind("TaskWatchSet", "taskwatchsets"), Some(SETS));
        call(api.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await.map(drop)
    }

    /// All `TaskWatchSet` objects.
    pub(super) async fn sets(&self) -> Result<Vec<Value>> {
        self.all(&kind("TaskWatchSet", "taskwatchsets")).await
    }

    /// No more watches may be created beside the sets. Nobody keeps the status of quotas in step here: it says that all is used.
    pub(super) async fn forbid_watches(&self) -> Result<()> {
        let none = json!({"count/taskwatches.taskwatch.dev": "0"});
        let body =
            json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": QUOTA}, "spec": {"hard": none}});
        self.create(&core("ResourceQuota", "resourcequotas"), Some(SETS), body).await?;
        let status = json!({"status": {"hard": none, "used": none}});
        let api = self.api(&core("ResourceQuota", "resourcequotas"), Some(SETS));
        eventually(INSIST, "the quota is in force", || async {
            call(api.patch_status(QUOTA, &PatchParams::default(), &Patch::Merge(&status))).await.map(drop)
        })
        .await
    }

    pub(super) async fn allow_watches(&self) -> Result<()> {
        self.remove(&core("ResourceQuota", "resourcequotas"), SETS, QUOTA).await
    }

    /// All `TaskWatch` objects.
    pub(super) async fn list(&self) -> Result<Vec<Value>> {
        self.all(&kind("TaskWatch", "taskwatches")).await
    }

    /// All events.
    pub(super) async fn events(&self) -> Result<Vec<Value>> {
        let events = GroupVersionKind::gvk("events.k8s.io", "v1", "Event");
        self.all(&ApiResource::from_gvk_with_plural(&events, "events")).await
    }

    async fn all(&self, resource: &ApiResource) -> Result<Vec<Value>> {
        let (api, mut page, mut all) = (self.api(resource, None), ListParams::default().limit(500), Vec::new());
        loop {
            let list = call(api.list(&page)).await?;
            for item in list.items {
                all.push(serde_json::to_value(item)?);
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = ListParams::default().limit(500).continue_token(&token),
                None => return Ok(all),
            }
        }
    }

    pub(super) fn every_watch(&self) -> Api<DynamicObject> {
        self.api(&kind("TaskWatch", "taskwatches"), None)
    }

    fn watches(&self, namespace: &str) -> Api<DynamicObject> {
        self.api(&kind("TaskWatch", "taskwatches"), Some(namespace))
    }

    fn api(&self, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        }
    }

    /// Makes an object that must be there afterwards.
    async fn create(&self, resource: &ApiResource, namespace: Option<&str>, body: Value) -> Result<()> {
        let object: DynamicObject = serde_json::from_value(body)?;
        let api = self.api(resource, namespace);
        let what = object.metadata.name.clone().unwrap_or_default();
        eventually(INSIST, &format!("{} {what} is made", resource.kind), || async {
            match tokio::time::timeout(CALL, api.create(&PostParams::default(), &object)).await? {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }
}

async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T> {
    tokio::time::timeout(CALL, call).await.context("the API server did not answer in time")?.map_err(Into::into)
}

fn core(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", kind), plural)
}
