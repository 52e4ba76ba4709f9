//! A control plane, a simulator and an operator for one scenario, and the figures of a stretch of time.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube::Client;
use serde_json::{Value, json};

use super::Options;
use super::fleet::{self, Fleet, NAMESPACE};
use crate::{ADMIN, ControlPlane, OPERATOR, Operator, OperatorOptions, Simulator, Usage, workspace_root};

/// All tenants are one here, whose requests nothing but the budgets of its connections is to hold up.
const UNBOUNDED: &[&str] = &["--max-requests-per-second", "0", "--max-requests-per-second-per-namespace", "0"];
/// Requests that the simulator's log keeps.
const LOG: &str = "400000";
/// Entries of the log that are read at a time.
const LOG_PAGE: u64 = 20_000;

/// The processes of a scenario.
pub(super) struct Stage {
    pub(super) plane: ControlPlane,
    pub(super) simulator: Simulator,
    pub(super) client: Client,
    /// The operator's; that of this build where none is given.
    program: Option<PathBuf>,
    /// One, or several replicas.
    pub(super) operators: Vec<Operator>,
}

/// What has been used and done up to a moment.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    at: Instant,
    /// Processor time of all operators; none where there is none.
    operator: Option<Duration>,
    apiserver: Usage,
    etcd: Usage,
    revision: u64,
    requests: u64,
    accepted: u64,
    metrics: Metrics,
    busy: f64,
    simulator: Usage,
    own: Usage,
}

/// What was used and done between two marks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    pub(super) seconds: f64,
    /// Processor seconds.
    pub(super) operator_cpu: f64,
    pub(super) apiserver_cpu: f64,
    pub(super) etcd_cpu: f64,
    /// Processor seconds of everything that is not ours: other programs on the machine.
    pub(super) other_cpu: f64,
    pub(super) revisions: f64,
    pub(super) requests: f64,
    /// New TCP connections to the upstream.
    pub(super) accepted: f64,
    pub(super) writes: f64,
    pub(super) failed_writes: f64,
    pub(super) events: f64,
}

/// A line of the simulator's log.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) time_ms: i64,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) scope: String,
}

/// The operator's `/metrics`.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics(HashMap<String, f64>);

impl Metrics {
    /// Adds what another page says.
    fn add(&mut self, text: &str) {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let pair = |line: &str| line.rsplit_once(' ').and_then(|(k, v)| Some((k.to_owned(), v.parse::<f64>().ok()?)));
        samples.filter_map(pair).for_each(|(key, value)| *self.0.entry(key).or_default() += value);
    }

    /// The sum of all series of a name whose labels contain `label`.
    pub(super) fn sum(&self, name: &str, label: &str) -> f64 {
        let ours = |key: &str| key.split('{').next() == Some(name) && key.contains(label);
        self.0.iter().filter(|(key, _)| ours(key)).map(|(_, value)| value).sum()
    }
}

impl Stage {
    /// A fresh control plane and simulator with the CRDs, the namespaces and the operator's rights; no operator yet.
    pub(super) async fn new(options: &Options) -> Result<Self> {
        let plane = ControlPlane::start().await?;
        let crds = workspace_root().join("crds").display().to_string();
        plane.kubectl(&["apply", "--server-side", "-f", &crds]).await?.success()?;
        plane.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"]).await?.success()?;
        let simulator = Simulator::start(&["--log-capacity", LOG]).await?;
        let client = plane.client(ADMIN).await?;
        fleet::prepare(&client).await?;
        Ok(Self { plane, simulator, client, program: options.operator.clone(), operators: Vec::new() })
    }

    /// Makes the scope and the tasks of a fleet known to the simulator, and its connection to the API server.
    pub(super) async fn introduce(&self, fleet: &Fleet) -> Result<()> {
        let path = format!("/scopes/{}/{}", fleet.system.provider(), fleet.scope);
        self.simulator.admin("PUT", &path, Some(&Fleet::scope_spec())).await?;
        self.simulator.admin("POST", "/bulk", Some(&fleet.bulk())).await?;
        fleet.connect(&self.client, self.simulator.url()).await
    }

    /// The operator as its own service account.
    fn operator(&self) -> Result<OperatorOptions> {
        let options = OperatorOptions::new(self.plane.kubeconfig(OPERATOR)?).args(UNBOUNDED);
        Ok(OperatorOptions { program: self.program.clone(), ..options })
    }

    /// Starts it.
    pub(super) async fn start_operator(&mut self) -> Result<()> {
        self.start_operator_with(&[]).await
    }

    /// The same, with arguments.
    pub(super) async fn start_operator_with(&mut self, args: &[&str]) -> Result<()> {
        let options = self.operator()?.args(args);
        self.operators.push(Operator::start(options).await?);
        Ok(())
    }

    /// Starts a replica of this name, which shares so many buckets with the others.
    pub(super) async fn start_replica(&mut self, name: &str, buckets: &str) -> Result<()> {
        let options = self.operator()?.args(&["--lease-buckets", buckets]);
        let options = options.env("POD_NAME", name).env("POD_NAMESPACE", fleet::OPERATORS);
        self.operators.push(Operator::start(options).await?);
        Ok(())
    }

    /// Starts the operator and does not wait for it to be ready.
    pub(super) fn spawn_operator(&mut self) -> Result<()> {
        self.operators.push(Operator::spawn(&self.operator()?)?);
        Ok(())
    }

    /// Kills the operator (SIGKILL).
    pub(super) async fn kill_operator(&mut self) -> Result<()> {
        let operator = self.operators.pop().context("no operator runs")?;
        operator.process().kill()?;
        operator.process().wait(Duration::from_secs(10)).await.map(drop)
    }

    /// The operator's memory now; of several, that of the largest.
    pub(super) fn memory(&self) -> Result<Usage> {
        let all = self.operators.iter().map(|operator| operator.process().usage()).collect::<Result<Vec<_>>>()?;
        all.into_iter().max_by_key(|usage| usage.rss_bytes).context("no operator runs")
    }

    /// What all operators have counted.
    pub(super) async fn metrics(&self) -> Result<Metrics> {
        ensure!(!self.operators.is_empty(), "no operator runs");
        let mut metrics = Metrics::default();
        for operator in &self.operators {
            metrics.add(&operator.get("/metrics").await?.1);
        }
        Ok(metrics)
    }

    /// How many requests each operator has sent so far.
    pub(super) async fn requests_of_each(&self) -> Result<Vec<f64>> {
        let mut requests = Vec::new();
        for operator in &self.operators {
            let mut metrics = Metrics::default();
            metrics.add(&operator.get("/metrics").await?.1);
            requests.push(metrics.sum("taskwatch_upstream_requests_total", ""));
        }
        Ok(requests)
    }

    pub(super) async fn mark(&self) -> Result<Mark> {
        let counters = self.simulator.admin("GET", "/counters", None).await?;
        let cpu = self.operators.iter().map(|operator| Ok(operator.process().usage()?.cpu));
        let cpu: Vec<Duration> = cpu.collect::<Result<_>>()?;
        // A metrics page that is late, or an operator that is not up yet, must not end the run.
        let metrics = self.metrics().await.unwrap_or_default();
        Ok(Mark {
            metrics,
            revision: self.revision().await?,
            requests: counters["requests"].as_u64().unwrap_or_default(),
            accepted: counters["connections"]["accepted"].as_u64().unwrap_or_default(),
            at: Instant::now(),
            operator: (!cpu.is_empty()).then(|| cpu.iter().sum()),
            apiserver: self.plane.apiserver()?.usage()?,
            etcd: self.plane.etcd()?.usage()?,
            simulator: self.simulator.process().usage()?,
            own: Usage::of(std::process::id())?,
            busy: busy()?,
        })
    }

    /// What a stretch of time from now on costs.
    pub(super) async fn window(&self, length: Duration) -> Result<Window> {
        let from = self.mark().await?;
        tokio::time::sleep(length).await;
        Ok(Window::between(&from, &self.mark().await?))
    }

    /// The revision of etcd.
    async fn revision(&self) -> Result<u64> {
        let list = self.get("/api/v1/namespaces?limit=1").await?;
        let version = list["metadata"]["resourceVersion"].as_str().context("a list without resourceVersion")?;
        Ok(version.parse()?)
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        Ok(self.client.request(http::Request::get(path).body(Vec::new())?).await?)
    }

    /// How many events there are.
    pub(super) async fn count_events(&self) -> Result<u64> {
        self.count(&format!("/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events")).await
    }

    /// Waits until there are so many watches. Returns how many there were, and when; or how many when the limit was up.
    pub(super) async fn wait_watches(&self, count: u64, limit: Duration) -> Result<(u64, Instant)> {
        let started = Instant::now();
        loop {
            let (there, at) = (self.count(&fleet::watches()).await?, Instant::now());
            if there >= count || started.elapsed() >= limit {
                return Ok((there, at));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How many objects a list has.
    async fn count(&self, path: &str) -> Result<u64> {
        let list = self.get(&format!("{path}?limit=1")).await?;
        let more = list["metadata"]["remainingItemCount"].as_u64().unwrap_or_default();
        Ok(list["items"].as_array().map_or(0, |items| items.len() as u64) + more)
    }

    /// The state of each watch of the namespace.
    pub(super) async fn count_states(&self) -> Result<HashMap<String, usize>> {
        let mut states = HashMap::new();
        let mut token = String::new();
        loop {
            let path =
                format!("/apis/taskwatch.dev/v1alpha1/namespaces/{NAMESPACE}/taskwatches?limit=500&continue={token}");
            let list = self.get(&path).await?;
            for item in list["items"].as_array().into_iter().flatten() {
                *states.entry(item["status"]["state"].as_str().unwrap_or("-").to_owned()).or_default() += 1;
            }
            match list["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) {
                Some(next) => next.clone_into(&mut token),
                None => return Ok(states),
            }
        }
    }

    /// The time of the simulator, to read its log from.
    pub(super) async fn log_position(&self) -> Result<u64> {
        let log = self.simulator.admin("GET", &format!("/log?since={}&limit=1", u64::MAX), None).await?;
        Ok(log["next"].as_u64().unwrap_or_default())
    }

    /// What the simulator was asked since a position.
    pub(super) async fn log(&self, since: u64) -> Result<Vec<Asked>> {
        let (mut since, mut all) = (since, Vec::new());
        loop {
            let log = self.simulator.admin("GET", &format!("/log?since={since}&limit={LOG_PAGE}"), None).await?;
            let entries = log["entries"].as_array().context("a log without entries")?;
            if entries.is_empty() {
                return Ok(all);
            }
            let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            all.extend(entries.iter().map(|entry| Asked {
                time_ms: entry["timeMs"].as_i64().unwrap_or_default(),
                path: text(entry, "path"),
                query: text(entry, "query"),
                scope: text(entry, "scope"),
            }));
            since = log["next"].as_u64().context("a log without an end")?;
        }
    }

    /// Switches a fault on for a scope.
    pub(super) async fn fault(&self, id: &str, fleet: &Fleet, action: Value) -> Result<()> {
        let fault = json!({"id": id, "match": {"scope": fleet.scope}, "action": action});
        self.simulator.admin("POST", "/faults", Some(&fault)).await.map(drop)
    }

    pub(super) async fn no_faults(&self) -> Result<()> {
        self.simulator.admin("DELETE", "/faults", None).await.map(drop)
    }

    /// Waits until so many statuses have been written. Returns how many were when the limit was up.
    pub(super) async fn wait_writes(&self, count: f64, limit: Duration) -> Result<f64> {
        let started = Instant::now();
        loop {
            let written = self.metrics().await.unwrap_or_default().sum("taskwatch_status_writes_total", "patched");
            if written >= count || started.elapsed() >= limit {
                return Ok(written);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until nothing is written for three seconds.
    pub(super) async fn settle(&self, limit: Duration) -> Result<()> {
        let started = Instant::now();
        let mut last = (self.revision().await?, Instant::now());
        while started.elapsed() < limit && last.1.elapsed() < Duration::from_secs(3) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = self.revision().await?;
            // The API server renews a lease of its own.
            if now > last.0 + 1 {
                last = (now, Instant::now());
            }
        }
        Ok(())
    }

    pub(super) async fn stop(self) -> Result<()> {
        for operator in &self.operators {
            operator.process().stop().await?;
        }
        self.simulator.process().stop().await?;
        self.plane.stop().await
    }
}

impl Window {
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    pub(super) fn between(from: &Mark, to: &Mark) -> Self {
        let cpu = |from: Usage, to: Usage| to.cpu.saturating_sub(from.cpu).as_secs_f64();
        let counted = |name: &str, label: &str| to.metrics.sum(name, label) - from.metrics.sum(name, label);
        let operator_cpu = match (from.operator, to.operator) {
            (Some(from), Some(to)) => to.saturating_sub(from).as_secs_f64(),
            (None, Some(to)) => to.as_secs_f64(),
            _ => 0.0,
        };
        let (apiserver_cpu, etcd_cpu) = (cpu(from.apiserver, to.apiserver), cpu(from.etcd, to.etcd));
        let ours = operator_cpu + apiserver_cpu + etcd_cpu + cpu(from.simulator, to.simulator) + cpu(from.own, to.own);
        Self {
            seconds: (to.at - from.at).as_secs_f64(),
            operator_cpu,
            apiserver_cpu,
            etcd_cpu,
            other_cpu: (to.busy - from.busy - ours).max(0.0),
            revisions: to.revision.saturating_sub(from.revision) as f64,
            requests: to.requests.saturating_sub(from.requests) as f64,
            accepted: to.accepted.saturating_sub(from.accepted) as f64,
            writes: counted("taskwatch_status_writes_total", "patched"),
            failed_writes: counted("taskwatch_status_writes_total", "failed"),
            events: counted("taskwatch_events_total", "sent"),
        }
    }
}

/// Processor seconds of the whole machine so far.
fn busy() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let fields = line.split_whitespace().skip(1).filter_map(|n| n.parse::<f64>().ok()).collect::<Vec<_>>();
    let at = |n: usize| fields.get(n).copied().unwrap_or_default();
    // user, nice, system, irq, softirq
    #[allow(clippy::cast_precision_loss, reason = "a hundred or so")]
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    Ok((at(0) + at(1) + at(2) + at(5) + at(6)) / ticks)
}
