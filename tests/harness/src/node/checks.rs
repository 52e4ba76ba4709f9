//! What is checked on the node, in the order in which an operator lives: installed, at work, ended in every way that a cluster knows,
//! removed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::chart::Chart;
use super::cluster::{Cluster, NAME};
use super::operator::{Operator, SELECTOR, SYSTEM};
use super::replicas::Replicas;
use super::report::Report;
use super::upstream::{self, UPSTREAM};
use super::{Inside, archive};
use crate::demo::NAMESPACE;
use crate::demo::scenes::{Progress, Scenes, Verdict};
use crate::{Process, SimulatorClient, Workdir, eventually};

/// The longest scene ends after about 70 s.
const SCENES_LIMIT: Duration = Duration::from_mins(4);
/// More than a poll's period and the start of a pod: for longer nothing may stand still when a pod is deleted.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What `deploy/operator/deployment.yaml` requests.
const REQUESTED: u64 = 64 << 20;
/// The watches of the scenes that end; one stays paused.
const FINISHED: usize = 10;
/// So many objects at most, so many at a time, use up the memory of a process that gets no more.
const MANY: usize = 6_000;
const BATCH: usize = 150;
const SECRET: &str = "not-a-secret";
const LAST_LINE: &str = "\"stopped\"";

/// Plays all checks with the release in a directory, and where there is one before it, an upgrade from that.
pub(super) async fn run(
    workdir: &Arc<Workdir>,
    inside: &Inside,
    release: &Path,
    before: Option<&Path>,
) -> Result<Report> {
    let mut report = Report::default();
    let mut slot = None;
    let up = async {
        let archive = archive(release)?;
        let cluster = slot.insert(Cluster::start(workdir, inside).await?);
        cluster.containers.import(&archive).await?;
        if let Some(before) = before {
            cluster.containers.import(&super::archive(before)?).await?;
        }
        Ok(format!("Kubernetes {}, the image imported", version(cluster).await?))
    };
    if !report.check("a control plane and a node", up, async || String::new()).await {
        return Ok(report);
    }
    let cluster = slot.context("the cluster is up")?;
    let operator = Operator::of(&cluster)?;
    let explain = async || operator.explain().await;
    if report.check("install.yaml: runs under restricted", install(&operator, release), &explain).await {
        let chart = Chart::of(&operator, release).await?;
        let before = match before {
            Some(before) => Some(Chart::of(&operator, before).await?),
            None => None,
        };
        let mut slot = None;
        let simulator = async {
            slot = Some(Stage::new(&operator, workdir).await?);
            Ok(format!("it answers at {UPSTREAM}"))
        };
        if report.check("the simulator in a pod, by its service", simulator, &explain).await
            && let Some(stage) = &slot
        {
            stage.play(&mut report, &chart, before.as_ref()).await;
        }
    }
    Ok(report)
}

async fn version(cluster: &Cluster) -> Result<String> {
    let path =
        "jsonpath={.items[0].status.nodeInfo.kubeletVersion}, {.items[0].status.nodeInfo.containerRuntimeVersion}";
    cluster.plane.kubectl(&["get", "nodes", "--output", path]).await?.success()
}

/// Installs the operator as a user does, then changes a setting, which replaces the pod.
async fn install(operator: &Operator<'_>, release: &Path) -> Result<String> {
    let file = release.join("install.yaml").display().to_string();
    let started = Instant::now();
    operator.kubectl(&["apply", "--server-side", "--filename", &file]).await?;
    operator.system(&["rollout", "status", "deployment/taskwatch", "--timeout=110s"]).await?;
    let first = started.elapsed();
    let careless = ["run", "careless", "--image=taskwatch:0.1.0", "--dry-run=server"];
    let refused = operator.kubectl.run(&[&["--namespace", SYSTEM], &careless[..]].concat()).await?;
    ensure!(
        refused.code != 0 && refused.stderr.contains("violates PodSecurity \"restricted"),
        "a pod that says nothing of its rights is not refused: {refused:?}"
    );
    let changed = Instant::now();
    let setting = format!("TASKWATCH_ALLOW_EGRESS={UPSTREAM}/32");
    operator.system(&["set", "env", "deployment/taskwatch", &setting]).await?;
    operator.system(&["rollout", "status", "deployment/taskwatch", "--timeout=110s"]).await?;
    Ok(format!(
        "ready after {:.1} s; after a change of a setting {:.1} s",
        first.as_secs_f32(),
        changed.elapsed().as_secs_f32()
    ))
}

/// The simulator, and what is watched there.
struct Stage<'a> {
    operator: &'a Operator<'a>,
    workdir: &'a Arc<Workdir>,
    simulator: SimulatorClient,
    scenes: Scenes,
}

impl<'a> Stage<'a> {
    async fn new(operator: &'a Operator<'a>, workdir: &'a Arc<Workdir>) -> Result<Self> {
        let scenes = Scenes::of_named_tasks()?;
        let simulator = upstream::start(operator, &scenes.scenario()).await?;
        Ok(Self { operator, workdir, simulator, scenes })
    }

    /// Each check relies on those before it.
    async fn play(&self, report: &mut Report, chart: &Chart<'_>, before: Option<&Chart<'_>>) {
        let explain = async || self.operator.explain().await;
        let replicas = Replicas::new(self.operator, &self.simulator, chart);
        let _ = report.check("connections and watches are applied", self.apply(), &explain).await
            && report.check("the active pod is deleted: it drains", self.delete_pod(), &explain).await
            && report.check("each watch goes to its end", self.reach_ends(), &explain).await
            && report.check("memory and CPU, by the kubelet", self.usage(), &explain).await
            && report.check("kubectl logs: readable, no secret", self.logs(), &explain).await
            && report.check("out of memory: started again", self.out_of_memory(), &explain).await
            && report.check("it hangs: the liveness probe ends it", self.hang(), &explain).await
            && report.check("removed: CRDs and objects stay", self.remove(), &explain).await
            && report.check("the chart is installed by Helm", before.unwrap_or(chart).install(), &explain).await
            && report.check("again, each watch goes to its end", self.again(), &explain).await
            && (before.is_none() || report.check("from the release before", self.replace(chart), &explain).await)
            && report.check("the chart is upgraded", self.upgrade(chart), &explain).await
            && replicas.play(report, &explain).await
            && report.check("uninstalled: CRDs and objects stay", self.uninstall(chart), &explain).await;
    }

    async fn apply(&self) -> Result<String> {
        let operator = self.operator;
        operator.kubectl(&["create", "namespace", NAMESPACE]).await?;
        let account = format!("--serviceaccount={SYSTEM}:taskwatch");
        let role = "--clusterrole=taskwatch-secret-reader";
        let binding = ["--namespace", NAMESPACE, "create", "rolebinding", "taskwatch-secret-reader", role, &account];
        operator.kubectl(&binding).await?;
        let said = self.scenes.apply(&operator.kubectl, &self.simulator, SYSTEM).await?;
        eventually(Duration::from_secs(30), "every connection is seen", || async {
            let connections = operator.get(&["taskconnections,clustertaskconnections", "--all-namespaces"]).await?;
            for item in connections["items"].as_array().into_iter().flatten() {
                ensure!(item["status"]["conditions"].is_array(), "{} has no condition", item["metadata"]["name"]);
            }
            Ok(())
        })
        .await?;
        Ok(format!("{} objects", said.lines().count()))
    }

    /// Deletes the pod in the midst of its work; the next one must go on.
    async fn delete_pod(&self) -> Result<String> {
        let operator = self.operator;
        let pod = operator.pod().await?;
        let log = self.follow(pod.name())?;
        let started = Instant::now();
        operator.system(&["delete", "pod", pod.name()]).await?;
        let ended = started.elapsed();
        operator
            .ready("another pod is ready", |next| {
                ensure!(next.name() != pod.name(), "it is the same pod");
                Ok(())
            })
            .await?;
        let ready = started.elapsed();
        eventually(Duration::from_secs(10), "the log of the deleted pod ends", || async {
            let said = log.output();
            ensure!(said.contains(LAST_LINE), "its last lines: {}", tail(&said));
            Ok(())
        })
        .await?;
        ensure!(log.output().contains("shutting down: draining"), "it has not drained: {}", tail(&log.output()));
        let pause = self.longest_pause().await?;
        ensure!(pause < LONGEST_PAUSE, "nothing was asked of the upstreams for {pause:?}");
        Ok(format!(
            "gone after {:.1} s, the next ready after {:.1} s, no request for {:.1} s",
            ended.as_secs_f32(),
            ready.as_secs_f32(),
            pause.as_secs_f32()
        ))
    }

    /// `kubectl logs --follow`, into a file.
    fn follow(&self, pod: &str) -> Result<Process> {
        let kubectl = &self.operator.kubectl;
        let mut command = Command::new(&kubectl.program);
        command.args(["--namespace", SYSTEM, "logs", "--follow", pod]);
        if let Some(kubeconfig) = &kubectl.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        Process::start(self.workdir, &format!("logs-{pod}"), &command)
    }

    /// The longest time between two requests to the upstreams until now.
    async fn longest_pause(&self) -> Result<Duration> {
        let log = self.simulator.admin("GET", "/log?since=0&limit=100000", None).await?;
        let times = log["entries"].as_array().into_iter().flatten().filter_map(|entry| entry["timeMs"].as_u64());
        let times = times.collect::<Vec<_>>();
        ensure!(times.len() > 1, "there was no request");
        let longest = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max();
        Ok(Duration::from_millis(longest.unwrap_or_default()))
    }

    async fn reach_ends(&self) -> Result<String> {
        let mut progress = Progress::default();
        let deadline = Instant::now() + SCENES_LIMIT;
        loop {
            match self.scenes.judge(&self.operator.kubectl, &mut progress).await? {
                Verdict::Reached => break,
                Verdict::Missing(what) if Instant::now() > deadline => bail!("{}", what.join("; ")),
                Verdict::Missing(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
        let finished = self.operator.finished().await?.len();
        ensure!(finished == FINISHED, "{finished} have finished, and not {FINISHED}");
        Ok(format!("{finished} of Huawei Cloud, Cloud.ru and Astra Control finished, the set found its tasks"))
    }

    /// What the kubelet says that the pod uses.
    async fn usage(&self) -> Result<String> {
        let path = format!("/api/v1/nodes/{NAME}/proxy/stats/summary");
        let pod = self.operator.pod().await?;
        let (memory, cpu) = eventually(Duration::from_mins(1), "the kubelet tells what the pod uses", || async {
            let summary = serde_json::from_str::<Value>(&self.operator.kubectl(&["get", "--raw", &path]).await?)?;
            let mut pods = summary["pods"].as_array().into_iter().flatten();
            let found = pods.find(|item| item["podRef"]["name"] == pod.name()).context("it does not know the pod")?;
            let container = &found["containers"][0];
            let figure = |value: &Value| value.as_u64().filter(|figure| *figure > 0).context("no figure yet");
            Ok((figure(&container["memory"]["workingSetBytes"])?, figure(&container["cpu"]["usageNanoCores"])?))
        })
        .await?;
        ensure!(memory < REQUESTED, "{memory} bytes are more than the {REQUESTED} that it requests");
        Ok(format!("working set {} KiB, {} microcores", memory >> 10, cpu / 1000))
    }

    async fn logs(&self) -> Result<String> {
        let text = self.operator.system(&["logs", "deployment/taskwatch"]).await?;
        for line in text.lines() {
            let entry = serde_json::from_str::<Value>(line).with_context(|| format!("no JSON: {line}"))?;
            for key in ["timestamp", "level", "message"] {
                ensure!(entry[key].is_string(), "no {key}: {line}");
            }
        }
        ensure!(!text.contains(SECRET), "a secret is in the log");
        ensure!(text.contains("taskwatch starts") && text.contains("at work"), "it does not say that it is at work");
        Ok(format!("{} lines", text.lines().count()))
    }

    /// The kernel ends the process for want of memory; the kubelet starts it again, and nothing is lost or written twice.
    async fn out_of_memory(&self) -> Result<String> {
        let operator = self.operator;
        let (before, pod) = (operator.finished().await?, operator.pod().await?);
        let started = Instant::now();
        let process = pod.process(operator.cluster).await?;
        ensure!(process.starve()?, "its memory cannot be narrowed");
        // Pages of its program give way to what it keeps, for a while.
        let mut made = 0;
        while operator.pod().await?.restarts() == pod.restarts() {
            ensure!(made < MANY, "{made} objects have not ended it");
            operator.kubectl.apply(&many(made..made + BATCH).to_string()).await?.success()?;
            made += BATCH;
            if process.starve().is_err() {
                break; // It has ended.
            }
        }
        let after = operator.restarted(&pod, "OOMKilled").await?;
        let took = started.elapsed();
        self.unchanged(&before).await?;
        let delete = ["delete", "taskwatches", "--selector", "taskwatch.dev/many", "--wait=false"];
        operator.kubectl(&[&["--namespace", NAMESPACE], &delete[..]].concat()).await?;
        Ok(format!("{made} objects: OOMKilled, ready after {:.1} s, restart {}", took.as_secs_f32(), after.restarts()))
    }

    async fn hang(&self) -> Result<String> {
        let operator = self.operator;
        let (before, pod) = (operator.finished().await?, operator.pod().await?);
        let started = Instant::now();
        pod.process(operator.cluster).await?.suspend()?;
        let after = operator.restarted(&pod, "Error").await?;
        let took = started.elapsed();
        let events = operator.system(&["get", "events", "--field-selector", "reason=Unhealthy"]).await?;
        ensure!(events.contains("Liveness probe failed"), "no event says why: {events}");
        self.unchanged(&before).await?;
        Ok(format!("ready again after {:.1} s, restart {}", took.as_secs_f32(), after.restarts()))
    }

    /// Removes the operator as the head of install.yaml says.
    async fn remove(&self) -> Result<String> {
        let operator = self.operator;
        let before = operator.finished().await?;
        let kinds = "namespace,clusterrole,clusterrolebinding,role,rolebinding";
        operator.kubectl(&["delete", kinds, "--all-namespaces", "--selector", SELECTOR]).await?;
        operator.no_pods().await?;
        self.all_stays(&before).await
    }

    /// The scenes anew, now that the tasks have ended.
    async fn again(&self) -> Result<String> {
        self.scenes.apply(&self.operator.kubectl, &self.simulator, SYSTEM).await?;
        let finished = eventually(Duration::from_mins(1), "each watch has its end", || async {
            let finished = self.operator.finished().await?.len();
            ensure!(finished == FINISHED, "{finished} of {FINISHED} have");
            Ok(finished)
        });
        Ok(format!("{} finished", finished.await?))
    }

    async fn upgrade(&self, chart: &Chart<'_>) -> Result<String> {
        let before = self.operator.finished().await?;
        let seen = chart.upgrade().await?;
        self.unchanged(&before).await?;
        Ok(seen)
    }

    /// What an earlier release has left is there as it was.
    async fn replace(&self, chart: &Chart<'_>) -> Result<String> {
        let (before, objects) = (self.operator.finished().await?, self.operator.specs().await?);
        let seen = chart.replace().await?;
        self.unchanged(&before).await?;
        let now = self.operator.specs().await?;
        ensure!(now == objects, "objects have changed: {objects:?} became {now:?}");
        Ok(format!("{seen}; {} objects, {} finished TaskWatches as they were", objects.len(), before.len()))
    }

    async fn uninstall(&self, chart: &Chart<'_>) -> Result<String> {
        let before = self.operator.finished().await?;
        chart.uninstall().await?;
        self.all_stays(&before).await
    }

    async fn all_stays(&self, before: &BTreeMap<String, String>) -> Result<String> {
        let crds = self.operator.kubectl(&["get", "crds", "--output", "name"]).await?;
        ensure!(crds.matches("taskwatch.dev").count() == 4, "not all CRDs are there: {crds}");
        self.unchanged(before).await?;
        Ok(format!("4 CRDs, {} finished TaskWatches as they were", before.len()))
    }

    /// What has ended is as it was: nothing was lost, and nothing written again.
    async fn unchanged(&self, before: &BTreeMap<String, String>) -> Result<()> {
        let now = self.operator.finished().await?;
        ensure!(!before.is_empty() && now == *before, "statuses have changed: {before:?} became {now:?}");
        Ok(())
    }
}

/// Objects that take up the operator's memory, and nothing else: their connection is not there.
fn many(numbers: Range<usize>) -> Value {
    let items = numbers.map(|number| {
        json!({
            "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch",
            "metadata": {"name": format!("many-{number}"), "namespace": NAMESPACE, "labels": {"taskwatch.dev/many": "true"}},
            "spec": {"connectionRef": {"name": "none"}, "task": {"id": format!("task-{number}")}},
        })
    });
    json!({"apiVersion": "v1", "kind": "List", "items": items.collect::<Vec<_>>()})
}

fn tail(text: &str) -> String {
    let lines = text.lines().collect::<Vec<_>>();
    lines[lines.len().saturating_sub(5)..].join("\n")
}
