//! Running kubectl.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use tokio::process::Command;

use crate::{Output, output};

pub(crate) const LIMIT: Duration = Duration::from_mins(1);

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

    /// `kubectl delete --filename -` of `manifest`, of which some may be gone.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn delete(&self, manifest: &str) -> Result<Output> {
        self.run_with(&["delete", "--ignore-not-found", "--filename", "-"], Some(manifest)).await
    }

    async fn run_with(&self, args: &[&str], input: Option<&str>) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(args).env("KUBECACHEDIR", &self.cache);
        if let Some(kubeconfig) = &self.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        output::run(command, input, self.limit).await
    }
}
