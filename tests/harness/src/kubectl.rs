//! Running kubectl.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// What a command has written, and its exit code.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
}

impl Output {
    /// Its standard output.
    ///
    /// # Errors
    /// When it failed, with what it said.
    pub fn success(self) -> Result<String> {
        if self.code != 0 {
            bail!("kubectl failed with code {}: {}{}", self.code, self.stderr, self.stdout);
        }
        Ok(self.stdout)
    }
}

/// How kubectl is run: which program, as whom, and for how long at most.
#[derive(Clone, Debug)]
pub struct Kubectl {
    pub(crate) program: PathBuf,
    pub(crate) kubeconfig: Option<PathBuf>,
    pub(crate) cache: PathBuf,
    pub(crate) limit: Duration,
}

impl Kubectl {
    /// The kubectl in PATH with its own configuration; `cache` is for what it remembers of the server.
    pub(crate) fn current(cache: &Path) -> Self {
        let cache = cache.join("kubectl-cache");
        Self { program: PathBuf::from("kubectl"), kubeconfig: None, cache, limit: LIMIT }
    }

    /// A run takes at most `limit` (60 s unless told).
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs kubectl with `args`.
    ///
    /// # Errors
    /// When it cannot be run or takes too long. That it fails is no error here: see [`Output::success`].
    pub async fn run(&self, args: &[&str]) -> Result<Output> {
        self.run_with(args, None).await
    }

    /// `kubectl apply --filename -` of `manifest`.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn apply(&self, manifest: &str) -> Result<Output> {
        self.run_with(&["apply", "--filename", "-"], Some(manifest)).await
    }

    async fn run_with(&self, args: &[&str], input: Option<&str>) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(args).env("KUBECACHEDIR", &self.cache).kill_on_drop(true);
        if let Some(kubeconfig) = &self.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run {}", self.program.display()))?;
        let stdin = child.stdin.take();
        let run = async {
            let feed = async {
                if let (Some(mut stdin), Some(input)) = (stdin, input) {
                    // kubectl may end before it has read all; its own message is the better one then.
                    let _ = stdin.write_all(input.as_bytes()).await;
                }
            };
            tokio::join!(feed, child.wait_with_output()).1
        };
        let output = tokio::time::timeout(self.limit, run)
            .await
            .with_context(|| format!("kubectl {} took longer than {:?}", args.join(" "), self.limit))??;
        Ok(Output {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        })
    }
}
