//! The tenant beside the attacker: five watches that are polled each second, and every second a new one that begins and ends.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::ground::{CANARY, Ground};
use super::objects::with;
use super::upstream::Provider;
use super::witness::Witness;
use super::{lags, now_ms};
use crate::{ADMIN, Simulator, eventually};

/// How many are polled for ever.
const STEADY: usize = 5;
const PERIOD_MS: i64 = 1000;
/// How long the task of a pulse runs.
const RUNS_MS: i64 = 2000;
/// A pulse is over after so long, seen or not.
const LIFE_MS: i64 = 60_000;
const SECRET: &str = "canary-W8r3Tq6Zp1Xk9Vn2Lm5Hs7Jd4Fg0";
const SCOPE: &str = "canary";

/// A watch that came, and whose task ended soon after.
#[derive(Clone, Debug)]
struct Pulse {
    name: String,
    /// When it was sent to the API server, and when that had answered.
    sent_ms: i64,
    made_ms: i64,
    ends_ms: i64,
}

#[derive(Default)]
struct Notes {
    /// By task, when it was asked for.
    polls: HashMap<String, Vec<i64>>,
    next: u64,
    pulses: Vec<Pulse>,
    deleted: HashSet<String>,
}

/// The canary.
pub(super) struct Canary {
    ground: Arc<Ground>,
    simulator: Simulator,
    witness: Witness,
    notes: Mutex<Notes>,
    pulse: Mutex<Option<JoinHandle<()>>>,
}

/// Something that was late.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Late {
    /// By so many milliseconds.
    pub(super) ms: i64,
    /// What it was.
    pub(super) what: String,
}

/// How late things were, in milliseconds: the 99th percentile.
#[derive(Clone, Debug, Default)]
pub(super) struct Lags {
    /// Polls: behind their period; the first one behind the creation of the object, beyond what a bystander waited.
    pub(super) poll: Late,
    /// Status writes: behind the request whose answer they mirror, beyond what a bystander waited.
    pub(super) write: Late,
    /// What a bystander waited: from when he sent an object to the API server until the quicker of two watches had told him of it. Not the
    /// operator's doing, so no bar holds for it.
    pub(super) server: i64,
    /// How many polls and writes that is of.
    pub(super) samples: usize,
}

impl Canary {
    /// Starts it; `host` is how its upstream is named in the connection.
    pub(super) async fn start(ground: &Arc<Ground>, host: &str) -> Result<Arc<Self>> {
        let simulator = Simulator::start(&[]).await?;
        let credentials = json!({"name": SCOPE, "credentials": [{"kind": "token", "token": SECRET}]});
        simulator.admin("PUT", &format!("/scopes/huaweiCloud/{SCOPE}"), Some(&credentials)).await?;
        let port = simulator.url().rsplit(':').next().context("no port")?.to_owned();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "canary", "namespace": CANARY},
            "stringData": {"token": SECRET}});
        ground.create(&secret).await?;
        let connection = json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskConnection",
            "metadata": {"name": "canary", "namespace": CANARY},
            "spec": {"provider": Provider::Huawei.spec(&format!("http://{host}:{port}"), SCOPE),
                "auth": {"token": {"secretRef": {"name": "canary"}}},
                "poll": {"minPeriodSeconds": 1, "maxPeriodSeconds": 1},
                "rateLimit": {"requestsPerSecond": 50, "burst": 50}}});
        ground.create(&connection).await?;
        let witness = Witness::start(&ground.plane.kubeconfig(ADMIN)?)?;
        let ground = Arc::clone(ground);
        let canary = Arc::new(Self { ground, simulator, witness, notes: Mutex::default(), pulse: Mutex::default() });
        for n in 0..STEADY {
            canary.make(&steady(n), json!([{"state": "RUNNING"}])).await?;
        }
        eventually(Duration::from_secs(30), "the canary's watches are polled", || async {
            let missing = (0..STEADY).find(|&n| canary.witness.saw(&steady(n), "Running").is_none());
            missing.map_or(Ok(()), |n| Err(anyhow::anyhow!("{} is not seen running", steady(n))))
        })
        .await?;
        let pulse = tokio::spawn(Arc::clone(&canary).pulse());
        *canary.pulse.lock().unwrap_or_else(PoisonError::into_inner) = Some(pulse);
        Ok(canary)
    }

    /// The lags from one time to another.
    pub(super) async fn lags(&self, from: i64, to: i64) -> Result<Lags> {
        self.gather().await?;
        let notes = self.notes();
        let none = Vec::new();
        let polls = |task: &str| notes.polls.get(task).unwrap_or(&none);
        let (mut late_polls, mut late_writes) = (Vec::new(), Vec::new());
        for n in 0..STEADY {
            let late = lags::of_polls(polls(&steady(n)), (from, to), PERIOD_MS);
            late_polls.extend(late.into_iter().map(|ms| Late { ms, what: format!("a poll of {}", steady(n)) }));
        }
        // One that nobody has been told of yet is being waited for.
        let wait = |pulse: &Pulse| (pulse.sent_ms, self.told(pulse).unwrap_or(to));
        let waits: Vec<_> = notes.pulses.iter().map(wait).collect();
        let share = |what: String, due: i64, came: Option<i64>| {
            let ms = lags::beyond(due, lags::of_one(due, came, to)?, &waits);
            Some(Late { ms, what: format!("{what}, {} ms after the beginning", due - from) })
        };
        let is_inside = |pulse: &&Pulse| (from..to).contains(&pulse.made_ms);
        for pulse in notes.pulses.iter().filter(is_inside) {
            let times = polls(&pulse.name);
            let first = times.iter().copied().find(|&at| at >= pulse.made_ms - 50);
            late_polls.extend(share(format!("the first poll of {}", pulse.name), pulse.made_ms, first));
            let saw = |state: &str| self.witness.saw(&pulse.name, state);
            if let Some(asked) = first {
                late_writes.extend(share(
                    format!("the first status of {}", pulse.name),
                    asked,
                    saw("Running").or_else(|| saw("Succeeded")),
                ));
            }
            if let Some(asked) = times.iter().copied().find(|&at| at >= pulse.ends_ms) {
                late_writes.extend(share(format!("the end of {}", pulse.name), asked, saw("Succeeded")));
            }
        }
        let inside = notes.pulses.iter().filter(is_inside);
        let mut waited: Vec<_> = inside.map(wait).map(|(sent, told)| told - sent).collect();
        let samples = late_polls.len() + late_writes.len();
        let (poll, write) = (lags::p99(&mut late_polls), lags::p99(&mut late_writes));
        Ok(Lags { poll, write, server: lags::p99(&mut waited), samples })
    }

    /// When the quicker of the witness's watches told of a pulse.
    fn told(&self, pulse: &Pulse) -> Option<i64> {
        [self.witness.told_of(&pulse.name), self.witness.met(&pulse.name)].into_iter().flatten().min()
    }

    /// Ends it.
    pub(super) fn finish(&self) {
        if let Some(task) = self.pulse.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }

    /// The secret of its connection, which nobody is to see.
    pub(super) fn secret() -> (&'static str, &'static str) {
        ("the canary's token", SECRET)
    }

    async fn make(&self, name: &str, steps: Value) -> Result<(i64, i64)> {
        let body = json!({"name": "canary", "steps": steps});
        self.simulator.admin("PUT", &format!("/tasks/huaweiCloud/{SCOPE}/{name}"), Some(&body)).await?;
        let started = now_ms();
        self.ground.create(&object(name)).await?;
        Ok((started, now_ms()))
    }

    /// Makes a watch every second, and deletes it when its end has been seen.
    async fn pulse(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for number in 0_u64.. {
            ticks.tick().await;
            let name = format!("pulse-{number}");
            let steps = json!([{"state": "RUNNING"}, {"at": RUNS_MS / 1000, "state": "SUCCESS"}]);
            // A busy machine: the next one is another try.
            let Ok((sent_ms, made_ms)) = self.make(&name, steps).await else { continue };
            self.notes().pulses.push(Pulse { name, sent_ms, made_ms, ends_ms: sent_ms + RUNS_MS });
            let over: Vec<_> = {
                let notes = self.notes();
                let seen = |name: &str| self.witness.saw(name, "Succeeded").is_some();
                let over = |pulse: &&Pulse| seen(&pulse.name) || now_ms() > pulse.made_ms + LIFE_MS;
                let recent = notes.pulses.iter().rev().take(90);
                recent.filter(over).map(|pulse| pulse.name.clone()).collect()
            };
            for name in over {
                // Most of them are gone already.
                if self.notes().deleted.insert(name.clone()) {
                    let _ = self.ground.delete(&object(&name)).await;
                }
            }
        }
    }

    /// Reads what its upstream was asked since the last time.
    async fn gather(&self) -> Result<()> {
        loop {
            let since = self.notes().next;
            let log = self.simulator.admin("GET", &format!("/log?since={since}&limit=5000"), None).await?;
            let entries = log["entries"].as_array().context("no entries")?;
            let mut notes = self.notes();
            for entry in entries {
                let task = entry["path"].as_str().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
                let at = entry["timeMs"].as_i64().unwrap_or_default();
                notes.polls.entry(task.to_owned()).or_default().push(at);
            }
            notes.next = log["next"].as_u64().context("no next")?;
            if entries.len() < 5000 {
                return Ok(());
            }
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn steady(n: usize) -> String {
    format!("steady-{n}")
}

fn object(name: &str) -> Value {
    let base = json!({"apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatch", "metadata": {"name": name, "namespace": CANARY}});
    with(
        base,
        json!({"spec": {"connectionRef": {"name": "canary"}, "task": {"id": name},
        "poll": {"periodSeconds": 1, "maxPeriodSeconds": 1}}}),
    )
}
