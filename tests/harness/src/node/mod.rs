//! A real node: containerd, kubelet, scheduler and kube-proxy beside the control plane, and the operator's image on it as a pod.
//!
//! The way in is [`sandbox`]: the program runs itself again in namespaces of its own, and cleans up behind that. Inside, [`machine`] lays
//! the ground, [`cluster`] starts everything ([`containers`] what runs pods), and either [`checks`] is played on it (`make test-node`), or
//! it stays up for people, who reach it through [`relay`] (`make cluster NODE=1`).
//!
//! Needs root on Linux, and containerd, runc, the CNI plugins and iptables of the distribution: `tests/node/packages`.

mod checks;
mod cluster;
mod containers;
mod machine;
mod operator;
mod relay;
mod report;
mod sandbox;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{ADMIN, Workdir, workspace_root};
use cluster::Cluster;

pub use sandbox::{Inside, enter, over};

/// How long a tool of the system may take.
const TOOL_LIMIT: Duration = Duration::from_mins(2);

/// What is done on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Play the checks with the release in this directory.
    Check(PathBuf),
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
        Task::Check(release) => {
            let report = checks::run(&workdir, inside, &release).await?;
            println!("\n{}", report.text());
            ensure!(report.passed(), "a check failed: see above");
            Ok(())
        }
        Task::Stay(release) => stay(&workdir, inside, &release).await,
    }
}

async fn stay(workdir: &Arc<Workdir>, inside: &Inside, release: &Path) -> Result<()> {
    println!("Starting a control plane and a node (about 40 s)");
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

/// The image of a release.
fn archive(release: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(release).with_context(|| format!("there is no {}", release.display()))?;
    let mut found = entries.filter_map(|entry| Some(entry.ok()?.path()));
    found
        .find(|path| path.to_string_lossy().ends_with(".oci.tar"))
        .with_context(|| format!("there is no image in {}: make release", release.display()))
}

/// Runs a program of the system that must succeed, and returns what it printed.
async fn tool(program: &str, arguments: &[&str]) -> Result<String> {
    let what = format!("{program} {}", arguments.join(" "));
    let run = tokio::process::Command::new(program)
        .args(arguments)
        .current_dir(workspace_root())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(TOOL_LIMIT, run).await.with_context(|| format!("{what} took too long"))?;
    let output = output.with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
