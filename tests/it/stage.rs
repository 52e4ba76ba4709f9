//! Where a test plays: a namespace on the shared control plane, a simulator and, on demand, an operator of its own.

use std::{future::Future, time::Duration};

use anyhow::{Context, Result, ensure};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams},
    core::ApiResource,
};
use serde_json::{Value, json};
use taskwatch::api::{TaskConnection, TaskWatch, TaskWatchStatus};
use taskwatch_harness::{ADMIN, ControlPlane, Operator, OperatorOptions, Simulator, eventually, workspace_root};
use tokio::sync::OnceCell;

pub const HUAWEI: &str = "huaweiCloud";
pub const CLOUD_RU: &str = "cloudRu";
pub const ASTRA: &str = "astraControl";

/// The secret of every upstream that the tests make.
pub const SECRET: &str = "not-a-secret";
/// How long anything may take that should come soon: the machine is shared.
pub const SOON: Duration = Duration::from_secs(60);

/// The shared control plane, with the definitions installed.
pub async fn plane() -> &'static ControlPlane {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let plane = ControlPlane::shared().await.unwrap();
    INSTALLED.get_or_init(|| async { install(plane).await.unwrap() }).await;
    plane
}

/// Installs the definitions, and waits until they are served.
pub async fn install(plane: &ControlPlane) -> Result<()> {
    let crds = workspace_root().join("crds").display().to_string();
    // By the server, which takes it from several tests at a time.
    plane.kubectl(&["apply", "--server-side", "--force-conflicts", "--filename", &crds]).await?.success()?;
    served(plane).await
}

/// Waits until the objects of the definitions can be had.
pub async fn served(plane: &ControlPlane) -> Result<()> {
    plane.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"]).await?.success()?;
    let client = plane.client(ADMIN).await?;
    eventually(SOON, "the new kinds are served", || async {
        for kind in ["TaskWatch", "TaskWatchSet", "TaskConnection", "ClusterTaskConnection"] {
            Api::<DynamicObject>::all_with(client.clone(), &resource(kind)).list(&ListParams::default()).await?;
        }
        Ok(())
    })
    .await
}

/// A namespace, and what plays in it.
pub struct Stage {
    pub plane: &'static ControlPlane,
    pub client: Client,
    pub namespace: String,
    pub simulator: Simulator,
}

impl Stage {
    /// A new namespace on the shared control plane, and a simulator that knows nothing yet.
    pub async fn new(namespace: &str) -> Self {
        Self::on(plane().await, namespace).await
    }

    /// The same on another control plane.
    pub async fn on(plane: &'static ControlPlane, namespace: &str) -> Self {
        let simulator = Simulator::start(&[]).await.unwrap();
        let client = plane.client(ADMIN).await.unwrap();
        let stage = Self { plane, client, namespace: namespace.to_owned(), simulator };
        stage.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await;
        stage
    }

    /// An operator for this namespace alone.
    pub async fn operator(&self, args: &[&str]) -> Operator {
        Operator::start(self.operator_options().args(args)).await.unwrap()
    }

    /// How [`Self::operator`] starts one.
    pub fn operator_options(&self) -> OperatorOptions {
        OperatorOptions::new(self.plane.kubeconfig(ADMIN).unwrap())
            .args(&["--namespace", &self.namespace, "--secret-refresh-seconds", "1"])
            .env("TASKWATCH_LOG_LEVEL", "info,taskwatch=debug")
    }

    /// Applies an object; without a namespace it goes to that of the stage.
    pub async fn put(&self, object: Value) -> DynamicObject {
        self.try_put(object).await.unwrap()
    }

    /// The same, where the API server may refuse.
    pub async fn try_put(&self, mut object: Value) -> kube::Result<DynamicObject> {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        object = with_version(object, &kind);
        let params = PatchParams::apply("test").force();
        self.api(&kind, object["metadata"]["namespace"].as_str()).patch(&name, &params, &Patch::Apply(&object)).await
    }

    /// Creates an object, as JSON: an applied one is read as YAML, which has no control characters.
    pub async fn try_create(&self, object: Value) -> kube::Result<DynamicObject> {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let object = serde_json::from_value(with_version(object, &kind)).unwrap();
        self.api(&kind, None).create(&PostParams::default(), &object).await
    }

    /// Changes an object by a merge patch.
    pub async fn change(&self, kind: &str, name: &str, patch: Value) {
        self.api(kind, None).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Writes the status of an object, as the operator would.
    pub async fn put_status(&self, kind: &str, name: &str, status: Value) {
        let patch = Patch::Merge(json!({ "status": status }));
        self.api(kind, None).patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Deletes an object, and waits until it is gone.
    pub async fn delete(&self, kind: &str, name: &str) {
        let api = self.api(kind, None);
        api.delete(name, &DeleteParams::default()).await.unwrap();
        eventually(SOON, "it is deleted", || async {
            ensure!(api.get_opt(name).await?.is_none(), "{kind} {name} is there");
            Ok(())
        })
        .await
        .unwrap();
    }

    pub fn api(&self, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        match kind {
            "Namespace" | "ClusterTaskConnection" | "ClusterRole" | "ClusterRoleBinding" => {
                Api::all_with(self.client.clone(), &resource(kind))
            }
            _ => {
                let namespace = namespace.unwrap_or(&self.namespace);
                Api::namespaced_with(self.client.clone(), namespace, &resource(kind))
            }
        }
    }

    /// A Secret.
    pub async fn secret(&self, name: &str, data: Value) {
        self.put(json!({"kind": "Secret", "metadata": {"name": name}, "stringData": data})).await;
    }

    /// A connection to the simulator that may be asked often; `more` is laid over its spec.
    pub async fn connection(&self, name: &str, provider: &str, scope: &str, auth: Value, more: Value) {
        let mut spec = json!({
            "provider": provider_spec(provider, self.simulator.url(), scope),
            "auth": auth,
            "poll": {"minPeriodSeconds": 1, "maxPeriodSeconds": 2},
            "rateLimit": {"requestsPerSecond": 50, "burst": 50},
        });
        lay_over(&mut spec, more);
        self.put(json!({"kind": "TaskConnection", "metadata": {"name": name}, "spec": spec})).await;
    }

    /// A scope of the simulator, and connection and Secret for it, all of one name, with a static token.
    pub async fn upstream(&self, provider: &str, name: &str) {
        self.scope(provider, name, json!([{"kind": "token", "token": SECRET}])).await;
        self.secret(name, json!({"token": SECRET})).await;
        self.connection(name, provider, name, json!({"token": {"secretRef": {"name": name}}}), json!({})).await;
    }

    /// A `TaskWatch` that asks every second; `more` is laid over its spec.
    pub async fn watch(&self, name: &str, connection: &str, task: &str, more: Value) {
        self.put(watch_object(name, connection, task, more)).await;
    }

    /// Waits until a `TaskWatch` is as `probe` wants it.
    pub async fn until<T>(&self, name: &str, what: &str, probe: impl Fn(&TaskWatchStatus) -> Result<T>) -> T {
        self.within(SOON, name, what, probe).await
    }

    /// The same, within `limit`.
    pub async fn within<T>(
        &self,
        limit: Duration,
        name: &str,
        what: &str,
        probe: impl Fn(&TaskWatchStatus) -> Result<T>,
    ) -> T {
        eventually(limit, &format!("{name}: {what}"), || async {
            let status = self.status(name).await?;
            probe(&status).with_context(|| serde_json::to_string(&status).unwrap_or_default())
        })
        .await
        .unwrap()
    }

    /// Waits until a `TaskWatch` is in a row of the status contract: see [`row`]. What other tools make of it is what the row promises.
    pub async fn until_row(&self, name: &str, wanted: &str) -> TaskWatchStatus {
        let status = self.until(name, wanted, |status| {
            ensure!(row(status) == wanted, "it is {}", row(status));
            Ok(status.clone())
        });
        let status = status.await;
        self.is_judged_by_its_row(name).await;
        status
    }

    /// Waits until the message of the condition Synced of a `TaskWatch` says this.
    pub async fn until_synced_says(&self, name: &str, words: &str) {
        self.until(name, words, |status| {
            let said = message(status, "Synced");
            ensure!(said.contains(words), "{said}");
            Ok(())
        })
        .await;
    }

    /// The status of a `TaskWatch`.
    pub async fn status(&self, name: &str) -> Result<TaskWatchStatus> {
        self.get(name).await?.status.context("it has no status")
    }

    /// A `TaskWatch`.
    pub async fn get(&self, name: &str) -> Result<TaskWatch> {
        Ok(Api::<TaskWatch>::namespaced(self.client.clone(), &self.namespace).get(name).await?)
    }

    /// Waits until the condition Ready of a connection has a reason; returns its message.
    pub async fn until_connection(&self, name: &str, reason: &str) -> String {
        eventually(SOON, &format!("connection {name}: {reason}"), || async {
            let api: Api<TaskConnection> = Api::namespaced(self.client.clone(), &self.namespace);
            let status = api.get(name).await?.status.context("it has no status")?;
            let ready = status.conditions.into_iter().find(|c| c.type_ == "Ready").context("not Ready")?;
            ensure!(ready.reason == reason, "it is {}: {}", ready.reason, ready.message);
            Ok(ready.message)
        })
        .await
        .unwrap()
    }

    /// Reasons of the events of an object, oldest first, each as often as it was told.
    pub async fn events(&self, name: &str) -> Vec<String> {
        let api: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut events = api.list(&ListParams::default()).await.unwrap().items;
        events.retain(|event| event.regarding.as_ref().is_some_and(|object| object.name.as_deref() == Some(name)));
        events.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        let told = |event: &k8s_openapi::api::events::v1::Event| {
            let times = event.series.as_ref().map_or(1, |series| usize::try_from(series.count).unwrap_or(1));
            vec![event.reason.clone().unwrap_or_default(); times]
        };
        events.iter().flat_map(told).collect()
    }

    /// kubectl in the namespace of the stage, which must succeed.
    pub async fn kubectl(&self, args: &[&str]) -> String {
        let args = [&["--namespace", &self.namespace], args].concat();
        self.plane.kubectl(&args).await.unwrap().success().unwrap()
    }

    // === the upstream ===

    /// A scope of the simulator and what opens it.
    pub async fn scope(&self, provider: &str, id: &str, credentials: Value) {
        self.admin("PUT", &format!("/scopes/{provider}/{id}"), json!({"name": id, "credentials": credentials})).await;
    }

    /// A task with its steps.
    pub async fn task(&self, provider: &str, scope: &str, id: &str, steps: Value) {
        self.admin("PUT", &format!("/tasks/{provider}/{scope}/{id}"), json!({"name": "test", "steps": steps})).await;
    }

    /// Moves a task: it is this from now on.
    pub async fn step(&self, provider: &str, scope: &str, id: &str, step: Value) {
        self.admin("PATCH", &format!("/tasks/{provider}/{scope}/{id}"), step).await;
    }

    /// Switches a fault on; returns its name.
    pub async fn fault(&self, matching: Value, action: Value) -> String {
        let fault = self.admin("POST", "/faults", json!({"match": matching, "action": action})).await;
        fault["id"].as_str().unwrap().to_owned()
    }

    /// Switches a fault off.
    pub async fn mend(&self, fault: &str) {
        self.simulator.admin("DELETE", &format!("/faults/{fault}"), None).await.unwrap();
    }

    /// The requests that came after number `since`, and the number of the last one.
    pub async fn requests(&self, since: u64) -> (Vec<Value>, u64) {
        let log = self.simulator.admin("GET", &format!("/log?since={since}"), None).await.unwrap();
        (log["entries"].as_array().unwrap().clone(), log["next"].as_u64().unwrap())
    }

    /// Tells the simulator something.
    pub async fn admin(&self, method: &str, path: &str, body: Value) -> Value {
        self.simulator.admin(method, path, Some(&body)).await.unwrap()
    }
}

/// A `TaskWatch` that asks every second; `more` is laid over its spec.
pub fn watch_object(name: &str, connection: &str, task: &str, more: Value) -> Value {
    let mut spec = json!({
        "connectionRef": {"name": connection},
        "task": {"id": task},
        "poll": {"periodSeconds": 1, "maxPeriodSeconds": 1},
    });
    lay_over(&mut spec, more);
    json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch", "metadata": {"name": name}, "spec": spec})
}

/// The member of `spec.provider`.
pub fn provider_spec(provider: &str, endpoint: &str, scope: &str) -> Value {
    let field = match provider {
        HUAWEI => "projectID",
        CLOUD_RU => "serviceInstanceID",
        _ => "accountID",
    };
    json!({provider: {"endpoint": endpoint, field: scope}})
}

/// A status as a row of the contract: state, Succeeded, Finished, Synced, Ready, and R or S for Reconciling or Stalled.
pub fn row(status: &TaskWatchStatus) -> String {
    let find = |kind: &str| status.conditions.iter().find(|condition| condition.type_ == kind);
    let word = |kind: &str| find(kind).map_or("-", |condition| condition.status.as_str());
    let why = |kind: &str| find(kind).map_or_else(|| "-".to_owned(), |c| format!("{}/{}", c.status, c.reason));
    let state = status.state.as_deref().unwrap_or("-");
    let mut row = format!("{state} {} {} {} {}", why("Succeeded"), word("Finished"), why("Synced"), word("Ready"));
    for (kind, letter) in [("Reconciling", " R"), ("Stalled", " S")] {
        row.push_str(if word(kind) == "True" { letter } else { "" });
    }
    row
}

/// The API server refused an object, and said so in this sentence.
pub fn assert_refused(answer: kube::Result<DynamicObject>, object: &str, sentence: &str) {
    match answer {
        Err(kube::Error::Api(status)) => {
            assert_eq!(status.code, 422, "{object}: {}", status.message);
            assert!(status.message.contains(sentence), "{object}\nwanted: {sentence}\ngot: {}", status.message);
        }
        other => panic!("{object} was taken: {other:?}"),
    }
}

/// The message of a condition.
pub fn message<'a>(status: &'a TaskWatchStatus, kind: &str) -> &'a str {
    status.conditions.iter().find(|c| c.type_ == kind).map_or("", |condition| condition.message.as_str())
}

/// All of them at a time.
pub async fn all<T>(parts: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    futures::future::join_all(parts).await
}

/// Lays `more` over `base`, key by key.
pub fn lay_over(base: &mut Value, more: Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (key, value) in more {
                lay_over(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, more) => *base = more,
    }
}

fn with_version(mut object: Value, kind: &str) -> Value {
    object["apiVersion"] = resource(kind).api_version.into();
    object
}

fn resource(kind: &str) -> ApiResource {
    let (group, version, plural) = match kind {
        "Namespace" => ("", "v1", "namespaces"),
        "Secret" => ("", "v1", "secrets"),
        "ConfigMap" => ("", "v1", "configmaps"),
        "ServiceAccount" => ("", "v1", "serviceaccounts"),
        "ClusterRole" => ("rbac.authorization.k8s.io", "v1", "clusterroles"),
        "ClusterRoleBinding" => ("rbac.authorization.k8s.io", "v1", "clusterrolebindings"),
        "TaskWatch" => ("taskwatch.dev", "v1alpha1", "taskwatches"),
        "TaskWatchSet" => ("taskwatch.dev", "v1alpha1", "taskwatchsets"),
        "ResourceQuota" => ("", "v1", "resourcequotas"),
        "TaskConnection" => ("taskwatch.dev", "v1alpha1", "taskconnections"),
        "ClusterTaskConnection" => ("taskwatch.dev", "v1alpha1", "clustertaskconnections"),
        other => panic!("no tests with {other} yet"),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}
