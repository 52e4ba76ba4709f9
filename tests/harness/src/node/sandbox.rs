//! Namespaces of our own around everything: network, mounts and processes. Their end is the end of all that ran in them, so that
//! nothing stays behind: no container, no interface, no rule of iptables, no mount. What the kernel does not take back by itself, cgroups
//! and a few of its settings, is put right out here.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::{Child, Command};

use super::relay;
use crate::{Workdir, interrupt, ports::free_port};

/// Set for the second run: the working directory, the cgroup, and the port that leads inside.
const INSIDE: [&str; 3] = ["TASKWATCH_NODE_WORKDIR", "TASKWATCH_NODE_CGROUP", "TASKWATCH_NODE_PORT"];
/// To end in good order after the first signal.
const END_LIMIT: Duration = Duration::from_secs(30);
const CGROUPS: &str = "/sys/fs/cgroup";
/// What a kubelet sets for the whole machine.
const SETTINGS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// What the second run knows of the first.
#[derive(Clone, Debug)]
pub struct Inside {
    /// Where everything is written; the first run removes it.
    pub workdir: PathBuf,
    /// The cgroup under which the kubelet makes those of its pods.
    pub cgroup: String,
    /// The port of 127.0.0.1, outside, on which the first run listens.
    pub port: u16,
}

impl Inside {
    /// That of this process, when it is the second run.
    #[must_use]
    pub fn current() -> Option<Self> {
        let [workdir, cgroup, port] = INSIDE.map(|name| std::env::var(name).ok());
        Some(Self { workdir: PathBuf::from(workdir?), cgroup: cgroup?, port: port?.parse().ok()? })
    }
}

/// Resolves, inside, when the first run is gone or wants the end.
pub async fn over() {
    let (send, ended) = tokio::sync::oneshot::channel();
    // A pending read of standard input cannot be given up: the thread ends with the process.
    thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = send.send(());
    });
    let _ = ended.await;
}

/// Runs this program again, inside, until it ends or this process is interrupted; then cleans up. `interrupted` is what counts then.
///
/// # Errors
/// When namespaces cannot be made, or something stays behind.
pub async fn enter(interrupted: ExitCode) -> Result<ExitCode> {
    let workdir = Workdir::new("node")?;
    let (cgroups, settings, port) = (Cgroups::new()?, Settings::read(), free_port()?);
    let socket = workdir.path().join(relay::SOCKET);
    let ran = tokio::select! {
        ran = run(&workdir, &cgroups, port, interrupted) => ran,
        relayed = relay::forward(port, socket) => relayed.map(|()| ExitCode::FAILURE),
    };
    settings.restore();
    let left = cgroups.remove();
    let code = ran?;
    left?;
    Ok(code)
}

async fn run(workdir: &Workdir, cgroups: &Cgroups, port: u16, interrupted: ExitCode) -> Result<ExitCode> {
    let temporary = workdir.path().join("tmp");
    fs::create_dir(&temporary)?;
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    // The first process of the namespace has to reap orphans, which a shell does.
    command.args(["--", "sh", "-c", "\"$@\"; exit $?", "sh"]);
    command.arg(std::env::current_exe().context("where this program is")?).args(std::env::args_os().skip(1));
    let values = [workdir.path().as_os_str(), cgroups.name.as_ref(), port.to_string().as_ref()].map(ToOwned::to_owned);
    // What is made for a while is made where it is removed in any case.
    command.envs(INSIDE.iter().zip(values)).env("TMPDIR", &temporary);
    // Ctrl-C is for this process, which ends the other in good order.
    command.stdin(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut child = command.spawn().context("cannot run unshare (on Debian: apt-get install util-linux)")?;
    let stdin = child.stdin.take();
    let status = tokio::select! {
        status = child.wait() => status.context("cannot wait for unshare")?,
        asked = interrupt() => {
            asked?;
            drop(stdin);
            return end(&mut child).await.map(|()| interrupted);
        }
    };
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

async fn end(child: &mut Child) -> Result<()> {
    if let Ok(status) = tokio::time::timeout(END_LIMIT, child.wait()).await {
        status?;
    } else {
        child.kill().await.context("cannot end the processes inside")?;
    }
    Ok(())
}

/// A cgroup of each hierarchy.
struct Cgroups {
    name: String,
    paths: Vec<PathBuf>,
}

impl Cgroups {
    fn new() -> Result<Self> {
        let name = format!("taskwatch-node-{}", std::process::id());
        let root = Path::new(CGROUPS);
        let hierarchies = if root.join("cgroup.controllers").exists() {
            delegate(root);
            vec![root.to_owned()]
        } else {
            let listed = fs::read_dir(root).with_context(|| format!("{CGROUPS} cannot be read"))?;
            let mut found = listed.filter_map(|entry| entry.ok()?.path().canonicalize().ok()).collect::<Vec<_>>();
            found.sort();
            found.dedup();
            found.retain(|path| path.join("cgroup.procs").exists());
            found
        };
        ensure!(!hierarchies.is_empty(), "there are no cgroups under {CGROUPS}");
        let paths = hierarchies.iter().map(|path| path.join(&name)).collect::<Vec<_>>();
        let cgroups = Self { name, paths };
        for (path, parent) in cgroups.paths.iter().zip(&hierarchies) {
            fs::create_dir(path).with_context(|| format!("cannot make {}", path.display()))?;
            delegate(path);
            // In the first version, a new one may use no processor until it is told which.
            for file in ["cpuset.mems", "cpuset.cpus"] {
                if let Ok(value) = fs::read(parent.join(file)) {
                    let _ = fs::write(path.join(file), value);
                }
            }
        }
        Ok(cgroups)
    }

    /// Removes them with all below them.
    fn remove(&self) -> Result<()> {
        for path in &self.paths {
            // The last process is gone, which the kernel may take a moment to see.
            let gone = (0..100).any(|_| {
                remove_tree(path);
                if path.exists() {
                    thread::sleep(Duration::from_millis(50));
                }
                !path.exists()
            });
            if !gone {
                bail!("{} stays behind: a process of it is still there", path.display());
            }
        }
        Ok(())
    }
}

/// Lets the children of a cgroup (of the second version) have its controllers.
fn delegate(path: &Path) {
    for controller in fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default().split_whitespace() {
        let _ = fs::write(path.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

fn remove_tree(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

/// Settings of the kernel, as they were.
struct Settings(Vec<(PathBuf, Vec<u8>)>);

impl Settings {
    fn read() -> Self {
        let paths = SETTINGS.iter().map(|name| Path::new("/proc/sys").join(name));
        Self(paths.filter_map(|path| Some((path.clone(), fs::read(path).ok()?))).collect())
    }

    fn restore(&self) {
        for (path, value) in &self.0 {
            if fs::read(path).is_ok_and(|now| now != *value) && fs::write(path, value).is_err() {
                eprintln!("{} could not be set back", path.display());
            }
        }
    }
}
