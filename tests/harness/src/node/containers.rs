//! containerd, and the images on it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::tool;
use crate::{Process, Workdir, eventually, workspace_root};

const START_LIMIT: Duration = Duration::from_secs(30);
/// Where distributions have the CNI plugins.
const PLUGINS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];
/// The image of the process that holds a pod's namespaces, and its source.
pub(super) const PAUSE: (&str, &str) = ("taskwatch.test/pause:1", include_str!("pause.c"));

/// A running containerd.
pub(super) struct Containers {
    process: Process,
    socket: PathBuf,
}

impl Containers {
    /// Starts it with the one image that every pod needs.
    pub(super) async fn start(workdir: &Arc<Workdir>) -> Result<Self> {
        let socket = workdir.path().join("containerd.sock");
        let networks = workdir.path().join("cni");
        std::fs::create_dir(&networks)?;
        workdir.write("cni/10-pods.conflist", include_str!("pods.conflist"))?;
        let plugins = PLUGINS.into_iter().find(|path| Path::new(path).join("bridge").exists());
        let plugins = plugins.context("the CNI plugins are missing: tests/node/packages")?;
        let settings = [
            ("@ROOT@", workdir.path().join("containerd").display().to_string()),
            ("@SOCKET@", socket.display().to_string()),
            ("@PAUSE@", PAUSE.0.to_owned()),
            ("@PLUGINS@", plugins.to_owned()),
            ("@NETWORKS@", networks.display().to_string()),
        ];
        let config = settings
            .iter()
            .fold(include_str!("containerd.toml").to_owned(), |all, (name, value)| all.replace(name, value));
        let config = workdir.write("containerd.toml", &config)?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(config);
        let containers = Self { process: Process::start(workdir, "containerd", &command)?, socket };
        eventually(START_LIMIT, "containerd answers", || containers.ctr(&["version"]))
            .await
            .with_context(|| format!("the end of its log:\n{}", containers.process.log_tail(20)))?;
        containers.import(&pause(workdir).await?).await?;
        Ok(containers)
    }

    /// Where it listens.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The end of its log.
    pub(super) fn log_tail(&self, lines: usize) -> String {
        self.process.log_tail(lines)
    }

    /// Takes the images of an OCI archive.
    pub(super) async fn import(&self, archive: &Path) -> Result<()> {
        let archive = archive.display().to_string();
        let images = ["images", "import", "--all-platforms", "--snapshotter", "native", &archive];
        self.ctr(&images).await.map(drop).with_context(|| format!("the import of {archive}"))
    }

    /// The process number of a container, by the identifier that a pod's status has (`containerd://…`).
    pub(super) async fn pid(&self, container: &str) -> Result<u32> {
        let id = container.rsplit('/').next().unwrap_or_default();
        ensure!(!id.is_empty(), "the container has not started");
        let tasks = self.ctr(&["tasks", "list"]).await?;
        let mut rows = tasks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row.first() == Some(&id)).with_context(|| format!("no container {id} runs"))?;
        row.get(1).and_then(|pid| pid.parse().ok()).with_context(|| format!("no process number in {row:?}"))
    }

    async fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let socket = self.socket.display().to_string();
        tool("ctr", &[&["--address", &socket, "--namespace", "k8s.io"], arguments].concat()).await
    }
}

/// Builds the image of the pause program.
async fn pause(workdir: &Workdir) -> Result<PathBuf> {
    let source = workdir.write("pause.c", PAUSE.1)?.display().to_string();
    let [program, archive] = ["pause", "pause.oci.tar"].map(|name| workdir.path().join(name).display().to_string());
    tool("cc", &["-static", "-Os", "-o", &program, &source]).await?;
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    let writer = workspace_root().join("deploy/release/oci.py").display().to_string();
    let image = format!("{architecture}={program}");
    tool("python3", &[&writer, &archive, "--name", PAUSE.0, "--time", "0", &image]).await?;
    Ok(PathBuf::from(archive))
}
