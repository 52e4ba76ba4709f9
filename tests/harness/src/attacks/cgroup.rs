//! A memory cgroup for the operator: the limit of `deploy/operator/deployment.yaml`, kept by the kernel.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

const V1: &str = "/sys/fs/cgroup/memory";
const V2: &str = "/sys/fs/cgroup";

/// A cgroup with a limit, removed when it is dropped.
pub(super) struct Cgroup {
    path: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Cgroup {
    /// Makes one in which all processes together may have `limit` bytes.
    ///
    /// # Errors
    /// When the kernel offers none, or this user may make none.
    pub(super) fn new(name: &str, limit: u64) -> Result<Self> {
        let name = format!("taskwatch-{name}-{}", std::process::id());
        let (root, version) = if Path::new(V1).join("memory.limit_in_bytes").exists() {
            (V1, Version::V1)
        } else if fs::read_to_string(Path::new(V2).join("cgroup.controllers")).is_ok_and(|all| all.contains("memory")) {
            // Children get the controller only when their parent hands it on.
            let _ = fs::write(Path::new(V2).join("cgroup.subtree_control"), "+memory");
            (V2, Version::V2)
        } else {
            bail!("the kernel has no memory controller under {V2}");
        };
        let path = Path::new(root).join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let cgroup = Self { path, version };
        let (key, swap) = match version {
            Version::V1 => ("memory.limit_in_bytes", ("memory.memsw.limit_in_bytes", limit.to_string())),
            Version::V2 => ("memory.max", ("memory.swap.max", "0".to_owned())),
        };
        let file = cgroup.path.join(key);
        fs::write(&file, limit.to_string()).with_context(|| format!("cannot write {}", file.display()))?;
        // Where the kernel counts no swap, there is none to take.
        let _ = fs::write(cgroup.path.join(swap.0), swap.1);
        Ok(cgroup)
    }

    /// The file that takes the number of a process that is to belong to it.
    pub(super) fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// How many processes the kernel has killed in it for want of memory.
    pub(super) fn kills(&self) -> u64 {
        let file = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // It can be removed only when its last process is gone, which the kernel may take a moment for.
        for _ in 0..50 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
