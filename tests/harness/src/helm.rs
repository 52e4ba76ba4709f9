//! Running Helm: the charts of `deploy/chart/`, and charts that contain tasks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::{ControlPlane, Output, Workdir, binary::build, output};

// From a slow proxy of Go modules, on a busy machine.
const BUILD_LIMIT: Duration = Duration::from_hours(1);
const LIMIT: Duration = Duration::from_mins(3);

/// A Helm 4 with directories of its own.
pub struct Helm {
    program: PathBuf,
    kubeconfig: Option<PathBuf>,
    workdir: Workdir,
}

impl Helm {
    /// One that knows no cluster: it renders and lints. The first time on a machine it is built, which takes some minutes.
    ///
    /// # Errors
    /// When it cannot be built.
    pub async fn offline() -> Result<Self> {
        static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
        let directory = BUILT.get_or_try_init(|| build("helm", &[], BUILD_LIMIT)).await?;
        Ok(Self { program: directory.join("helm"), kubeconfig: None, workdir: Workdir::new("helm")? })
    }

    /// One that works on `plane` as `user`.
    ///
    /// # Errors
    /// When it cannot be built, or there is no such user.
    pub async fn of(plane: &ControlPlane, user: &str) -> Result<Self> {
        Ok(Self { kubeconfig: Some(plane.kubeconfig(user)?), ..Self::offline().await? })
    }

    /// Its directory: for charts and values that are made for a test.
    #[must_use]
    pub fn workdir(&self) -> &Path {
        self.workdir.path()
    }

    /// Runs it with `args`, for at most three minutes.
    ///
    /// # Errors
    /// When it cannot be run or takes too long. That it fails is no error here: see [`Output::success`].
    pub async fn run(&self, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        // What the environment tells Helm is for the user's own.
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("HELM_")) {
            command.env_remove(key);
        }
        let own = |name: &str| self.workdir.path().join(name);
        command.args(args).envs([
            ("HELM_CACHE_HOME", own("cache")),
            ("HELM_CONFIG_HOME", own("config")),
            ("HELM_DATA_HOME", own("data")),
            ("KUBECACHEDIR", own("kube-cache")),
            // Without a cluster, none that the user happens to have.
            ("KUBECONFIG", self.kubeconfig.clone().unwrap_or_else(|| own("no-kubeconfig"))),
        ]);
        output::run(command, None, LIMIT).await
    }
}
