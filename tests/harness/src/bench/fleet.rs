//! Many `TaskWatch` objects, their connections, and what the operator may do with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use kube::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Where the objects are.
pub(super) const NAMESPACE: &str = "bench";
/// Where the operator would be, and its Leases are.
pub(super) const OPERATORS: &str = "taskwatch-system";
/// Only the metadata of what was written is wanted back.
pub(crate) const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// The token that the simulator knows.
pub(super) const TOKEN: &str = "not-a-secret";

const GROUP: &str = "/apis/taskwatch.dev/v1alpha1";
const CREATE_AT_ONCE: usize = 24;

/// The upstream systems that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    /// Answers with lists.
    Astra,
    /// Answers with single jobs only.
    Evs,
}

/// A connection and its share of the watches.
#[derive(Clone, Debug)]
pub(super) struct Fleet {
    pub(super) system: System,
    /// The connection's name, and the prefix of its watches' names.
    pub(super) name: String,
    pub(super) scope: String,
    /// The number of its first task, and how many.
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) period: u32,
    pub(super) per_second: u32,
    pub(super) in_flight: u32,
}

impl System {
    pub(super) fn provider(self) -> &'static str {
        match self {
            Self::Astra => "astraControl",
            Self::Evs => "huaweiCloud",
        }
    }

    /// A state of the upstream that is not an end.
    pub(super) fn running(self) -> &'static str {
        match self {
            Self::Astra => "running",
            Self::Evs => "RUNNING",
        }
    }
}

impl Fleet {
    /// A fleet whose connection asks for little: a period of 10 s, 8 in flight, which is the burst, too.
    pub(super) fn new(system: System, name: &str, count: usize, per_second: u32) -> Self {
        let scope = match system {
            System::Astra => format!("{:08x}-3c2d-4f53-8e61-2d7a5b9c0e42", tag(name)),
            System::Evs => format!("{:032x}", tag(name)),
        };
        let name = name.to_owned();
        Self { system, name, scope, first: 0, count, period: 10, per_second, in_flight: 8 }
    }

    /// The identifier that the simulator gives its task `n`.
    pub(super) fn task_id(&self, n: usize) -> String {
        let tag = self.task_tag();
        match self.system {
            System::Astra => format!("{tag:08x}-0000-5000-8000-{n:012x}"),
            System::Evs => format!("{tag:08x}00000000{n:016x}"),
        }
    }

    /// What the identifiers of the simulator's tasks of this scope begin with.
    pub(super) fn task_tag(&self) -> u32 {
        tag(&self.scope)
    }

    /// The name of the watch of task `n`.
    pub(super) fn watch_name(&self, n: usize) -> String {
        format!("{}-{n:06}", self.name)
    }

    /// What the simulator is told of the scope.
    pub(super) fn scope_spec() -> Value {
        json!({"credentials": [{"kind": "token", "token": TOKEN}]})
    }

    /// … and of its tasks.
    pub(super) fn bulk(&self) -> Value {
        json!({"provider": self.system.provider(), "scope": self.scope, "first": self.first, "count": self.count,
            "name": "bench.task", "summary": "A task of the benchmark that runs until it is told otherwise",
            "steps": [{"state": self.system.running(), "percent": 42.5}]})
    }

    /// Creates the connection and its Secret.
    pub(super) async fn connect(&self, client: &Client, endpoint: &str) -> Result<()> {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": self.name},
            "stringData": {"token": TOKEN}});
        create(client, &format!("/api/v1/namespaces/{NAMESPACE}/secrets"), &secret).await?;
        let provider = match self.system {
            System::Astra => json!({"astraControl": {"endpoint": endpoint, "accountID": self.scope}}),
            System::Evs => json!({"huaweiCloud": {"endpoint": endpoint, "projectID": self.scope}}),
        };
        let connection = json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskConnection",
            "metadata": {"name": self.name},
            "spec": {"provider": provider, "auth": {"token": {"secretRef": {"name": self.name}}},
                "rateLimit": {"requestsPerSecond": self.per_second, "burst": self.per_second.clamp(1, self.in_flight),
                    "maxInFlight": self.in_flight},
                // The period is not to grow with the age of the tasks.
                "poll": {"minPeriodSeconds": self.period, "maxPeriodSeconds": self.period}}});
        create(client, &format!("{GROUP}/namespaces/{NAMESPACE}/taskconnections"), &connection).await
    }

    /// The watch of task `n`.
    fn manifest(&self, n: usize) -> Value {
        json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch",
            "metadata": {"name": self.watch_name(n)},
            "spec": {"connectionRef": {"name": self.name}, "task": {"id": self.task_id(n)},
                "poll": {"periodSeconds": self.period, "maxPeriodSeconds": self.period}}})
    }

    /// Creates the watch of task `n`.
    pub(super) async fn watch(&self, client: &Client, n: usize) -> Result<()> {
        create(client, &watches(), &self.manifest(n)).await
    }

    /// Creates a set over its tasks; `spec` is the rest of its specification.
    pub(super) async fn discover(&self, client: &Client, name: &str, spec: &Value) -> Result<()> {
        let mut set = json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatchSet",
            "metadata": {"name": name}, "spec": spec});
        set["spec"]["connectionRef"] = json!({"name": self.name});
        set["spec"]["template"] =
            json!({"spec": {"poll": {"periodSeconds": self.period, "maxPeriodSeconds": self.period}}});
        create(client, &format!("{GROUP}/namespaces/{NAMESPACE}/taskwatchsets"), &set).await
    }

    /// Creates all its watches, many at a time.
    pub(super) async fn watch_all(&self, client: &Client) -> Result<()> {
        let (next, fleet) = (Arc::new(AtomicUsize::new(self.first)), Arc::new(self.clone()));
        let mut workers = JoinSet::new();
        for _ in 0..CREATE_AT_ONCE {
            let (client, next, fleet) = (client.clone(), Arc::clone(&next), Arc::clone(&fleet));
            workers.spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= fleet.first + fleet.count {
                        return anyhow::Ok(());
                    }
                    fleet.watch(&client, n).await?;
                }
            });
        }
        while let Some(done) = workers.join_next().await {
            done??;
        }
        Ok(())
    }
}

/// Changes a set by a merge patch.
pub(super) async fn change_set(client: &Client, name: &str, patch: &Value) -> Result<()> {
    let request = http::Request::patch(format!("{GROUP}/namespaces/{NAMESPACE}/taskwatchsets/{name}"))
        .header("content-type", "application/merge-patch+json")
        .body(serde_json::to_vec(patch)?)?;
    client.request_text(request).await.with_context(|| format!("cannot change the set {name}"))?;
    Ok(())
}

/// Where watches are created, listed and counted.
pub(super) fn watches() -> String {
    format!("{GROUP}/namespaces/{NAMESPACE}/taskwatches")
}

/// The creation of a watch of the floor's fleet, with all that a set gives the watches that it makes.
pub(super) fn creation(n: usize) -> Result<http::Request<Vec<u8>>> {
    let (fleet, set) = (floor_fleet(0), "half");
    let mut watch = fleet.manifest(n);
    let owner = json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatchSet", "name": set,
        "uid": "0f1c2b3a-4d5e-4f60-8192-a3b4c5d6e7f8", "controller": true, "blockOwnerDeletion": true});
    watch["metadata"]["ownerReferences"] = json!([owner]);
    watch["metadata"]["labels"] = json!({"taskwatch.dev/set": set, "taskwatch.dev/task": fleet.task_id(n)});
    watch["metadata"]["annotations"] = json!({"argocd.argoproj.io/ignore-resource-updates": "true",
        "taskwatch.dev/template": r#"{"hash":"0123456789abcdef","labels":[],"annotations":[]}"#});
    post(&format!("{}?fieldManager=floor", watches()), &watch)
}

/// The path of a watch of the floor's fleet.
pub(super) fn path(n: usize) -> String {
    format!("{}/{}", watches(), floor_fleet(0).watch_name(n))
}

/// The fleet that the floor patcher writes to; it has no connection and no operator.
pub(super) fn floor_fleet(count: usize) -> Fleet {
    Fleet::new(System::Astra, "floor", count, 1)
}

/// A status of the size of a real one.
pub(super) fn sample_status(n: usize) -> Value {
    let now = "2026-01-01T00:00:00Z";
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 1,
            "lastTransitionTime": now})
    };
    let fleet = floor_fleet(0);
    json!({"observedGeneration": 1, "state": "Running", "lastObservedTime": now, "startTime": now,
    "task": {"id": fleet.task_id(n), "scope": fleet.scope, "name": "bench.task",
        "displayName": "A task of the benchmark that runs until it is told otherwise", "upstreamState": "running"},
    "progress": {"percent": 42, "display": "42%", "source": "Reported"},
    "conditions": [
        condition("Finished", "False", "TaskRunning", "The task is running"),
        condition("Ready", "Unknown", "TaskRunning", "The task is running"),
        condition("Reconciling", "True", "TaskRunning", "The task is running"),
        condition("Succeeded", "Unknown", "TaskRunning", "The task is running"),
        condition("Synced", "True", "Observed", "The status shows what the upstream says"),
    ]})
}

/// The namespaces, and the operator's rights as its manifests give them.
pub(super) async fn prepare(client: &Client) -> Result<()> {
    for name in [NAMESPACE, OPERATORS] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        create(client, "/api/v1/namespaces", &namespace).await?;
    }
    let allow = |groups: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [groups], "resources": resources, "verbs": verbs});
    let own = "taskwatch.dev";
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
    "metadata": {"name": "taskwatch-bench"},
    "rules": [
        allow(own, &["taskwatches", "taskwatchsets", "taskconnections", "clustertaskconnections"], &["get", "list", "watch"]),
        allow(own, &["taskwatches"], &["create", "update", "delete"]),
        allow(own, &["taskwatchsets/finalizers"], &["update"]),
        allow(own, &["taskwatches/status", "taskwatchsets/status", "taskconnections/status", "clustertaskconnections/status"], &["patch", "update"]),
        allow("coordination.k8s.io", &["leases"], &["list", "create", "update", "delete"]),
        allow("", &["secrets", "configmaps"], &["get"]),
        allow("", &["namespaces"], &["get", "list", "watch"]),
        allow("events.k8s.io", &["events"], &["create", "patch", "update"]),
        allow("", &["events"], &["create", "patch", "update"]),
    ]});
    create(client, "/apis/rbac.authorization.k8s.io/v1/clusterroles", &role).await?;
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "taskwatch-bench"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "taskwatch-bench"},
        "subjects": [{"kind": "ServiceAccount", "name": "taskwatch", "namespace": OPERATORS}]});
    create(client, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await
}

async fn create(client: &Client, path: &str, object: &Value) -> Result<()> {
    client.request_text(post(path, object)?).await.with_context(|| format!("cannot create in {path}"))?;
    Ok(())
}

fn post(path: &str, object: &Value) -> Result<http::Request<Vec<u8>>> {
    Ok(http::Request::post(path)
        .header("content-type", "application/json")
        .header("accept", METADATA_ONLY)
        .body(serde_json::to_vec(object)?)?)
}

/// As the simulator makes the first part of its tasks' identifiers.
fn tag(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
