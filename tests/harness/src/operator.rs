//! The operator as a program.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::{Process, Workdir, binary, eventually, http, ports::free_port};

const READY_LIMIT: Duration = Duration::from_mins(1);
const ATTEMPTS: usize = 5;

/// How the operator is started.
#[derive(Clone, Debug)]
pub struct OperatorOptions {
    /// As whom it speaks to the API server.
    pub kubeconfig: PathBuf,
    /// Arguments after `run`; the harness itself adds the addresses of metrics and probes.
    pub args: Vec<String>,
    /// Its environment beside the inherited one, from which every `TASKWATCH_…` is taken away.
    pub env: Vec<(String, String)>,
    /// The program; that of the same build as this executable where none is given.
    pub program: Option<PathBuf>,
    /// A program with arguments that runs the operator: the operator's own command line is appended. It must `exec`, so that signals
    /// and memory are the operator's.
    pub launcher: Vec<String>,
}

impl OperatorOptions {
    /// As the user of `kubeconfig`; upstreams on the loopback interface are allowed.
    #[must_use]
    pub fn new(kubeconfig: PathBuf) -> Self {
        let args = ["--allow-egress", "127.0.0.0/8"].map(str::to_owned).to_vec();
        Self { kubeconfig, args, env: Vec::new(), program: None, launcher: Vec::new() }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// Adds a variable to its environment.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// A running `taskwatch run`.
pub struct Operator {
    process: Process,
    metrics: String,
    probes: String,
}

impl Operator {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it is not built, ends, or is not ready within a minute; with the end of its log.
    pub async fn start(options: OperatorOptions) -> Result<Self> {
        for _ in 1..ATTEMPTS {
            let operator = Self::spawn(&options)?;
            match operator.wait_ready(READY_LIMIT).await {
                // Somebody else took the port in between.
                Err(_) if operator.process.log().contains("ddress already in use") => {}
                ready => return ready.map(|()| operator),
            }
        }
        let operator = Self::spawn(&options)?;
        operator.wait_ready(READY_LIMIT).await?;
        Ok(operator)
    }

    /// Starts it and does not wait.
    ///
    /// # Errors
    /// When it is not built or cannot be started.
    pub fn spawn(options: &OperatorOptions) -> Result<Self> {
        let workdir = Arc::new(Workdir::new("operator")?);
        let [metrics, probes] = [free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}"));
        let program = options.program.clone().map_or_else(|| binary("taskwatch"), Ok)?;
        let mut command = match options.launcher.split_first() {
            Some((launcher, arguments)) => {
                let mut command = binary::command_of(launcher);
                command.args(arguments).arg(program);
                command
            }
            None => binary::command_of(program),
        };
        command
            .arg("run")
            .arg("--kubeconfig")
            .arg(&options.kubeconfig)
            .args(["--http-address", &metrics, "--probe-address", &probes])
            .args(&options.args);
        command.envs(options.env.iter().map(|(k, v)| (k, v)));
        let process = Process::start(&workdir, "operator", &command)?.tail_on_panic(100);
        Ok(Self { process, metrics: format!("http://{metrics}"), probes: format!("http://{probes}") })
    }

    /// Waits until `/readyz` says yes.
    ///
    /// # Errors
    /// When it ends before, or is not ready within `limit`; with the end of its log.
    pub async fn wait_ready(&self, limit: Duration) -> Result<()> {
        let ended = eventually(limit, "the operator is ready", || async {
            if let Some(exit) = self.process.exit() {
                return Ok(Some(exit));
            }
            let (status, body) = self.get("/readyz").await?;
            ensure!(status == 200, "/readyz answers {status}: {body}");
            Ok(None)
        })
        .await
        .map_err(|error| error.context(format!("end of its log:\n{}", self.process.log_tail(30))))?;
        match ended {
            Some(exit) => bail!("the operator ended ({exit:?}):\n{}", self.process.log_tail(30)),
            None => Ok(()),
        }
    }

    /// Status and body of a path: `/healthz` and `/readyz` of its port for probes, any other of that for metrics.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let base = if matches!(path, "/healthz" | "/readyz") { &self.probes } else { &self.metrics };
        http::request("GET", base, path, None).await
    }

    /// Where `/metrics` is: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn metrics_url(&self) -> &str {
        &self.metrics
    }

    /// Where `/healthz` and `/readyz` are: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn probes_url(&self) -> &str {
        &self.probes
    }

    /// Its process: signals, log, memory.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}
