//! What the work costs without an operator: the *floor poller* (the same requests with the same HTTP client, parsed into types and
//! compared), the *floor patcher* (bare status patches at full speed), and bare creates.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::{Hash, Hasher as _};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::fleet;
use crate::{Process, Usage, Workdir};

const LIMIT: Duration = Duration::from_mins(3);

/// One floor run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Floor {
    /// Processor seconds of one round (all tasks polled once, or all patches).
    pub(super) cpu: f64,
    /// Wall seconds of one round.
    pub(super) wall: f64,
}

/// Runs `taskwatch-bench floor …` and reads what it says.
async fn measure(args: &[&str]) -> Result<Floor> {
    let workdir = Arc::new(Workdir::new("floor")?);
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("floor").args(args);
    let process = Process::start(&workdir, "floor", &command)?;
    process.wait(LIMIT).await?;
    let said = serde_json::from_str::<Value>(&process.output())
        .with_context(|| format!("the floor said nothing:\n{}", process.log_tail(10)))?;
    let number = |key: &str| said[key].as_f64().with_context(|| format!("no {key} in {said}"));
    Ok(Floor { cpu: number("cpu")?, wall: number("wall")? })
}

/// The list at `url`, `rounds` times: flat out, or so many seconds apart.
pub(super) async fn lists(url: &str, token: &str, rounds: usize, apart: Option<u32>) -> Result<Floor> {
    let apart = apart.unwrap_or(0).to_string();
    measure(&["lists", url, token, &rounds.to_string(), &apart]).await
}

/// `count` single requests at `url` with `{}` in the place of the number of the job, `rounds` times: flat out, or so many a second.
pub(super) async fn gets(url: &str, token: &str, count: usize, rounds: usize, pace: Option<u32>) -> Result<Floor> {
    let pace = pace.unwrap_or(0).to_string();
    measure(&["gets", url, token, &count.to_string(), &rounds.to_string(), &pace]).await
}

/// Patches the statuses of the first `count` objects of a fleet with `concurrency` at a time.
pub(super) async fn patches(kubeconfig: &str, count: usize, concurrency: usize) -> Result<Floor> {
    measure(&["patches", kubeconfig, &count.to_string(), &concurrency.to_string()]).await
}

/// What becomes of the objects that a floor creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Creation {
    /// Nothing.
    Bare,
    /// Each gets a status.
    Told,
}

/// Creates the first `count` objects of a fleet with `concurrency` at a time.
pub(super) async fn creates(kubeconfig: &str, what: Creation, count: usize, concurrency: usize) -> Result<Floor> {
    let what = if what == Creation::Bare { "creates" } else { "creates-and-patches" };
    measure(&[what, kubeconfig, &count.to_string(), &concurrency.to_string()]).await
}

/// The program behind the floors; prints one line of JSON.
///
/// # Errors
/// When it is called wrongly, or a request fails.
pub async fn main(args: &[String]) -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args = args.iter().map(String::as_str).collect::<Vec<_>>();
    let floor = match args[..] {
        ["lists", url, token, rounds, apart] => {
            poll_lists(url, token, rounds.parse()?, Duration::from_secs(apart.parse()?)).await?
        }
        ["gets", url, token, count, rounds, pace] => {
            poll_gets(url, token, count.parse()?, rounds.parse()?, pace.parse()?).await?
        }
        ["patches", kubeconfig, count, concurrency] => {
            write_all(kubeconfig, count.parse()?, concurrency.parse()?, &[patch]).await?
        }
        ["creates", kubeconfig, count, concurrency] => {
            write_all(kubeconfig, count.parse()?, concurrency.parse()?, &[fleet::creation]).await?
        }
        ["creates-and-patches", kubeconfig, count, concurrency] => {
            write_all(kubeconfig, count.parse()?, concurrency.parse()?, &[fleet::creation, patch]).await?
        }
        _ => bail!(
            "lists URL TOKEN ROUNDS APART | gets URL TOKEN COUNT ROUNDS PACE | patches KUBECONFIG COUNT CONCURRENCY | creates \
             KUBECONFIG COUNT CONCURRENCY | creates-and-patches KUBECONFIG COUNT CONCURRENCY"
        ),
    };
    println!("{}", json!({"cpu": floor.cpu, "wall": floor.wall}));
    Ok(())
}

/// What this process uses from now on.
struct Meter(Duration, Instant);

impl Meter {
    fn start() -> Result<Self> {
        Ok(Self(Usage::of(std::process::id())?.cpu, Instant::now()))
    }

    fn end(&self, rounds: usize) -> Result<Floor> {
        let cpu = Usage::of(std::process::id())?.cpu.saturating_sub(self.0).as_secs_f64();
        let rounds = super::count(rounds);
        Ok(Floor { cpu: cpu / rounds, wall: self.1.elapsed().as_secs_f64() / rounds })
    }
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    items: Vec<Item<'a>>,
}

/// A task of Astra, as an object or as the array that `include` makes of it.
#[derive(Deserialize, Hash)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    id: &'a str,
    #[serde(default, rename = "parentTaskID")]
    parent: Option<&'a str>,
    state: &'a str,
    name: Option<&'a str>,
    summary: Option<&'a str>,
    #[serde(default)]
    state_details: Skipped,
    #[serde(default)]
    percent_done: Figure,
    #[serde(default)]
    order_hint: Figure,
    #[serde(default, rename = "resourceID")]
    resource_id: Option<&'a str>,
    #[serde(default, rename = "resourceURI")]
    resource_uri: Option<&'a str>,
    #[serde(default, rename = "userID")]
    user: Option<&'a str>,
    #[serde(default)]
    start_time: Option<&'a str>,
    #[serde(default)]
    end_time: Option<&'a str>,
    #[serde(default)]
    cancel_time: Skipped,
    #[serde(default)]
    metadata: Skipped,
}

/// A job of EVS.
#[derive(Deserialize, Hash)]
struct Job<'a> {
    #[serde(rename = "job_id")]
    id: &'a str,
    #[serde(rename = "job_type")]
    kind: Option<&'a str>,
    status: &'a str,
    begin_time: Option<&'a str>,
    #[serde(default)]
    end_time: Option<&'a str>,
    #[serde(default)]
    error_code: Option<&'a str>,
    #[serde(default)]
    fail_reason: Option<&'a str>,
    #[serde(default)]
    entities: Skipped,
}

#[derive(Default, Deserialize)]
struct Skipped(#[allow(dead_code)] IgnoredAny);

impl Hash for Skipped {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

#[derive(Default, Deserialize)]
struct Figure(Option<f64>);

impl Hash for Figure {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.map(f64::to_bits).hash(state);
    }
}

/// The last print of each task; says whether it changed.
#[derive(Default)]
struct Known(HashMap<String, u64>);

impl Known {
    fn compare(&mut self, id: &str, task: &impl Hash) -> bool {
        let mut hasher = DefaultHasher::new();
        task.hash(&mut hasher);
        let print = hasher.finish();
        if let Some(known) = self.0.get_mut(id) {
            return std::mem::replace(known, print) != print;
        }
        match self.0.entry(id.to_owned()) {
            Entry::Vacant(slot) => drop(slot.insert(print)),
            Entry::Occupied(_) => {}
        }
        true
    }
}

/// As the operator makes it.
fn client() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?)
}

async fn poll_lists(url: &str, token: &str, rounds: usize, apart: Duration) -> Result<Floor> {
    let (client, mut known) = (client()?, Known::default());
    let mut meter = Meter::start()?;
    for round in 0..=rounds {
        // The first one is not counted: it is a start.
        if round == 1 {
            meter = Meter::start()?;
        }
        tokio::time::sleep(apart).await;
        let request = client.get(url).bearer_auth(token).header("accept", "*/*");
        let body = request.send().await?.error_for_status()?.bytes().await?;
        let list = serde_json::from_slice::<List<'_>>(&body).context("the list")?;
        let changed = list.items.iter().filter(|item| known.compare(item.id, item)).count();
        ensure!(changed <= list.items.len(), "more changes than tasks");
    }
    meter.end(rounds)
}

/// So many single requests of the floor are under way at a time, flat out.
const GETS_AT_ONCE: usize = 8;
/// At a pace, what comes due within this time is sent together: as the operator does.
const GATHER: Duration = Duration::from_millis(20);

async fn poll_gets(url: &str, token: &str, count: usize, rounds: usize, pace: u128) -> Result<Floor> {
    let (client, mut known) = (client()?, Known::default());
    let mut sent = JoinSet::new();
    let batch = usize::try_from(pace * GATHER.as_millis() / 1000)?;
    let mut tick = tokio::time::interval(GATHER);
    let mut meter = Meter::start()?;
    for n in 0..count * (rounds + 1) {
        if n == count {
            meter = Meter::start()?;
        }
        if batch > 0 && n % batch == 0 {
            while !sent.is_empty() {
                take_job(&mut sent, &mut known).await?;
            }
            tick.tick().await;
        }
        let request = client.get(url.replace("{}", &format!("{:016x}", n % count))).header("x-auth-token", token);
        sent.spawn(async move { request.send().await?.error_for_status()?.bytes().await });
        if sent.len() >= GETS_AT_ONCE.max(batch) {
            take_job(&mut sent, &mut known).await?;
        }
    }
    while !sent.is_empty() {
        take_job(&mut sent, &mut known).await?;
    }
    meter.end(rounds)
}

async fn take_job<B: AsRef<[u8]> + 'static>(
    sent: &mut JoinSet<Result<B, reqwest::Error>>,
    known: &mut Known,
) -> Result<()> {
    let body = sent.join_next().await.context("nothing was sent")???;
    let job = serde_json::from_slice::<Job<'_>>(body.as_ref()).context("the job")?;
    known.compare(job.id, &job);
    Ok(())
}

/// The status of object `n`.
fn patch(n: usize) -> Result<http::Request<Vec<u8>>> {
    let patch = json!([{"op": "add", "path": "/status", "value": fleet::sample_status(n)}]);
    Ok(http::Request::patch(format!("{}/status?fieldManager=floor", fleet::path(n)))
        .header("content-type", "application/json-patch+json")
        .header("accept", fleet::METADATA_ONLY)
        .body(serde_json::to_vec(&patch)?)?)
}

/// Makes a request of the number of an object.
type Make = fn(usize) -> Result<http::Request<Vec<u8>>>;

/// Sends what `requests` make of each number below `count`, one after the other.
async fn write_all(kubeconfig: &str, count: usize, concurrency: usize, requests: &'static [Make]) -> Result<Floor> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    let client = Client::try_from(config)?;
    let (next, meter) = (Arc::new(AtomicUsize::new(0)), Meter::start()?);
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        let (client, next) = (client.clone(), Arc::clone(&next));
        workers.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return anyhow::Ok(());
                }
                for request in requests {
                    client.request_text(request(n)?).await?;
                }
            }
        });
    }
    while let Some(done) = workers.join_next().await {
        done??;
    }
    meter.end(1)
}
