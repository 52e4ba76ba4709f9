//! The simulator of a soak: restarted on the same port with the scripts where they stand, its log gathered over all starts.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::sync::RwLock;

use super::{
    book::{Book, Mark},
    model::{World, now_ms},
};
use crate::{Simulator, Workdir, ports::free_port};

const ATTEMPTS: usize = 5;
const CA: &str = "ca.pem";

/// A request that the simulator has seen.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) at_ms: i64,
    pub(super) scope: Option<String>,
    pub(super) path: String,
    #[allow(dead_code)] // told in findings
    status: u64,
    pub(super) auth: String,
    pub(super) faults: Vec<String>,
    pub(super) retry_after: bool,
    pub(super) in_flight: u64,
}

/// The simulator over the whole run.
pub(super) struct Upstream {
    port: u16,
    tls_port: u16,
    seed: u64,
    workdir: Workdir,
    world: Arc<Mutex<World>>,
    book: Arc<Book>,
    running: RwLock<Option<Simulator>>,
    gathered: tokio::sync::Mutex<(u64, Vec<Asked>)>,
    serial: std::sync::atomic::AtomicU64,
}

impl Upstream {
    pub(super) async fn start(seed: u64, world: Arc<Mutex<World>>, book: Arc<Book>) -> Result<Self> {
        let workdir = Workdir::new("soak")?;
        let mut upstream = Self {
            port: free_port()?,
            tls_port: free_port()?,
            seed,
            workdir,
            world,
            book,
            running: RwLock::default(),
            gathered: tokio::sync::Mutex::default(),
            serial: std::sync::atomic::AtomicU64::new(0),
        };
        for _ in 1..ATTEMPTS {
            if let Ok(simulator) = upstream.launch().await {
                *upstream.running.write().await = Some(simulator);
                return Ok(upstream);
            }
            // Somebody else may have taken a port.
            (upstream.port, upstream.tls_port) = (free_port()?, free_port()?);
        }
        let simulator = upstream.launch().await?;
        *upstream.running.write().await = Some(simulator);
        Ok(upstream)
    }

    /// Where it listens.
    pub(super) fn address(&self, tls: bool) -> String {
        format!("127.0.0.1:{}", if tls { self.tls_port } else { self.port })
    }

    /// The CA of its certificates, the same at each start.
    pub(super) fn ca_pem(&self) -> Result<String> {
        std::fs::read_to_string(self.workdir.path().join(CA)).context("the CA of the simulator")
    }

    async fn launch(&self) -> Result<Simulator> {
        let scenario = self.world.lock().unwrap_or_else(PoisonError::into_inner).scenario(now_ms());
        let file = self.workdir.write("scenario.json", &scenario.to_string())?;
        let (listen, tls_listen) = (self.address(false), self.address(true));
        let path = |name: &str| self.workdir.path().join(name).display().to_string();
        let (ca, key) = (path(CA), path("ca.key"));
        let seed = self.seed.wrapping_add(self.serial.fetch_add(1, std::sync::atomic::Ordering::Relaxed)).to_string();
        let file = file.display().to_string();
        let plain = ["--listen", &listen, "--scenario", &file, "--seed", &seed, "--log-capacity", "1000000"];
        let tls = ["--tls-listen", &tls_listen, "--ca-file", &ca, "--ca-key", &key];
        Simulator::start(&[&plain[..], &tls[..]].concat()).await
    }

    /// Ends the simulator, leaves its port empty for a while, and starts it anew. It has forgotten the tokens it gave out.
    pub(super) async fn restart(&self, empty: std::time::Duration) -> Result<()> {
        let mut running = self.running.write().await;
        let from = now_ms();
        self.gather_from(running.as_ref()).await?;
        if let Some(simulator) = running.take() {
            simulator.process().stop().await?;
        }
        self.gathered.lock().await.0 = 0;
        tokio::time::sleep(empty).await;
        *running = Some(self.launch().await.context("the simulator did not come back")?);
        self.book.mark(Mark::UpstreamAway, from, now_ms());
        Ok(())
    }

    /// Stops it for a while (SIGSTOP): connections are accepted by the kernel, and nothing answers.
    pub(super) async fn freeze(&self, time: std::time::Duration) -> Result<()> {
        let running = self.running.read().await;
        let simulator = running.as_ref().context("the simulator does not run")?;
        let from = now_ms();
        simulator.process().suspend()?;
        tokio::time::sleep(time).await;
        simulator.process().resume()?;
        self.book.mark(Mark::UpstreamAway, from, now_ms());
        Ok(())
    }

    pub(super) async fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let running = self.running.read().await;
        running.as_ref().context("the simulator does not run")?.admin(method, path, body).await
    }

    /// Tells it of a task that is in the world already.
    pub(super) async fn put_task(&self, connection: usize, id: &str) -> Result<()> {
        // Not while it is away: it is told of everything when it comes back.
        let running = self.running.read().await;
        let told = self.world.lock().unwrap_or_else(PoisonError::into_inner).put_task(connection, id, now_ms());
        if let (Some(simulator), Some((path, body))) = (running.as_ref(), told) {
            simulator.admin("PUT", &path, Some(&body)).await?;
        }
        Ok(())
    }

    /// Tells it of a connection's present credential.
    pub(super) async fn put_scope(&self, connection: usize) -> Result<()> {
        let running = self.running.read().await;
        let (path, body) = {
            let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
            let mut body = world.connections[connection].scope_spec();
            let path = format!("/scopes/{}/{}", text(&body["provider"]), text(&body["id"]));
            if let Some(body) = body.as_object_mut() {
                body.remove("provider");
                body.remove("id");
            }
            (path, body)
        };
        running.as_ref().context("the simulator does not run")?.admin("PUT", &path, Some(&body)).await?;
        Ok(())
    }

    /// What its TLS handshakes show from now on.
    pub(super) async fn show(&self, certificate: &str) -> Result<()> {
        self.admin("PUT", "/tls", Some(&json!({"certificate": certificate}))).await.map(drop)
    }

    /// Switches a fault on; `name` comes back in the log.
    pub(super) async fn fault(&self, name: &str, mut fault: Value) -> Result<()> {
        fault["id"] = name.into();
        self.admin("POST", "/faults", Some(&fault)).await.map(drop)
    }

    pub(super) async fn no_faults(&self) -> Result<()> {
        self.show("right").await?;
        self.admin("DELETE", "/faults", None).await.map(drop)
    }

    /// What every task really is: by scope and ID.
    pub(super) async fn truth(&self) -> Result<std::collections::HashMap<(String, String), Value>> {
        let truth = self.admin("GET", "/truth", None).await?;
        let tasks = truth["tasks"].as_array().context("no tasks in the truth")?;
        Ok(tasks.iter().map(|t| ((text(&t["scope"]), text(&t["id"])), t.clone())).collect())
    }

    /// Takes the new lines of the log.
    pub(super) async fn gather(&self) -> Result<()> {
        let running = self.running.read().await;
        self.gather_from(running.as_ref()).await
    }

    async fn gather_from(&self, simulator: Option<&Simulator>) -> Result<()> {
        let Some(simulator) = simulator else { return Ok(()) };
        let mut gathered = self.gathered.lock().await;
        let answer = simulator.admin("GET", &format!("/log?since={}", gathered.0), None).await?;
        gathered.0 = answer["next"].as_u64().unwrap_or(gathered.0);
        gathered.1.extend(answer["entries"].as_array().into_iter().flatten().map(Asked::read));
        Ok(())
    }

    /// All requests so far.
    pub(super) async fn log(&self) -> Vec<Asked> {
        self.gathered.lock().await.1.clone()
    }

    pub(super) async fn simulator_log(&self) -> String {
        self.running.read().await.as_ref().map(|s| s.process().log()).unwrap_or_default()
    }
}

impl Asked {
    fn read(entry: &Value) -> Self {
        Self {
            at_ms: entry["timeMs"].as_i64().unwrap_or_default(),
            scope: entry["scope"].as_str().map(str::to_owned),
            path: text(&entry["path"]),
            status: entry["status"].as_u64().unwrap_or_default(),
            auth: text(&entry["auth"]),
            faults: entry["faults"].as_array().into_iter().flatten().map(text).collect(),
            retry_after: entry["retryAfter"].is_string(),
            in_flight: entry["inFlight"].as_u64().unwrap_or_default(),
        }
    }

    /// Whether a fault of this kind met it; faults are named `kind-number…`.
    pub(super) fn met(&self, kind: &str) -> bool {
        self.faults.iter().any(|fault| fault.split('-').next() == Some(kind))
    }
}

/// A string of JSON; empty where it is none.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A status fault with everything that can be in one.
pub(super) fn status(status: u16, rest: &Value) -> Value {
    let mut action = json!({"kind": "status", "status": status});
    if let (Some(action), Some(rest)) = (action.as_object_mut(), rest.as_object()) {
        action.extend(rest.clone());
    }
    action
}
