//! Two replicas of the chart: who works, who takes over, and for how long nothing is asked meanwhile, by the upstream's own log.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::chart::Chart;
use super::operator::{Operator, Pod, SYSTEM};
use super::report::Report;
use crate::demo::NAMESPACE;
use crate::{SimulatorClient, eventually};

/// The chart's own, `config.leaseDurationSeconds`.
const LEASE: Duration = Duration::from_secs(15);
/// A replica that has not been told looks at the Lease this often at least, and the task is polled each second.
const NOTICED: Duration = Duration::from_secs(5);
const TAKEN_OVER: Duration = Duration::from_mins(1);
/// The project of the connection `evs` of the demo's scenes, and a task of it that goes on and on.
const PROJECT: &str = "05041fffa40025702f6dc009cc6f8f33";
const TASK: &str = "4010a32d535527910153552b492c00ff";
const WATCH: &str = "evs-goes-on";

/// The two, and the upstream that they ask.
pub(super) struct Replicas<'a> {
    operator: &'a Operator<'a>,
    simulator: &'a SimulatorClient,
    chart: &'a Chart<'a>,
}

impl<'a> Replicas<'a> {
    pub(super) fn new(operator: &'a Operator<'a>, simulator: &'a SimulatorClient, chart: &'a Chart<'a>) -> Self {
        Self { operator, simulator, chart }
    }

    /// Each check relies on those before it.
    pub(super) async fn play(&self, report: &mut Report, explain: &impl AsyncFn() -> String) -> bool {
        report.check("a second replica", self.scale(), explain).await
            && report.check("two are upgraded: polling goes on", self.roll(), explain).await
            && report.check("the leader is deleted", self.delete(), explain).await
            && report.check("the leader hangs", self.hang(), explain).await
    }

    /// A second replica is added while a task is polled each second.
    async fn scale(&self) -> Result<String> {
        let task = json!({"name": "goes on", "steps": [{"state": "RUNNING"}]});
        self.simulator.admin("PUT", &format!("/tasks/huaweiCloud/{PROJECT}/{TASK}"), Some(&task)).await?;
        let watch = json!({
            "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch",
            "metadata": {"name": WATCH, "namespace": NAMESPACE},
            "spec": {"connectionRef": {"name": "evs"}, "task": {"id": TASK}, "poll": {"periodSeconds": 1, "maxPeriodSeconds": 1}},
        });
        let begun = self.last_request().await?;
        self.operator.kubectl.apply(&watch.to_string()).await?.success()?;
        self.polled_since(begun).await?;
        let took = self.chart.change("replicaCount=2").await?;
        ensure!(self.operator.pods().await?.len() == 2, "there are not two pods");
        let pause = self.pause_within(LEASE, begun).await?;
        Ok(format!(
            "ready after {:.1} s, the task not asked for at most {:.1} s",
            took.as_secs_f32(),
            pause.as_secs_f32()
        ))
    }

    /// A changed value replaces both.
    async fn roll(&self) -> Result<String> {
        let (before, begun) = (self.operator.pods().await?, self.last_request().await?);
        let took = self.chart.change("config.progressMinPoints=7").await?;
        let after = eventually(TAKEN_OVER, "both pods are new", || async {
            let after = self.operator.pods().await?;
            ensure!(after.len() == 2, "there are {}", after.len());
            ensure!(after.iter().all(|pod| before.iter().all(|old| old.name() != pod.name())), "one is the same");
            Ok(after)
        });
        let after = after.await?;
        let holder = self.holder_among(&after).await?.name().to_owned();
        let pause = self.pause_within(LEASE, begun).await?;
        Ok(format!(
            "rolled after {:.1} s, {holder} works, the task not asked for at most {:.1} s",
            took.as_secs_f32(),
            pause.as_secs_f32()
        ))
    }

    /// The one that works is deleted: it hands over.
    async fn delete(&self) -> Result<String> {
        self.end(LEASE, "hands over", async |leader| {
            self.operator.system(&["delete", "pod", leader.name()]).await.map(drop)
        })
        .await
    }

    /// The one that works hangs: the other has to wait for the lease.
    async fn hang(&self) -> Result<String> {
        self.end(LEASE + NOTICED, "is hung", async |leader| leader.process(self.operator.cluster).await?.suspend())
            .await
    }

    async fn end(&self, limit: Duration, how: &str, end: impl AsyncFnOnce(&Pod) -> Result<()>) -> Result<String> {
        let pods = self.ready().await?;
        let leader = self.holder_among(&pods).await?;
        let (begun, started) = (self.last_request().await?, Instant::now());
        end(leader).await?;
        eventually(TAKEN_OVER, "the other replica works", || async {
            let holder = self.holder().await?;
            ensure!(pods.iter().any(|pod| pod.name() == holder && pod.name() != leader.name()), "it is {holder:?}");
            Ok(())
        })
        .await?;
        let took = started.elapsed();
        let pause = self.pause_within(limit, begun).await?;
        Ok(format!(
            "the leader {how}; the other works after {:.1} s, the task not asked for at most {:.1} s",
            took.as_secs_f32(),
            pause.as_secs_f32()
        ))
    }

    /// Both, once they are ready.
    async fn ready(&self) -> Result<Vec<Pod>> {
        eventually(2 * TAKEN_OVER, "two replicas are ready", || async {
            let pods = self.operator.pods().await?;
            ensure!(pods.len() == 2 && pods.iter().all(|pod| pod.container()["ready"] == true), "they are not");
            Ok(pods)
        })
        .await
    }

    /// Who holds the Lease.
    async fn holder(&self) -> Result<String> {
        let lease = self.operator.get(&["lease", "taskwatch-0", "--namespace", SYSTEM]).await?;
        Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
    }

    async fn holder_among<'p>(&self, pods: &'p [Pod]) -> Result<&'p Pod> {
        let holder = eventually(TAKEN_OVER, "a replica that is there holds the Lease", || async {
            let holder = self.holder().await?;
            ensure!(pods.iter().any(|pod| pod.name() == holder), "it is {holder:?}");
            Ok(holder)
        })
        .await?;
        pods.iter().find(|pod| pod.name() == holder).context("a replica holds the Lease")
    }

    /// Waits until the task has been asked for twice after request number `since`.
    async fn polled_since(&self, since: u64) -> Result<()> {
        eventually(TAKEN_OVER, "the task is polled", || async {
            let times = self.times_since(since).await?;
            ensure!(times.len() > 1, "{} requests", times.len());
            Ok(())
        })
        .await
    }

    /// Once the task is polled again: for how long it was not, after request number `since`. It must be less than the limit.
    async fn pause_within(&self, limit: Duration, since: u64) -> Result<Duration> {
        self.polled_since(self.last_request().await?).await?;
        let pause = self.pause_since(since).await?;
        ensure!(pause < limit, "nothing was asked for {pause:?}");
        Ok(pause)
    }

    /// The longest time between two requests for the task after request number `since`.
    async fn pause_since(&self, since: u64) -> Result<Duration> {
        let times = self.times_since(since).await?;
        let longest = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max();
        longest.map(Duration::from_millis).context("the task was not asked for twice")
    }

    async fn times_since(&self, since: u64) -> Result<Vec<u64>> {
        let log = self.log(since).await?;
        let entries = log["entries"].as_array().into_iter().flatten();
        let ours = entries.filter(|entry| entry["path"].as_str().is_some_and(|path| path.contains(TASK)));
        Ok(ours.filter_map(|entry| entry["timeMs"].as_u64()).collect())
    }

    /// The number of the last request of anybody.
    async fn last_request(&self) -> Result<u64> {
        self.log(0).await?["next"].as_u64().context("the simulator's log has no end")
    }

    async fn log(&self, since: u64) -> Result<Value> {
        self.simulator.admin("GET", &format!("/log?since={since}&limit=100000"), None).await
    }
}
