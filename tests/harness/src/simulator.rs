//! The upstream simulator as a program.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{Process, Workdir, binary, eventually, http};

const START_LIMIT: Duration = Duration::from_secs(30);

/// A running `taskwatch-simulator`, a process of ours.
pub struct Simulator {
    process: Process,
    client: SimulatorClient,
}

/// How one is reached, wherever it runs.
#[derive(Clone, Debug)]
pub struct SimulatorClient {
    announcement: Value,
}

impl std::ops::Deref for Simulator {
    type Target = SimulatorClient;

    fn deref(&self) -> &SimulatorClient {
        &self.client
    }
}

impl Simulator {
    /// Starts it with `args` and waits until it listens.
    ///
    /// # Errors
    /// When it is not built or does not come up.
    pub async fn start(args: &[&str]) -> Result<Self> {
        let workdir = Arc::new(Workdir::new("simulator")?);
        let mut command = binary::command("taskwatch-simulator")?;
        command.args(args);
        let process = Process::start(&workdir, "simulator", &command)?.tail_on_panic(20);
        let announcement = eventually(START_LIMIT, "the simulator listens", || async {
            if let Some(exit) = process.exit() {
                // It will not change any more; the outer check turns this into an error.
                return Ok(serde_json::json!({ "exit": format!("{exit:?}") }));
            }
            let output = process.output();
            let line = output.lines().find(|line| line.starts_with('{')).context("it has announced nothing yet")?;
            serde_json::from_str::<Value>(line).context("its announcement is no JSON")
        })
        .await?;
        if announcement.get("listening").and_then(Value::as_str).is_none() {
            bail!("the simulator did not start ({announcement}):\n{}", process.log_tail(20));
        }
        Ok(Self { process, client: SimulatorClient { announcement } })
    }

    /// Its process: signals, log, memory.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

impl SimulatorClient {
    /// One that is behind another address than the one that it listens on.
    pub(crate) fn at(url: &str) -> Self {
        Self { announcement: serde_json::json!({"listening": url, "admin": format!("{url}/_admin")}) }
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        self.announced("listening")
    }

    /// Where it is told what to do: `http://127.0.0.1:PORT/_admin`.
    #[must_use]
    pub fn admin_url(&self) -> &str {
        self.announced("admin")
    }

    /// The whole line that it printed when it listened.
    #[must_use]
    pub fn announcement(&self) -> &Value {
        &self.announcement
    }

    /// A request to its admin interface (`path` starts with `/`); the answer must be a success.
    ///
    /// # Errors
    /// When there is no answer or it is no 2xx.
    pub async fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map(ToString::to_string);
        let (status, answer) = http::request(method, self.admin_url(), path, body.as_deref()).await?;
        if !(200..300).contains(&status) {
            bail!("the simulator answered {status} to {method} {path}: {answer}");
        }
        Ok(serde_json::from_str(&answer).unwrap_or(Value::String(answer)))
    }

    fn announced(&self, key: &str) -> &str {
        self.announcement.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}
