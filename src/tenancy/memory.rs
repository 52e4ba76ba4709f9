//! How much memory this process may use: what its cgroup allows, else what the machine has.

use std::{fs, path::Path};

const MIB: usize = 1 << 20;
/// Assumed where nothing can be read: the limit of `deploy/operator/deployment.yaml`.
const UNKNOWN: usize = 256 * MIB;

/// The parts into which the limit is divided, in bytes. The rest is for the program itself, its caches' overhead and the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// For the bodies of answers that are not decoded yet, over all connections.
    pub bodies: usize,
    /// For what connections are set up with, over all of them: credentials and certificates.
    pub settings: usize,
    /// For what is kept of the tasks that lists have shown, for those who discover tasks.
    pub catalogues: usize,
    /// For what is kept of objects and their statuses.
    pub objects: usize,
}

impl Parts {
    /// Of a process that may use `limit` bytes.
    #[must_use]
    pub fn of(limit: usize) -> Self {
        Self {
            bodies: (limit / 8).clamp(4 * MIB, 64 * MIB),
            settings: (limit / 16).clamp(2 * MIB, 64 * MIB),
            catalogues: (limit / 16).clamp(2 * MIB, 64 * MIB),
            objects: (limit / 5 * 2).max(16 * MIB),
        }
    }
}

/// The limit in bytes.
#[must_use]
pub fn limit() -> usize {
    limit_under(Path::new("/"))
}

fn limit_under(root: &Path) -> usize {
    let read = |path: &str| fs::read_to_string(root.join(path.trim_start_matches('/'))).ok();
    let groups = read("proc/self/cgroup").unwrap_or_default();
    // `0::/path` is of version 2; `9:memory:/path` of version 1.
    let files = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match controllers {
            "" => ["sys/fs/cgroup", "sys/fs/cgroup/unified"].map(|at| ancestors(at, path, "memory.max")).concat(),
            names if names.split(',').any(|name| name == "memory") => {
                ancestors("sys/fs/cgroup/memory", path, "memory.limit_in_bytes")
            }
            _ => Vec::new(),
        }
    });
    let by_group = files.filter_map(|file| read(&file)?.trim().parse::<usize>().ok()).min();
    let by_machine = read("proc/meminfo").and_then(|text| {
        let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        total.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
    });
    by_group.into_iter().chain(by_machine).min().unwrap_or(UNKNOWN)
}

/// The file in the group at `path` and in those above it: each of them binds.
fn ancestors(mount: &str, path: &str, file: &str) -> Vec<String> {
    Path::new(path)
        .ancestors()
        .map(|group| format!("{mount}/{}/{file}", group.display().to_string().trim_matches('/')))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(name: &str, files: &[(&str, &str)]) -> std::path::PathBuf {
        let root = std::env::temp_dir().join(format!("taskwatch-memory-{}-{name}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_least_of_all_limits_binds() {
        let machine = ("proc/meminfo", "MemTotal:       24000000 kB\nMemFree: 1 kB\n");
        for (name, files, expected) in [
            ("none", vec![], UNKNOWN),
            ("machine", vec![machine], 24_000_000 * 1024),
            (
                "v2",
                vec![machine, ("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "268435456\n")],
                256 * MIB,
            ),
            (
                "v2-nested",
                vec![
                    machine,
                    ("proc/self/cgroup", "0::/pods/a\n"),
                    ("sys/fs/cgroup/pods/a/memory.max", "max\n"),
                    ("sys/fs/cgroup/pods/memory.max", "134217728\n"),
                ],
                128 * MIB,
            ),
            (
                "v1",
                vec![
                    machine,
                    ("proc/self/cgroup", "9:memory:/tw\n0::/\n"),
                    ("sys/fs/cgroup/memory/tw/memory.limit_in_bytes", "268435456\n"),
                    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ],
                256 * MIB,
            ),
        ] {
            let root = root(name, &files);
            assert_eq!(limit_under(&root), expected, "{name}");
            let _ = fs::remove_dir_all(root);
        }
    }

    #[test]
    fn the_parts_leave_room_for_the_program() {
        for limit in [64 * MIB, 256 * MIB, 1 << 30] {
            let parts = Parts::of(limit);
            let all = parts.bodies + parts.settings + parts.catalogues + parts.objects;
            assert!(all <= limit * 2 / 3, "{limit}: {parts:?}");
        }
        assert_eq!(Parts::of(256 * MIB).bodies, 32 * MIB);
    }
}
