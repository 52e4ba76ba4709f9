//! The tenant beside the attacker: five watches that are polled each second, and every second a new one that begins and ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, pin_mut};
use kube::api::{Api, DynamicObject, WatchEvent, WatchParams};
use kube::discovery::ApiResource;
use kube::{Client, core::GroupVersionKind};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::ground::{CANARY, Ground};
use super::objects::with;
use super::upstream::Provider;
use super::{lags, now_ms};
use crate::{Simulator, eventually};

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
    made_ms: i64,
    ends_ms: i64,
}

/// When each watch was first seen in a state.
type Seen = HashMap<(String, String), i64>;

#[derive(Default)]
struct Notes {
    /// By task, when it was asked for.
    polls: HashMap<String, Vec<i64>>,
    next: u64,
    pulses: Vec<Pulse>,
    seen: Seen,
}

/// The canary.
pub(super) struct Canary {
    ground: Arc<Ground>,
    simulator: Simulator,
    notes: Mutex<Notes>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// How late things were, in milliseconds: the 99th percentile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lags {
    pub(super) poll: i64,
    pub(super) write: i64,
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
        let canary =
            Arc::new(Self { ground: Arc::clone(ground), simulator, notes: Mutex::default(), tasks: Mutex::default() });
        let look = tokio::spawn(Arc::clone(&canary).look(ground.admin()));
        for n in 0..STEADY {
            canary.make(&steady(n), json!([{"state": "RUNNING"}])).await?;
        }
        eventually(Duration::from_secs(30), "the canary's watches are polled", || async {
            let seen = &canary.notes().seen;
            let missing = (0..STEADY).find(|&n| !seen.contains_key(&(steady(n), "Running".to_owned())));
            missing.map_or(Ok(()), |n| Err(anyhow::anyhow!("{} is not seen running", steady(n))))
        })
        .await?;
        let pulse = tokio::spawn(Arc::clone(&canary).pulse());
        *canary.tasks.lock().unwrap_or_else(PoisonError::into_inner) = vec![look, pulse];
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
            late_polls.extend(lags::of_polls(polls(&steady(n)), (from, to), PERIOD_MS));
        }
        for pulse in notes.pulses.iter().filter(|pulse| (from..to).contains(&pulse.made_ms)) {
            let times = polls(&pulse.name);
            let first = times.iter().copied().find(|&at| at >= pulse.made_ms - 50);
            late_polls.extend(lags::of_one(pulse.made_ms, first, to));
            let seen = |state: &str| notes.seen.get(&(pulse.name.clone(), state.to_owned())).copied();
            if let Some(asked) = first {
                late_writes.extend(lags::of_one(asked, seen("Running").or_else(|| seen("Succeeded")), to));
            }
            if let Some(asked) = times.iter().copied().find(|&at| at >= pulse.ends_ms) {
                late_writes.extend(lags::of_one(asked, seen("Succeeded"), to));
            }
        }
        let samples = late_polls.len() + late_writes.len();
        Ok(Lags { poll: lags::p99(&mut late_polls), write: lags::p99(&mut late_writes), samples })
    }

    /// Ends it.
    pub(super) fn finish(&self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
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
            let Ok((started_ms, made_ms)) = self.make(&name, steps).await else { continue };
            self.notes().pulses.push(Pulse { name, made_ms, ends_ms: started_ms + RUNS_MS });
            let over: Vec<_> = {
                let notes = self.notes();
                let seen = |name: &str| notes.seen.contains_key(&(name.to_owned(), "Succeeded".to_owned()));
                let over = |pulse: &&Pulse| seen(&pulse.name) || now_ms() > pulse.made_ms + LIFE_MS;
                let recent = notes.pulses.iter().rev().take(90);
                recent.filter(over).map(|pulse| pulse.name.clone()).collect()
            };
            for name in over {
                // Most of them are gone already.
                let key = (name.clone(), "deleted".to_owned());
                if self.notes().seen.insert(key, now_ms()).is_none() {
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

    /// Notes when each watch is first seen in each state.
    async fn look(self: Arc<Self>, client: Client) {
        loop {
            if let Err(error) = self.follow(client.clone()).await {
                eprintln!("the canary's watch begins again: {error:#}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    async fn follow(&self, client: Client) -> Result<()> {
        let kind = GroupVersionKind::gvk("taskwatch.dev", "v1alpha1", "TaskWatch");
        let resource = ApiResource::from_gvk_with_plural(&kind, "taskwatches");
        let api: Api<DynamicObject> = Api::namespaced_with(client, CANARY, &resource);
        let stream = api.watch(&WatchParams::default().timeout(290), "0").await?;
        pin_mut!(stream);
        while let Some(event) = stream.next().await {
            if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event? {
                let (name, state) = (object.metadata.name.unwrap_or_default(), object.data["status"]["state"].as_str());
                let Some(state) = state else { continue };
                self.notes().seen.entry((name, state.to_owned())).or_insert_with(now_ms);
            }
        }
        Ok(())
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
