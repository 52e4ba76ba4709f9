//! A real node: containerd, kubelet, scheduler and kube-proxy beside the control plane, and the operator's image on it as a pod.
//!
//! The way in is [`sandbox`]: the program runs itself again in namespaces of its own, and cleans up behind that. Inside, [`machine`] lays
//! the ground, [`cluster`] starts everything ([`containers`] what runs pods), and either [`checks`] is played on it (`make test-node`), or
//! it stays up for people, who reach it through [`relay`] (`make cluster NODE=1`).
//!
//! Needs root on Linux, and containerd, runc, the CNI plugins and iptables of the distribution: `tests/node/packages`.

mod chart;
mod checks;
mod cluster;
mod containers;
mod machine;
mod operator;
mod relay;
mod replicas;
mod report;
mod sandbox;
mod upstream;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::{ADMIN, Workdir, output};
use cluster::Cluster;

pub use sandbox::{Inside, enter, over};

/// How long a tool of the system may take.
const TOOL_LIMIT: Duration = Duration::from_mins(2);

/// What is done on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Play the checks.
    Check {
        /// The directory of the release.
        release: PathBuf,
        /// That of one before it, from which it is upgraded.
        before: Option<PathBuf>,
    },
    /// Stay up, with the images of the release in this directory if there is one.
    Stay(PathBuf),
}

/// Does it, inside.
///
/// # Errors
/// When the cluster does not come up, or a check fails.
pub async fn run(task: Task, inside: &Inside) -> Result<()> {
    let workdir = Arc::new(Workdir::join(&inside.workdir)?);
    machine::prepare(workdir.path()).await?;
    match task {
        Task::Check { release, before } => {
            let report = checks::run(&workdir, inside, &release, before.as_deref()).await?;
            println!("\n{}", report.text());
            ensure!(report.passed(), "a check failed: see above");
            Ok(())
        }
        Task::Stay(release) => stay(&workdir, inside, &release).await,
    }
}

async fn stay(workdir: &Arc<Workdir>, inside: &Inside, release: &Path) -> Result<()> {
    println!("Starting a control plane and a node (about 15 s)");
    let cluster = Cluster::start(workdir, inside).await?;
    let archive = archive(release);
    if let Ok(archive) = &archive {
        cluster.containers.import(archive).await?;
    }
    let relay = relay::serve(&workdir.path().join(relay::SOCKET), &cluster.plane.url())?;
    let kubeconfig = std::fs::read_to_string(cluster.plane.kubeconfig(ADMIN)?)?;
    let kubeconfig = workdir.write("kubeconfig", &relay::outside(&kubeconfig, inside.port)?)?;
    println!("Ready; Ctrl-C ends it. In another terminal:\n  export KUBECONFIG={}", kubeconfig.display());
    match archive {
        Ok(_) => println!("The operator: kubectl apply --server-side -f {}", release.join("install.yaml").display()),
        Err(_) => println!("For the operator's image: make release, then this again"),
    }
    println!(
        "Other images, from an archive (nothing can be pulled without a network):\n  ctr --address {} --namespace k8s.io images import FILE",
        cluster.containers.socket().display()
    );
    relay.await?;
    Ok(())
}

/// The file of a release whose name fits.
fn file_of(release: &Path, fits: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries =
        std::fs::read_dir(release).with_context(|| format!("there is no {}: make release", release.display()))?;
    let mut found = entries.filter_map(|entry| Some(entry.ok()?.path()));
    found
        .find(|path| path.file_name().is_some_and(|name| fits(&name.to_string_lossy())))
        .with_context(|| format!("{} is not whole: make release", release.display()))
}

/// The image of a release.
fn archive(release: &Path) -> Result<PathBuf> {
    file_of(release, |name| name.ends_with(".oci.tar"))
}

/// Runs a program of the system that must succeed, and returns what it printed.
async fn tool(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    let output = output::run(command, None, TOOL_LIMIT).await?;
    output.success().with_context(|| format!("{program} {}", arguments.join(" ")))
}
