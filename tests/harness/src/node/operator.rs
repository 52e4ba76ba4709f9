//! The operator's pod, as kubectl and the kernel show it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::cluster::Cluster;
use crate::demo::NAMESPACE;
use crate::{ADMIN, Kubectl, eventually};

/// The namespace that it is installed in.
pub(super) const SYSTEM: &str = "taskwatch-system";
pub(super) const SELECTOR: &str = "app.kubernetes.io/name=taskwatch";
const READY_LIMIT: Duration = Duration::from_mins(2);

/// Where to find it.
pub(super) struct Operator<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) kubectl: Kubectl,
}

impl<'a> Operator<'a> {
    pub(super) fn of(cluster: &'a Cluster) -> Result<Self> {
        Ok(Self { cluster, kubectl: cluster.plane.kubectl_as(ADMIN)?.limit(READY_LIMIT) })
    }

    /// What kubectl prints; it must succeed.
    pub(super) async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl.run(arguments).await?.success()
    }

    /// As [`Self::kubectl`], in the operator's namespace.
    pub(super) async fn system(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl(&[&["--namespace", SYSTEM], arguments].concat()).await
    }

    /// JSON of objects.
    pub(super) async fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get", "--output", "json"], arguments].concat()).await?;
        serde_json::from_str(&text).context("kubectl gave no JSON")
    }

    /// The pods that are to stay.
    pub(super) async fn pods(&self) -> Result<Vec<Pod>> {
        let list = self.get(&["pods", "--namespace", SYSTEM, "--selector", SELECTOR]).await?;
        let items = list["items"].as_array().context("kubectl gave no list")?;
        let stay = items.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        Ok(stay.cloned().map(Pod).collect())
    }

    /// The one that there has to be.
    pub(super) async fn pod(&self) -> Result<Pod> {
        let mut pods = self.pods().await?;
        let pod = pods.pop().context("the operator has no pod")?;
        ensure!(pods.is_empty(), "the operator has two pods");
        Ok(pod)
    }

    /// Waits until a pod for which `fits` holds is ready.
    pub(super) async fn ready(&self, what: &str, fits: impl Fn(&Pod) -> Result<()>) -> Result<Pod> {
        eventually(READY_LIMIT, what, || async {
            let pod = self.pod().await?;
            fits(&pod)?;
            ensure!(pod.container()["ready"] == true, "it is not ready: {}", pod.container()["state"]);
            Ok(pod)
        })
        .await
    }

    /// Waits until the container of `before` was ended as `reason` says, and its successor in the same pod is ready.
    pub(super) async fn restarted(&self, before: &Pod, reason: &str) -> Result<Pod> {
        self.ready("the container is started again", |pod| {
            ensure!(pod.name() == before.name(), "it is another pod");
            ensure!(pod.restarts() > before.restarts(), "it has not been started again");
            let ended = &pod.container()["lastState"]["terminated"];
            ensure!(ended["reason"] == reason, "it ended otherwise: {ended}");
            Ok(())
        })
        .await
    }

    /// Whether no pod is left of it.
    pub(super) async fn no_pods(&self) -> Result<()> {
        let pods = self.get(&["pods", "--namespace", SYSTEM]).await?;
        ensure!(pods["items"].as_array().is_some_and(Vec::is_empty), "there are pods: {}", pods["items"]);
        Ok(())
    }

    /// The versions of all finished `TaskWatch`es that no set keeps: what no restart may change.
    pub(super) async fn finished(&self) -> Result<BTreeMap<String, String>> {
        let list = self.get(&["taskwatches", "--namespace", NAMESPACE, "--selector", "!taskwatch.dev/set"]).await?;
        let items = list["items"].as_array().context("kubectl gave no list")?;
        let done = |item: &&Value| {
            let mut conditions = item["status"]["conditions"].as_array().into_iter().flatten();
            conditions.any(|condition| condition["type"] == "Finished" && condition["status"] == "True")
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let versions = items.iter().filter(done).map(|item| &item["metadata"]);
        Ok(versions.map(|metadata| (text(&metadata["name"]), text(&metadata["resourceVersion"]))).collect())
    }

    /// What people have asked for: the specs of all objects of ours, by kind and name.
    pub(super) async fn specs(&self) -> Result<BTreeMap<String, Value>> {
        let kinds = "taskwatches,taskwatchsets,taskconnections,clustertaskconnections";
        let list = self.get(&[kinds, "--all-namespaces"]).await?;
        let items = list["items"].as_array().context("kubectl gave no list")?;
        let name = |item: &Value| format!("{} {}", item["kind"], item["metadata"]["name"]);
        Ok(items.iter().map(|item| (name(item), item["spec"].clone())).collect())
    }

    /// The logs of the pod, now and before its last restart, for people.
    pub(super) async fn explain(&self) -> String {
        let looks: [&[&str]; 4] = [
            &["get", "pods", "--output", "wide", "--selector", SELECTOR],
            &["get", "events", "--sort-by", ".lastTimestamp"],
            &["logs", "--tail", "30", "--selector", SELECTOR],
            &["logs", "--tail", "30", "--previous", "--selector", SELECTOR],
        ];
        let mut text = String::new();
        for arguments in looks {
            let said = self.system(arguments).await.unwrap_or_else(|error| format!("{error:#}"));
            let _ = writeln!(text, "-- kubectl {}\n{said}", arguments.join(" "));
        }
        text + &self.cluster.logs(15)
    }
}

/// A pod with one container.
pub(super) struct Pod(Value);

impl Pod {
    pub(super) fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap_or_default()
    }

    pub(super) fn container(&self) -> &Value {
        &self.0["status"]["containerStatuses"][0]
    }

    pub(super) fn restarts(&self) -> u64 {
        self.container()["restartCount"].as_u64().unwrap_or_default()
    }

    /// Its process.
    pub(super) async fn process(&self, cluster: &Cluster) -> Result<Main> {
        let pid = cluster.containers.pid(self.container()["containerID"].as_str().unwrap_or_default()).await?;
        Ok(Main(i32::try_from(pid)?))
    }
}

/// The first process of a container.
pub(super) struct Main(i32);

impl Main {
    /// Suspends it, as a bug would that makes it hang.
    pub(super) fn suspend(&self) -> Result<()> {
        let pid = Pid::from_raw(self.0).context("no process number")?;
        kill_process(pid, Signal::STOP).context("the process cannot be suspended")
    }

    /// Takes all memory away from its container that it does not hold right now: what it asks for next is too much. Says whether there
    /// was any.
    pub(super) fn starve(&self) -> Result<bool> {
        let file = self.memory_limit()?;
        let write = |bytes: u64| fs::write(&file, bytes.to_string()).is_ok();
        let unified = file.ends_with("memory.max");
        let usage = file.with_file_name(if unified { "memory.current" } else { "memory.usage_in_bytes" });
        let mut narrowed = false;
        // The kernel gives back caches first, and refuses when it can give back no more.
        for _ in 0..200 {
            let used = fs::read_to_string(&usage)?.trim().parse::<u64>()?;
            if !write(used.saturating_sub(1 << 16)) {
                break;
            }
            narrowed = true;
        }
        Ok(narrowed)
    }

    /// The file with the limit of its memory cgroup, of either version.
    fn memory_limit(&self) -> Result<PathBuf> {
        let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", self.0)).context("the process is gone")?;
        let root = Path::new("/sys/fs/cgroup");
        for line in cgroups.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let path = path.trim_start_matches('/');
            if controllers == "memory" {
                return Ok(root.join("memory").join(path).join("memory.limit_in_bytes"));
            }
            let unified = root.join(path).join("memory.max");
            if controllers.is_empty() && unified.exists() {
                return Ok(unified);
            }
        }
        bail!("its memory is not limited by a cgroup:\n{cgroups}")
    }
}
